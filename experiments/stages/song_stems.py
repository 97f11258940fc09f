"""Stems of songs that are fused: those that other tools made of them, and those that lie anywhere in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.stored_separators import StoredSeparator
from stemfuse.separators import SOURCES, StemStore, Track, TrackError
from stemfuse.separators.audio.containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES
from stemfuse.separators.sources import SPELLINGS, source_of
from stemfuse.separators.store.adoption import FoundStems

MIXTURES = ("mixture", "mix")


def parse_stems(given: Sequence[str]) -> dict[str, Path]:
    """Folders by label, from ``label=DIR``.

    Raises
    ------
    ConfigError
        One has another form, names no folder, or a label comes twice.

    Examples
    --------
    >>> parse_stems(["mdx=/usr"])
    {'mdx': PosixPath('/usr')}
    """
    folders: dict[str, Path] = {}
    for text in given:
        label, equals, path = text.partition("=")
        if not (label and equals and path):
            raise ConfigError(f"got --stems {text}, expected LABEL=DIR, such as --stems mdx=separated/mdx")
        if label in folders:
            raise ConfigError(f"got --stems {label}=... twice, give each separator once")
        folders[label] = Path(path).expanduser()
        if not folders[label].is_dir():
            raise ConfigError(f"{path}: no such folder, expected one with stems by {label}")
    return folders


def take_stems(folders: Mapping[str, Path], tracks: Sequence[Track], store: StemStore) -> list[StoredSeparator]:
    """Take stems that other tools made of these songs into a store, checked against the songs.

    Parameters
    ----------
    folders : mapping of str to Path
        By the label of the separator. Any layout that `stemfuse.separators.find_stems` reads; for one song also the
        folder that has the files of its sources in it.
    tracks : sequence of Track
        The songs.
    store : StemStore
        A temporary one.

    Returns
    -------
    list of StoredSeparator
        One for each label.

    Raises
    ------
    StemfuseError
        A song has no stems there, or they do not fit the song.
    """
    made = []
    for label, folder in folders.items():
        files = _files_in(folder) if len(tracks) == 1 else {}
        if files:
            stems, alignment = FoundStems(tracks[0], files).load()
            key = f"{label}-song"
            origin = {source: str(file) for source, file in files.items()}
            description = {"name": label, "adopted": origin, "alignment": str(alignment)}
            store.put(tracks[0], key, stems, description)
        else:
            store.adopt(folder, label, tracks)
            key = store.find(label)
        if missing := [track.name for track in tracks if store.get(track, key) is None]:
            raise TrackError(f"{folder}: no stems of {', '.join(missing[:5])}; expected those of every song")
        made.append(StoredSeparator(label, key, label, "{}", True))
    return made


def _files_in(folder: Path) -> dict[str, Path]:
    """Files of sources that lie in a folder itself, by source."""
    audible = LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES
    named = {
        source_of(file.stem): file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in audible and not file.name.startswith(".") and file.stem.casefold() not in MIXTURES
    }
    return named if set(named) & {*SOURCES, *SPELLINGS.values()} else {}
