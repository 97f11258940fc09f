"""What separators take as a mixture: samples and their rate, a signal, a track, or a track of the package musdb."""

from __future__ import annotations

import sys
from typing import Any

from .audio.signals import Samples, Signal, as_samples, by_hand, swapped_axes
from .errors import AudioError
from .track import Track


def samples_of(mixture: Any, rate: int | None) -> tuple[Samples, int]:
    """Samples (channel, time) of a mixture, and their rate.

    Parameters
    ----------
    mixture : array_like, Signal, Track or musdb.MultiTrack
        Of a track, its mixture; musdb decodes a track of its own.
    rate : int, optional
        Of an array, in Hz; all others have their own.

    Raises
    ------
    AudioError
        The rate is missing or not that of the mixture, or there are no samples of a known full scale.

    Examples
    --------
    >>> import numpy as np
    >>> from .audio.signals import ArraySignal
    >>> samples, rate = samples_of(ArraySignal(np.zeros((2, 100)), 8000), None)
    >>> samples.shape, rate
    ((2, 100), 8000)
    """
    # whoever has such a track has imported musdb
    musdb = sys.modules.get("musdb")
    own_rate = None
    if musdb is not None and isinstance(mixture, musdb.MultiTrack):
        mixture, own_rate = mixture.audio.T, int(mixture.rate)
    elif isinstance(mixture, Track | Signal):
        signal = mixture.mixture if isinstance(mixture, Track) else mixture
        mixture, own_rate = signal.read(), signal.rate
    if own_rate is not None and rate not in (None, own_rate):
        raise AudioError(f"got rate {rate} Hz with a mixture at {own_rate} Hz, expected its own rate, or none")
    rate = rate if own_rate is None else own_rate
    if rate is None:
        raise AudioError("got a mixture without its rate, expected both, such as separate(audio, 44100)")
    return as_samples(mixture), rate


def check_mixture(name: str, shape: tuple[int, ...], rate: int, channels: int, expected_rate: int) -> None:
    """Refuse a mixture of another shape or rate than a separator takes, and say what helps.

    Raises
    ------
    AudioError
        Other channels, no samples, axes in another order, another rate.
    """
    if len(shape) != 2 or shape[0] != channels or shape[1] == 0:
        advice = swapped_axes(shape)
        if len(shape) == 2 and shape[0] != channels and not advice:
            copying = "add --convert (in a recipe, convert: true), which makes mono stereo"
            advice = by_hand(shape[0], channels) or copying
        raise AudioError(
            f"{name}: got a mixture of shape {shape}, expected (channel, time) = ({channels}, at least 1)"
            f"{advice and f': {advice}'}"
        )
    if rate != expected_rate:
        raise AudioError(
            f"{name}: got a mixture at {rate} Hz, expected {expected_rate} Hz: "
            "add --convert (in a recipe, convert: true), which resamples it and its stems back"
        )
