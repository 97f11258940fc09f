"""What is scored: references and estimates that fit each other, read by time range, cut into museval's frames."""

from __future__ import annotations

import math
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import BLOCK, AudioError, Stems

Waves = NDArray[np.floating]
Audio = Waves | Stems
"""An array (source, time, channel), museval's axes, or stems, which are read range by range."""

_GLANCE = 1024


class SourceAudio(Protocol):
    """Sources of one length and channel count, read by time range; `Stems` are."""

    sources: tuple[str, ...]
    channels: int
    length: int

    def read(self, start: int, stop: int) -> Waves:
        """Samples of a range, (source, channel, time)."""
        ...


class ArrayAudio:
    """An array in museval's axes, (source, time, channel), in the number format it came in."""

    def __init__(self, array: Waves) -> None:
        self._waves = array.swapaxes(1, 2)
        count, self.channels, self.length = self._waves.shape
        self.sources = tuple(f"number {index}" for index in range(count))

    def read(self, start: int, stop: int) -> Waves:
        """Samples of a range, (source, channel, time)."""
        return self._waves[:, :, start:stop]


def readable(audio: Any, role: str) -> SourceAudio:
    """Audio by time range, whatever form it came in.

    Parameters
    ----------
    audio : array_like, shape (source, time, channel), or Stems
        Real numbers.
    role : str
        What it is, for messages: ``"references"``.

    Returns
    -------
    SourceAudio
        The stems themselves, or the array behind the same face.

    Raises
    ------
    AudioError
        The array is ragged, empty, complex or has other than three axes.

    Examples
    --------
    >>> readable(np.zeros((4, 1000, 2)), "references").read(0, 10).shape
    (4, 2, 10)
    """
    if isinstance(audio, Stems):
        return audio
    try:
        array = np.asarray(audio)
    except ValueError as error:
        shapes = ", ".join(str(np.shape(source)) for source in audio)
        raise AudioError(
            f"{role} of the shapes {shapes} came, expected one (time, channel) for all sources: cut or pad them first"
        ) from error
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiu":
        hint = "; mono audio needs a channel axis of 1" if array.ndim == 2 else ""
        raise AudioError(
            f"{role} of shape {array.shape} and type {array.dtype} came, "
            f"expected real numbers (source, time, channel), at least one each{hint}"
        )
    return ArrayAudio(array)


def check_pair(references: SourceAudio, estimates: SourceAudio) -> None:
    """Raise an `AudioError` unless estimates have the references' sources, length and channels."""
    shapes = [(len(audio.sources), audio.length, audio.channels) for audio in (references, estimates)]
    if shapes[0] != shapes[1]:
        raise AudioError(
            f"estimates (source, time, channel) = {shapes[1]} came, expected {shapes[0]} as the references: "
            "nothing is padded or cut here"
        )
    if isinstance(references, Stems) and isinstance(estimates, Stems) and references.sources != estimates.sources:
        raise AudioError(
            f"estimates of {', '.join(estimates.sources)} came, expected {', '.join(references.sources)}, in this order"
        )


def raise_not_finite(audio: SourceAudio, role: str) -> NoReturn:
    """Raise the `AudioError` of audio whose squares are not finite; it names the first NaN or infinite sample."""
    for start in range(0, audio.length, BLOCK):
        samples = audio.read(start, min(start + BLOCK, audio.length))
        if not np.isfinite(samples).all():
            source, channel, time = np.argwhere(~np.isfinite(samples))[0]
            raise AudioError(
                f"{role}: sample {start + time} of source {audio.sources[source]}, channel {channel}, "
                f"is {samples[source, channel, time]}; expected finite numbers: export the audio again or repair it"
            )
    raise AudioError(f"{role}: the samples are too large to be squared; expected audio of full scale 1")


def frame_slices(frames: int, window: float = 44_100, hop: float = 44_100) -> list[slice]:
    """Frames of a signal as museval cuts them: those that fit whole, or the signal itself when it is shorter.

    Parameters
    ----------
    frames : int
        Length of the signal in samples.
    window, hop : float
        Length and distance of the frames in samples; borders of fractional ones are rounded down.
        ``window=np.inf`` is the whole signal.

    Returns
    -------
    list of slice
        At least one.

    Raises
    ------
    AudioError
        Window or hop is under one sample, or the hop is infinite though the window is not.

    Examples
    --------
    >>> frame_slices(10, 4, 3)
    [slice(0, 4, None), slice(3, 7, None), slice(6, 10, None)]
    >>> frame_slices(10, np.inf)
    [slice(0, 10, None)]
    """
    if not (window >= 1 and hop >= 1) or (math.isinf(hop) and window < frames):
        raise AudioError(
            f"window {window} and hop {hop} came, expected samples, at least 1 (window=inf scores the whole signal)"
        )
    if window >= frames:
        return [slice(0, frames)]
    count = math.floor((frames - window + hop) / hop)
    return [slice(math.floor(index * hop), math.floor(index * hop + window)) for index in range(count)]


def sounding(samples: Waves) -> NDArray[np.bool_]:
    """For every source (source, channel, time) whether museval hears it: its sum over channels is not always zero.

    Examples
    --------
    >>> sounding(np.array([[[0.1, 0.2], [-0.1, -0.2]], [[0.0, 0.1], [0.0, 0.0]]]))
    array([False,  True])
    """
    heard = np.zeros(len(samples), bool)
    # a glance settles nearly every frame
    for length in (_GLANCE, samples.shape[2]):
        if not heard.all():
            heard = (samples[:, :, :length].sum(axis=1) != 0).any(axis=1)
    return heard
