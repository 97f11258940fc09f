"""Songs at other rates or in mono, where recipe or command allow to convert them: separated, fitted to and fused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stemfuse.blending import BaseFusion, LinearFusion
from stemfuse.separators import Separator, Signal, Stems, Track, convert, convert_back, format_of
from stemfuse.separators.audio.signals import Samples, by_hand, channels_in_words
from stemfuse.separators.labels import channel_names

from .errors import RunError

ADVICE = "add --convert (in a recipe, convert: true) to resample and to copy mono to stereo, and back"


def described(rate: int, channels: int) -> str:
    """A rate and a number of channels in words.

    Examples
    --------
    >>> described(48_000, 1), described(44_100, 2)
    ('mono at 48000 Hz', 'stereo at 44100 Hz')
    """
    return f"{channels_in_words(channels)} at {rate} Hz"


def check_format(tracks: Sequence[Track], separator: Separator, allowed: bool = False) -> None:
    """Refuse tracks that a separator does not take as they are, all in one line and before anything is separated.

    Parameters
    ----------
    tracks : sequence of Track
        To be separated.
    separator : Separator
        By which one.
    allowed : bool
        Whether they may be converted; those whose channels are no copies of one remain refused.

    Raises
    ------
    RunError
        Some have another rate or number of channels.
    """
    wanted = format_of(separator)
    # where conversion does not help, advice to convert would lead to the next error
    unfit = [track for track in tracks if by_hand(track.channels, wanted[1])]
    if not unfit and not allowed:
        unfit = [track for track in tracks if (track.rate, track.channels) != wanted]
    if unfit:
        first = unfit[0]
        raise RunError(
            f"{len(unfit)} of {len(tracks)} songs, such as {first.name!r} ({described(first.rate, first.channels)}), "
            f"do not fit {separator.name}, which takes {described(*wanted)}: "
            f"{by_hand(first.channels, wanted[1]) or ADVICE}"
        )


def fuse_track(fusion: BaseFusion, track: Track, allowed: bool) -> Stems:
    """Fused stems at the track's own rate and channels, whatever the fusion was fitted on; see `fitting`."""
    parts = fitting(fusion, track, allowed)
    if parts[0] is track:
        return fusion.fuse(track)
    channels = track.channels // len(parts)
    fused = [convert_back(fusion.fuse(part), track.rate, channels, track.length) for part in parts]
    if len(fused) == 1:
        return fused[0]

    def read(start: int, stop: int) -> Samples:
        return np.concatenate([stems.read(start, stop) for stems in fused], axis=1)

    return Stems.lazy(read, fused[0].sources, track.channels, track.length, track.rate)


def save_weights(fusion: LinearFusion, track: Track, folder: Path, allowed: bool) -> None:
    """Write a song's weights to ``weights.npz``; where channels have weights of their own, to one file for each."""
    parts = fitting(fusion, track, allowed)
    if len(parts) == 1 or not fusion.varies_in_time:
        fusion.weights(parts[0]).save(folder / "weights.npz")
        return
    for part, channel in zip(parts, channel_names(track.channels), strict=True):
        fusion.weights(part).save(folder / f"weights-{channel}.npz")


def fitting(fusion: BaseFusion, track: Track, allowed: bool) -> list[Track]:
    """A track as a fusion takes it: itself, converted, or each of its channels where the fusion is one of mono songs.

    Parameters
    ----------
    fusion : BaseFusion
        Fitted.
    track : Track
        With stems.
    allowed : bool
        Whether the track may be converted for the fusion, and what it makes of it back.

    Raises
    ------
    RunError
        The track does not fit the fusion, and may not or cannot be converted.
    """
    rate, channels = fusion.fitted_rate or track.rate, fusion.fitted_channels or track.channels
    if (rate, channels) == (track.rate, track.channels):
        return [track]
    advice = by_hand(track.channels, channels) if channels > 1 else ""
    if advice or not allowed:
        raise RunError(
            f"track {track.name!r} is {described(track.rate, track.channels)}, {fusion.kind} was fitted on "
            f"{described(rate, channels)}: {advice or ADVICE}"
        )
    # two channels fused apart stay stereo, which a mix down to mono would not
    apart = range(track.channels) if track.channels > channels else ()
    return [convert(part, rate, channels) for part in (_one_channel(track, channel) for channel in apart)] or [
        convert(track, rate, channels)
    ]


class ChannelSignal(Signal):
    """One channel of a signal, as a mono signal."""

    def __init__(self, signal: Signal, channel: int) -> None:
        self.signal, self.channel = signal, channel
        self.rate, self.length, self.channels = signal.rate, signal.length, 1

    @property
    def parts(self) -> tuple[Signal, ...]:
        """The signal that the channel belongs to."""
        return (self.signal,)

    def _read(self, start: int, stop: int) -> Samples:
        return self.signal.read(start, stop)[self.channel : self.channel + 1]

    def __str__(self) -> str:
        return str(self.signal)


def _one_channel(track: Track, channel: int) -> Track:
    """A mono track that is one channel of a track, with that of its stems; without references."""
    stems = {
        separator: Stems.from_signals({source: ChannelSignal(of[source], channel) for source in of.sources})
        for separator, of in track.stems.items()
    }
    return replace(track, mixture=ChannelSignal(track.mixture, channel), references=None, stems=stems, stored={})


def comparable(tracks: Sequence[Track], allowed: bool, one_rate: bool = False) -> list[Track]:
    """Tracks that a fusion can be fitted to together: mono ones become stereo where some are.

    Parameters
    ----------
    tracks : sequence of Track
        With stems.
    allowed : bool
        Whether they may be converted.
    one_rate : bool
        Whether they have to have one rate, too: that of most, of the first among equals.

    Raises
    ------
    RunError
        The tracks have different channels or rates, and may not or cannot be converted.
    """
    channels = max((track.channels for track in tracks), default=0)
    rate = Counter(track.rate for track in tracks).most_common(1)[0][0] if one_rate and tracks else 0
    unlike = [track for track in tracks if (track.rate if rate else 0, track.channels) != (rate, channels)]
    if not unlike:
        return list(tracks)
    first = next((track for track in unlike if by_hand(track.channels, channels)), unlike[0])
    advice = by_hand(first.channels, channels)
    if advice or not allowed:
        other = next((track for track in tracks if track not in unlike), unlike[-1])
        raise RunError(
            f"tracks to fit on differ: {first.name!r} is {described(first.rate, first.channels)}, {other.name!r} is "
            f"{described(other.rate, other.channels)}: {advice or ADVICE}"
        )
    return [convert(track, rate or track.rate, channels) for track in tracks]
