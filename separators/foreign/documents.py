"""JSON and YAML: read within bounds, into numbers, text, lists and mappings alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .table import DEPTH, DOCUMENT_BYTES, INTEGER, RECIPE_BYTES, TEXT, VALUES, ForeignFileError


def read_text(path: str | os.PathLike[str], most: int) -> str:
    """The text of a file of UTF-8.

    Parameters
    ----------
    path : path-like
        The file.
    most : int
        Bytes that it may have.

    Raises
    ------
    ForeignFileError
        It is no file, larger, or not UTF-8.
    OSError
        It is missing or cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ForeignFileError("is no file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ForeignFileError(f"has more than {most} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ForeignFileError(f"is not UTF-8 (byte {error.start})") from error


def read_json(path: str | os.PathLike[str], most: int = DOCUMENT_BYTES) -> Any:
    """The value of a JSON file; errors as `read_text` and `parse_json`."""
    return parse_json(read_text(path, most), most)


def parse_json(text: str, most: int = DOCUMENT_BYTES) -> Any:
    """The value of a JSON text.

    Parameters
    ----------
    text : str
        The document.
    most : int
        Characters that it may have.

    Raises
    ------
    ForeignFileError
        It is no JSON, too long or too deep, or has integers of more than 64 bits.

    Examples
    --------
    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    if len(text) > most:
        raise ForeignFileError(f"has more than {most} characters")
    _check_count(text)
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ForeignFileError(f"has more than {DEPTH} levels") from error
    except ValueError as error:
        raise ForeignFileError(f"is no JSON ({error})") from error
    check_plain(value)
    return value


_MARKS = ",:[{"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _check_count(text: str) -> None:
    """Count values before any is made: an empty list of two characters takes the memory of fifty."""
    if sum(map(text.count, _MARKS)) > VALUES:
        text = _STRING.sub("", text)
        parts, lists = (sum(map(text.count, marks)) for marks in (_MARKS[:2], _MARKS[2:]))
        if max(parts, lists) > VALUES:
            raise ForeignFileError(f"has more than {VALUES} values")


def parse_object(text: str, most: int = DOCUMENT_BYTES) -> dict[str, Any]:
    """The value of a JSON text that has to be an object; errors as `parse_json`."""
    value = parse_json(text, most)
    if not isinstance(value, dict):
        raise ForeignFileError(f"got {type(value).__name__}, expected a JSON object")
    return value


def read_object(path: str | os.PathLike[str], most: int = DOCUMENT_BYTES) -> dict[str, Any]:
    """The value of a JSON file that has to be an object; errors as `read_text` and `parse_json`."""
    return parse_object(read_text(path, most), most)


def read_yaml(path: str | os.PathLike[str], most: int = RECIPE_BYTES) -> Any:
    """The value of a YAML file; errors as `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path, most), most)


def parse_yaml(text: str, most: int = RECIPE_BYTES) -> Any:
    """The value of a YAML text.

    Parameters
    ----------
    text : str
        The document.
    most : int
        Characters that it may have.

    Raises
    ------
    ForeignFileError
        It is not YAML, too long or too deep, makes objects, or has integers of more than 64 bits.

    Examples
    --------
    >>> parse_yaml("a: [1, 2]")
    {'a': [1, 2]}
    """
    import yaml

    if len(text) > most:
        raise ForeignFileError(f"has more than {most} characters")
    try:
        _check_events(yaml.parse(text, yaml.SafeLoader))
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ForeignFileError(f"is not YAML ({' '.join(str(error).split())})") from error
    # dates and numbers that are none
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, ForeignFileError):
            raise
        raise ForeignFileError(f"is not YAML ({type(error).__name__}: {' '.join(str(error).split())[:200]})") from error
    check_plain(value)
    return value


def _check_events(events: Iterable[Any]) -> None:
    """Count levels and values before anything is composed; an alias counts as what it stands for."""
    import yaml

    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []
    total = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(str(event.anchor), 0)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.style is None and len(event.value) > TEXT:
                raise ForeignFileError(f"has a value of {len(event.value)} characters, expected at most {TEXT}")
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = total - before
        if len(open_) > DEPTH:
            raise ForeignFileError(f"has more than {DEPTH} levels")
        if total > VALUES:
            raise ForeignFileError(f"has more than {VALUES} values")


def check_plain(value: Any) -> None:
    """Raise an error unless a value is made of text, numbers, lists and mappings, within the table's bounds.

    Raises
    ------
    ForeignFileError
        It has more levels or values, integers of more than 64 bits, text that is not Unicode, or objects.
    """
    level, left, depth = [value], VALUES, 0
    while level:
        left -= len(level)
        if left < 0:
            raise ForeignFileError(f"has more than {VALUES} values")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            else:
                _check_scalar(item)
        level, depth = below, depth + 1
        if depth > DEPTH + 1:
            raise ForeignFileError(f"has more than {DEPTH} levels")


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ForeignFileError("has text with a null character")
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ForeignFileError(f"has text that is not Unicode: {ascii(value)[:80]}") from error
    elif isinstance(value, int):
        if not -INTEGER < value < INTEGER:
            raise ForeignFileError("has an integer of more than 64 bits")
    elif value is not None and not isinstance(value, float):
        raise ForeignFileError(f"has a value of the kind {type(value).__name__}, expected text, numbers, lists, keys")
