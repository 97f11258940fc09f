"""The conformance kit passes what keeps the rules and names the rule that something breaks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stemfuse.separators import SOURCES, AudioError, StemfuseError, Stems, load_separator
from stemfuse.separators.conformance import BEHAVIOUR, DECLARED, check_separator
from stemfuse.separators.errors import ConformanceError

WEIGHT_FREE = ("harmonic_percussive", "repet_sim", "centre_channel")


class Quarters:
    """A third party's separator: no base class, every rule kept."""

    name = "quarters"
    sources = SOURCES
    rate = 44_100

    def fingerprint(self):
        return "0123456789abcdef"

    def separate(self, mixture, rate):
        self.refuse(mixture, rate)
        return self.stems(mixture)

    def refuse(self, mixture, rate):
        if rate != self.rate or mixture.ndim != 2 or len(mixture) != 2 or not mixture.size:
            raise AudioError(f"{mixture.shape} at {rate} Hz")
        if not np.isfinite(mixture).all():
            raise AudioError("not finite")

    def stems(self, mixture):
        return Stems(np.stack([mixture / len(self.sources)] * len(self.sources)), self.sources, self.rate)


class VocalsOnly(Quarters):
    sources = ("vocals",)


class Uncopyable(Quarters):
    def __deepcopy__(self, memo):
        raise TypeError("holds a session")


@pytest.mark.parametrize("separator", [Quarters(), VocalsOnly(), Uncopyable()], ids=lambda s: type(s).__name__)
def test_rules_kept_without_a_base_class(separator):
    check_separator(separator, seconds=0.05)


@pytest.mark.parametrize("name", WEIGHT_FREE)
def test_registered_separators_without_weights(name):
    check_separator(load_separator(name), seconds=0.6)


def changed(**attributes):
    return type("Broken", (Quarters,), attributes)()


def spoiled(spoil):
    """A separator whose four equal stems (source, channel, time) went through ``spoil``."""
    return changed(stems=lambda self, mixture: spoil(Quarters.stems(self, mixture)))


def lenient(accepted):
    """A separator that refuses as it has to, except what ``accepted(mixture, rate)`` says."""

    def separate(self, mixture, rate):
        if not accepted(mixture, rate):
            self.refuse(mixture, rate)
        return Stems(np.zeros((4, 2, 10)), SOURCES)

    return changed(separate=separate)


def lazy(make):
    """A separator whose stems are computed when read."""

    def spoil(stems):
        return Stems.lazy(lambda start, stop: make(stems.read(start, stop)), SOURCES, 2, stems.length)

    return spoiled(spoil)


def in_place(self, mixture, rate):
    self.refuse(mixture, rate)
    mixture *= 0.5
    return self.stems(mixture)


def trained_by_use():
    calls = itertools.count()
    return changed(stems=lambda self, mixture: Stems(np.stack([mixture * next(calls)] * 4)))


def drifting():
    calls = itertools.count()
    return changed(fingerprint=lambda self: f"{next(calls):016x}")


def by_identity():
    return changed(fingerprint=lambda self: f"{id(self):016x}")


def fitted_by_use():
    separator = changed(uses=0, fingerprint=lambda self: f"{self.uses:016x}")

    def stems(mixture):
        separator.uses += 1
        return Quarters.stems(separator, mixture)

    separator.stems = stems
    return separator


