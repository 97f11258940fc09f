"""Data sets and single songs on disk: finding tracks, subsets and the validation split."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stemfuse.experiments.errors import UnusableTracksError
from stemfuse.separators import SOURCES, AudioError, Sums, Track, TrackError, in_order, listed, show_sources
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.names import did_you_mean, name_fault
from stemfuse.separators.sources import absent_parts, part_names

from .musdb_tracks import musdb_places, musdb_validation
from .places import DATA, SUBSETS, find_places, given_places
from .track_folders import PASSED_OVER, MixtureRule, is_audio_file, list_folder
from .tracks import (
    NONE_WANTED,
    UNSURE,
    is_stem_file,
    is_track,
    named_in,
    open_song,
    open_track,
    pick_references,
    track_name,
)

__all__ = ["SUBSETS", "DataSet", "open_data", "open_song"]

log = logging.getLogger(__name__)

NAMED = 5
"""Songs of each subset that a notebook names."""

EVERY_SEVENTH = "every seventh"
"""Where a validation split comes from that neither the data set nor musdb has: every seventh training track."""


@dataclass(frozen=True)
class DataSet:
    """The tracks under a path: names are known at once, headers are read by `tracks`, samples when they are used.

    Parameters
    ----------
    path : Path
        Where it lies.
    places : mapping of str to mapping of str to Path or Track
        By subset and name, the folder or file of each track, or the track itself.
    split : str
        Where the subset ``"valid"`` comes from: ``"folder"``, ``"musdb"``, ``"every seventh"`` or ``"none"``.
    mixture : {"file", "sum"}
        See `open_data`.
    sources : mapping, optional
        See `open_data`.
    complete : bool
        See `open_data`.

    See Also
    --------
    open_data : finds all this.
    """

    path: Path
    places: Mapping[str, Mapping[str, Path | Track]]
    split: str = "none"
    mixture: MixtureRule = "file"
    sources: Sums | None = None
    complete: bool = True

    @property
    def subsets(self) -> tuple[str, ...]:
        """Train, valid and test as far as there are such, then others by name."""
        return tuple(self.places)

    @property
    def layout(self) -> str:
        """``"folders"``, ``"stem.mp4"``, ``"files"`` or ``"tracks"``; joined by ``" + "`` where a tree has several."""
        return " + ".join(sorted({_form(place) for places in self.places.values() for place in places.values()}))

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.places[subset])} {subset}" for subset in self.subsets) or "no songs"
        return f"<DataSet {str(self.path)!r}: {counts}; layout {self.layout or 'none'}, validation from {self.split}>"

    def _repr_html_(self) -> str:
        from stemfuse.separators.faces import html_table

        rows = [[subset, len(self.places[subset]), listed(self.places[subset], NAMED)] for subset in self.subsets]
        note = f"layout {self.layout or 'none'}; validation from {self.split}"
        return html_table(["subset", "songs", "names"], rows, f"{self.name}: {self.path}", note)

    def names(self, subset: str | None = None) -> tuple[str, ...]:
        """Names of the tracks of a subset, or of all; no file is opened."""
        return tuple(name for part in self._asked(subset) for name in self.places[part])

    def tracks(self, subset: str | None = None, skip_bad: bool = False) -> list[Track]:
        """Open tracks: their headers are read and checked, their samples are not.

        Parameters
        ----------
        subset : str, optional
            One of `subsets`; all tracks when not given.
        skip_bad : bool
            Leave out the tracks that cannot be used, with a warning for each.

        Raises
        ------
        TrackError
            No such subset; or tracks that cannot be used: the message lists them all, each with its reason.
        """
        good: list[Track] = []
        bad: list[str] = []
        data, data_set = self.identity, self.name
        for part in self._asked(subset):
            for name, place in self.places[part].items():
                try:
                    if isinstance(place, Track):
                        good.append(pick_references(place, self.sources if self.complete else None))
                        continue
                    track = open_track(place, name, part, self.mixture, self.sources, self.complete)
                    good.append(replace(track, data=data, data_set=data_set))
                except TrackError as error:
                    if isinstance(place, Path) and _is_lone_file(place, self.places[part], error):
                        log.warning("left out: %s", error)
                    else:
                        bad.append(str(error))
        if not good and not bad and any(self.places[part] for part in self._asked(subset)):
            raise TrackError(f"{self.path}: none of the files can be decoded, see the warnings; export them again")
        if bad and not skip_bad:
            count = f"{len(bad)} of {len(good) + len(bad)} tracks"
            raise UnusableTracksError(f"{self.path}: {count} cannot be used:", bad)
        for reason in bad:
            log.warning("left out: %s", reason)
        self._check_sources(good)
        return good

    def _check_sources(self, tracks: Sequence[Track]) -> None:
        """Say what was passed over or is missing; raise where a wanted source, or a part of one, is in no track."""
        for start in (PASSED_OVER, UNSURE, NONE_WANTED):
            notes = [(track.name, note) for track in tracks for note in track.notes if note.startswith(start)]
            if notes:
                names = listed(map(repr, dict.fromkeys(name for name, _ in notes)))
                log.warning("%s: %s; %d in all, in %s", self.path, notes[0][1], len(notes), names)
        found = in_order(name for track in tracks if track.references for name in part_names(track.references))
        lost = [note for track in tracks for note in track.notes if note.startswith(NONE_WANTED)]
        if self.sources is None or not self.complete or not (found or lost):
            return
        if absent := absent_parts(found, self.sources):
            missing = dict.fromkeys(part for parts in absent.values() for part in parts)
            there = f"the sources that are wanted are {', '.join(found)}" if found else lost[0]
            first = next(iter(missing))
            near = did_you_mean(first, [name for name in self._file_names() if name != first])
            wanted = f"{listed(missing)} of sources {show_sources(self.sources)}{near}"
            raise wrong_usage(
                TrackError(
                    f"{self.path}: no track has {wanted}; {there}: expected names of files in the tracks' folders"
                )
            )

    def _file_names(self) -> list[str]:
        """Names that sources may have: of the files of the folders of tracks, and the usual ones."""
        places = {place for part in self.places.values() for place in part.values() if isinstance(place, Path)}
        files = {file.stem for place in places if place.is_dir() for file in list_folder(place) if is_audio_file(file)}
        return [*sorted(files - {"mixture"}), *SOURCES]

    @property
    def identity(self) -> str:
        """``"musdb18hq"`` where it has tracks of musdb's list; otherwise the name of its folder."""
        return "musdb18hq" if musdb_validation().intersection(self.names()) else track_name(self.path)

    @property
    def name(self) -> str:
        """The name of its folder; for a single song or track, of the folder that it lies in; empty for open tracks."""
        if self.layout == "tracks":
            return ""
        folder = self.path.resolve()
        is_single = not self.path.is_dir() or is_track(self.path)
        name = unicodedata.normalize("NFC", (folder.parent if is_single else folder).name)
        return "" if name_fault(name) else name

    def only(self, names: Collection[str] | None) -> DataSet:
        """Some of the tracks, by ``<name>`` or ``<subset>/<name>``, in the subsets that they have; all for None.

        Raises
        ------
        TrackError
            There is no track of a name.
        """
        if names is None:
            return self
        known = {*self.names(), *(f"{subset}/{name}" for subset in self.subsets for name in self.places[subset])}
        if unknown := [name for name in names if name not in known]:
            near = did_you_mean(unknown[0], sorted(known))
            raise wrong_usage(TrackError(f"{self.path}: no track {unknown[0]!r}, expected names of its tracks{near}"))
        kept = {
            subset: {name: place for name, place in places.items() if {name, f"{subset}/{name}"} & {*names}}
            for subset, places in self.places.items()
        }
        return replace(self, places={subset: places for subset, places in kept.items() if places})

    def describe(self) -> dict[str, Any]:
        """Name, path, layout, split, and the number of tracks of each subset."""
        return {
            "name": track_name(self.path),
            "path": str(self.path),
            "layout": self.layout,
            "split": self.split,
            "subsets": {subset: len(places) for subset, places in self.places.items()},
        }

    def _asked(self, subset: str | None) -> tuple[str, ...]:
        if subset is None:
            return self.subsets
        subset = unicodedata.normalize("NFC", subset)
        if subset not in self.places:
            hint = "; fewer than seven training tracks make no validation split" if subset == "valid" else ""
            near = did_you_mean(subset, self.subsets)
            known = ", ".join(self.subsets)
            raise wrong_usage(TrackError(f"{self.path}: no subset {subset!r}{near}, expected one of {known}{hint}"))
        return (subset,)

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks())

    def __len__(self) -> int:
        return sum(map(len, self.places.values()))


