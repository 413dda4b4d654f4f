"""Long-range problems: one file for each, with a generator, its chance level, when it is solved, and its source."""

from unvanish.tasks.agreement import Agreement, Sentences, read_agreement

__all__ = ["Agreement", "Sentences", "read_agreement"]
