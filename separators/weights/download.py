"""Published files of weights, fetched on request: interrupted downloads go on, and nothing is kept unverified."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.separator import list_separators, separator_class

from .filing import FiledWeights, add_weights, file_published
from .folder import weights_folder
from .inventory import published_state, separator_files
from .published import PublishedFile, known_files

Progress = Callable[[str, int, int], None]
"""Told of a file's name, the megabytes that came and those to come."""
PIECE = 1 << 16
"""Bytes that are written at once, and so the most that an interruption loses."""

_OTHER = "what came is not the file that was published; it was not kept"


def find_rows(name: str) -> list[PublishedFile]:
    """The published files that a name stands for.

    Parameters
    ----------
    name : str
        A file's name, where several are called alike with the system's before it (``"kuielab_mdx_a/bass.onnx"``); or
        a separator's, for what it still needs, of alternatives the preferred one that can be fetched directly; or a
        system's such as ``"kuielab_mdx_b"``, for all of its files.

    Raises
    ------
    SeparatorError
        The name is unknown, or stands for several files.

    Examples
    --------
    >>> [row.system for row in find_rows("unet_attention.pth")]
    ['unet_danna']
    >>> len(find_rows("kuielab_mdx_a"))
    5
    """
    table = known_files()
    rows = [row for row in table if name in (row.name, f"{row.system}/{row.name}")]
    if len(rows) > 1:
        several = " and ".join(f"{row.system}/{row.name}" for row in rows)
        raise SeparatorError(f"{name}: there are {several}; name one of them")
    if not rows and name in list_separators():
        return _lacking(name)
    rows = rows or [row for row in table if row.system == name]
    if not rows:
        systems = ", ".join(dict.fromkeys(row.system for row in table))
        raise SeparatorError(
            f"{name}: is neither a published file (stemfuse weights list shows them), nor a separator, nor one of "
            f"{systems}"
        )
    return rows


def _lacking(separator: str) -> list[PublishedFile]:
    needed = separator_files(separator_class(separator))
    if not needed:
        raise SeparatorError(f"{separator}: needs no published weights")
    lacking = []
    for files in needed:
        if not any(file.is_usable for file in files):
            names = [file.name for file in files]
            rows = [row for row in known_files() if row.name in names and separator in row.separators]
            lacking.append(min(rows, key=lambda row: (not row.url, names.index(row.name))))
    return lacking


def fetch_weights(row: PublishedFile, progress: Progress | None = None) -> list[FiledWeights]:
    """Download a published file, verify it and put it where its separators look for it.

    What came of an interrupted download is kept beside the separators' folders, and the next call goes on from there
    where the server can. An archive's other files are filed with it.

    Parameters
    ----------
    row : PublishedFile
        What to fetch.
    progress : callable, optional
        Called with the file's name, the megabytes that came and those to come.

    Returns
    -------
    list of FiledWeights
        Where it lies now; ``is_new`` is False where it was there already.

    Raises
    ------
    MissingWeightsError
        It has no direct address, or did not come: there is no connection, for instance.
    SeparatorError
        What came is another file, or cannot be written.
    """
    stored = published_state(row)
    there = [file.path for file in stored if file.path and file.is_usable]
    if len(there) == len(stored):
        return [FiledWeights(path, False, row) for path in there]
    if there:
        return add_weights(there[0])
    for file in stored:
        if file.state == "damaged":
            raise SeparatorError(f"{file.path}: is damaged or another file than the published one: move it away first")
    if not row.url:
        raise MissingWeightsError(
            f"{row.system}/{row.name}: has no direct address: fetch it from {row.origin}, then stemfuse weights add it"
        )
    folder = weights_folder() / ".downloads"
    try:
        path = _download(row, folder, progress)
        try:
            return _file(row, path)
        finally:
            path.unlink()
    except OSError as error:
        if isinstance(error, SeparatorError):
            raise
        raise SeparatorError(
            f"{folder}: cannot be written ({error.strerror or error}): free some space, or set STEMFUSE_WEIGHTS to "
            "another folder"
        ) from error
    finally:
        # only what an interruption left stays
        with contextlib.suppress(OSError):
            folder.rmdir()


def _file(row: PublishedFile, path: Path) -> list[FiledWeights]:
    if path.name == row.name:
        if not row.fits(path):
            raise SeparatorError(f"{row.url}: {_OTHER}")
        return file_published(row, path)
    filed = [filed for filed in add_weights(path) if filed.published == row]
    if not filed:
        raise SeparatorError(f"{row.url}: the archive that came does not hold the published {row.name}")
    return filed


def _download(row: PublishedFile, folder: Path, progress: Progress | None) -> Path:
    from requests.exceptions import RequestException

    # untyped
    pooch: Any = import_module("pooch")
    pooch.get_logger().setLevel("WARNING")
    name = Path(urlsplit(row.url).path).name
    known = f"sha256:{row.sha256}" if name == row.name and len(row.sha256) == 64 else None
    try:
        came = pooch.retrieve(row.url, known, name, folder, downloader=_Resumed(name, folder, progress))
    except RequestException as error:
        part = folder / f"{name}.part"
        kept = f"; {part.stat().st_size} bytes are kept, the same command goes on" if part.exists() else ""
        raise MissingWeightsError(f"{row.url}: did not come: {_reason(error)}{kept}") from error
    except ValueError as error:
        raise SeparatorError(f"{row.url}: {_OTHER}") from error
    return Path(came)


def _reason(error: Any) -> str:
    """Why a download failed, without the libraries' chain of causes."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import Timeout

    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, Timeout):
        return "the server does not answer"
    if isinstance(error, NoConnection):
        return "there is no connection to the server, or it broke"
    return "the connection broke"


class _Resumed:
    """A downloader for pooch that keeps what came, and asks the server for the rest."""

    def __init__(self, name: str, folder: Path, progress: Progress | None) -> None:
        self.part = folder / f"{name}.part"
        self.bar = _Bar(name, progress)

    def __call__(self, url: str, target: str, _pooch: Any) -> None:
        held = self.part.stat().st_size if self.part.exists() else 0
        try:
            with self.part.open("ab") as file:
                self._append(url, file, held)
        finally:
            if not self.part.stat().st_size:
                self.part.unlink()
        self.part.replace(target)

    def _append(self, url: str, file: Any, held: int) -> None:
        from requests.exceptions import HTTPError

        def begin(response: Any, **_: Any) -> None:
            # all comes anew: the server sends no parts, or has less than what is there
            if response.status_code in (200, 416):
                file.truncate(0)

        # compressed on the way, a part of a file could not be told from another one
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
        options = {"chunk_size": PIECE, "headers": headers, "hooks": {"response": begin}, "timeout": 30}
        pooch: Any = import_module("pooch")
        try:
            pooch.HTTPDownloader(self.bar, **options)(url, file, None)
        except HTTPError as error:
            if not held or getattr(error.response, "status_code", None) != 416:
                raise
            self._append(url, file, 0)


class _Bar:
    """What pooch wants of a progress bar."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self.name, self.progress, self.total, self.done = name, progress, 0, 0

    def update(self, count: int) -> None:
        """Count bytes."""
        self.done = min(self.done + count, self.total)
        if self.progress:
            self.progress(self.name, self.done // 1_000_000, self.total // 1_000_000)

    def reset(self) -> None:
        """Begin anew."""
        self.done = 0

    def close(self) -> None:
        """End."""
