"""One entry of the stem store on disk: its record, its files, and how it appears and goes in one step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Container, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from pydantic import BaseModel, Field, ValidationError, model_validator

from stemfuse.separators.audio.signals import FileSignal, Signal
from stemfuse.separators.audio.whole_files import temporary_in, whole_folder
from stemfuse.separators.errors import AudioError, StoreError, WriteError
from stemfuse.separators.foreign.documents import read_object
from stemfuse.separators.separator import Separator, digest
from stemfuse.separators.source_names import source_fault
from stemfuse.separators.stems import Stems
from stemfuse.separators.track import Track

from .layout import RECORD, beside, check_place

SCHEMA = 2
MOST_BYTES = 1 << 20
"""No record is larger."""

ADVICE = "free some space or choose another store with --store"


class _Mixture(BaseModel):
    sha256: str


class _File(BaseModel):
    name: str
    bytes: int
    sha256: str


class _Record(BaseModel):
    """What every record has to say."""

    schema_: int = Field(alias="schema")
    track: str
    subset: str
    data: str = ""
    key: str = ""
    sources: list[str]
    separator: dict[str, Any]
    fingerprint: str
    mixture: _Mixture
    files: dict[str, _File]

    @model_validator(mode="after")
    def _names_its_own_files(self) -> Self:
        if not self.sources or sorted(self.sources) != sorted(self.files) or any(map(source_fault, self.files)):
            raise ValueError(f"got sources {self.sources} and files of {list(self.files)}")
        for source, file in self.files.items():
            if file.name != f"{source}.wav":
                raise ValueError(f"got a file {file.name!r}, expected '{source}.wav' in the same folder")
        return self


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
def new_entry(path: Path, mixture_sha256: str) -> Iterator[Path]:
    """A temporary folder that becomes the entry when the block ends well, and is gone otherwise.

    Where another song has the place, the entry appears beside it.
    """
    separator = path.parent.parent

    def place(folder: Path, path: Path) -> None:
        for place in (path, beside(path, mixture_sha256)):
            if _place(folder, place):
                return
        raise StoreError(f"{path}: other songs of this name have the places for its stems; rename the track")

    with whole_folder(path, ADVICE, StoreError, within=separator, place=place) as folder:
        try:
            yield folder
        except WriteError as error:
            raise StoreError(f"{path}: cannot be written ({error}); {ADVICE}") from error


def mixture_of(path: Path) -> str | None:
    """Digest of the mixture that an entry belongs to; None where there is no readable entry."""
    try:
        found: str = read_record(path)["mixture"]["sha256"]
    except StoreError:
        return None
    return found


def _place(folder: Path, path: Path) -> bool:
    """Give a finished folder its name, in place of a damaged entry; False where another song's entry has the name."""
    mixture = mixture_of(folder)
    if mixture_of(path) not in (None, mixture):
        return False
    if _is_as_good(path, folder):
        return True
    if path.is_dir():
        discard(path)
    try:
        folder.rename(path)
    except OSError:
        # another process was first: if its entry is of the same song, it is as good as ours
        if not (path / RECORD).is_file():
            raise
        return mixture_of(path) == mixture
    return True


