"""Options are checked and converted by annotations, whoever wrote the class and wherever the options come from."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pytest

from makers.separators import REQUIRED
from stemfuse.separators import (
    BaseSeparator,
    SeparatorError,
    StemfuseError,
    Track,
    check_fields,
    checked_options,
    list_separators,
    load_separator,
    separator_class,
)
from stemfuse.separators.annotations import Expected

if TYPE_CHECKING:
    from nowhere import Elsewhere


@dataclass(frozen=True, eq=False)
class Cells:
    """What pydantic would look into if it was let: a dataclass with arrays and names that it cannot resolve."""

    matrix: np.ndarray
    later: NotThere | None = None  # noqa: F821


class Quiet(Protocol):
    def hush(self) -> None: ...


class Everything:
    """Takes what fusions and separators take."""

    def __init__(
        self,
        epochs: int = 3,
        rate: float = 0.1,
        mixture: bool = True,
        loss: Literal["l1", "l2"] = "l1",
        ridge: float | Literal["auto"] = 0.0,
        patience: int | None = None,
        edges_hz: Sequence[float] = (200.0, 1000.0),
        names: str | Sequence[str] = "SDR",
        blend: str | Mapping[str, Any] | Cells | None = None,
        folder: str | Path | None = None,
        shape: tuple[int, ...] = (),
        cells: Cells | None = None,
        quiet: Quiet | None = None,
        elsewhere: Elsewhere | None = None,
        gain: float = None,  # type: ignore[assignment]  # noqa: RUF013
        free=1,
        **more: Any,
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name not in ("self", "more")}


def made(**options):
    return checked_options(Everything, options, "thing everything", StemfuseError)


CELLS = Cells(np.zeros((2, 2)))
FITTING = {
    "epochs": [5, np.int64(5), 10**20],
    "rate": [0.5, 2, np.float32(0.5), np.float64(0.5), np.int32(2), float("inf")],
    "mixture": [False, np.True_],
    "loss": ["l2"],
    "ridge": ["auto", 1, 0.5],
    "patience": [None, 7],
    "edges_hz": [[60, 200.5], (60.0,), [], np.array([1.0, 2.0]), [np.int64(3)]],
    "names": ["SDR", ["SDR", "SIR"], ("SDR",)],
    "blend": ["mean", {"drums": {"mdx": 1}}, CELLS, None],
    "folder": ["somewhere", Path("somewhere"), None],
    "shape": [(1, 2), ()],
    "cells": [CELLS],
    "quiet": [object(), None],
    "elsewhere": [object(), "anything"],
    "gain": [None, 1],
    "free": ["anything", object()],
    "unheard_of": ["goes into more"],
}


@pytest.mark.parametrize("name", FITTING)
def test_what_fits_stays_the_same_object(name):
    for value in FITTING[name]:
        assert made(**{name: value})[name] is value


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("epochs", "5", 5),
        ("epochs", "1e3", 1000),
        ("epochs", 5.0, 5),
        ("rate", "1e-3", 1e-3),
        ("mixture", "false", False),
        ("mixture", "true", True),
        ("ridge", "1e-3", 1e-3),
        ("patience", "20", 20),
        ("edges_hz", ["2e2", 1000], [200.0, 1000]),
        ("edges_hz", ("2e2",), (200.0,)),
        ("shape", [1, 2], (1, 2)),
        ("shape", ["1", 2.0], (1, 2)),
    ],
)
def test_text_is_the_number_that_it_says(name, given, expected):
    value = made(**{name: given})[name]
    assert json.dumps(value) == json.dumps(expected)
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("epochs", "abc", "argument 'epochs': got 'abc', expected a whole number"),
        ("epochs", 1.5, "argument 'epochs': got 1.5, expected a whole number"),
        ("epochs", "1.5", "got '1.5', expected a whole number"),
        ("epochs", "inf", "got 'inf', expected a whole number"),
        ("epochs", True, "got True, expected a whole number"),
        ("epochs", None, "got None, expected a whole number"),
        ("rate", False, "got False, expected a number"),
        ("rate", [1.0], r"got \[1.0\], expected a number"),
        ("mixture", "perhaps", "got 'perhaps', expected true or false"),
        ("loss", "l3", "got 'l3', expected 'l1' or 'l2'"),
        ("ridge", "automatic", "got 'automatic', expected a number or 'auto'"),
        ("patience", "never", "got 'never', expected a whole number or None"),
        ("edges_hz", "200", "got '200', expected a list of numbers"),
        ("edges_hz", [1, "x"], r"got \[1, 'x'\], expected a list of numbers"),
        ("names", 4, "got 4, expected text or a list of texts"),
        ("blend", [1], r"got \[1\], expected text, a mapping, Cells or None"),
        ("folder", 3, "got 3, expected text, a path or None"),
        ("cells", "cells", "got 'cells', expected Cells or None"),
        ("names", ["x" * 100, 4], r"got \['x{75}\.\.\., expected"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(name, given, message):
    with pytest.raises(StemfuseError, match=f"^thing everything: .*{message}") as caught:
        made(**{name: given})
    assert "\n" not in str(caught.value)


def test_a_whole_number_is_text_where_nothing_else_is_expected():
    """Other numbers are two texts or more: whoever writes 1.10 in YAML has to put it in quotes."""

    def program(version: str = "", model: str | None = None, either: str | int = 0): ...

    def checked(**options):
        return checked_options(program, options, "program p", StemfuseError)

    assert checked(version=1, model=np.int64(2)) == {"version": "1", "model": "2"}
    assert checked(either=1) == {"either": 1}
    for value, words in ((1.1, "1.1"), (True, "True"), ([1], r"\[1\]")):
        quotes = ": put it in quotes" if isinstance(value, float) else ""
        with pytest.raises(StemfuseError, match=f"^program p: argument 'version': got {words}, expected text{quotes}$"):
            checked(version=value)


def test_unknown_and_missing_names_list_the_known_ones():
    def fuse(blend: str, hop: int = 4): ...

    known = r"its arguments are blend, hop( \(did you mean .hop.\?\))?$"
    with pytest.raises(StemfuseError, match=f"^fusion f: argument 'hob' is unknown, {known}"):
        checked_options(fuse, {"blend": "a", "hob": 1}, "fusion f", StemfuseError)
    with pytest.raises(StemfuseError, match=f"^fusion f: argument 'blend' is missing, {known}"):
        checked_options(fuse, {"hop": 1}, "fusion f", StemfuseError)


class Gain(BaseSeparator):
    """A separator whose author knows nothing of checks."""

    name = "gain"

    def __init__(self, gain: float = 0.25, times: int = 1) -> None:
        self.gain = gain
        self.times = times


class Inheriting(Gain):
    name = "inheriting"


class Forwarding(Gain):
    name = "forwarding"

    def __init__(self, gain: float = 0.5, source: str = "vocals") -> None:
        super().__init__(gain, times=2)
        self.source = source

    def options(self):
        return {"gain": self.gain, "source": self.source}


@pytest.mark.parametrize("kind", [Gain, Inheriting, Forwarding])
def test_constructors_of_separators_check_too(kind):
    assert kind("1e-3").gain == 1e-3
    assert kind(gain=2).fingerprint() != kind(gain=2.0).fingerprint(), "an int is kept as it was given"
    assert kind(gain="2.0").fingerprint() == kind(gain=2.0).fingerprint()
    with pytest.raises(SeparatorError, match=f"^{kind.__name__}: argument 'gain': got 'loud', expected a number$"):
        kind("loud")
    assert next(iter(inspect.signature(kind).parameters)) == "gain"
    for separator in (pickle.loads(pickle.dumps(kind(0.3))), copy.deepcopy(kind(0.3))):
        assert separator.fingerprint() == kind(0.3).fingerprint()


def test_a_wrong_call_stays_pythons_own_error():
    with pytest.raises(TypeError, match=r"Gain.__init__\(\) got an unexpected keyword argument 'loudness'"):
        Gain(loudness=3)


class Plain:
    """A third party's class: no base, no annotation, an argument without which it cannot be made."""

    def __init__(self, gain, device="cpu"):
        self.gain, self.device = gain, device


