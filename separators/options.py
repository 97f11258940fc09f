"""Options of fusions and separators, checked and converted by the annotations of what takes them."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .annotations import Expected, resolve
from .errors import StemfuseError, wrong_usage
from .names import did_you_mean

CUT = 80
"""The most characters of a refused value that a message shows."""


def checked_options(
    made: Callable[..., Any], options: Mapping[str, Any], what: str, error: type[StemfuseError]
) -> dict[str, Any]:
    """Options as a class or function takes them, checked and converted by its annotations.

    A value that fits is kept, the very object, and an int where a float is expected is such a value. Text becomes
    the number or the truth value that it is: YAML leaves ``1e-3`` text. A whole number becomes text where nothing else
    is expected. What has no annotation, or one with a name that is imported for type checkers only, may be anything.

    Parameters
    ----------
    made : callable
        What takes the options.
    options : mapping of str to Any
        By name.
    what : str
        What is made, for messages: ``"separator demucs"``.
    error : type
        What is raised, a `StemfuseError`.

    Returns
    -------
    dict
        The same names, in the same order.

    Raises
    ------
    StemfuseError
        As ``error``: a name is unknown, a required one is missing, or a value does not fit.

    Examples
    --------
    >>> def train(epochs: int, rate: float = 0.1): ...
    >>> checked_options(train, {"epochs": 3, "rate": "1e-3"}, "training", StemfuseError)
    {'epochs': 3, 'rate': 0.001}
    >>> checked_options(train, {"epochs": 1.5}, "training", StemfuseError)
    Traceback (most recent call last):
    ...
    stemfuse.separators.errors.StemfuseError: training: argument 'epochs': got 1.5, expected a whole number
    """
    known = _parameters(made)
    names = [name for name, parameter in known.items() if not parameter.collects]
    for name in options:
        if name not in names and len(names) == len(known):
            listed, near = ", ".join(names) or "none", did_you_mean(name, names)
            raise wrong_usage(error(f"{what}: argument {name!r} is unknown, its arguments are {listed}{near}"))
    for name in names:
        if name not in options and known[name].default is inspect.Parameter.empty:
            raise wrong_usage(error(f"{what}: argument {name!r} is missing, its arguments are {', '.join(names)}"))
    return {
        name: known[name].checked(value, what, error) if name in names else value for name, value in options.items()
    }


def takes_text_alone(made: Callable[..., Any], name: str) -> bool:
    """Whether an argument of a class or function may only be text, so that ``1.10`` can mean nothing but these signs.

    Examples
    --------
    >>> def run(version: str = "", seed: int = 0): ...
    >>> takes_text_alone(run, "version"), takes_text_alone(run, "seed"), takes_text_alone(run, "speed")
    (True, False, False)
    """
    parameter = _parameters(made).get(name)
    return parameter is not None and not parameter.collects and parameter.expected.is_text


def checked_constructor(init: Callable[..., None], error: type[StemfuseError]) -> Callable[..., None]:
    """An ``__init__`` that checks and converts its arguments first, with the signature of the one that is given.

    Parameters
    ----------
    init : callable
        A class' own ``__init__``.
    error : type
        What is raised for a value that does not fit; an unknown or missing argument stays Python's TypeError.

    See Also
    --------
    checked_options : how values are checked.

    Examples
    --------
    >>> class Base:
    ...     def __init_subclass__(cls):
    ...         if "__init__" in vars(cls):
    ...             cls.__init__ = checked_constructor(cls.__init__, StemfuseError)
    >>> class Louder(Base):
    ...     def __init__(self, gain: float = 1.0):
    ...         self.gain = gain
    >>> Louder("2.5").gain, list(inspect.signature(Louder).parameters)
    (2.5, ['gain'])
    >>> Louder("much")
    Traceback (most recent call last):
    ...
    stemfuse.separators.errors.StemfuseError: Louder: argument 'gain': got 'much', expected a number
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked_init(self: Any, *positional: Any, **named: Any) -> None:
        try:
            bound = signature.bind(self, *positional, **named)
        except TypeError:
            # Python's own message is the best one for a wrong call
            return init(self, *positional, **named)
        known = _parameters(init)
        for name, value in list(bound.arguments.items())[1:]:
            bound.arguments[name] = known[name].checked(value, type(self).__name__, error)
        return init(*bound.args, **bound.kwargs)

    return checked_init


def check_fields(instance: Any, error: type[StemfuseError]) -> None:
    """Check and convert the fields of a dataclass by their annotations, in its ``__post_init__``.

    Parameters
    ----------
    instance : dataclass instance
        Frozen or not; fields that have to be converted are set anew.
    error : type
        What is raised for a value that does not fit.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Recipe:
    ...     epochs: int = 10
    ...
    ...     def __post_init__(self):
    ...         check_fields(self, StemfuseError)
    >>> Recipe("3")
    Recipe(epochs=3)
    """
    kind: Any = type(instance)
    for name, parameter in _fields(kind).items():
        value = getattr(instance, name)
        checked = parameter.checked(value, kind.__name__, error)
        if checked is not value:
            object.__setattr__(instance, name, checked)


@dataclass(frozen=True)
class _Parameter:
    """One argument of a function or field of a dataclass."""

    name: str
    expected: Expected
    default: Any
    collects: bool = False

    def checked(self, value: Any, what: str, error: type[StemfuseError]) -> Any:
        """The value as it fits; the default always does, also against its annotation."""
        if self.collects or value is self.default:
            return value
        try:
            return self.expected.fit(value)
        except ValueError as problem:
            got = repr(value)
            got = got if len(got) <= CUT else f"{got[: CUT - 3]}..."
            more = did_you_mean(value, self.expected.words) if isinstance(value, str) else ""
            if self.expected.is_text and isinstance(value, float):
                more = ": put it in quotes"
            refused = error(f"{what}: argument {self.name!r}: got {got}, expected {self.expected}{more}")
            raise wrong_usage(refused) from problem


@functools.cache
def _parameters(made: Any) -> Mapping[str, _Parameter]:
    """The arguments of a class or function by name."""
    function = inspect.unwrap(made.__init__ if isinstance(made, type) else made)  # type: ignore[misc]
    # a constructor may be inherited from another module
    names = function.__globals__ if isinstance(function, types.FunctionType) else _names_around(made)
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: _Parameter(name, Expected(resolve(_annotated(part), names)), part.default, part.kind in collecting)
        for name, part in inspect.signature(made).parameters.items()
    }


def _annotated(part: inspect.Parameter) -> Any:
    return Any if part.annotation is inspect.Parameter.empty else part.annotation


def _names_around(made: Any) -> Mapping[str, Any]:
    """The names of the module that something is written in; none where it is not known."""
    return vars(sys.modules[made.__module__]) if made.__module__ in sys.modules else {}


@functools.cache
def _fields(kind: Any) -> Mapping[str, _Parameter]:
    """The fields of a dataclass by name, each annotation read in the module of the class that declares it."""
    declared = {name: base for base in reversed(kind.__mro__) for name in vars(base).get("__annotations__", ())}
    types_of = {part.name: resolve(part.type, _names_around(declared[part.name])) for part in fields(kind)}
    return {part.name: _Parameter(part.name, Expected(types_of[part.name]), part.default) for part in fields(kind)}
