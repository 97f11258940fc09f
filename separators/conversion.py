"""The explicit conversion of a track to another sample rate and to stereo."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np

from .audio.signals import RATE, Samples, Signal
from .errors import AudioError
from .stems import Stems
from .track import Track

WINDOW = 1 << 16
"""Samples of output that are resampled at a time, about."""

MARGIN = 1 << 11
"""Samples of input read beyond both ends of a window: longer than the filter's memory."""


class ConvertedSignal(Signal):
    """A signal at another sample rate, or a mono one as several equal channels, converted when it is read.

    Resampling is soxr's ``VHQ``, in windows that begin where both rates meet. With 48 kHz and the other usual rates the
    result is the conversion of the whole signal to the last bit, with odd ones to 1e-5, and always the same whatever
    range is read.

    Parameters
    ----------
    signal : Signal
        What is converted.
    rate : int
        The new sample rate in Hz.
    channels : int
        The new number of channels.

    Raises
    ------
    AudioError
        The channels differ and the signal is not mono.

    Examples
    --------
    >>> from stemfuse.separators import ArraySignal
    >>> ConvertedSignal(ArraySignal(np.zeros((1, 48_000)), rate=48_000), rate=44_100, channels=2)
    <audio in memory: 2 x 44100 at 44100 Hz>
    """

    def __init__(self, signal: Signal, rate: int = RATE, channels: int = 2) -> None:
        if signal.channels not in (1, channels):
            raise AudioError(
                f"{signal}: {signal.channels} channels came, expected 1 or {channels}: "
                f"mix it down to {channels} channels in an editor first"
            )
        self.signal, self.rate, self.channels = signal, rate, channels
        divisor = gcd(signal.rate, rate)
        self._period = (signal.rate // divisor, rate // divisor)
        self._periods = max(1, WINDOW // self._period[1])
        # halves are rounded up, as soxr does
        self.length = (2 * signal.length * rate + signal.rate) // (2 * signal.rate)

    def _read(self, start: int, stop: int) -> Samples:
        if self.rate == self.signal.rate:
            samples = self.signal.read(start, stop)
        else:
            size = self._periods * self._period[1]
            first = start // size
            windows = [self._window(number) for number in range(first, -(-stop // size))]
            joined = np.concatenate([np.empty((self.signal.channels, 0), np.float32), *windows], axis=1)
            samples = joined[:, start - first * size : stop - first * size]
        return np.repeat(samples, self.channels, axis=0) if len(samples) < self.channels else samples

    def _window(self, number: int) -> Samples:
        import soxr

        before, after = self._period
        begin = number * self._periods * before
        margin = -(-MARGIN // before) * before
        first = max(0, begin - margin)
        last = min(self.signal.length, begin + self._periods * before + margin)
        converted = soxr.resample(self.signal.read(first, last).T, self.signal.rate, self.rate, quality="VHQ").T
        skipped = (begin - first) // before * after
        window: Samples = converted[:, skipped : skipped + self._periods * after]
        return window

    def __str__(self) -> str:
        return str(self.signal)


def convert(track: Track, rate: int = RATE, channels: int = 2) -> Track:
    """Bring a track to the sample rate and channels that separators expect; nothing else converts.

    The mixture, references and stems are converted when they are read, so that no song lies in memory.

    Parameters
    ----------
    track : Track
        Any sample rate; mono, or as many channels as asked for.
    rate : int
        Sample rate in Hz.
    channels : int
        Number of channels; a mono track becomes as many equal ones.

    Returns
    -------
    Track
        The same one where there is nothing to do, else one whose notes say what was done.

    Raises
    ------
    AudioError
        The track has other channels than one or those asked for.

    Examples
    --------
    >>> track = Track.from_arrays("tone", np.zeros((1, 96_000)), rate=48_000)
    >>> convert(track).length, convert(track).channels, convert(track).notes
    (88200, 2, ('resampled from 48000 to 44100 Hz', '1 channel copied to 2'))
    """
    notes = []
    if track.rate != rate:
        notes.append(f"resampled from {track.rate} to {rate} Hz")
    if track.channels != channels:
        notes.append(f"{track.channels} channel copied to {channels}")
    if not notes:
        return track

    def converted(stems: Stems) -> Stems:
        return Stems.from_signals({source: ConvertedSignal(stems[source], rate, channels) for source in stems.sources})

    return replace(
        track,
        mixture=ConvertedSignal(track.mixture, rate, channels),
        references=converted(track.references) if track.references else None,
        stems={separator: converted(stems) for separator, stems in track.stems.items()},
        notes=(*track.notes, *notes),
    )
