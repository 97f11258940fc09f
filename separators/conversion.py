"""The explicit conversion of a track to another sample rate and to stereo, and of stems back to their song's."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np

from .audio.signals import RATE, Samples, Signal, by_hand, channels_in_words
from .errors import AudioError
from .separator import BaseSeparator, Separator, separate_signal
from .stems import Stems
from .track import FittedSignal, Track

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
        if advice := by_hand(signal.channels, channels):
            wanted = " or ".join(dict.fromkeys(map(channels_in_words, (1, channels))))
            raise AudioError(f"{signal}: got {channels_in_words(signal.channels)}, expected {wanted}: {advice}")
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
        # what is stored belongs to the track as it was
        stored={},
        notes=(*track.notes, *notes),
    )


class _JoinedSignal(Signal):
    """All sources of stems as the channels of one signal, mixed down to ``channels`` each.

    It remembers the range that was read last, since resampling reads a little of it again, and stems that are made as
    they are read begin anew for every step back.
    """

    def __init__(self, stems: Stems, channels: int) -> None:
        self.stems, self.rate, self.length = stems, stems.rate, stems.length
        self.channels = len(stems.sources) * channels
        self._each = channels
        self._start, self._last = 0, np.empty((self.channels, 0), np.float32)

    def _read(self, start: int, stop: int) -> Samples:
        end = self._start + self._last.shape[1]
        if self._start <= start and stop <= end:
            return self._last[:, start - self._start : stop - self._start]
        begin = end if self._start <= start <= end else start
        kept = self._last[:, start - self._start : stop - self._start] if begin == end else self._last[:, :0]
        if begin < stop:
            made = self.stems.read(begin, stop)
            if self._each < made.shape[1]:
                made = made.mean(axis=1, keepdims=True)
            kept = np.concatenate([kept, made.reshape(self.channels, -1)], axis=1)
        self._start, self._last = start, kept
        return kept


def convert_back(stems: Stems, rate: int, channels: int, length: int) -> Stems:
    """Bring stems of a converted track back to the rate, channels and length of the song.

    Parameters
    ----------
    stems : Stems
        They may be computed as they are read: they are read once, from the beginning to the end.
    rate, channels, length : int
        Of the song, before `convert`. Two channels become one by their mean.

    Returns
    -------
    Stems
        Read block by block. A conversion there and back may end one sample early, which is zero then.

    Examples
    --------
    >>> track = Track.from_arrays("tone", np.zeros((1, 96_001)), rate=48_000)
    >>> stems = Stems.from_signals({"vocals": convert(track).mixture})
    >>> convert_back(stems, track.rate, track.channels, track.length)
    <Stems vocals: 1 x 96001 at 48000 Hz>
    """
    joined = _JoinedSignal(stems, channels)
    signal = FittedSignal(ConvertedSignal(joined, rate, joined.channels), length)

    def read(start: int, stop: int) -> Samples:
        return signal.read(start, stop).reshape(len(stems.sources), channels, -1)

    return Stems.lazy(read, stems.sources, channels, length, rate)


def converted_to(signal: Signal, rate: int, channels: int) -> Signal:
    """A signal at another rate, with other channels: mono is copied, two channels become one by their mean.

    Raises
    ------
    AudioError
        The signal has more than two channels, or another number than two is wanted of one that is not mono.
    """
    if (signal.rate, signal.channels) == (rate, channels):
        return signal
    if (signal.channels, channels) == (2, 1):
        signal = _JoinedSignal(Stems.from_signals({"mean": signal}), 1)
    return ConvertedSignal(signal, rate, channels)


def separate_converted(separator: Separator, mixture: Signal) -> Stems:
    """Stems of a mixture at any rate, mono or stereo: it is converted for the separator, its stems are converted back.

    Parameters
    ----------
    separator : Separator
        Any one; those that do not derive from `BaseSeparator` take stereo.
    mixture : Signal
        A mixture that fits the separator is separated as it is.

    Returns
    -------
    Stems
        At the mixture's rate, with its channels and its length; see `separate_signal`.

    Raises
    ------
    AudioError
        The mixture has other channels, and is not mono.
    """
    rate, channels = format_of(separator)
    if (mixture.rate, mixture.channels) == (rate, channels):
        return separate_signal(separator, mixture)
    stems = separate_signal(separator, ConvertedSignal(mixture, rate, channels))
    return convert_back(stems, mixture.rate, mixture.channels, mixture.length)


def format_of(separator: Separator) -> tuple[int, int]:
    """Sample rate in Hz and number of channels that a separator works at."""
    return separator.rate, separator.channels if isinstance(separator, BaseSeparator) else 2
