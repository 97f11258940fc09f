"""Files of PyTorch, of ``torch.save`` and of TorchScript alike: their tensors, without running anything in them."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from .archives import check_stored, is_archive, open_archive, read_entry
from .instructions import LISTS_OF_SCRIPTS, Machine, Name, Placeholder, fraction
from .table import DEPTH, INSTRUCTION_BYTES, MEBI, SHARING, TEXT, ForeignFileError

_TYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}

_MAGIC = 0x1950A86A20F9469CFC6C
"""What files of PyTorch before 1.6 begin with."""

_NAMES = 200_000
"""Most modules and their values in a TorchScript file, and most classes of its program."""


@dataclass(eq=False)
class Storage:
    """Memory of a file that tensors are views of; it is read when first needed.

    Attributes
    ----------
    key : str
        Its name in the file.
    dtype : torch.dtype
        Of its values.
    count : int
        Number of its values.
    content : Content
        Where the bytes are.
    """

    key: str
    dtype: torch.dtype
    count: int
    content: Content

    @cached_property
    def values(self) -> torch.Tensor:
        """All values, in one dimension."""
        data = self.content.storage_bytes(self.key, self.count * self.dtype.itemsize)
        if not data:
            return torch.empty(0, dtype=self.dtype)
        if self.content.swapped:
            # complex numbers are two real ones each
            size = self.dtype.itemsize // (2 if self.dtype.is_complex else 1)
            data = bytearray(torch.frombuffer(data, dtype=torch.uint8).view(-1, size).flip(1).numpy().tobytes())
        return torch.frombuffer(data, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that has not been read yet, whose place within its storage has been checked."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What it takes when it shares memory with no other."""
        return math.prod(self.size) * self.storage.dtype.itemsize

    def read(self) -> torch.Tensor:
        """The tensor, on the CPU."""
        return torch.as_strided(self.storage.values, self.size, self.stride, self.offset)


class Content(Protocol):
    """Where a file keeps the bytes of its storages."""

    @property
    def swapped(self) -> bool:
        """Whether the bytes of each value are in the other order than this machine's."""

    def storage_bytes(self, key: str, count: int) -> bytearray:
        """The bytes of a storage, which have to be so many."""


@contextlib.contextmanager
def open_torch_file(path: str | os.PathLike[str], allowed: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """What a file of PyTorch holds, with a `StoredTensor` for each tensor; these are read within the block.

    Parameters
    ----------
    path : path-like
        The file: of ``torch.save`` in the archive's form or that before 1.6, or of TorchScript.
    allowed : mapping of str to object, optional
        As for `stemfuse.separators.foreign.instructions.Machine`.

    Yields
    ------
    object
        Plain values; TorchScript gives a dictionary as ``state_dict`` does.

    Raises
    ------
    ForeignFileError
        It is none, damaged, too large, or names what is not let through.
    OSError
        The file is missing or cannot be read.
    """
    if is_archive(path):
        with open_archive(path) as archive:
            content = _ArchiveContent(archive, Path(path).stat().st_size)
            root = _machine(content, content.entry("data.pkl", INSTRUCTION_BYTES), 0, allowed).run()
            is_script = isinstance(root, Placeholder) and root.name.startswith("__torch__.")
            yield _script_state(content, root) if is_script else root
    else:
        with _mapped(path) as data:
            yield _OldContent(data).load(allowed)


@contextlib.contextmanager
def _mapped(path: str | os.PathLike[str]) -> Iterator[mmap.mmap]:
    if not Path(path).stat().st_size:
        raise ForeignFileError("is damaged or holds no weights (it is empty)")
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _machine(
    content: Content,
    data: Any,
    position: int,
    allowed: Mapping[str, Any] | None,
    storages: dict[str, Storage] | None = None,
) -> Machine:
    known: dict[str, Storage] = {} if storages is None else storages

    def persistent(reference: Any) -> Any:
        kind, stored, key, *more = reference
        if kind == "module":
            return stored
        # PyTorch before 0.4 had views of storages
        is_view = any(part is not None for part in more[2:])
        if kind != "storage" or not isinstance(stored, Name) or not isinstance(key, str) or is_view:
            raise ForeignFileError("is damaged or holds no weights (a reference to no storage)")
        if key not in known:
            known[key] = _storage(content, stored, key, more[1])
        return known[key]

    return Machine(data, position, FUNCTIONS, persistent, None if allowed is None else {**_STORAGES, **allowed})


def _storage(content: Content, stored: Name, key: str, count: Any) -> Storage:
    dtype = _TYPES.get(stored.text.removeprefix("torch.").removesuffix("Storage"))
    if dtype is None:
        raise ForeignFileError(f"has tensors of {stored.text}, expected one of {', '.join(_TYPES)}")
    if type(count) is not int or count < 0:
        raise ForeignFileError("is damaged or holds no weights (a storage of no size)")
    return Storage(key, dtype, count, content)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    """A view of a storage, which has to lie within it, with no more values than it has."""
    whole = isinstance(storage, Storage) and isinstance(size, tuple | list) and isinstance(stride, tuple | list)
    if not whole or len(size) > DEPTH or len(stride) != len(size):
        raise ForeignFileError("is damaged or holds no weights (a tensor of no shape)")
    if any(type(number) is not int or not 0 <= number < 1 << 63 for number in (offset, *size, *stride)):
        raise ForeignFileError("is damaged or holds no weights (a tensor of no shape)")
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    values = math.prod(size)
    if values and (last >= storage.count or values > storage.count):
        raise ForeignFileError(
            f"is damaged: a tensor of shape {str(tuple(size))[:80]} in a storage of {storage.count} values"
        )
    return StoredTensor(storage, offset if values else 0, tuple(size), tuple(stride))


def _dictionary(*given: Any) -> dict[Any, Any]:
    """Dictionaries are made empty, or from pairs of a name and a value."""
    pairs = given[-1] if given else []
    if isinstance(pairs, dict):
        return pairs
    return {key: value for key, value in pairs if isinstance(key, str)} if isinstance(pairs, list) else {}


def _device(*given: Any) -> str:
    return ":".join(str(part) for part in given if isinstance(part, str | int))


def _text_bytes(text: Any, *_: Any) -> bytes:
    return text.encode("latin-1", "replace") if isinstance(text, str) else b""


def _itself(value: Any, *_: Any) -> Any:
    return value


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _itself,
    "torch._utils._rebuild_parameter_with_state": _itself,
    "torch.nn.parameter.Parameter": _itself,
    "torch.Size": _itself,
    "torch.device": _device,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _dictionary,
    "fractions.Fraction": fraction,
    "_codecs.encode": _text_bytes,
    f"{LISTS_OF_SCRIPTS}.build_intlist": _itself,
    f"{LISTS_OF_SCRIPTS}.build_doublelist": _itself,
    f"{LISTS_OF_SCRIPTS}.build_boollist": _itself,
    f"{LISTS_OF_SCRIPTS}.build_tensorlist": _itself,
    f"{LISTS_OF_SCRIPTS}.restore_type_tag": _itself,
}
"""What calls in a file give; all other calls become placeholders."""

