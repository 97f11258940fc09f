"""Data sets and tracks on disk: which there are, which subset each belongs to, and their audio."""

from stemfuse.separators.audio.sums import SumSignal

from .datasets import EVERY_SEVENTH, SUBSETS, DataSet, open_data
from .tracks import SONGS, MixtureRule, open_song, open_track

__all__ = [
    "EVERY_SEVENTH",
    "SONGS",
    "SUBSETS",
    "DataSet",
    "MixtureRule",
    "SumSignal",
    "open_data",
    "open_song",
    "open_track",
]