def open_data(path: Any, mixture: MixtureRule = "file", sources: Sums | None = None, complete: bool = True) -> DataSet:
    """Find the tracks under a path.

    What a path may be:

    * ``<root>/<subset>/<track>/{mixture,drums,bass,other,vocals}.wav``, MUSDB18-HQ's form, or FLAC or another format;
      every folder with tracks in it is a subset;
    * ``<root>/<subset>/<track>.stem.mp4``, MUSDB18's form;
    * the same without subsets: all tracks are in the subset ``"test"``;
    * a folder of songs without references, one song, one ``.stem.mp4``, or the folder of one track: the subset is
      ``"songs"``;
    * a ``musdb.DB``, or one or a list of its tracks: its files are read here, those of its root that it has, split as
      the root is;
    * tracks that are open already, or made of arrays: they keep their subsets and names, and nothing is split.

    A track has any sources, or the mixture alone: every audio file of its folder is a source, by its name. An
    ``accompaniment`` beside its own parts, and unknown names beside a mixture and the usual four, or a voice and its
    accompaniment, are passed over, unless ``sources`` names them; so are files of unknown names that cannot be decoded.
    Two or three of the four whose sum is not the mixture are an error, and so is a sum of ``sources`` a part of which
    is missing there. What begins with a dot and a letter, what file systems leave (``@eaDir``, ``__MACOSX``) and
    folders whose files are no audio are passed over; so are single songs that cannot be decoded, with a warning when
    they are opened. Tracks come in the order of their names' code points.

    A tree with a subset ``"train"`` but no ``"valid"`` is split. Musdb has a list of 14 validation tracks: those of
    them that are among the training tracks become the subset ``"valid"``, so that MUSDB18 has 86, 14 and 50 tracks;
    where there are none, every seventh of the sorted training tracks does (the 7th, the 14th, ...). Validation tracks
    are not in ``"train"``.

    Parameters
    ----------
    path : path-like, musdb.DB, musdb.MultiTrack or a list of these, or sequence of Track
        A data set's root, a folder of songs or of one track, or a file; or what the package musdb makes of them.
    mixture : {"file", "sum"}
        ``"sum"`` adds up the sources of a folder that has no mixture, as it is read; else such a track is an error.
    sources : mapping, optional
        The references, picked or summed up from the sources that there are; see
        `stemfuse.separators.parse_sources`.
    complete : bool
        Whether the references are needed. Else some may be missing, and ``sources`` only says which files are sources.

    Raises
    ------
    TrackError
        The path is missing, has no tracks, or has two tracks of one name in a subset.

    Examples
    --------
    >>> import numpy, soundfile, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in "abcdefgh":
    ...         track = Path(folder, "train", name)
    ...         track.mkdir(parents=True)
    ...         soundfile.write(track / "mixture.wav", numpy.zeros((100, 2)), 44_100)
    ...     data = open_data(folder)
    ...     data.names("train"), data.names("valid"), data.tracks("valid")[0].length
    (('a', 'b', 'c', 'd', 'e', 'f', 'h'), ('g',), 100)
    """
    known = musdb_places(path)
    if known is None and isinstance(path, Sequence) and not isinstance(path, str | bytes):
        return DataSet(Path("tracks"), given_places(path), "none", mixture, sources, complete)
    if known is not None:
        path, places = known
        if (same := _in_tree(path, places, mixture, sources)) is not None:
            return same
    elif not isinstance(path, str | os.PathLike):
        raise wrong_usage(TrackError(f"got data of type {type(path).__name__}, expected {DATA}"))
    else:
        path = Path(path).expanduser()
        places = find_places(path, named_in(sources))
    split = "folder" if "valid" in places else "none"
    if "train" in places and split == "none":
        split, names = _validation(list(places["train"]))
        places["valid"] = {name: places["train"].pop(name) for name in names}
    order = [*SUBSETS, *sorted(set(places) - set(SUBSETS))]
    ordered = {subset: places[subset] for subset in order if places.get(subset)}
    return DataSet(path, ordered, split, mixture, sources, complete)


