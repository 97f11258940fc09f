"""What fusions without constant weights are scored by: the statistics of the audio that they make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stemfuse.separators import Track

from .constant import Fixed
from .fusion import BaseFusion
from .weights import MixingWeights

if TYPE_CHECKING:
    from stemfuse.analysis import GramStatistics


def alone(separator: str, track: Track) -> Fixed:
    """The blend that is one separator alone, of the sources that it gives in a track."""
    return Fixed({source: {separator: 1.0} for source in track.stems[separator].sources}).fit([track])


def audio_statistics(fusion: BaseFusion, track: Track) -> tuple[GramStatistics, MixingWeights]:
    """Statistics of what a fusion makes of a track with references, and the weights that take it as it is.

    Parameters
    ----------
    fusion : BaseFusion
        Fitted.
    track : Track
        With references and stems; it is fused once, and read once.
    """
    from stemfuse.analysis import GramStatistics

    fused = replace(track, stems={fusion.kind: fusion.fuse(track)}, stored={})
    return GramStatistics.from_track(fused), alone(fusion.kind, fused).weights_
