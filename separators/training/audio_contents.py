"""What audio a training learns from: a checkpoint is of the samples that it has seen, not of their files' names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from stemfuse.separators.separator import digest
from stemfuse.separators.stems import Stems
from stemfuse.separators.store.contents import Contents
from stemfuse.separators.store.stem_store import StemStore
from stemfuse.separators.track import Track

FOLDER = ".contents"
"""Folder beside the checkpoint with digests of audio, so that what has not changed is read once."""


def audio_contents(tracks: Iterable[Track], folder: str | os.PathLike[str] | None) -> list[str]:
    """A digest of the audio of each track: mixture, references and stems.

    Parameters
    ----------
    tracks : iterable of Track
        With references or stems or both.
    folder : path-like or None
        Of the checkpoint. Without one nothing can be resumed: no audio is read, and the list is empty.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 1000))
    >>> loud, soft = (Track.from_arrays("song", gain * audio.sum(0), gain * audio) for gain in (1.0, 0.5))
    >>> first, second, third = audio_contents([loud, soft, loud], Path(tempfile.mkdtemp()))
    >>> first == third, first == second
    (True, False)
    """
    return [] if folder is None else [_content(track, Contents(Path(folder, FOLDER))) for track in tracks]


def _content(track: Track, contents: Contents) -> str:
    # a store knows the digests of its own stems, and of the songs that they are of
    stores = {label: StemStore(where.root) for label, where in track.stored.items()}
    contents = next((store.contents for store in stores.values()), contents)

    def of(stems: Stems | None) -> list[list[str]]:
        return [] if stems is None else [[source, contents.sha256(stems[source])] for source in stems.sources]

    stems: dict[str, object] = {}
    for label, given in track.stems.items():
        where = track.stored.get(label)
        stored = None if where is None else stores[label].content_of(track, where.key)
        stems[label] = of(given) if where is None or stored is None else [stored, list(where.sums), given.sources]
    audio = {"mixture": contents.sha256(track.mixture), "references": of(track.references), "stems": stems}
    return digest(audio | {"format": [track.rate, track.channels]})