def _in_tree(
    root: Path, places: Mapping[str, Mapping[str, Path]], mixture: MixtureRule, sources: Sums | None
) -> DataSet | None:
    """Those tracks of a tree that a musdb.DB has, split as the tree is; None where some are not in the tree."""
    try:
        tree = open_data(root, mixture, sources)
    except TrackError:
        return None
    wanted = {place.resolve() for of_subset in places.values() for place in of_subset.values()}
    kept = {
        subset: {name: place for name, place in of_subset.items() if Path(str(place)).resolve() in wanted}
        for subset, of_subset in tree.places.items()
    }
    if sum(map(len, kept.values())) < len(wanted):
        return None
    return replace(tree, places={subset: of_subset for subset, of_subset in kept.items() if of_subset})


def _validation(names: Sequence[str]) -> tuple[str, list[str]]:
    """The rule that applies to these training tracks, and the validation tracks among them, sorted."""
    listed = [name for name in names if name in musdb_validation()]
    if listed:
        return "musdb", listed
    seventh = list(names[6::7])
    return (EVERY_SEVENTH if seventh else "none"), seventh


def _is_lone_file(place: Path, among: Mapping[str, Path | Track], error: TrackError) -> bool:
    """Whether one of several songs is a file that cannot be decoded, which need not be a song at all."""
    is_song = place.is_file() and not is_stem_file(place)
    return is_song and len(among) > 1 and isinstance(error.__cause__, AudioError)


def _form(place: Path | Track) -> str:
    if isinstance(place, Track):
        return "tracks"
    if is_stem_file(place):
        return "stem.mp4"
    return "files" if place.is_file() else "folders"
