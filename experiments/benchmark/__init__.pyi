from .changes import changes_table, numbers_tables, read_numbers
from .definition import Benchmark, is_benchmark, load_benchmark
from .running import run_benchmark

__all__ = [
    "Benchmark",
    "changes_table",
    "is_benchmark",
    "load_benchmark",
    "numbers_tables",
    "read_numbers",
    "run_benchmark",
]
