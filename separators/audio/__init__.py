"""Audio for the rest of the package: signals, the files they are read from, and files that are written whole."""

from .containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, ContainerSignal, open_signal
from .signals import BLOCK, RATE, ArraySignal, FileSignal, Samples, Signal, as_samples, write_audio
from .whole_files import whole_file, whole_folder, write_whole

__all__ = [
    "BLOCK",
    "LIBSNDFILE_SUFFIXES",
    "PYAV_SUFFIXES",
    "RATE",
    "ArraySignal",
    "ContainerSignal",
    "FileSignal",
    "Samples",
    "Signal",
    "as_samples",
    "open_signal",
    "whole_file",
    "whole_folder",
    "write_audio",
    "write_whole",
]
