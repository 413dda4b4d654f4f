"""The native back end: C++ for the CPU, emitted from the plan, compiled once."""
