"""One entry of the stem store on disk: its record, its files, and how it appears and goes in one step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from stemfuse.separators.audio.signals import FileSignal, Signal
from stemfuse.separators.audio.whole_files import clear_remains, temporary_in, whole_folder
from stemfuse.separators.errors import AudioError, StoreError, WriteError
from stemfuse.separators.separator import Separator, digest
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track

SCHEMA = 1
RECORD = "stems.json"
ADVICE = "free some space or choose another store with --store"


@runtime_checkable
class DescribedSeparator(Protocol):
    """A separator that describes itself, as those with a base class do; a third party's need not."""

    def describe(self) -> Mapping[str, Any]:
        """All that the output depends on."""


@runtime_checkable
class TrainedSeparator(Protocol):
    """A separator that declares what data it was trained on, as those with a base class do."""

    trained_on: tuple[str, ...] | None


def describe_separator(separator: Separator | str) -> Any:
    """What a record holds of a separator: its own description where it has one."""
    if isinstance(separator, str):
        return {"name": separator}
    if isinstance(separator, DescribedSeparator):
        return separator.describe()
    return {"name": separator.name, "fingerprint": separator.fingerprint()}


def training_data(separator: Separator | str) -> tuple[str, ...] | None:
    """The data that a separator was trained on; None when it is not known."""
    return separator.trained_on if isinstance(separator, TrainedSeparator) else None


@contextlib.contextmanager
def new_entry(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes the entry when the block ends well, and is gone otherwise."""
    separator = path.parent.parent
    with whole_folder(path, ADVICE, StoreError, within=separator, place=_place) as folder:
        clear_remains(separator)
        try:
            yield folder
        except WriteError as error:
            raise StoreError(f"{path}: cannot be written ({error}); {ADVICE}") from error


def _place(folder: Path, path: Path) -> None:
    """Give a finished folder its name, in place of an entry that is damaged or of another mixture."""
    if _is_as_good(path, folder):
        return
    if path.is_dir():
        discard(path)
    _rename(folder, path)


def _is_as_good(path: Path, folder: Path) -> bool:
    """Whether there is a usable entry of the same mixture already, by another process: the first one stays."""
    if not path.is_dir():
        return False
    if not (path / RECORD).is_file():
        raise StoreError(f"{path}: a folder of another tool is in this place; move it away first")
    try:
        standing = read_record(path)
        open_files(path, standing)
    except StoreError:
        return False
    sha256: str = read_record(folder)["mixture"]["sha256"]
    return bool(standing["mixture"]["sha256"] == sha256)


def _rename(folder: Path, path: Path) -> None:
    try:
        folder.rename(path)
    except OSError:
        # another process was first: its entry is as good as ours
        if not (path / RECORD).is_file():
            raise


def discard(path: Path) -> None:
    """Take an entry out of sight in one step before its files go, so that no reader sees half of it."""
    trash = temporary_in(path.parent.parent)
    try:
        path.rename(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed ({error.strerror})") from error
    shutil.rmtree(trash, ignore_errors=True)


def file_stamp(signal: Signal) -> dict[str, Any] | None:
    """Name, size, time and stream of a signal's file, to know it again unread; None for audio in memory."""
    if signal.path is None:
        return None
    status = signal.path.stat()
    return {
        "name": signal.path.name,
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "stream": signal.stream,
    }


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(
    folder: Path, track: Track, stems: Stems, description: Any, trained_on: tuple[str, ...] | None
) -> None:
    """Write ``stems.json`` beside the files of an entry."""
    record = {
        "schema": SCHEMA,
        "track": track.name,
        "subset": track.subset,
        "rate": stems.rate,
        "channels": stems.channels,
        "frames": stems.length,
        "sources": list(stems.sources),
        "separator": description,
        "fingerprint": digest(description),
        "trained_on": trained_on,
        "mixture": {"sha256": track.mixture_sha256(), "stamp": file_stamp(track.mixture)},
        "files": {
            source: {
                "name": f"{source}.wav",
                "bytes": (folder / f"{source}.wav").stat().st_size,
                "sha256": sha256_of(folder / f"{source}.wav"),
            }
            for source in stems.sources
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str), encoding="utf-8")


def read_record(path: Path) -> dict[str, Any]:
    """The content of ``stems.json``; a StoreError says what is wrong with it."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            raise StoreError(
                f"{path}: got schema {record['schema']}, expected {SCHEMA}; use the stemfuse that wrote it"
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


def open_files(path: Path, record: Mapping[str, Any]) -> dict[str, Signal]:
    """Open every file of an entry, checking size and header against the record, but not every sample."""
    signals: dict[str, Signal] = {}
    for source in record["sources"]:
        file = path / record["files"][source]["name"]
        expected = record["files"][source]["bytes"]
        got = file.stat().st_size if file.is_file() else None
        if got != expected:
            size = "is missing" if got is None else f"has {got} bytes, expected {expected}"
            raise StoreError(f"{file} {size}: the entry is damaged; delete the folder and separate again")
        try:
            signals[source] = FileSignal(file)
        except AudioError as error:
            raise StoreError(f"{error}; delete the folder and separate again") from error
    return signals
