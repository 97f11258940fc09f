"""The instructions in files of PyTorch, carried out without Python's pickle: they can make plain values, nothing else.

Files of ``torch.save`` and of TorchScript hold a pickle, a program for a small stack machine. This is such a machine,
in which no instruction imports or calls anything of Python's. A name stays a name. What would be an object becomes a
placeholder with the arguments that it would have been made with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from .table import INSTRUCTION_BYTES, INSTRUCTIONS, ForbiddenNameError, ForeignFileError

_FORBIDDEN = frozenset(("nt", "os", "posix", "runpy", "shutil", "socket", "subprocess", "sys"))
"""Modules that no notes of a training name: a file that does was made to do harm, and is not read at all."""


@dataclass(frozen=True)
class Name:
    """Something that a file names, ``module.name``; it is not imported."""

    text: str


@dataclass(eq=False)
class Placeholder:
    """Stands for an object that is not made.

    Attributes
    ----------
    name : str
        What would have made it.
    arguments : tuple
        What it would have been made from.
    state : object
        What its attributes would have been set to: for most a dictionary.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, struct.error)
"""What instructions raise that do not fit the values before them."""

LISTS_OF_SCRIPTS = "torch.jit._pickle"
"""The module that TorchScript names for its lists."""

_COPIES = 4 * INSTRUCTIONS
"""Most values that calls may take, all together."""


class Buffer(Protocol):
    """Bytes, or a file that is mapped into memory."""

    def __getitem__(self, index: Any, /) -> Any:
        """One byte, or bytes."""

    def __len__(self) -> int:
        """How many."""


class _Mark:
    """Where a list begins on the stack."""


_MARK = _Mark()

_SALTED = (str, bytes, float, type(None), Name, Placeholder)
_KEY = 1 << 60
"""Integers that are keys are smaller than this: as many larger ones as one likes have the same hash."""
_PARTS = 3
"""Most parts of a key that is a tuple, whose hash is found anew each time."""


class Machine:
    """Carries out one program.

    Parameters
    ----------
    data : Buffer
        Bytes that hold the program.
    position : int
        Where it begins; after `run`, where it ended.
    functions : mapping of str to callable
        What a call of a name gives: only these of our functions are ever called.
    persistent : callable
        Gives what a reference to a storage stands for.
    allowed : mapping of str to object, optional
        The only names that are let through, and what each stands for; it cannot be called. When not given, all names
        are, except those of modules that run other programs.
    """

    def __init__(
        self,
        data: Buffer,
        position: int,
        functions: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any],
        allowed: Mapping[str, Any] | None = None,
    ) -> None:
        self.data, self.position = data, position
        self.end = min(len(data), position + INSTRUCTION_BYTES)
        self.functions, self.persistent, self.allowed = functions, persistent, allowed
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.budget = _COPIES

    def run(self) -> Any:
        """What the program makes.

        Raises
        ------
        ForeignFileError
            The program is damaged, too long, or asks for what is not let through.
        """
        try:
            for _ in range(INSTRUCTIONS):
                code = self._take(1)
                if code == b".":
                    return self._pop()
                instruction = _INSTRUCTIONS.get(code)
                if instruction is None:
                    raise ForeignFileError(f"is damaged or holds no weights (instruction {code!r})")
                instruction(self)
        except ForeignFileError:
            raise
        except _DAMAGE as error:
            raise ForeignFileError("is damaged or holds no weights (its instructions do not fit together)") from error
        raise ForeignFileError(f"has more than {INSTRUCTIONS} instructions")

    def _take(self, count: int) -> bytes:
        stop = self.position + count
        if stop > self.end:
            raise ForeignFileError("is damaged or holds no weights (its instructions end early)")
        taken = bytes(self.data[self.position : stop])
        self.position = stop
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        start = self.position
        while self._take(1) != b"\n":
            pass
        return bytes(self.data[start : self.position - 1]).decode("utf-8")

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ForeignFileError("is damaged or holds no weights (a value is missing)")
        return value

    def _pop_list(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)][::-1]
        self._push(tuple(items))

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _memoize(self) -> None:
        self._put(len(self.memo))

    def _append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Placeholder) else target).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(target, Placeholder):
                target.items.append((key, value))
            elif isinstance(target, dict):
                target[_checked_key(key)] = value
            else:
                raise ForeignFileError("is damaged or holds no weights (keys are set on no dictionary)")

    def _dictionary(self) -> None:
        items = self._pop_list()
        self._push({})
        self._set_items(items)

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ForeignFileError("is damaged or holds no weights (a name that is no text)")
        text = f"{module}.{name}"
        if self.allowed is not None:
            if text in self.allowed:
                return self._push(self.allowed[text])
            if text not in self.functions:
                raise ForbiddenNameError(text)
        elif module.partition(".")[0] in _FORBIDDEN:
            raise ForbiddenNameError(text)
        return self._push(Name(text))

    def _global_of_stack(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)

    def _call(self, count: int = 2) -> None:
        called, *given = [self._pop() for _ in range(count)][::-1]
        arguments = given[0]
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise ForeignFileError("is damaged or holds no weights (something is called that has no name)")
        self.budget -= sum(len(given) for given in arguments if isinstance(given, str | bytes | list | tuple | dict))
        if self.budget < 0:
            raise ForeignFileError("is damaged or holds no weights (its calls take too many values)")
        function = self.functions.get(called.text)
        self._push(Placeholder(called.text, arguments) if function is None else function(*arguments))

    def _build(self) -> None:
        state = self._pop()
        if isinstance(self.stack[-1], Placeholder):
            self.stack[-1].state = state

    def _long(self) -> None:
        size = self._take(1)[0]
        if size > 32:
            raise ForeignFileError("is damaged or holds no weights (an integer of more than 256 bits)")
        self._push(int.from_bytes(self._take(size), "little", signed=True))


