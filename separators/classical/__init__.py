"""Separators by signal processing: nothing is learnt, nothing is downloaded."""

from .centre_channel import CentreChannel
from .harmonic_percussive import HarmonicPercussive
from .repet_sim import RepetSim

__all__ = ["CentreChannel", "HarmonicPercussive", "RepetSim"]
