"""A run record or a diagnosis turned into one self-contained HTML file that asks nothing of any network."""

from unvanish.report.diagnosis.write import write_diagnosis
from unvanish.report.run.write import write_report

__all__ = ["write_diagnosis", "write_report"]