def _checked_key(key: Any) -> Any:
    """A key whose hash is quickly found, and is that of few others: chosen ones could fill a dictionary for hours."""
    if _is_key(key) or (type(key) is tuple and len(key) <= _PARTS and all(map(_is_key, key))):
        return key
    kind = f"an integer of {key.bit_length()} bits" if isinstance(key, int) else f"a {type(key).__name__}"
    raise ForeignFileError(f"is damaged or holds no weights (a key is {kind})")


def _is_key(key: Any) -> bool:
    # hashes of text are salted; a float shares its own with few others
    return isinstance(key, _SALTED) or (isinstance(key, int) and -_KEY < key < _KEY)


def fraction(*given: Any) -> Fraction:
    """A fraction of two integers or of their text, small enough to be counted with.

    Examples
    --------
    >>> fraction("39/5")
    Fraction(39, 5)
    """
    if all(type(part) is int for part in given) and 0 < len(given) < 3:
        return Fraction(*given)
    text = given[0]
    if len(given) != 1 or not isinstance(text, str) or len(text) > 40 or not set(text) <= set("-0123456789/"):
        raise ForeignFileError("is damaged or holds no weights (a fraction that is none)")
    return Fraction(text)


def _text(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine._push(str(machine._take(machine._number(form)), "utf-8"))


def _old_text(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine._push(str(machine._take(machine._number(form)), "latin-1"))


def _bytes(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine._push(machine._take(machine._number(form)))


def _value(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine._push(machine._number(form))


_INSTRUCTIONS: dict[bytes, Callable[[Machine], Any]] = {
    # version, frame
    b"\x80": lambda machine: machine._take(1),
    b"\x95": lambda machine: machine._take(8),
    # the stack
    b"(": lambda machine: machine._push(_MARK),
    b"0": lambda machine: machine.stack.pop(),
    b"1": lambda machine: machine._pop_list(),
    b"2": lambda machine: machine._push(machine.stack[-1]),
    # values
    b"N": lambda machine: machine._push(None),
    b"\x88": lambda machine: machine._push(True),
    b"\x89": lambda machine: machine._push(False),
    b"J": _value("<i"),
    b"K": _value("<B"),
    b"M": _value("<H"),
    b"\x8a": Machine._long,
    b"G": _value(">d"),
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"\x8d": _text("<Q"),
    b"T": _old_text("<i"),
    b"U": _old_text("<B"),
    b"C": _bytes("<B"),
    b"B": _bytes("<I"),
    b"\x8e": _bytes("<Q"),
    b"\x96": _bytes("<Q"),
    # lists and dictionaries; sets become lists, which need no hashes
    b"]": lambda machine: machine._push([]),
    b"\x8f": lambda machine: machine._push([]),
    b")": lambda machine: machine._push(()),
    b"}": lambda machine: machine._push({}),
    b"a": lambda machine: machine._append([machine._pop()]),
    b"e": lambda machine: machine._append(machine._pop_list()),
    b"\x90": lambda machine: machine._append(machine._pop_list()),
    b"l": lambda machine: machine._push(machine._pop_list()),
    b"\x91": lambda machine: machine._push(machine._pop_list()),
    b"d": Machine._dictionary,
    b"t": lambda machine: machine._push(tuple(machine._pop_list())),
    b"\x85": lambda machine: machine._tuple(1),
    b"\x86": lambda machine: machine._tuple(2),
    b"\x87": lambda machine: machine._tuple(3),
    b"s": lambda machine: machine._set_items([machine._pop(), machine._pop()][::-1]),
    b"u": lambda machine: machine._set_items(machine._pop_list()),
    # names, and what would be made of them
    b"c": lambda machine: machine._global(machine._line(), machine._line()),
    b"\x93": Machine._global_of_stack,
    b"R": Machine._call,
    b"\x81": Machine._call,
    b"\x92": lambda machine: machine._call(3),
    b"b": Machine._build,
    # values that are used again
    b"q": lambda machine: machine._put(machine._number("<B")),
    b"r": lambda machine: machine._put(machine._number("<I")),
    b"\x94": Machine._memoize,
    b"h": lambda machine: machine._push(machine.memo[machine._number("<B")]),
    b"j": lambda machine: machine._push(machine.memo[machine._number("<I")]),
    b"Q": lambda machine: machine._push(machine.persistent(machine._pop())),
}
"""What each instruction does; all others of the format are refused."""
