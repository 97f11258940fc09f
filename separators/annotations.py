"""What an annotation lets through: its words for messages, and values checked and converted by pydantic."""

from __future__ import annotations

import builtins
import collections.abc
import contextlib
import functools
import numbers
import operator
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import numpy as np

if TYPE_CHECKING:
    from pydantic import TypeAdapter

WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    types.NoneType: "None",
    Path: "a path",
    os.PathLike: "a path",
}
"""The plain classes, which pydantic validates itself, and their words in messages."""

PLURALS: Mapping[Any, str] = {int: "whole numbers", float: "numbers", str: "texts"}
MAPPINGS = (dict, collections.abc.Mapping)
LISTS = (list, tuple, set, frozenset, collections.abc.Sequence)


@dataclass(frozen=True)
class Expected:
    """What an annotation lets through; ``str()`` puts it in words.

    Parameters
    ----------
    annotation : type
        Resolved, see `resolve`.

    Examples
    --------
    >>> expected = Expected(float | Literal["auto"])
    >>> str(expected), expected.fit("1e-3"), expected.fit("auto"), expected.fit(2)
    ("a number or 'auto'", 0.001, 'auto', 2)
    """

    annotation: Any

    def fit(self, value: Any) -> Any:
        """The value: the same object where it fits, else converted from text; ValueError where it does not fit.

        A whole number fits where a number is expected, and stays one. Where nothing but text is expected it becomes
        text. Other numbers do not: 1.10 and 1.1 are one number, but two texts.
        """
        # most values need no pydantic, whose import takes longer than making a fusion
        if self.annotation is Any or self._is_plainly(value):
            return value
        if self.is_text and type(_without_numpy(value)) is int:
            return str(value)
        exact, converting = self._adapters
        plain = _without_numpy(value)
        for candidate in (value, plain):
            with contextlib.suppress(ValueError):
                exact.validate_python(candidate, strict=True)
                return value
        return converting.validate_python(plain)

    @property
    def is_text(self) -> bool:
        """Whether nothing but text is let through, or nothing but text and None."""
        return set(self._choices) in ({str}, {str, types.NoneType})

    @property
    def _choices(self) -> tuple[Any, ...]:
        return typing.get_args(self.annotation) if _is_union(self.annotation) else (self.annotation,)

    @property
    def words(self) -> tuple[str, ...]:
        """The texts that are let through, where only some are."""
        return tuple(
            word
            for choice in self._choices
            if _is_literal(choice)
            for word in typing.get_args(choice)
            if isinstance(word, str)
        )

    def _is_plainly(self, value: Any) -> bool:
        choices = self._choices
        words = [word for choice in choices if _is_literal(choice) for word in typing.get_args(choice)]
        is_word = any(type(value) is type(word) and value == word for word in words)
        return is_word or type(value) in choices or (type(value) is int and float in choices)

    @functools.cached_property
    def _adapters(self) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
        from pydantic import PlainValidator, TypeAdapter

        converted = {int: Annotated[Any, PlainValidator(_whole)], float: Annotated[Any, PlainValidator(_number)]}
        return TypeAdapter(_for_pydantic(self.annotation, {})), TypeAdapter(_for_pydantic(self.annotation, converted))

    def __str__(self) -> str:
        return _in_words(self.annotation)


class _Names(dict[str, Any]):
    """Names that annotations use; what is imported for type checkers only is Any."""

    def __missing__(self, name: str) -> Any:
        return Any


def resolve(annotation: Any, names: Mapping[str, Any]) -> Any:
    """An annotation, which may be text, as a type.

    Parameters
    ----------
    annotation : type or str
        As it is written.
    names : mapping of str to Any
        The names of the module that it is written in.

    Returns
    -------
    type
        ``Any`` for what cannot be known when the program runs.

    Examples
    --------
    >>> resolve("float | None", {}), resolve("float | Elsewhere", {})
    (float | None, float | typing.Any)
    """

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    try:
        return typing.get_type_hints(holder, {}, _Names({**vars(builtins), **names}))["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return Any


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Literal


def _for_pydantic(annotation: Any, replaced: Mapping[Any, Any]) -> Any:
    """An annotation as pydantic is to check it: of other classes than plain ones it only asks for instances."""
    if annotation in replaced:
        return replaced[annotation]
    if annotation is Any or annotation in (*WORDS, *LISTS, *MAPPINGS) or _is_literal(annotation):
        return annotation
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is os.PathLike:
        return annotation
    if _is_union(annotation):
        return functools.reduce(operator.or_, (_for_pydantic(part, replaced) for part in parts))
    if origin in (*LISTS, *MAPPINGS):
        return origin[tuple(part if part is ... else _for_pydantic(part, replaced) for part in parts)]
    return _instance_of(origin or annotation)


def _instance_of(kind: Any) -> Any:
    from pydantic import PlainValidator

    try:
        isinstance(None, kind)
    except TypeError:
        # a form of typing that is no class, or a protocol that is not to be asked
        return Any

    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise ValueError(f"expected {kind}")
        return value

    return Annotated[Any, PlainValidator(check)]


def _number(value: Any) -> Any:
    """A number as it is, or the one that a text is."""
    if isinstance(value, str):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError("expected a number")
    return value


def _whole(value: Any) -> Any:
    """A whole number, also one that is written as 2.0 or 1e3."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
    number = _number(value)
    if isinstance(number, numbers.Integral):
        return number
    if not float(number).is_integer():
        raise ValueError("expected a whole number")
    return int(number)


def _without_numpy(value: Any) -> Any:
    """NumPy's numbers as Python's: pydantic takes no ``np.int64`` for an int."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if type(value) in (list, tuple):
        return type(value)(map(_without_numpy, value))
    return value


def _in_words(annotation: Any) -> str:
    """What an annotation asks for."""
    if annotation in WORDS:
        return WORDS[annotation]
    kind, parts = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if _is_union(annotation):
        return _either(dict.fromkeys(map(_in_words, parts)))
    if _is_literal(annotation):
        return _either(map(repr, parts))
    if kind in MAPPINGS:
        return "a mapping"
    if kind in LISTS:
        return next((f"a list of {PLURALS[part]}" for part in parts if part in PLURALS), "a list")
    return WORDS.get(kind) or (kind.__name__ if isinstance(kind, type) else str(kind))


def _either(choices: Iterable[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last