def _is_as_good(path: Path, folder: Path) -> bool:
    """Whether there is a usable entry of the same mixture already, by another process: the first one stays."""
    if not path.is_dir():
        return False
    if not (path / RECORD).is_file():
        raise StoreError(f"{path}: a folder of another tool is in this place; move it away first")
    try:
        standing = read_record(path)
        check_place(path, standing)
        open_files(path, standing)
        check_files(path, standing)
    except StoreError:
        return False
    new = read_record(folder)
    owner = ("track", "subset", "data", "key", "fingerprint", "mixture")
    return all(standing.get(what) == new[what] for what in owner)


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


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_record(
    folder: Path,
    data: str,
    key: str,
    track: Track,
    mixture_sha256: str,
    stems: Stems,
    described: Any,
    fingerprint: str,
    trained_on: tuple[str, ...] | None,
    made_of: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Write ``stems.json`` beside the files of an entry, and return what it says."""
    record = {
        "schema": SCHEMA,
        "track": track.name,
        "subset": track.subset,
        "data": data,
        "key": key,
        "rate": stems.rate,
        "channels": stems.channels,
        "frames": stems.length,
        "sources": list(stems.sources),
        "separator": described,
        "fingerprint": fingerprint,
        "trained_on": trained_on,
        "mixture": {"sha256": mixture_sha256},
        **({} if made_of is None else {"made_of": dict(made_of)}),
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
    written: dict[str, Any] = json.loads(json.dumps(record, ensure_ascii=False, default=str))
    (folder / RECORD).write_text(sealed(written), encoding="utf-8")
    return written


def sealed(record: dict[str, Any]) -> str:
    """The text of a record, which gets a digest of all that it says."""
    record.pop("seal", None)
    record["seal"] = digest(record)
    return json.dumps(record, indent=1, ensure_ascii=False)


def read_record(path: Path, schemas: Container[int] = (SCHEMA,)) -> dict[str, Any]:
    """The content of ``stems.json``; a StoreError says what is wrong with it, or that its schema is none of these."""
    file = path / RECORD
    if any(place.is_symlink() for place in (path.parent, path, file)):
        raise StoreError(f"{path}: is a link, expected a folder with files; copy what it leads to, or separate again")
    try:
        record = read_object(file, MOST_BYTES)
        schema = _Record.model_validate(record).schema_
        # entries of older versions have no seal
        if (
            schema in schemas
            and (schema == SCHEMA or "seal" in record)
            and record.get("seal") != digest({name: record[name] for name in record if name != "seal"})
        ):
            raise ValueError("its content has changed since it was written")
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: a folder without {RECORD} is not of this store; take it in with stemfuse adopt, or delete it"
        ) from error
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the file"
        reason = f"{where}: {error.errors()[0]['msg']}"
        raise StoreError(f"{file}: damaged ({reason}); delete the folder and separate again") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: damaged ({error}); delete the folder and separate again") from error
    if schema not in schemas:
        raise StoreError(f"{path}: got schema {schema}, expected {SCHEMA}; use the stemfuse that wrote it")
    return record


def check_owner(path: Path, record: Mapping[str, Any], separator: Separator | str) -> None:
    """Refuse an entry of another separator, or one whose folder was copied or moved to this place."""
    check_place(path, record)
    if not isinstance(separator, str) and record["fingerprint"] != separator.fingerprint():
        raise StoreError(
            f"{path}: got stems of fingerprint {record['fingerprint']!r}, expected {separator.fingerprint()!r}: the "
            "folder was copied or moved; delete it and separate or adopt again"
        )


def content_of(record: Mapping[str, Any]) -> str:
    """Digest of the audio that an entry holds: its files and the mixture that they belong to."""
    files = [[source, record["files"][source]["sha256"]] for source in record["sources"]]
    return digest({"mixture": record["mixture"]["sha256"], "files": files})


def check_files(path: Path, record: Mapping[str, Any]) -> None:
    """Read every file of an entry and compare its checksum."""
    for source, file in record["files"].items():
        if sha256_of(path / file["name"]) != file["sha256"]:
            raise StoreError(
                f"{path / file['name']}: damaged, the samples of {source} have changed since written; "
                "delete the folder and separate or adopt again"
            )


def files_of(path: Path, record: Mapping[str, Any]) -> list[Path]:
    """The audio files of an entry."""
    return [path / file["name"] for file in record["files"].values()]


def open_files(path: Path, record: Mapping[str, Any]) -> dict[str, Signal]:
    """Open every file of an entry, checking size and header against the record, but not every sample."""
    signals: dict[str, Signal] = {}
    for source in record["sources"]:
        file = path / record["files"][source]["name"]
        expected = record["files"][source]["bytes"]
        if file.is_symlink():
            raise StoreError(f"{file}: is a link, expected a file; delete the folder and separate again")
        got = file.stat().st_size if file.is_file() else None
        if got != expected:
            size = "is missing" if got is None else f"has {got} bytes, expected {expected}"
            raise StoreError(f"{file} {size}: the entry is damaged; delete the folder and separate again")
        try:
            signals[source] = FileSignal(file)
        except AudioError as error:
            raise StoreError(f"{error}; delete the folder and separate again") from error
    return signals
