"""Files of weights, recognised and put where the separators look for them: whole or not at all."""

from __future__ import annotations

import contextlib
import filecmp
import inspect
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stemfuse.separators.demucs_files import verified_sha256
from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.networks.kuielab_mdx import KuielabMDX
from stemfuse.separators.networks.network_separator import NetworkSeparator
from stemfuse.separators.separator import separator_class

from .folder import NOTES, read_notes, weights_folder
from .published import PublishedFile, check_published, find_published, known_files

PICKLED = (".pt", ".pth", ".ckpt", ".th")
"""Endings of files that are read by PyTorch's restricted unpickler."""


@dataclass(frozen=True)
class FiledWeights:
    """Where a file of weights lies now.

    Attributes
    ----------
    path : Path
        In the weights folder.
    is_new : bool
        False where the same file was there already.
    published : PublishedFile or None
        What it was recognised as; None for weights of one's own.
    """

    path: Path
    is_new: bool
    published: PublishedFile | None = None


def add_weights(path: str | os.PathLike[str], separator: str = "", trust: bool = False) -> list[FiledWeights]:
    """Verify a file of weights and copy it to where its separators look for it.

    A published file is recognised by its digest, whatever it is called, or else by its name and size where no digest
    is known; what no digest vouches for has to load. Weights of one's own are kept as safetensors.

    Parameters
    ----------
    path : path-like
        A file; or a folder or a ``.zip`` archive, of which all published files are taken.
    separator : str
        For a published file: only this one of its separators. For weights of one's own: whose they are, with the
        source where it separates one at a time (``"tfc_tdf_v2/vocals"``), unless the file or its name tells it.
    trust : bool
        Read a published file that PyTorch's restricted unpickler refuses by Python's own, which runs whatever the file
        holds, and keep its tensors only. It takes a file whose whole digest is known.

    Returns
    -------
    list of FiledWeights
        One for each place.

    Raises
    ------
    MissingWeightsError
        There is no such file.
    SeparatorError
        The file is damaged, unknown or not that separator's, another one stands in its place, or it cannot be written.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        members = [member for member in sorted(path.rglob("*")) if member.is_file()]
        return _add_known(path, [member for member in members if _is_candidate(member)], separator, trust)
    if not path.is_file():
        raise MissingWeightsError(f"{path}: is not there: give a file of weights, a folder or an archive of them")
    if path.suffix.lower() == ".zip":
        with _workplace() as folder:
            return _add_known(path, _unpacked(path, folder), separator, trust)
    with _workplace() as folder:
        row = recognise(path, by_name=not separator)
        if row is None:
            return [_file_own(path, folder, separator)]
        copy = folder / row.name
        shutil.copyfile(path, copy)
        return file_published(row, copy, separator, trust)


def recognise(path: Path, by_name: bool = True) -> PublishedFile | None:
    """The published file that a file is, by its digest or else by its name and size; None where it is another one.

    Parameters
    ----------
    path : Path
        The file, which is there.
    by_name : bool
        Refuse a file that has the name of a published one that it is not; weights of one's own may have any name.

    Raises
    ------
    SeparatorError
        It is refused, or cannot be read.
    """
    rows = known_files()
    row = find_published(path, rows)
    if row is None and by_name:
        check_published(path, rows)
    return row or next((row for row in rows if row.name == path.name and row.fits(path)), None)


def file_published(row: PublishedFile, copy: Path, separator: str = "", trust: bool = False) -> list[FiledWeights]:
    """Put a copy of a published file, which is ours and lies in the weights folder, where its separators look for it.

    Parameters
    ----------
    row : PublishedFile
        What it was recognised as.
    copy : Path
        Called as the published file; it stays.
    separator, trust
        As for `add_weights`.

    Raises
    ------
    SeparatorError
        As for `add_weights`.
    """
    if separator and separator not in row.separators:
        raise SeparatorError(
            f"{row.name}: is a file of {row.system}, for {', '.join(row.separators)}, not for {separator}"
        )
    if not row.fits(copy):
        raise SeparatorError(f"{copy.name}: was damaged on the way here; add it again")
    separators = [separator] if separator else list(row.separators)
    try:
        _check_published_loads(row, copy)
    except SeparatorError as refused:
        if not (row.is_certain and copy.suffix in PICKLED):
            raise
        if not trust:
            raise SeparatorError(
                f"{refused}. It is what was published as {row.system}/{row.name}, by its digest: if you trust its "
                "authors, --trust reads it by Python's own unpickler, once, and keeps its tensors"
            ) from refused
        notes = {"trained_on": list(row.trained_on), "made_from": {row.name: verified_sha256(copy)}}
        name = _own_name(separators[0], row.source)
        copy = _write_tensors(_trusted_state(copy), copy.with_name(name), notes)
        _load(separators[0], row.source, copy)
    return _appear(copy, separators, row)


def _check_published_loads(row: PublishedFile, path: Path) -> None:
    """Raise where nobody could load a file; without PyTorch the digest alone has to do."""
    if row.system == "demucs" or not _can_load():
        return
    if not row.digests:
        _load(row.separators[0], row.source, path)
    elif path.suffix in PICKLED:
        from .tensors import read_state

        read_state(path)


def _can_load() -> bool:
    return all(find_spec(package) for package in ("torch", "safetensors"))


def _load(separator: str, source: str, path: Path) -> None:
    made = separator_class(separator)
    made(weights=path, **({"source": source} if source else {})).load()


def _own_name(separator: str, source: str) -> str:
    """What a separator looks for first: the name of weights of one's own."""
    made = separator_class(separator)
    name: str = made(**({"source": source} if source else {}))._names[0]
    return name


