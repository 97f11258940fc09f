"""The stem store: every separator's stems of every track, kept once, in museval's estimates tree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .audio import FileSignal, Signal
from .errors import AudioError, StemfuseError, StoreError
from .separator import Separator, digest
from .stems import SOURCES, Stems
from .track import Track

log = logging.getLogger(__name__)

SCHEMA = 1
RECORD = "stems.json"
HOST = socket.gethostname().replace("-", "_")


class Problem(NamedTuple):
    """An entry that is not what it should be."""

    entry: Path
    reason: str


class StemStore:
    """A folder of stems, ``STORE/<separator>/<subset>/<track>/<source>.wav`` beside ``stems.json``.

    It is museval's estimates tree, so any tool reads it. ``<separator>`` is the separator's name and the
    first eight digits of its fingerprint: other options or weights get a folder of their own. An entry is written
    to a temporary folder and renamed, so a killed process leaves none half done and several processes may
    fill one store. An entry is used only when its record, its files and its mixture fit together.

    Parameters
    ----------
    root : path-like
        Made when the first stems are put; may be read-only otherwise.

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

    @staticmethod
    def key(separator: Separator | str) -> str:
        """Folder of a separator: readable, and unique per fingerprint; a string is taken as it is."""
        return separator if isinstance(separator, str) else f"{separator.name}-{separator.fingerprint()[:8]}"

    def keys(self) -> list[str]:
        """Folders of all separators that have stems here, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def find(self, name: str) -> str:
        """The folder that a name means: the folder itself, or the only one of a separator of this name.

        Raises
        ------
        StoreError
            None or several fit; the message lists them.
        """
        keys = self.keys()
        if name in keys:
            return name
        fitting = [key for key in keys if key.rpartition("-")[0] == name]
        if len(fitting) == 1:
            return fitting[0]
        listed = ", ".join(fitting or keys) or "none"
        what = "several separators" if fitting else "no separator"
        raise StoreError(f"{self.root}: {what} named {name!r}; name one of {listed}, or separate or adopt stems first")

    def path(self, track: Track, separator: Separator | str) -> Path:
        """Folder of one entry, whether it is there or not."""
        for part in (track.subset, track.name):
            if part in {"", ".", ".."} or "/" in part or "\0" in part or part.startswith(".writing-"):
                raise StoreError(f"{part!r} cannot be a folder of the store; rename the track or the subset")
        return self.root / self.key(separator) / track.subset / track.name

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
            None when the store has none.

        Raises
        ------
        StoreError
            The entry is damaged, or belongs to another mixture; the message says what is wrong.
        """
        path = self.path(track, separator)
        if not path.is_dir():
            return None
        record = _read_record(path)
        signals = _open_files(path, record)
        recorded = record["mixture"]
        stamp = file_stamp(track.mixture)
        known = stamp is not None and stamp == recorded.get("stamp")
        if not known and track.mixture_sha256() != recorded["sha256"]:
            raise StoreError(
                f"{path}: these are the stems of another mixture than {track.mixture}; "
                "delete the folder and separate again"
            )
        stems = Stems.from_signals(signals)
        if stems.frames != track.frames or stems.rate != track.rate:
            raise StoreError(f"{path}: {stems} do not fit {track.mixture!r}; delete the folder and separate again")
        return stems

    def put(self, track: Track, separator: Separator | str, stems: Stems, description: Any = None) -> None:
        """File the stems of a track; the entry appears whole or not at all.

        A usable entry of the same mixture that stands already stays: `remove` it first to replace it.

        Parameters
        ----------
        track : Track
            The track whose mixture was separated.
        separator : Separator or str
            The separator, or its folder in the store.
        stems : Stems
            Written as float32 WAV; lazy stems are streamed.
        description : mapping, optional
            What the record says of the separator; its own ``describe()`` when not given.

        Raises
        ------
        StoreError
            The stems do not fit the track, or the store cannot be written (read-only, full disk).
        """
        path = self.path(track, separator)
        for what in ("rate", "channels", "frames"):
            if getattr(stems, what) != getattr(track.mixture, what):
                raise StoreError(
                    f"{self.key(separator)}: stems of {track.name!r} have {what} {getattr(stems, what)}, "
                    f"the mixture has {getattr(track.mixture, what)}; a separator must keep it"
                )
        with self._new_entry(path) as folder:
            stems.write(folder)
            if description is None:
                description = _describe(separator)
            _write_record(folder, track, stems, description)

    def remove(self, track: Track, separator: Separator | str) -> None:
        """Delete an entry, damaged or not; nothing happens when there is none."""
        path = self.path(track, separator)
        if path.is_dir():
            _discard(path)

    def missing(self, tracks: Iterable[Track], separator: Separator | str) -> list[Track]:
        """Tracks that have no usable entry; a damaged or foreign one is logged and counts as missing."""
        lacking = []
        for track in tracks:
            try:
                stems = self.get(track, separator)
            except StoreError as error:
                log.warning("%s", error)
                stems = None
            if stems is None:
                lacking.append(track)
        return lacking

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
            names = [_short_name(separator) for separator in separators]
            if len(set(names)) < len(names):
                raise StoreError(f"separators {', '.join(names)}: give each a name of its own")
            separators = dict(zip(names, separators, strict=True))
        stems = {}
        for label, separator in separators.items():
            found = self.get(track, separator)
            if found is None:
                raise StoreError(
                    f"{self.root}: no stems of {track.subset}/{track.name} by {self.key(separator)}; "
                    "run stemfuse separate or stemfuse adopt first"
                )
            stems[label] = found
        return track.with_stems(stems)

    def verify(self, separator: Separator | str | None = None) -> list[Problem]:
        """Read every file again and compare its checksum.

        Parameters
        ----------
        separator : Separator or str, optional
            Only this one's entries.

        Returns
        -------
        list of Problem
            Empty when all is well. Remains of killed processes are listed too.
        """
        keys = self.keys() if separator is None else [self.key(separator)]
        problems = []
        for key in keys:
            for path in sorted((self.root / key).glob("*/*/")):
                try:
                    record = _read_record(path)
                    _open_files(path, record)
                    for source, file in record["files"].items():
                        if _sha256(path / file["name"]) != file["sha256"]:
                            raise StoreError(f"{path / file['name']}: the {source} are not what was written")
                except StemfuseError as error:
                    problems.append(Problem(path, str(error)))
            problems += [
                Problem(path, f"{path}: left by a process that was killed; delete it")
                for path in sorted((self.root / key).glob(".writing-*"))
                if not _is_alive(path)
            ]
        return problems

    def record(self, track: Track, separator: Separator | str) -> dict[str, Any]:
        """What ``stems.json`` of an entry says."""
        return _read_record(self.path(track, separator))

    def tracks_of(self, separator: Separator | str) -> list[tuple[str, str]]:
        """(subset, track) of every entry of a separator, sorted."""
        return sorted((path.parent.name, path.name) for path in (self.root / self.key(separator)).glob("*/*/"))

    @contextlib.contextmanager
    def _new_entry(self, path: Path) -> Iterator[Path]:
        """A temporary folder that becomes the entry when the block ends well, and is gone otherwise."""
        top = path.parent.parent
        folder = top / f".writing-{HOST}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for remains in top.glob(".writing-*"):
                if not _is_alive(remains):
                    shutil.rmtree(remains, ignore_errors=True)
            folder.mkdir()
            yield folder
            if _is_as_good(path, folder):
                return
            if path.is_dir():
                _discard(path)
            _rename(folder, path)
        except (OSError, AudioError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StoreError(
                f"{path}: cannot be written ({reason}); free some space or choose another store with --store"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _short_name(separator: Separator | str) -> str:
    if not isinstance(separator, str):
        return separator.name
    name, dash, tail = separator.rpartition("-")
    return name if dash and len(tail) == 8 else separator


def _describe(separator: Separator | str) -> Any:
    if isinstance(separator, str):
        return {"name": separator}
    describe = getattr(separator, "describe", None)
    return describe() if describe else {"name": separator.name, "fingerprint": separator.fingerprint()}


def _is_as_good(path: Path, folder: Path) -> bool:
    """Whether an entry stands already that another process has made of the same mixture: the first one stays."""
    if not path.is_dir():
        return False
    if not (path / RECORD).is_file():
        raise StoreError(f"{path}: a folder of another tool stands here; move it away first")
    try:
        standing = _read_record(path)
        _open_files(path, standing)
    except StoreError:
        return False
    sha256: str = _read_record(folder)["mixture"]["sha256"]
    return bool(standing["mixture"]["sha256"] == sha256)


def _rename(folder: Path, path: Path) -> None:
    try:
        folder.rename(path)
    except OSError:
        # another process was first: its entry is as good as ours
        if not (path / RECORD).is_file():
            raise


def _discard(path: Path) -> None:
    """Take an entry out of sight in one step before its files go, so that no reader sees half of it."""
    trash = path.parent.parent / f".writing-{HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        path.rename(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed ({error.strerror})") from error
    shutil.rmtree(trash, ignore_errors=True)


def _is_alive(path: Path) -> bool:
    """Whether the process that writes into a temporary folder still runs; on other hosts nobody can tell."""
    host, pid = path.name.removeprefix(".writing-").split("-")[:2]
    if host != HOST:
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def file_stamp(signal: Signal) -> dict[str, Any] | None:
    """What tells a file apart without reading it; None for audio in memory."""
    path = getattr(signal, "path", None)
    if path is None:
        return None
    status = Path(path).stat()
    return {
        "name": Path(path).name,
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "stream": getattr(signal, "stream", 0),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_record(folder: Path, track: Track, stems: Stems, description: Any) -> None:
    record = {
        "schema": SCHEMA,
        "track": track.name,
        "subset": track.subset,
        "rate": stems.rate,
        "channels": stems.channels,
        "frames": stems.frames,
        "sources": list(stems.sources),
        "separator": description,
        "fingerprint": digest(description),
        "mixture": {"sha256": track.mixture_sha256(), "stamp": file_stamp(track.mixture)},
        "files": {
            source: {
                "name": f"{source}.wav",
                "bytes": (folder / f"{source}.wav").stat().st_size,
                "sha256": _sha256(folder / f"{source}.wav"),
            }
            for source in stems.sources
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str), encoding="utf-8")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            raise StoreError(
                f"{path}: schema {record['schema']} came, expected {SCHEMA}; use the stemfuse that wrote it"
            )
        if not (record["mixture"]["sha256"] and set(record["sources"]) == set(record["files"]) <= set(SOURCES)):
            raise KeyError("sources")
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: a folder without {RECORD} is not of this store; take it in with stemfuse adopt, or delete it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path / RECORD}: damaged ({error!r}); delete the folder and separate again") from error
    checked: dict[str, Any] = record
    return checked


def _open_files(path: Path, record: Mapping[str, Any]) -> dict[str, Signal]:
    """Open every file of an entry, checking size and header against the record, but not every sample."""
    signals: dict[str, Signal] = {}
    for source in record["sources"]:
        file = path / record["files"][source]["name"]
        expected = record["files"][source]["bytes"]
        came = file.stat().st_size if file.is_file() else None
        if came != expected:
            size = "is missing" if came is None else f"has {came} bytes, expected {expected}"
            raise StoreError(f"{file} {size}: the entry is damaged; delete the folder and separate again")
        try:
            signals[source] = FileSignal(file)
        except AudioError as error:
            raise StoreError(f"{error}; delete the folder and separate again") from error
    return signals
