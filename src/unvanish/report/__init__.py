"""A run record, several of them, a diagnosis or a benchmark as one HTML file that asks nothing of any network."""

from unvanish.report.bench.finding import bench_finding
from unvanish.report.bench.write import write_bench
from unvanish.report.comparison.finding import finding
from unvanish.report.comparison.read import Comparison, compare
from unvanish.report.comparison.rows import rows
from unvanish.report.comparison.write import write_comparison
from unvanish.report.diagnosis.write import write_diagnosis
from unvanish.report.run.write import write_report

__all__ = [
    "Comparison",
    "bench_finding",
    "compare",
    "finding",
    "rows",
    "write_bench",
    "write_comparison",
    "write_diagnosis",
    "write_report",
]
