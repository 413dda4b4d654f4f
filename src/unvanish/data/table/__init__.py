"""Tables: CSV, TSV, JSON lines, Parquet. A row is a step of a series, or of one of several."""

from unvanish.errors import MissingExtraError

try:
    from unvanish.data.table.read import of_frame, read_table
    from unvanish.data.table.roles import TableOptions
except ImportError as fault:
    raise MissingExtraError(f"tables are read with {fault.name}: pip install 'unvanish[app]'") from fault

__all__ = ["TableOptions", "of_frame", "read_table"]
