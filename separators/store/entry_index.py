"""Which entries a store has, and which one is of a mixture: by its name, by a note, or by looking at all."""

from __future__ import annotations

import shlex
from pathlib import Path

from stemfuse.separators.errors import AudioError, StemfuseError, StoreError, listed, wrong_usage
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.track import Track

from .contents import Contents
from .entry import check_files, mixture_of, open_files, read_record
from .layout import Places, beside, check_links, check_place, folders_in, older_entries, own_place


class EntryIndex:
    """The folders ``<data>/<separator>/<subset>/<track>`` of a store.

    Parameters
    ----------
    root : Path
        The store.
    contents : Contents
        Where digests of mixtures are remembered.
    """

    def __init__(self, root: Path, contents: Contents) -> None:
        self.root, self.contents = root, contents
        self._places = Places(root)
        self._is_current = False
        # by separator and mixture, what was found by looking at every entry
        self._found: dict[str, dict[str, Path]] = {}

    def check_layout(self) -> None:
        """Refuse a store of an older schema, before anything is computed that lies there already."""
        older = None if self._is_current else next(older_entries(self.root), None)
        if older is not None:
            raise StoreError(
                f"{self.root}: got a store of an older stemfuse (such as {older}), expected the folders "
                f"<data>/<separator>/<subset>/<track>; move it with: stemfuse store move {shlex.quote(str(self.root))}"
            )
        self._is_current = True

    def keys(self) -> list[str]:
        """Folders of all separators, sorted; each once, however many data sets it separated."""
        self.check_layout()
        return sorted({folder.name for data in folders_in(self.root) for folder in folders_in(data)})

    def key_of(self, name: str) -> str:
        """The folder of a name: the folder itself, or the only one of a separator with this name.

        Raises
        ------
        StoreError
            No folder or several fit; the message lists them.
        """
        keys = self.keys()
        if name in keys:
            return name
        fitting = [key for key in keys if key.rpartition("-")[0] == name]
        if len(fitting) == 1:
            return fitting[0]
        what = "several separators" if fitting else "no separator"
        known = listed(fitting or keys, most=20) or "none"
        near = "" if fitting else did_you_mean(name, (key.rpartition("-")[0] for key in keys))
        raise wrong_usage(
            StoreError(
                f"{self.root}: {what} named {name!r}{near}; name one of {known}, or separate or adopt stems first"
            )
        )

    def entries(self, key: str) -> list[Path]:
        """All entries of a separator, sorted; also those that links lead to, which are not read."""
        self.check_layout()
        return [path for data in folders_in(self.root) for path in sorted((data / key).glob("*/*/"))]

    def entry(self, track: Track, key: str) -> Path | None:
        """Where the stems of a track's mixture lie, whatever it was called then; a damaged entry of its name counts."""
        self.check_layout()
        own = own_place(self.root, track, key)
        try:
            mixture = self.contents.sha256(track.mixture)
        except AudioError:
            if own.is_dir():
                raise
            # who separates it says what is wrong with it
            return None
        places = [own, beside(own, mixture), self._places.find(key, mixture)]
        of = {place: mixture_of(place) for place in places if place is not None and place.is_dir()}
        named = [place for place in of if of[place] == mixture] or [place for place in of if of[place] is None]
        return named[0] if named else self._search(key, mixture)

    def _search(self, key: str, mixture: str) -> Path | None:
        """Where the stems of a mixture lie of which there is no note; each entry is looked at once."""
        if key not in self._found:
            known = self._places.listed(key)
            entries = {path.relative_to(self.root).as_posix(): path for path in self.entries(key)}
            if new := {name: mixture_of(path) for name, path in entries.items() if name not in known}:
                known |= {name: sha256 for name, sha256 in new.items() if sha256 is not None}
                self._places.keep_list(key, known)
            self._found[key] = {known[name]: entries[name] for name in reversed(entries) if name in known}
        found = self._found[key].get(mixture)
        return found if found is not None and _is_whole(found, mixture) else None

    def note(self, key: str, mixture: str, entry: Path) -> None:
        """Remember where the stems of a mixture lie."""
        self._places.keep(key, mixture, entry)

    def fault(self, entry: Path) -> str:
        """What is wrong with an entry, all of whose files are read; empty where nothing is."""
        try:
            check_links(self.root, entry)
            record = read_record(entry)
            check_place(entry, record)
            open_files(entry, record)
            check_files(entry, record)
        except StemfuseError as error:
            return str(error)
        return ""


def _is_whole(path: Path, mixture: str) -> bool:
    """Whether an entry is of a mixture, and lies where its record says."""
    try:
        check_place(path, read_record(path))
    except StemfuseError:
        return False
    return mixture_of(path) == mixture
