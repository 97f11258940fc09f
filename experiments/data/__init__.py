"""Data sets and tracks on disk: which there are, which subset each belongs to, and their audio."""

from .datasets import SUBSETS, DataSet, open_data
from .tracks import SONGS, MixtureRule, SumSignal, open_song, open_track

__all__ = ["SONGS", "SUBSETS", "DataSet", "MixtureRule", "SumSignal", "open_data", "open_song", "open_track"]
