"""One entry of the stem store on disk: its record, its files, and how it appears and goes in one step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stemfuse.separators.audio.signals import FileSignal, Signal
from stemfuse.separators.errors import AudioError, StoreError, WriteError
from stemfuse.separators.separator import digest
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track

SCHEMA = 1
RECORD = "stems.json"
HOST = socket.gethostname().replace("-", "_")


@contextlib.contextmanager
def new_entry(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes the entry when the block ends well, and is gone otherwise."""
    top = path.parent.parent
    folder = top / f".writing-{HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for remains in top.glob(".writing-*"):
            if not is_alive(remains):
                shutil.rmtree(remains, ignore_errors=True)
        folder.mkdir()
        yield folder
        if _is_as_good(path, folder):
            return
        if path.is_dir():
            discard(path)
        _rename(folder, path)
    except (OSError, WriteError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"{path}: cannot be written ({reason}); free some space or choose another store with --store"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_as_good(path: Path, folder: Path) -> bool:
    """Whether an entry stands already that another process has made of the same mixture: the first one stays."""
    if not path.is_dir():
        return False
    if not (path / RECORD).is_file():
        raise StoreError(f"{path}: a folder of another tool stands here; move it away first")
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
    trash = path.parent.parent / f".writing-{HOST}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        path.rename(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be removed ({error.strerror})") from error
    shutil.rmtree(trash, ignore_errors=True)


def is_alive(path: Path) -> bool:
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
    """What ``stems.json`` says, checked to be whole; a StoreError says what is wrong with it."""
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


def open_files(path: Path, record: Mapping[str, Any]) -> dict[str, Signal]:
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
