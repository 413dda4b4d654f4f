"""The record of a run: a folder with `config.yaml` and `records.jsonl`, written as the run goes.

Plain data: whoever reads it (the report, a notebook, a shell script) needs neither torch nor this package. What
each field holds is said in `schema`.
"""

from unvanish.record.files import Claim, finite, remove_leftovers, sync_folder, write_atomically
from unvanish.record.result import Result
from unvanish.record.run import CONFIG, RECORDS, Clock, RunRecord

__all__ = [
    "CONFIG",
    "RECORDS",
    "Claim",
    "Clock",
    "Result",
    "RunRecord",
    "finite",
    "remove_leftovers",
    "sync_folder",
    "write_atomically",
]
