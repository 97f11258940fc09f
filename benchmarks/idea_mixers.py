"""Ideas for GramMixer: smooth weights, several seeds, beginning with what was learnt on other songs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from idea_weights import mean_of
from left_out import LEAST_SQUARES, Fused, Sounds, all_sounds, made, song_mean

from stemfuse.blending import MixingWeights, apply_weights
from stemfuse.mixers import GramMixer
from stemfuse.separators import Track

WIDTHS = (1, 3, 5, 9, 17, 33, 10**6)
"""Frames that weights are smoothed over; the last one is the mean over the song."""


def smoothed(weights: MixingWeights, width: int) -> MixingWeights:
    """Weights averaged over time under a Hann window of so many frames."""
    count = len(weights.matrix)
    width = min(width, 2 * count - 1)
    window = np.hanning(width + 2)[1:-1]
    if width >= 2 * count - 1:
        window = np.ones(width)
    half = width // 2
    matrix = np.stack(
        [
            np.average(
                weights.matrix[max(0, k - half) : k + half + 1],
                axis=0,
                weights=window[max(0, half - k) : half + min(half + 1, count - k)],
            )
            for k in range(count)
        ]
    )
    return MixingWeights(
        matrix.astype(np.float32), weights.inputs, weights.outputs, weights.starts_s, weights.duration_s
    )


def smoothing(train: Sequence[Track], tests: Sequence[Track]) -> Fused:
    """GramMixer, and its weights smoothed."""
    valid = train[::3]
    rest = [track for track in train if track not in valid]
    mixer = GramMixer().fit(rest, valid)

    def with_width(track: Track, width: int) -> Sounds:
        stems = apply_weights(smoothed(mixer.weights(track), width), track)
        return {source: stems[source].read().astype(np.float64) for source in stems.sources}

    figures = [np.mean([song_mean(track, with_width(track, width)) for track in valid]) for width in WIDTHS]
    width = WIDTHS[int(np.argmax(figures))]
    print("  width", width, "of", dict(zip(WIDTHS, np.round(figures, 2), strict=True)), flush=True)
    return {
        "gram_mixer": [with_width(track, 1) for track in tests],
        "gram_mixer, smoothed": [with_width(track, width) for track in tests],
    }


def seeds(train: Sequence[Track], tests: Sequence[Track], count: int = 3) -> Fused:
    """GramMixers of several seeds, and their mean."""
    fused = {
        f"gram_mixer, seed {seed}": all_sounds(made("gram_mixer", train, seed=seed), tests) for seed in range(count)
    }
    return fused | {f"mean of {count} seeds": mean_of(list(fused.values()))}


class Pretrained(GramMixer):
    """A GramMixer that begins with the correction that another one has learnt, on top of its own songs' weights."""

    kind = "pretrained_gram_mixer"
    begun: GramMixer

    def frame_objective(self, network: Any, blocks: Any, data: Any) -> Any:
        """Make the loss; the layers are the other's."""
        network.layers.load_state_dict(copy.deepcopy(self.begun.network_.layers.state_dict()))
        return super().frame_objective(network, blocks, data)


def pretraining(train: Sequence[Track], tests: Sequence[Track], begun: GramMixer) -> Fused:
    """GramMixer from nothing, from other songs, and from other songs and then these."""
    labels = {"gram_mixer": GramMixer(), "pretrained, trained on": Pretrained(), "pretrained, as it is": Pretrained()}
    for name, mixer in labels.items():
        if isinstance(mixer, Pretrained):
            mixer.begun = begun
            if name.endswith("as it is"):
                mixer.epochs = 0
    fused = {name: all_sounds(mixer.fit(train), tests) for name, mixer in labels.items()}
    return fused | {
        "gram_mixer of the other songs alone": all_sounds(begun, tests),
        "least squares": all_sounds(made("least_squares", train, **LEAST_SQUARES), tests),
    }
