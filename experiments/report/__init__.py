"""The report of a run: one page, made from the run's folder alone, with its tables, figures and players."""

from .page import write_report
from .players import busiest_start_s, is_written, read_players, safe_name, sort_players, write_players
from .tables import score_tables

__all__ = [
    "busiest_start_s",
    "is_written",
    "read_players",
    "safe_name",
    "score_tables",
    "sort_players",
    "write_players",
    "write_report",
]