def _file_own(path: Path, folder: Path, separator: str) -> FiledWeights:
    if not separator:
        systems = ", ".join(dict.fromkeys(row.system for row in known_files()))
        raise SeparatorError(
            f"{path.name}: {path.stat().st_size} bytes with sha256 {verified_sha256(path)} are no published file that "
            f"is known (of {systems}: stemfuse weights list); for weights of your own say whose: --as SEPARATOR"
        )
    name, _, given = separator.partition("/")
    made = separator_class(name)
    if not (inspect.isclass(made) and issubclass(made, NetworkSeparator)) or issubclass(made, KuielabMDX):
        raise SeparatorError(
            f"{name}: takes no single file of your own here; stemfuse list separators shows its options"
        )
    if not _can_load():
        raise SeparatorError(f"{path.name}: has to be loaded to check it: pip install 'stemfuse[networks]'")
    source = _own_source(path, made, given)
    copy = folder / _own_name(name, source)
    if path.suffix == ".safetensors":
        shutil.copyfile(path, copy)
    else:
        _convert(path, copy)
    _load(name, source, copy)
    return _appear(copy, [name], None)[0]


def _own_source(path: Path, made: Any, given: str) -> str:
    """What weights of one's own separate: as the user, the file or its name says; empty where there is no choice."""
    if "source" not in inspect.signature(made).parameters:
        if given:
            raise SeparatorError(f"--as {made.name}/{given} came, but {made.name} separates all: leave out /{given}")
        return ""
    told = str(given or read_notes(path).get("source") or path.stem)
    try:
        made(source=told)
    except SeparatorError as error:
        raise SeparatorError(
            f"{path.name}: say what it separates, --as {made.name}/vocals for instance ({error})"
        ) from error
    return told


def _convert(path: Path, target: Path) -> None:
    """Write the tensors of an ONNX file or a checkpoint of one's own as safetensors."""
    from .onnx_graph import Graph
    from .tensors import read_state

    if path.suffix == ".onnx":
        graph = Graph(path)
        _write_tensors(graph.state(), target, {"frames": graph.frames} if graph.frames else {})
    else:
        _write_tensors(read_state(path), target, {})


def _write_tensors(state: Any, target: Path, notes: dict[str, Any]) -> Path:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # tensors that share memory are refused there
    tensors = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    try:
        save_file(tensors, target, metadata={NOTES: json.dumps(notes)})
    except SafetensorError as error:
        raise SeparatorError(f"{target}: cannot be written ({error}); free some space") from error
    return target


def _trusted_state(path: Path) -> Any:
    """Tensors of a file that is known and trusted: whatever it holds is run."""
    import torch

    from .tensors import read_state

    rewritten = path.with_name(f"trusted-{path.name}")
    try:
        torch.save(torch.load(path, map_location="cpu", weights_only=False), rewritten)
    # whatever the file runs may fail in any way
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SeparatorError(f"{path.name}: cannot be unpickled here ({type(error).__name__}: {reason})") from error
    return read_state(rewritten)


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """A folder in the weights folder that is gone afterwards; what cannot be written is said in one line."""
    top = weights_folder()
    try:
        top.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=top, prefix=".adding-") as folder:
            yield Path(folder)
    except OSError as error:
        if isinstance(error, SeparatorError):
            raise
        raise SeparatorError(
            f"{top}: cannot be written ({error.strerror or error}): free some space, or set STEMFUSE_WEIGHTS to "
            "another folder"
        ) from error


def _appear(copy: Path, separators: Sequence[str], row: PublishedFile | None) -> list[FiledWeights]:
    """Let a file appear in the folders of its separators, in one step each, none of which replaces anything."""
    places = [weights_folder() / separator / copy.name for separator in separators]
    # whatever stands in the way is found before anything is put anywhere
    for place in places:
        _is_there(copy, place)
    return [FiledWeights(place, _link(copy, place), row) for place in places]


def _is_there(copy: Path, place: Path) -> bool:
    """Whether the same file stands there; another one raises."""
    if not place.exists():
        return False
    if place.is_file() and filecmp.cmp(copy, place, shallow=False):
        return True
    raise SeparatorError(
        f"{place}: another file stands there already: move it away first, or choose a separator with --as"
    )


def _link(copy: Path, place: Path) -> bool:
    """Whether the file was put there, for it was not there yet."""
    if _is_there(copy, place):
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(copy, place)
    except FileExistsError:
        # another process was first
        return not _is_there(copy, place)
    except OSError:
        # a file system without links
        spare = copy.with_name(f"again-{copy.name}")
        shutil.copyfile(copy, spare)
        spare.replace(place)
    return True


def _is_candidate(path: Path) -> bool:
    size = path.stat().st_size
    return any(row.name == path.name or row.bytes == size > 0 for row in known_files())


def _unpacked(archive: Path, folder: Path) -> list[Path]:
    names = {row.name for row in known_files()}
    try:
        with zipfile.ZipFile(archive) as content:
            members = [member for member in content.namelist() if Path(member).name in names]
            return [Path(content.extract(member, folder)) for member in members]
    except (zipfile.BadZipFile, EOFError) as error:
        raise SeparatorError(f"{archive}: is no archive or a damaged one ({error}); fetch it again") from error


def _add_known(whole: Path, members: Sequence[Path], separator: str, trust: bool) -> list[FiledWeights]:
    known = [member for member in members if recognise(member)]
    if not known:
        raise SeparatorError(
            f"{whole}: holds no published file that is known (stemfuse weights list shows them); weights of your own "
            "are added one by one, with --as"
        )
    return [filed for member in known for filed in add_weights(member, separator, trust)]
