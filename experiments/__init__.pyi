from .config import RunConfig
from .data import DataSet, open_data, open_song
from .errors import ConfigError, RunError
from .pipeline import run
from .recipes import dump_config, load_config, parse_config
from .run import Run

__all__ = [
    "ConfigError",
    "DataSet",
    "Run",
    "RunConfig",
    "RunError",
    "dump_config",
    "load_config",
    "open_data",
    "open_song",
    "parse_config",
    "run",
]