DECLARED_WRONG = [
    ("name fits", "'my model/2'", changed(name="my model/2")),
    ("name fits", "'mixture'", changed(name="mixture")),
    ("name fits", "'..'", changed(name="..")),
    ("name fits", "''", changed(name="")),
    ("sources are known", "'a.guitar' has a dot", changed(sources=("drums", "a.guitar"))),
    ("sources are known", "in this order", changed(sources=SOURCES[::-1])),
    ("sources are known", "each once", changed(sources=("drums", "drums"))),
    ("sources are known", "at least one", changed(sources=())),
    ("sources are known", "expected a tuple", changed(sources=list(SOURCES))),
    ("rate is", "44100.0", changed(rate=44_100.0)),
    ("rate is", "got 0,", changed(rate=0)),
    ("fingerprint is hex", "''", changed(fingerprint=lambda self: "")),
    ("fingerprint is hex", "None", changed(fingerprint=lambda self: None)),
    ("fingerprint is the same", "when asked again", drifting()),
    ("fingerprint is the same", "from a copy", by_identity()),
]
BEHAVIOUR_WRONG = [
    (
        "separator's sources",
        "got ndarray from separate, expected Stems",
        changed(stems=lambda self, mixture: np.stack([mixture] * 4)),
    ),
    ("separator's sources", "got sources", spoiled(lambda stems: Stems(stems.audio, SOURCES[::-1]))),
    ("separator's sources", "got 48000 Hz", spoiled(lambda stems: Stems(stems.audio, SOURCES, 48_000))),
    ("as long as", "2204", spoiled(lambda stems: Stems(stems.audio[:, :, 1:]))),
    ("as long as", "stems of 2206", spoiled(lambda stems: Stems(np.pad(stems.audio, ((0, 0), (0, 0), (0, 1)))))),
    ("as long as", "stems of 1 channels, expected 2", spoiled(lambda stems: Stems(stems.audio[:, :1]))),
    ("as long as", "(4, 2, 2206)", lazy(lambda audio: np.pad(audio, ((0, 0), (0, 0), (0, 1))))),
    ("as long as", "negative shift", changed(stems=lambda self, mixture: fail_on_short(mixture))),
    ("finite float32", "NaN", spoiled(lambda stems: Stems(np.where(stems.audio > 0.1, np.nan, stems.audio)))),
    ("finite float32", "float64", lazy(lambda audio: audio.astype(float))),
    ("silence gives", "peak of 0.1", spoiled(lambda stems: Stems(stems.audio + 0.1))),
    ("silence gives", "NaN", spoiled(lambda stems: Stems(stems.audio / np.abs(stems.audio).max()))),
    ("is not changed", "of its samples were changed", changed(separate=in_place)),
    ("same stems", "other samples", trained_by_use()),
    ("does not change the fingerprint", "after separating", fitted_by_use()),
    ("wrong rate", "was accepted", lenient(lambda mixture, rate: rate != 44_100)),
    ("number of channels", "was accepted", lenient(lambda mixture, rate: len(mixture) == 3)),
    ("without channels", "was accepted", lenient(lambda mixture, rate: mixture.ndim == 1)),
    ("empty", "was accepted", lenient(lambda mixture, rate: mixture.size == 0)),
    ("NaN is", "was accepted", lenient(lambda mixture, rate: np.isnan(mixture).any())),
    ("infinite", "was accepted", lenient(lambda mixture, rate: np.isinf(mixture).any())),
    ("infinite", "got ZeroDivisionError", changed(refuse=lambda self, mixture, rate: 1 / 0)),
]


def fail_on_short(mixture):
    if mixture.shape[1] < 200:
        raise ValueError("negative shift")
    return Stems(np.stack([mixture] * 4))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(("rule", "words", "separator"), DECLARED_WRONG + BEHAVIOUR_WRONG)
def test_broken_rule_is_named(rule, words, separator):
    with pytest.raises(ConformanceError) as caught:
        check_separator(separator, seconds=0.05)
    lines = [line for line in str(caught.value).splitlines() if rule in line.split(":")[0]]
    assert len(lines) == 1, f"{rule!r} is not among\n{caught.value}"
    assert words in lines[0]


def test_every_rule_has_a_separator_that_breaks_it():
    words = [*DECLARED, *BEHAVIOUR]
    untested = [w for w in words if not any(rule in w for rule, _, _ in DECLARED_WRONG + BEHAVIOUR_WRONG)]
    assert untested == []


def test_only_the_broken_rule_is_named():
    with pytest.raises(ConformanceError) as caught:
        check_separator(changed(separate=in_place), seconds=0.05)
    assert len(str(caught.value).splitlines()) == 2


def test_all_broken_rules_are_named_at_once():
    with pytest.raises(ConformanceError) as caught:
        check_separator(changed(name="a b", rate=-1, sources=()))
    assert str(caught.value).startswith("Broken breaks 3 of 5 rules")


def test_an_object_that_is_no_separator():
    with pytest.raises(ConformanceError, match="AttributeError"):
        check_separator(object())


def test_the_error_is_ours_and_an_assertion():
    assert issubclass(ConformanceError, StemfuseError)
    assert issubclass(ConformanceError, AssertionError)
