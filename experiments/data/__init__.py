"""Data sets and tracks on disk: which there are, which subset each belongs to, and their audio."""

from stemfuse.separators.audio.sums import SumSignal

from .datasets import EVERY_SEVENTH, DataSet, open_data
from .places import SUBSETS
from .track_folders import MixtureRule, is_audio_file
from .tracks import SONGS, open_song, open_track

__all__ = [
    "EVERY_SEVENTH",
    "SONGS",
    "SUBSETS",
    "DataSet",
    "MixtureRule",
    "SumSignal",
    "is_audio_file",
    "open_data",
    "open_song",
    "open_track",
]
