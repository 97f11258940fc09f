"""Where entries of the stem store lie: by data set, separator, subset and track, and by mixture where names agree."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from stemfuse.separators.audio.whole_files import PREFIX, write_whole
from stemfuse.separators.errors import StoreError, WriteError
from stemfuse.separators.foreign.documents import read_object
from stemfuse.separators.names import check_name
from stemfuse.separators.separator import digest
from stemfuse.separators.track import Track

RECORD = "stems.json"

SONGS = "songs"
"""The folder of tracks that belong to no data set."""

MARK = "~"
"""Stands between a track's name and digits of its mixture, where another song of that name has the place."""


def adopted_key(name: str) -> str:
    """Folder of the stems that are adopted under a name."""
    return f"{name}-{digest({'adopted': name})[:8]}"


def key_name(key: str) -> str:
    """The name in a separator's folder, without the digits of its fingerprint.

    Examples
    --------
    >>> key_name("tfc_tdf_v2-3f2a91c4"), key_name("mine")
    ('tfc_tdf_v2', 'mine')
    """
    name, dash, tail = key.rpartition("-")
    return name if dash and len(tail) == 8 else key


def own_place(root: Path, track: Track, key: str) -> Path:
    """The folder that a track's data set, subset and name give its entry; another song may have it.

    Raises
    ------
    StoreError
        A name cannot be that of a folder, or a link is in its place.
    """
    data = track.data_set or track.data or SONGS
    names = {"data set": data, "separator": key, "subset": track.subset, "track": track.name}
    for what, name in names.items():
        check_name(name, what, StoreError)
    # folders that begin with a dot are no stems' but the store's own
    for what in ("data set", "separator"):
        if names[what].startswith("."):
            raise StoreError(f"{what} {names[what]!r} begins with a dot, expected a name without one in the store")
    place = root.joinpath(*names.values())
    check_links(root, place)
    return place


def check_links(root: Path, path: Path) -> None:
    """Refuse a place in the store that links lead to, which is outside of it; the store itself may be a link."""
    for place in (path, *path.parents):
        if place == root:
            return
        if place.is_symlink():
            raise StoreError(
                f"{place}: is a link, expected a folder with files; copy what it leads to, or separate again"
            )


def beside(place: Path, mixture_sha256: str) -> Path:
    """The folder of a song whose place another song of the same name has."""
    return place.with_name(f"{place.name}{MARK}{mixture_sha256[:8]}")


def check_place(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse an entry whose folder was copied or moved from another place; a StoreError says from where."""
    *folders, name = (unicodedata.normalize("NFC", part) for part in path.parts[-4:])
    if name == beside(Path(record["track"]), record["mixture"]["sha256"]).name:
        name = record["track"]
    expected = dict(zip(("data", "key", "subset", "track"), (*folders, name), strict=True))
    for what, text in expected.items():
        if record.get(what) != text:
            raise StoreError(
                f"{path}: got stems of {what} {record.get(what)!r}, expected {text!r}: the folder was copied or moved; "
                "delete it and separate or adopt again"
            )


def name_of(root: Path, path: Path) -> list[str]:
    """What is remembered of an entry's files is remembered under this."""
    return ["entry", str(path.relative_to(root))]


def folders_in(folder: Path) -> list[Path]:
    """Sub-folders that belong to the store, sorted; hidden ones are its own notes or not its own at all."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())


def older_entries(root: Path) -> Iterator[Path]:
    """Entries of a store of the first schema, ``STORE/<separator>/<subset>/<track>``, which no command reads."""
    for folder in folders_in(root):
        found = sorted(path.parent for path in folder.glob(f"*/*/{RECORD}"))
        # a folder that is being written lies there for a moment
        yield from (path for path in found if not path.name.startswith(PREFIX))


class Places:
    """Where the stems of each mixture lie, so that a song that has another name now keeps its stems.

    It only spares searching: a note that is missing, or leads to other stems, is as good as none. What a search
    has found is kept in a list for each separator, so that every entry is looked at once.

    Parameters
    ----------
    root : Path
        The store; the notes are in ``.places``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, key: str, mixture_sha256: str, path: Path) -> None:
        """Note where an entry lies; nothing happens where the store cannot be written, or a link leads out of it."""
        note = self._note(key, mixture_sha256)
        if note.parent.is_symlink():
            return
        text = json.dumps({"path": path.relative_to(self.root).as_posix()}, ensure_ascii=False)
        with contextlib.suppress(WriteError):
            write_whole(note, lambda file: file.write(text.encode()))

    def find(self, key: str, mixture_sha256: str) -> Path | None:
        """The folder in which the stems of a mixture by one separator should lie."""
        try:
            place = PurePosixPath(read_object(self._note(key, mixture_sha256))["path"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        parts = place.parts
        if len(parts) != 4 or place.is_absolute() or ".." in parts or parts[1] != key:
            return None
        found = self.root / place
        try:
            check_links(self.root, found)
        except StoreError:
            return None
        return found if found.is_dir() else None

    def listed(self, key: str) -> dict[str, str]:
        """By entry of a separator, as a path in the store, the mixture that it was of when it was looked at."""
        try:
            return {str(path): str(sha256) for path, sha256 in read_object(self._list(key))["entries"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def keep_list(self, key: str, entries: Mapping[str, str]) -> None:
        """Keep what `listed` gives; nothing happens where the store cannot be written."""
        text = json.dumps({"entries": dict(entries)}, ensure_ascii=False)
        with contextlib.suppress(WriteError):
            write_whole(self._list(key), lambda file: file.write(text.encode()))

    def _list(self, key: str) -> Path:
        return self.root / ".places" / f"{digest({'entries': key})[:32]}.json"

    def _note(self, key: str, mixture_sha256: str) -> Path:
        return self.root / ".places" / f"{digest({'key': key, 'mixture': mixture_sha256})[:32]}.json"
