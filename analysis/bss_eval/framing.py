"""What is scored: references and estimates of one shape, read by time range, and museval's frames."""

from __future__ import annotations

import math
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import BLOCK, AudioError, Stems
from stemfuse.separators.audio.signals import SURROUND, as_samples

Waves = NDArray[np.floating]
Audio = Waves | Stems
"""An array (source, time, channel), museval's axes, or stems, which are read range by range."""

MOST_CHANNELS = 64
"""More channels, or sources, than any recording of music has."""

MOST_SIGNALS = 128
"""Sources times channels; the projections of so many need 34 GB."""

_FIRST = 1024


class SourceAudio(Protocol):
    """Sources of one length and channel count, read by time range; `Stems` are."""

    sources: tuple[str, ...]
    channels: int
    length: int

    def read(self, start: int, stop: int) -> Waves:
        """Samples of a range, (source, channel, time)."""
        ...


class ArrayAudio:
    """An array in museval's axes, (source, time, channel), in its own number format."""

    def __init__(self, array: Waves) -> None:
        self._waves = array.swapaxes(1, 2)
        count, self.channels, self.length = self._waves.shape
        self.sources = tuple(f"number {index}" for index in range(count))

    def read(self, start: int, stop: int) -> Waves:
        """Samples of a range, (source, channel, time)."""
        return self._waves[:, :, start:stop]


def readable(audio: Any, role: str) -> SourceAudio:
    """Audio that is read by time range, from an array or from stems.

    Parameters
    ----------
    audio : array_like, shape (source, time, channel), or Stems
        Real numbers; integers are scaled by their type, see `as_samples`.
    role : str
        What the audio is, for messages: ``"references"``.

    Returns
    -------
    SourceAudio
        The stems themselves, or the array with the same methods.

    Raises
    ------
    AudioError
        The array is ragged, empty, complex, does not have three axes, or has more sources or channels than samples
        (beyond 8), or more than `MOST_CHANNELS`.

    Examples
    --------
    >>> readable(np.zeros((4, 1000, 2)), "references").read(0, 10).shape
    (4, 2, 10)
    """
    if isinstance(audio, Stems):
        _check_axes(len(audio.sources), audio.length, audio.channels, role, time_axis=2)
        return audio
    try:
        array = np.asarray(audio)
    except ValueError as error:
        shapes = ", ".join(str(np.shape(source)) for source in audio)
        raise AudioError(
            f"got {role} of the shapes {shapes}, expected one (time, channel) for all sources: cut or pad them first"
        ) from error
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiu":
        hint = "; mono audio needs a channel axis of 1" if array.ndim == 2 else ""
        raise AudioError(
            f"got {role} of shape {array.shape} and type {array.dtype}, "
            f"expected real numbers (source, time, channel), at least one each{hint}"
        )
    sources, length, channels = array.shape
    _check_axes(sources, length, channels, role)
    return ArrayAudio(array if array.dtype.kind == "f" else as_samples(array))


def _check_axes(sources: int, length: int, channels: int, role: str, time_axis: int = 1) -> None:
    """Refuse axes in another order: projections of that many signals would need terabytes."""
    shape = f"(source, time, channel) = {(sources, length, channels)}"
    if channels > MOST_CHANNELS or channels > max(length, SURROUND):
        raise AudioError(
            f"got {role} of {channels} channels, {shape}; expected at most {MOST_CHANNELS}: time and channel seem "
            "swapped, give array.swapaxes(1, 2), or Stems(array), which take (source, channel, time)"
        )
    if sources > MOST_CHANNELS or sources > max(length, SURROUND):
        raise AudioError(
            f"got {role} of {sources} sources, {shape}; expected at most {MOST_CHANNELS}: time and source seem "
            f"swapped, give np.moveaxis(array, 0, {time_axis}) if the array's axes are (time, source, channel)"
        )
    if sources * channels > MOST_SIGNALS:
        raise AudioError(
            f"got {role} of {sources} sources with {channels} channels each, {shape}; expected at most {MOST_SIGNALS} "
            "channels of all sources together: sum up sources, or score fewer channels at a time"
        )


def check_pair(references: SourceAudio, estimates: SourceAudio) -> None:
    """Raise an `AudioError` unless estimates have the references' sources, length and channels."""
    shapes = [(len(audio.sources), audio.length, audio.channels) for audio in (references, estimates)]
    if shapes[0] != shapes[1]:
        raise AudioError(
            f"got estimates (source, time, channel) = {shapes[1]}, expected {shapes[0]} as the references: "
            "nothing is padded or cut here"
        )
    if isinstance(references, Stems) and isinstance(estimates, Stems) and references.sources != estimates.sources:
        raise AudioError(
            f"got estimates of {', '.join(estimates.sources)}, expected {', '.join(references.sources)}, in this order"
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


def frame_slices(length: int, window: float = 44_100, hop: float = 44_100) -> list[slice]:
    """Frames of a signal as museval cuts them: those that fit whole, or the signal itself when it is shorter.

    Parameters
    ----------
    length : int
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
    if not (window >= 1 and hop >= 1) or (math.isinf(hop) and window < length):
        raise AudioError(
            f"got window {window} and hop {hop}, expected samples, at least 1 (window=inf scores the whole signal)"
        )
    if window >= length:
        return [slice(0, length)]
    count = math.floor((length - window + hop) / hop)
    return [slice(math.floor(index * hop), math.floor(index * hop + window)) for index in range(count)]


def sounding(samples: Waves) -> NDArray[np.bool_]:
    """Which sources of samples (source, channel, time) are not silent.

    As in museval, a source is silent when its sum over channels is zero at every sample.

    Examples
    --------
    >>> sounding(np.array([[[0.1, 0.2], [-0.1, -0.2]], [[0.0, 0.1], [0.0, 0.0]]]))
    array([False,  True])
    """
    sounds = np.zeros(len(samples), bool)
    # the first samples decide nearly every frame
    for length in (_FIRST, samples.shape[2]):
        if not sounds.all():
            sounds = (samples[:, :, :length].sum(axis=1) != 0).any(axis=1)
    return sounds