_STORAGES = {name: Name(name) for name in (f"torch.{kind}Storage" for kind in _TYPES)}


class _ArchiveContent:
    """The form of a ZIP archive: every storage an entry of its own, which is not compressed."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.left = archive, size
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) != 1:
            raise ForeignFileError("is an archive, but none of PyTorch (data.pkl is missing)")
        self.prefix = names[0].removesuffix("data.pkl")
        self.names = set(archive.namelist())

    @cached_property
    def swapped(self) -> bool:
        order = self.entry("byteorder", 16).decode("ascii") if f"{self.prefix}byteorder" in self.names else "little"
        if order not in ("little", "big"):
            raise ForeignFileError(f"has the byte order {order!r}, expected 'little' or 'big'")
        return order != sys.byteorder

    def entry(self, name: str, most: int) -> bytes:
        return read_entry(self.archive, self.prefix + name, most)

    def storage_bytes(self, key: str, count: int) -> bytearray:
        name = f"{self.prefix}data/{key}"
        if name not in self.names:
            raise ForeignFileError(f"is damaged: the entry {name!r} is missing")
        entry = self.archive.getinfo(name)
        check_stored(self.archive, entry)
        self.left -= entry.file_size
        if entry.file_size != count or self.left < 0:
            raise ForeignFileError(f"is damaged: the entry {name!r} has {entry.file_size} bytes, expected {count}")
        data = bytearray(count)
        view, done = memoryview(data), 0
        with self.archive.open(entry) as file:
            # the last block, which is empty, compares the checksum
            while block := file.read(MEBI):
                view[done : done + len(block)] = block
                done += len(block)
        if done != count:
            raise ForeignFileError(f"is damaged: the entry {name!r} ends early")
        return data


class _OldContent:
    """The form before PyTorch 1.6: instructions, and then all storages one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.swapped = False
        self.places: dict[str, int] = {}

    def load(self, allowed: Mapping[str, Any] | None) -> Any:
        position, values, storages = 0, [], dict[str, Storage]()
        # magic number, version, system; the content; names of the storages
        for _ in range(5):
            machine = _machine(self, self.data, position, allowed, storages)
            values.append(machine.run())
            position = machine.position
            if values[0] != _MAGIC:
                raise ForeignFileError("is damaged or holds no weights (it is no file of torch.save)")
        _, _, system, root, keys = values
        little = not isinstance(system, dict) or system.get("little_endian", True) is True
        self.swapped = little != (sys.byteorder == "little")
        if not isinstance(keys, list) or not all(isinstance(key, str) and key in storages for key in keys):
            raise ForeignFileError("is damaged or holds no weights (storages are missing)")
        for key in keys:
            self.places[key] = position + 8
            count = int.from_bytes(self.data[position : position + 8], "little" if little else "big")
            if count != storages[key].count:
                raise ForeignFileError(f"is damaged: the storage {key!r} has {count} values, not {storages[key].count}")
            position += 8 + count * storages[key].dtype.itemsize
        return root

    def storage_bytes(self, key: str, count: int) -> bytearray:
        place = self.places.get(key)
        if place is None or place + count > len(self.data):
            raise ForeignFileError(f"is damaged: the storage {key!r} is missing or ends early")
        return bytearray(self.data[place : place + count])