def test_a_class_without_annotations_takes_anything():
    assert checked_options(Plain, {"gain": "loud"}, "separator plain", SeparatorError) == {"gain": "loud"}
    with pytest.raises(SeparatorError, match="argument 'gain' is missing"):
        checked_options(Plain, {}, "separator plain", SeparatorError)


def test_registered_separators_check_their_options():
    separator = load_separator("repet_sim", distance_s="5e-1", neighbours=20.0)
    assert (separator.distance_s, separator.neighbours) == (0.5, 20)
    message = "^separator repet_sim: argument 'neighbours': got 'many', expected a whole number$"
    with pytest.raises(SeparatorError, match=message):
        load_separator("repet_sim", neighbours="many")
    with pytest.raises(
        SeparatorError, match=r"^separator repet_sim: argument 'speed' is unknown, its arguments are cross"
    ):
        load_separator("repet_sim", speed=1)


@pytest.mark.parametrize("name", list_separators())
def test_defaults_of_all_separators_fit_their_annotations(name):
    pytest.importorskip("torch")
    parameters = inspect.signature(separator_class(name)).parameters
    for part in parameters.values():
        assert part.annotation != part.empty
        required = REQUIRED.get(name, {})
        options = required | ({} if part.default is part.empty else {part.name: copy.copy(part.default)})
        assert checked_options(separator_class(name), options, name, SeparatorError) == options
        with pytest.raises(SeparatorError, match=f"argument '{part.name}': got <object"):
            checked_options(separator_class(name), required | {part.name: object()}, name, SeparatorError)


@dataclass(frozen=True)
class Recipe:
    epochs: int = 10
    widths: tuple[int, ...] = (1, 2)
    where: Elsewhere | None = None

    def __post_init__(self):
        check_fields(self, SeparatorError)


@dataclass(frozen=True)
class LongRecipe(Recipe):
    rate: float = 0.1


def test_fields_of_dataclasses():
    assert LongRecipe("1e2", [3, 4], rate="1e-3") == LongRecipe(100, (3, 4), None, 0.001)
    with pytest.raises(SeparatorError, match=r"^LongRecipe: argument 'rate': got 'fast', expected a number$"):
        LongRecipe(rate="fast")


def test_classes_are_asked_for_instances_only():
    track = Track.from_arrays("song", np.zeros((2, 10)))
    assert Expected(Track | None).fit(track) is track
    assert Expected(np.ndarray | str).fit(CELLS.matrix) is CELLS.matrix
    with pytest.raises(ValueError, match="expected"):
        Expected(Track).fit({"name": "song"})
