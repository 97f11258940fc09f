"""Weights learned by gradient: the 1x1 convolution, the MDX-Mixer, and GramMixer, which goes beyond them."""

from stemfuse.separators.training import Execution, History, Recipe

from .conv1x1 import Conv1x1Mixer
from .exact import Solution, solve
from .gram_mixer import GramMixer
from .jaureguiberry import Jaureguiberry2016
from .manilow import Manilow2017
from .mixer import Mixer, NetworkMixer
from .mlp_mixer import MLPMixer, mlp_cost
from .pack import TrackPacks, TrainingPack
from .segments import Normalisation, Segments, TrackBlocks, segment_starts

__all__ = [
    "Conv1x1Mixer",
    "Execution",
    "GramMixer",
    "History",
    "Jaureguiberry2016",
    "MLPMixer",
    "Manilow2017",
    "Mixer",
    "NetworkMixer",
    "Normalisation",
    "Recipe",
    "Segments",
    "Solution",
    "TrackBlocks",
    "TrackPacks",
    "TrainingPack",
    "mlp_cost",
    "segment_starts",
    "solve",
]
