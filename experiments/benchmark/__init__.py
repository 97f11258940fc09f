"""The benchmark: what all fusions are worth on real and on synthetic music, as one document, kept to compare."""

from .changes import changes, changes_table, numbers_tables, read_numbers
from .definition import Benchmark, is_benchmark, load_benchmark
from .running import run_benchmark

__all__ = [
    "Benchmark",
    "changes",
    "changes_table",
    "is_benchmark",
    "load_benchmark",
    "numbers_tables",
    "read_numbers",
    "run_benchmark",
]
