"""The synthetic band: a seeded generator of songs with four stems, for use where MUSDB18 is not at hand."""

from .composition import compose
from .mixing import Production, draw_production, render
from .score import Form, Song
from .tree import SUBSET_PATTERN, plan_tracks, synthesize, track_name

__all__ = [
    "SUBSET_PATTERN",
    "Form",
    "Production",
    "Song",
    "compose",
    "draw_production",
    "plan_tracks",
    "render",
    "synthesize",
    "track_name",
]
