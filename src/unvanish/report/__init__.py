"""A run record turned into one self-contained HTML file that asks nothing of any network."""

from unvanish.report.page import write_report

__all__ = ["write_report"]
