"""A track's stems beside its references: picked and summed up until both speak of the same sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from .errors import TrackError
from .sources import Sums, part_names, stem_sums, summed
from .stems import Stems
from .track import StoredStems, Track


def matched(
    track: Track,
    wanted: Sums | None = None,
    recorded: Mapping[str, Sums] | None = None,
    usual: Mapping[str, Collection[str]] | None = None,
    own: Mapping[str, Sums] | None = None,
) -> Track:
    """The track with stems of the sources that its references have, as far as stems are sums of others.

    Parameters
    ----------
    track : Track
        With stems.
    wanted : mapping, optional
        What the user wants; see `stemfuse.separators.sources.stem_sums` for what is done without it.
    recorded : mapping of str to mapping, optional
        By the separator's label, the sums that a fusion was fitted to: they alone are made then.
    usual : mapping of str to collection of str, optional
        By the separator's label, its sources in all songs; see `stemfuse.separators.sources.stem_sums`.
    own : mapping of str to mapping, optional
        By the separator's label, what is wanted of it in place of ``wanted``.

    Returns
    -------
    Track
        The same one where nothing has to be done; else its notes say which stems are sums.

    Raises
    ------
    TrackError
        A separator gives none of the wanted sources, or a stem whose part in the mixture is not known.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 1000))
    >>> pair = Stems(np.stack([noise[3], noise[:3].sum(0)]), ["vocals", "accompaniment"])
    >>> track = Track.from_arrays("song", noise.sum(0), stems={"a": noise})
    >>> with_pair = matched(replace(track, references=pair))
    >>> with_pair.stems["a"].sources, with_pair.notes
    (('vocals', 'accompaniment'), ('a: accompaniment is the sum of drums, bass and other',))
    """
    references: tuple[str, ...] | None = None
    if track.references is not None:
        references = track.references.sources if wanted is None else part_names(track.references)
    stems: dict[str, Stems] = {}
    stored: dict[str, StoredStems] = {}
    notes = []
    for label, given in track.stems.items():
        if recorded is not None and label not in recorded:
            continue
        try:
            of_all, asked = (usual or {}).get(label, ()), (own or {}).get(label, wanted)
            sums, note = (recorded[label], "") if recorded else stem_sums(given.sources, references, asked, of_all)
            found = summed(given, sums)
        except TrackError as error:
            raise TrackError(f"{label}, track {track.name!r}: {error}") from error
        if found is given:
            continue
        stems[label] = found
        notes += [f"{label}: {note}"] if note else []
        if label in track.stored:
            stored[label] = track.stored[label]._replace(sums=tuple(sums.items()))
    return replace(track.with_stems(stems, stored), notes=(*track.notes, *notes)) if stems else track
