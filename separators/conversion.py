"""The explicit conversion of a track to another sample rate and to stereo."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np

from .audio.signals import RATE, Samples, Signal
from .errors import AudioError
from .stems import Stems
from .track import Track

CONVERT_BLOCK = 1 << 16
"""About how many samples of output are resampled at a time."""

MARGIN = 1 << 11
"""Samples of input read beyond both ends of a block: longer than the filter's memory."""


class ConvertedSignal(Signal):
    """A signal at another sample rate, or a mono one as several equal channels, converted when it is read.

    Resampling is soxr's ``VHQ``, in blocks that begin where samples of both rates coincide. With 48 kHz and the other
    usual rates the result is the conversion of the whole signal to the last bit, with odd rates to 1e-5. It does not
    depend on the range that is read.

    Parameters
    ----------
    signal : Signal
        The signal to convert.
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
                f"{signal}: got {signal.channels} channels, expected 1 or {channels}: "
                f"mix it down to {channels} channels in an editor first"
            )
        self.signal, self.rate, self.channels = signal, rate, channels
        divisor = gcd(signal.rate, rate)
        self._period = (signal.rate // divisor, rate // divisor)
        self._periods = max(1, CONVERT_BLOCK // self._period[1])
        # halves are rounded up, as soxr does
        self.length = (2 * signal.length * rate + signal.rate) // (2 * signal.rate)

    @property
    def parts(self) -> tuple[Signal, ...]:
        """The signal that is converted."""
        return (self.signal,)

    def _read(self, start: int, stop: int) -> Samples:
        if self.rate == self.signal.rate:
            samples = self.signal.read(start, stop)
        else:
            size = self._periods * self._period[1]
            first = start // size
            blocks = [self._block(number) for number in range(first, -(-stop // size))]
            joined = np.concatenate([np.empty((self.signal.channels, 0), np.float32), *blocks], axis=1)
            samples = joined[:, start - first * size : stop - first * size]
        return np.repeat(samples, self.channels, axis=0) if len(samples) < self.channels else samples

    def _block(self, number: int) -> Samples:
        import soxr

        before, after = self._period
        begin = number * self._periods * before
        margin = -(-MARGIN // before) * before
        first = max(0, begin - margin)
        last = min(self.signal.length, begin + self._periods * before + margin)
        converted = soxr.resample(self.signal.read(first, last).T, self.signal.rate, self.rate, quality="VHQ").T
        skipped = (begin - first) // before * after
        block: Samples = converted[:, skipped : skipped + self._periods * after]
        return block

    def __str__(self) -> str:
        return str(self.signal)


def convert(track: Track, rate: int = RATE, channels: int = 2) -> Track:
    """Convert a track to the sample rate and channels that separators expect; nothing else converts.

    The mixture, references and stems are converted when they are read, so that no song has to fit into memory.

    Parameters
    ----------
    track : Track
        At any sample rate; mono, or with ``channels`` channels.
    rate : int
        Sample rate in Hz.
    channels : int
        Number of channels; those of a mono track become equal.

    Returns
    -------
    Track
        The same track where there is nothing to do, else one whose notes say what was done.

    Raises
    ------
    AudioError
        The track has neither one nor ``channels`` channels.

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
