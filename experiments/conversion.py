"""Songs at other rates or in mono, where recipe or command allow to convert them: separated, fitted to and fused."""

from __future__ import annotations

from collections.abc import Sequence

from stemfuse.blending import BaseFusion
from stemfuse.separators import Separator, Stems, Track, convert, convert_back, format_of

from .errors import RunError

ADVICE = "add --convert (in a recipe, convert: true) to resample and to copy mono to stereo, and back"


def described(rate: int, channels: int) -> str:
    """A rate and a number of channels in words.

    Examples
    --------
    >>> described(48_000, 1), described(44_100, 2)
    ('mono at 48000 Hz', 'stereo at 44100 Hz')
    """
    form = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    return f"{form} at {rate} Hz"


def check_format(tracks: Sequence[Track], separator: Separator) -> None:
    """Refuse tracks that a separator does not take as they are, all in one line and before anything is separated.

    Raises
    ------
    RunError
        Some have another rate or number of channels.
    """
    wanted = format_of(separator)
    unfit = [track for track in tracks if (track.rate, track.channels) != wanted]
    if unfit:
        first = unfit[0]
        raise RunError(
            f"{len(unfit)} of {len(tracks)} songs, such as {first.name!r} ({described(first.rate, first.channels)}), "
            f"do not fit {separator.name}, which takes {described(*wanted)}: {ADVICE}"
        )


def fuse_track(fusion: BaseFusion, track: Track, allowed: bool) -> Stems:
    """Fused stems at the track's own rate and channels, whatever the fusion was fitted on.

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
        The track does not fit the fusion, and may not be converted.
    """
    wanted = fusion.fitted_rate or track.rate, fusion.fitted_channels or track.channels
    if wanted == (track.rate, track.channels):
        return fusion.fuse(track)
    if not allowed:
        raise RunError(
            f"track {track.name!r} is {described(track.rate, track.channels)}, {fusion.kind} was fitted on "
            f"{described(*wanted)}: {ADVICE}"
        )
    return convert_back(fusion.fuse(convert(track, *wanted)), track.rate, track.channels, track.length)


def comparable(tracks: Sequence[Track], allowed: bool) -> list[Track]:
    """Tracks that a fusion can be fitted to together: mono ones become stereo where some are.

    Raises
    ------
    RunError
        The tracks have different channels, and may not be converted.
    """
    channels = {track.channels for track in tracks}
    if len(channels) < 2:
        return list(tracks)
    if not allowed:
        one, two = (next(track for track in tracks if track.channels == number) for number in sorted(channels)[:2])
        raise RunError(
            f"tracks to fit on differ: {one.name!r} is {described(one.rate, one.channels)}, {two.name!r} is "
            f"{described(two.rate, two.channels)}: {ADVICE}"
        )
    return [convert(track, track.rate, max(channels)) for track in tracks]
