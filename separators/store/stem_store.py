"""The stem store: every separator's stems of every track, kept once, in museval's estimates tree."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stemfuse.separators.audio.whole_files import clear_remains_below, remains_below
from stemfuse.separators.errors import StemfuseError, StoreError
from stemfuse.separators.names import check_name
from stemfuse.separators.separator import Separator, digest
from stemfuse.separators.sources import Sums
from stemfuse.separators.stems import Stems
from stemfuse.separators.track import StoredStems, Track

from .adoption import Adoption, find_stems
from .alignment import Alignment
from .contents import Contents, file_stamp
from .entry import (
    check_files,
    check_owner,
    content_of,
    describe_separator,
    discard,
    files_of,
    make_record,
    mixture_of,
    new_entry,
    open_files,
    read_record,
    training_data,
)
from .entry_index import EntryIndex
from .found_stems import How
from .layout import adopted_key, beside, check_links, key_name, name_of, own_place

log = logging.getLogger(__name__)


class Problem(NamedTuple):
    """An entry that is not what it should be."""

    entry: Path
    reason: str


class StemStore:
    """A folder of stems, ``STORE/<data>/<separator>/<subset>/<track>/<source>.wav`` beside ``stems.json``.

    ``<data>`` is the name of the data set's folder, ``songs`` where there is none. Each ``STORE/<data>/<separator>`` is
    museval's estimates tree, so any tool reads it. ``<separator>`` is the separator's name and the
    first eight digits of its fingerprint: other options or weights get a folder of their own. An entry is written
    to a temporary folder and renamed, so a killed process leaves no half entry and several processes may fill one
    store. An entry is used only when its record, its files and its mixture fit together: `get` compares the checksums
    of its files, and reads them again whenever one of them has changed.

    Stems belong to their mixture, not to a name: two songs never share an entry, and a song that has another name or
    lies in another data set now keeps its stems. Where two songs have the same data set, subset and name, the
    second one's folder is called ``<track>~<eight digits of the mixture's digest>``.

    Parameters
    ----------
    root : path-like
        Made when the first stems are put; a store that is only read may be read-only.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from stemfuse.separators import Track, load_separator
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (2, 22050)).astype("float32")
    >>> track, separator = Track.from_arrays("noise", noise), load_separator("centre_channel")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = StemStore(folder)
    ...     store.put(track, separator, separator.separate(noise, 44100))
    ...     store.get(track, separator).sources, store.missing([track], separator)
    (('drums', 'bass', 'other', 'vocals'), [])
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.contents = Contents(self.root / ".contents")
        self._index = EntryIndex(self.root, self.contents)

    @staticmethod
    def key(separator: Separator | str) -> str:
        """Folder of a separator: readable, and unique per fingerprint; a string is taken as it is."""
        return separator if isinstance(separator, str) else f"{separator.name}-{separator.fingerprint()[:8]}"

    def keys(self) -> list[str]:
        """Folders of all separators that have stems here, sorted; each once, however many data sets it separated."""
        return self._index.keys()

    def find(self, name: str) -> str:
        """The folder of a name: the folder itself, or the only one of a separator with this name.

        Raises
        ------
        StoreError
            No folder or several fit; the message lists them.
        """
        return self._index.key_of(name)

    def path(self, track: Track, separator: Separator | str) -> Path:
        """Folder of the entry of a track's mixture; where there is none, the folder that its name gives it."""
        return self._entry(track, separator) or own_place(self.root, track, self.key(separator))

    def _entry(self, track: Track, separator: Separator | str) -> Path | None:
        return self._index.entry(track, self.key(separator))

    def get(self, track: Track, separator: Separator | str) -> Stems | None:
        """Stems of a track, left in their files.

        Parameters
        ----------
        track : Track
            Its mixture has to be the one that was separated.
        separator : Separator or str
            The separator, or its folder in the store.

        Returns
        -------
        Stems or None
            None when the store has none of this mixture.

        Raises
        ------
        StoreError
            The entry is damaged, or belongs to another place or separator; the message says what is wrong.
        """
        path = self._entry(track, separator)
        if path is None:
            return None
        record = read_record(path)
        check_owner(path, record, separator)
        signals = open_files(path, record)
        self._check_files(path, record)
        stems = Stems.from_signals(signals)
        if stems.length != track.length or stems.rate != track.rate:
            raise StoreError(f"{path}: got {stems}, expected {track.mixture!r}; delete the folder and separate again")
        return stems

    def put(
        self,
        track: Track,
        separator: Separator | str,
        stems: Stems,
        description: Any = None,
        made_of: Mapping[str, str | None] | None = None,
    ) -> None:
        """Store the stems of a track; the entry appears whole or not at all.

        A usable entry of the same mixture that is there already stays: `remove` it first to replace it.

        Parameters
        ----------
        track : Track
            The track whose mixture was separated.
        separator : Separator or str
            The separator, or its folder in the store.
        stems : Stems
            Written as float32 WAV; lazy stems are streamed.
        description : mapping, optional
            The separator in the record; its own ``describe()`` when not given.
        made_of : mapping of str to str, optional
            Of stems that were made of others' stems, the `content_of` these by label: kept in the record.

        Raises
        ------
        StoreError
            The stems do not fit the track, or the store cannot be written (read-only, full disk).
        """
        self._index.check_layout()
        key = self.key(separator)
        path = own_place(self.root, track, key)
        for what in ("rate", "channels", "length"):
            if getattr(stems, what) != getattr(track.mixture, what):
                raise StoreError(
                    f"{key}: got stems of {track.name!r} with {what} {getattr(stems, what)}, "
                    f"expected {getattr(track.mixture, what)} as in the mixture; a separator must keep it"
                )
        mixture = self.contents.sha256(track.mixture)
        if mixture_of(path) not in (None, mixture):
            path = beside(path, mixture)
            log.warning("another song is called %r: its stems stay, those of this one are in %s", track.name, path)
        with new_entry(path, mixture) as folder:
            stems.write(folder)
            described = describe_separator(separator) if description is None else description
            fingerprint = digest(described) if isinstance(separator, str) else separator.fingerprint()
            trained_on, data = training_data(separator), path.parts[-4]
            record = make_record(folder, data, key, track, mixture, stems, described, fingerprint, trained_on, made_of)
        written = self._entry(track, separator)
        if written is not None:
            self._index.note(key, mixture, written)
            if read_record(written) == record:
                self._keep(written, record)

    def _check_files(self, path: Path, record: Mapping[str, Any]) -> None:
        """Read the files of an entry and compare their checksums, if they may have changed since that was done."""
        files, content = files_of(path, record), content_of(record)
        if self.contents.recall(self._what(path), files) != content:
            stamps = [file_stamp(file) for file in files]
            check_files(path, record)
            self.contents.keep(self._what(path), files, content, stamps)

    def _keep(self, path: Path, record: Mapping[str, Any]) -> None:
        files = files_of(path, record)
        self.contents.keep(self._what(path), files, content_of(record), [file_stamp(file) for file in files])

    def _what(self, path: Path) -> list[str]:
        return name_of(self.root, path)

    def content(self, track: Track, separators: Mapping[str, Separator | str]) -> dict[str, Any]:
        """Digests of all audio of a track, which names what is computed from it; read only what may have changed.

        Parameters
        ----------
        track : Track
            With or without references.
        separators : mapping of str to Separator or str
            By the name in the labels; all have stems of the track.

        Returns
        -------
        dict
            ``track`` and ``subset``, ``mixture``, ``references`` by source, ``stems`` by label.
        """
        references = track.references
        return {
            "track": track.name,
            "subset": track.subset,
            "mixture": self.contents.sha256(track.mixture),
            "references": [[source, self.contents.sha256(references[source])] for source in references.sources]
            if references
            else [],
            "stems": [[label, content_of(self.record(track, key))] for label, key in separators.items()],
        }

    def content_of(self, track: Track, separator: Separator | str) -> str | None:
        """Digest of a track's stems by one separator; None when there is no readable entry."""
        try:
            return content_of(self.record(track, separator))
        except StemfuseError:
            return None

    def forget(self, track: Track, separator: Separator | str) -> None:
        """Have the files of an entry read and compared again when it is used next, whatever is known of them."""
        self.contents.forget(self._what(self.path(track, separator)))

    def adopt(
        self,
        folder: str | os.PathLike[str],
        name: str,
        tracks: Iterable[Track],
        how: How = "refuse",
        model: str | None = None,
        sources: Sequence[str] | Sums | None = None,
        replace: bool = False,
        convert: bool = False,
    ) -> tuple[Adoption, list[Alignment]]:
        """Take in stems that another tool made, checked against their mixtures.

        Parameters
        ----------
        folder : path-like
            The other tool's output, in any layout that `find_stems` reads.
        name : str
            The separator's name in the store.
        tracks : iterable of Track
            The tracks that were separated.
        how : {"refuse", "shift", "as-is"}
            What to do with stems that are offset against their mixture; see `FoundStems.load`.
        model : str, optional
            Which one, where the folder holds stems by several models.
        sources : sequence of str, or mapping, optional
            The sources to take in, or sums of them; see `find_stems`.
        replace : bool
            Whether to replace stems that were adopted before under this name.
        convert : bool
            See `FoundStems.load`.

        Returns
        -------
        adoption : Adoption
            What was found and what was left over.
        alignments : list of Alignment
            One per adopted track: offset, gain, residual.

        Raises
        ------
        StemfuseError
            Nothing was found, stems do not fit, or there are stems of this name and ``replace`` is false. A file that
            cannot be read is an error where there is one track; of several, its track is passed over with a warning.
        """
        check_name(name, "separator", StoreError)
        key = adopted_key(name)
        adoption = find_stems(folder, tracks, sources, model)
        present = [] if replace else [found.track for found in adoption.found if self._entry(found.track, key)]
        if present:
            raise StoreError(
                f"{self.root}: stems of {present[0].name!r} were adopted before under the name {name!r}; "
                "choose another name, or replace them (--replace)"
            )
        # all are checked before the first one is stored, so that a refusal leaves nothing half adopted
        adoption, loaded = adoption.load(how, convert)
        for found, stems, alignment in loaded:
            self.remove(found.track, key)
            origin = {
                source: " + ".join(map(str, (path, *found.added.get(source, ()))))
                for source, path in found.files.items()
            }
            self.put(found.track, key, stems, {"name": name, "adopted": origin, "alignment": str(alignment)})
        alignments = [alignment for _, _, alignment in loaded]
        return adoption, alignments

    def remove(self, track: Track, separator: Separator | str) -> None:
        """Delete an entry, damaged or not; nothing happens when there is none."""
        path = self._entry(track, separator)
        if path is not None:
            discard(path)

    def keep_only(self, separator: Separator | str, entries: Iterable[Path]) -> None:
        """Delete all entries of a separator but these folders."""
        kept = set(entries)
        for path in self.entries(separator):
            if path not in kept:
                discard(path)

    def missing(self, tracks: Iterable[Track], separator: Separator | str) -> list[Track]:
        """Tracks that have no usable entry; a damaged or foreign one is logged and counts as missing."""
        self._index.check_layout()
        missing = []
        for track in tracks:
            try:
                stems = self.get(track, separator)
            except StoreError as error:
                log.warning("%s", error)
                stems = None
            if stems is None:
                missing.append(track)
        return missing

    def attach(self, track: Track, separators: Mapping[str, Separator | str] | Sequence[Separator | str]) -> Track:
        """The track with the stems of these separators.

        Parameters
        ----------
        track : Track
            Any track whose stems are in the store.
        separators : mapping of str to Separator or str, or a sequence of them
            The keys are the names that labels and tables show; a sequence uses the separators' own names.

        Raises
        ------
        StoreError
            Stems are missing or damaged, or two separators have one name.
        """
        if not isinstance(separators, Mapping):
            names = [key_name(one) if isinstance(one, str) else one.name for one in separators]
            if len(set(names)) < len(names):
                raise StoreError(f"separators {', '.join(names)}: give each a name of its own")
            separators = dict(zip(names, separators, strict=True))
        stems, stored = {}, {}
        for label, separator in separators.items():
            found = self.get(track, separator)
            if found is None:
                raise StoreError(self._without(track, separator))
            stems[label] = found
            trained_on = self.record(track, separator).get("trained_on")
            declared = None if trained_on is None else tuple(trained_on)
            stored[label] = StoredStems(self.root, self.key(separator), declared)
        return track.with_stems(stems, stored)

    def _without(self, track: Track, separator: Separator | str) -> str:
        return (
            f"{self.root}: no stems of {track.subset}/{track.name} by {self.key(separator)}; "
            "run stemfuse separate or stemfuse adopt first"
        )

    def verify(self, separator: Separator | str | None = None) -> list[Problem]:
        """Read every file again and compare its checksum.

        Parameters
        ----------
        separator : Separator or str, optional
            Only this one's entries.

        Returns
        -------
        list of Problem
            Empty when all is well. What killed processes left is listed too.
        """
        keys = self.keys() if separator is None else [self.key(separator)]
        problems = []
        for key in keys:
            for path in self.entries(key):
                if fault := self._index.fault(path):
                    self.contents.forget(self._what(path))
                    problems.append(Problem(path, fault))
        problems += [
            Problem(path, f"{path}: left by a process that was killed; delete it") for path in remains_below(self.root)
        ]
        return problems

    def clear_remains(self) -> None:
        """Delete what killed processes left anywhere in the store."""
        clear_remains_below(self.root)

    def record(self, track: Track, separator: Separator | str) -> dict[str, Any]:
        """The content of the ``stems.json`` of a track's mixture.

        Raises
        ------
        StoreError
            There are no stems of this mixture, or the file is damaged.
        """
        path = self._entry(track, separator)
        if path is None:
            raise StoreError(self._without(track, separator))
        return read_record(path)

    def entries(self, separator: Separator | str) -> list[Path]:
        """Folders of all entries of a separator, sorted; also those that links lead to, which are not read."""
        return self._index.entries(self.key(separator))

    def description(self, separator: Separator | str) -> dict[str, Any]:
        """How the record of a separator's first entry describes it.

        Raises
        ------
        StoreError
            There is none, or it is damaged or lies behind a link.
        """
        found = self.entries(separator)
        if not found:
            raise StoreError(f"{self.root}: no stems by {self.key(separator)}; separate or adopt some first")
        check_links(self.root, found[0])
        described: dict[str, Any] = read_record(found[0])["separator"]
        return described

    def tracks_of(self, separator: Separator | str) -> list[tuple[str, str]]:
        """(subset, track) of every entry of a separator, sorted."""
        return sorted((path.parent.name, path.name) for path in self.entries(separator))