def read_tensors(tensors: Mapping[str, StoredTensor], path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read named tensors, within the block of `open_torch_file`.

    Raises
    ------
    ForeignFileError
        They share memory so that they are far larger than the file.
    """
    _check_total(sum(stored.bytes for stored in tensors.values()), path)
    return {name: stored.read() for name, stored in tensors.items()}


def read_nested(value: Any, path: str | os.PathLike[str]) -> Any:
    """A value of dictionaries and lists with all its tensors read; errors as `read_tensors`."""
    total = 0

    def read(item: Any, depth: int) -> Any:
        nonlocal total
        total += item.bytes if isinstance(item, StoredTensor) else 64
        _check_total(total, path)
        if depth > DEPTH:
            raise ForeignFileError(f"has more than {DEPTH} levels")
        if isinstance(item, dict):
            return {key: read(part, depth + 1) for key, part in item.items()}
        if isinstance(item, list | tuple):
            return type(item)(read(part, depth + 1) for part in item)
        return item.read() if isinstance(item, StoredTensor) else item

    return read(value, 0)


def _check_total(total: int, path: str | os.PathLike[str]) -> None:
    most = SHARING * Path(path).stat().st_size
    if total > most:
        raise ForeignFileError(f"its tensors take {total} bytes, expected at most {most}: {SHARING} times the file")


def _script_state(content: _ArchiveContent, root: Placeholder) -> dict[str, StoredTensor]:
    """Parameters and buffers of a TorchScript module, named as ``state_dict`` names them."""
    state: dict[str, StoredTensor] = {}
    declared = _Declarations(content)
    remaining: list[tuple[str, Placeholder, int]] = [("", root, 0)]
    # modules can be in several others, so that few of them make any number of names
    visited = 0
    while remaining:
        prefix, module, depth = remaining.pop()
        if not isinstance(module.state, dict) or depth > DEPTH:
            raise ForeignFileError(
                f"the module {prefix.rstrip('.') or module.name!r} keeps its tensors in a way of its own "
                "(__getstate__), which only the file's program could read, and that is not run: load the file where it "
                "was made, and save its state_dict() with torch.save"
            )
        visited += 1 + len(module.state)
        if visited > _NAMES or len(prefix) > TEXT:
            raise ForeignFileError(
                f"has more than {_NAMES} modules and values, or names of more than {TEXT} characters"
            )
        tensors = declared.tensors(module.name)
        for name, value in module.state.items():
            if isinstance(value, StoredTensor) and (tensors is None or name in tensors):
                state[f"{prefix}{name}"] = value
            elif isinstance(value, Placeholder) and value.name.startswith("__torch__."):
                remaining.append((f"{prefix}{name}.", value, depth + 1))
    return state


class _Declarations:
    """Which attributes of modules are parameters and buffers, by the text of a TorchScript file's program."""

    def __init__(self, content: _ArchiveContent) -> None:
        self.content = content
        self.classes: dict[str, dict[str, set[str]]] = {}
        self.left = INSTRUCTION_BYTES

    def tensors(self, name: str) -> set[str] | None:
        """Names of a class's parameters and buffers; None where its text is not found."""
        module, _, own = name.rpartition(".")
        entry = f"code/{module.replace('.', '/')}.py"
        if entry not in self.classes:
            known = f"{self.content.prefix}{entry}" in self.content.names
            text = self.content.entry(entry, self.left).decode("utf-8") if known else ""
            self.left -= len(text)
            self.classes[entry] = _declared(text)
        return self.classes[entry].get(own)


def _declared(text: str) -> dict[str, set[str]]:
    """Parameters and buffers by class, in one pass over a program: it may have as many classes as it likes."""
    found: dict[str, set[str]] = {}
    if text.count("\nclass ") > _NAMES:
        raise ForeignFileError(f"has more than {_NAMES} classes")
    for part in f"\n{text}".split("\nclass ")[1:]:
        name, is_module, body = part.partition("(Module):\n")
        if is_module and "\n" not in name and body:
            lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", body, re.MULTILINE)
            found.setdefault(name, set(re.findall(r'"([^"]*)"', " ".join(lists))))
    return found
