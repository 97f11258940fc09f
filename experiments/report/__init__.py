"""The report of a run: one page, made from the run's folder alone, with its tables, figures and players."""

from .comparison import write_comparison
from .data_sets import shown_fusions
from .page import write_report, write_waiting_page
from .players import (
    busiest_start_s,
    is_written,
    list_excerpts,
    make_excerpts,
    read_players,
    safe_name,
    sort_players,
    write_players,
)
from .studies import printed_tables, study_tables, tables_as
from .tables import score_tables

__all__ = [
    "busiest_start_s",
    "is_written",
    "list_excerpts",
    "make_excerpts",
    "printed_tables",
    "read_players",
    "safe_name",
    "score_tables",
    "shown_fusions",
    "sort_players",
    "study_tables",
    "tables_as",
    "write_comparison",
    "write_players",
    "write_report",
    "write_waiting_page",
]
