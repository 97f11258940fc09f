"""Folders of stems that other tools made, named on the command line and taken into a store for songs that are fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.stored_separators import StoredSeparator
from stemfuse.separators import StemStore, Track, TrackError, listed
from stemfuse.separators.store.adoption import How


def parse_stems(given: Sequence[str], option: str = "") -> dict[str, Path]:
    """Folders by label, from ``label=DIR``.

    Parameters
    ----------
    given : sequence of str
        As they stand on the command line.
    option : str
        What stands before each, for messages.

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
        shown = f"{option} {text}".strip()
        label, equals, path = text.partition("=")
        if not (label and equals and path):
            raise ConfigError(f"got {shown}, expected {f'{option} '.lstrip()}NAME=DIR, such as mdx=separated/mdx")
        if label in folders:
            raise ConfigError(f"got {shown}, but {label} has a folder already; give each separator once")
        folders[label] = Path(path).expanduser()
        if not folders[label].is_dir():
            raise ConfigError(f"{path}: no such folder, expected one with stems by {label}")
    return folders


def take_stems(
    folders: Mapping[str, Path],
    tracks: Sequence[Track],
    store: StemStore,
    convert: bool = False,
    how: How = "refuse",
) -> list[StoredSeparator]:
    """Take stems that other tools made of these songs into a store, checked against the songs.

    Parameters
    ----------
    folders : mapping of str to Path
        By the label of the separator; any layout that `stemfuse.separators.find_stems` reads.
    tracks : sequence of Track
        The songs.
    store : StemStore
        A temporary one.
    convert : bool
        Whether stems at another rate than the song, or with other channels, are converted.
    how : {"refuse", "shift", "as-is"}
        What to do with stems that are offset against their song; see `stemfuse.separators.FoundStems.load`.

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
        adoption, _ = store.adopt(folder, label, tracks, how, convert=convert)
        if adoption.without:
            raise TrackError(f"{folder}: no stems of {listed(adoption.without)}; expected those of every song")
        key = store.find(label)
        made.append(StoredSeparator(label, key, label, "{}", True))
    return made
