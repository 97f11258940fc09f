"""A track: a mixture with what is known of it, references and stems, all read when asked for."""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .audio.signals import RATE, ArraySignal, Samples, Signal, by_hand
from .errors import AudioError, TrackError
from .stems import SOURCES, Stems

log = logging.getLogger(__name__)

LENGTH_TOLERANCE = 2048
"""Samples by which stems may be longer or shorter than their mixture: two AAC frames, 46 ms."""


_STEMS_BY_NAME = "{separator: Stems(array, sources, rate)}, with arrays (source, channel, time)"


def _kind(given: object) -> str:
    return type(given).__name__


class StoredStems(NamedTuple):
    """Where a track's stems are stored, so that what is computed of them can be kept beside them.

    Attributes
    ----------
    root : Path
        The store.
    key : str
        The separator's folder in it.
    trained_on : tuple of str or None
        The data that the separator was trained on; None when that is not known.
    sums : tuple of (str, tuple of str)
        The track's stems by what they are the sums of in the store; empty where they are those of the store.
    """

    root: Path
    key: str
    trained_on: tuple[str, ...] | None = None
    sums: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, eq=False)
class Track:
    """One song.

    Parameters
    ----------
    name : str
        Unique in its subset. Names are kept in Unicode NFC, in which they are compared.
    mixture : Signal
        The input of the separators. Its length is the track's length.
    subset : str
        ``"train"``, ``"valid"``, ``"test"``, or any other word for a single song.
    references : Stems, optional
        The true sources, when known.
    stems : mapping of str to Stems
        The stems that separators made of the mixture, by the separator's name; see `StemStore.attach`.
    notes : tuple of str
        What was done to make the parts fit, in words.
    data : str
        The data set that it belongs to, by the name that separators use for what they were trained on:
        ``"musdb18hq"``; empty when unknown.
    stored : mapping of str to StoredStems
        The stems that are in a store, by the separator's name.
    data_set : str
        The name of the data set's folder, as a user sees it; a folder of the store has it. Empty when there is none.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44100)).astype("float32")
    >>> track = Track.from_arrays("noise", noise.sum(0), noise)
    >>> track.references["vocals"].read(0, 100).shape
    (2, 100)
    """

    name: str
    mixture: Signal
    subset: str = "test"
    references: Stems | None = None
    stems: Mapping[str, Stems] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    data: str = ""
    stored: Mapping[str, StoredStems] = field(default_factory=dict)
    data_set: str = ""

    def __post_init__(self) -> None:
        self._check_kinds()
        for name in ("name", "subset", "data_set"):
            # one name has several forms in Unicode, and file systems give any of them
            object.__setattr__(self, name, unicodedata.normalize("NFC", vars(self)[name]))
        parts = {"references": self.references, **{f"stems of {name}": stems for name, stems in self.stems.items()}}
        for what, stems in parts.items():
            if stems is not None:
                self.check_form(stems, f"{what} have")
                if stems.length != self.length:
                    raise AudioError(
                        f"track {self.name!r}: {what} have {stems.length} samples, the mixture has {self.length}; "
                        "export them again"
                    )

    def check_form(self, given: Signal | Stems, has: str) -> None:
        """Refuse another rate or other channels than the mixture's; ``has`` begins the message: ``"stems have"``."""
        for attribute, unit in (("rate", "Hz"), ("channels", "channels")):
            got, expected = getattr(given, attribute), getattr(self.mixture, attribute)
            if got != expected:
                is_possible = unit == "Hz" or not by_hand(got, expected, mean=True)
                converting = "add --convert to convert as they are read stems that differ, or " if is_possible else ""
                raise AudioError(
                    f"track {self.name!r}: {has} {got} {unit}, the mixture has {expected}; "
                    f"{converting}export them again"
                )

    def _check_kinds(self) -> None:
        """Refuse arrays, lists and tensors, and say what makes a track of them."""
        start = f"track {self.name!r}: got "
        hint = "Track.from_arrays(name, mixture, references, stems) takes arrays"
        if not isinstance(self.mixture, Signal):
            raise TrackError(f"{start}a mixture of type {_kind(self.mixture)}, expected a Signal: {hint}")
        if not isinstance(self.subset, str):
            raise TrackError(f"{start}a subset of type {_kind(self.subset)}, expected a word such as 'test': {hint}")
        if self.references is not None and not isinstance(self.references, Stems):
            raise TrackError(
                f"{start}references of type {_kind(self.references)}, expected Stems: give references=Stems(array, "
                f"sources, rate); {hint}"
            )
        if not isinstance(self.stems, Mapping):
            raise TrackError(f"{start}stems of type {_kind(self.stems)}, expected {_STEMS_BY_NAME}")
        if not all(isinstance(text, str) for text in (self.name, *self.stems)):
            raise TrackError(f"{start}names {[self.name, *self.stems]}, expected text for the track and its separators")
        for label, stems in self.stems.items():
            if not isinstance(stems, Stems):
                raise TrackError(
                    f"{start}stems of type {_kind(stems)} for {label!r}, expected Stems: give {_STEMS_BY_NAME}"
                )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        mixture: NDArray[np.floating],
        references: NDArray[np.floating] | None = None,
        stems: Mapping[str, NDArray[np.floating]] | None = None,
        rate: int = RATE,
        sources: Sequence[str] = SOURCES,
        **attributes: Any,
    ) -> Track:
        """Make a track from arrays: mixture (channel, time), references and stems (source, channel, time)."""
        if stems is not None and not isinstance(stems, Mapping):
            raise TrackError(f"track {name!r}: got stems of type {_kind(stems)}, expected {{separator: array}}")
        by_name = {f"stems of {separator}": audio for separator, audio in (stems or {}).items()}
        for what, audio in {"a mixture": mixture, "references": references, **by_name}.items():
            if isinstance(audio, Signal | Stems):
                raise TrackError(
                    f"track {name!r}: got {what} of type {_kind(audio)}, expected an array: Track(name, mixture, "
                    "references=..., stems={separator: ...}) takes signals and Stems"
                )
            if isinstance(audio, Mapping):
                raise TrackError(
                    f"track {name!r}: got {what} of type {_kind(audio)}, expected an array (source, channel, time): "
                    "give np.stack(list(given.values())), and sources=list(given)"
                )
        return cls(
            name,
            ArraySignal(mixture, rate),
            references=None if references is None else Stems(references, sources, rate),
            stems={separator: Stems(audio, sources, rate) for separator, audio in (stems or {}).items()},
            **attributes,
        )

    @property
    def rate(self) -> int:
        """Sample rate in Hz."""
        return self.mixture.rate

    @property
    def length(self) -> int:
        """Length in samples."""
        return self.mixture.length

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.mixture.channels

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.length / self.rate

    def with_stems(self, stems: Mapping[str, Stems], stored: Mapping[str, StoredStems] | None = None) -> Track:
        """The same track with these stems beside or in place of those it has."""
        if not isinstance(stems, Mapping):
            raise TrackError(f"track {self.name!r}: got stems of type {_kind(stems)}, expected {_STEMS_BY_NAME}")
        kept = {label: where for label, where in self.stored.items() if label not in stems}
        return replace(self, stems={**self.stems, **stems}, stored={**kept, **(stored or {})})

    def only(self, separators: Sequence[str]) -> Track:
        """The same track with the stems of these separators alone, in this order; a TrackError where one is missing."""
        if missing := [label for label in separators if label not in self.stems]:
            raise TrackError(
                f"track {self.name!r} has no stems by {missing[0]}, it has {', '.join(self.stems) or 'none'}"
            )
        stored = {label: self.stored[label] for label in separators if label in self.stored}
        return replace(self, stems={label: self.stems[label] for label in separators}, stored=stored)

    def required_references(self) -> Stems:
        """The references; a TrackError where there are none."""
        if self.references is None:
            raise TrackError(f"track {self.name!r} has no references; expected a data set with one file per source")
        return self.references

    def _facts(self) -> dict[str, str]:
        """What people want to know of it first."""
        from .faces import clock

        return {
            "subset": self.subset,
            "data set": self.data_set or self.data,
            "length": clock(self.duration_s),
            "format": f"{self.channels} channels at {self.rate} Hz",
            "references": ", ".join(self.references.sources) if self.references is not None else "none",
            "stems by": ", ".join(self.stems),
            "notes": "; ".join(self.notes),
        }

    def __repr__(self) -> str:
        facts = {name: value for name, value in self._facts().items() if value and name != "notes"}
        return f"<Track {self.name!r}: {'; '.join(f'{name} {value}' for name, value in facts.items())}>"

    def _repr_html_(self) -> str:
        from .faces import html_facts

        return html_facts(self.name, self._facts())

    def mixture_sha256(self) -> str:
        """The mixture's `signal_sha256`."""
        return signal_sha256(self.mixture)


def track_labels(tracks: Sequence[Track], data: Sequence[str] | None = None) -> list[str]:
    """What tracks are called in one table: their names where these are enough, else with subset or data set as well.

    Parameters
    ----------
    tracks : sequence of Track
        Of any data sets and subsets.
    data : sequence of str, optional
        What the data set of each is called; the name of its folder when not given.

    Raises
    ------
    TrackError
        Two tracks have the same name, subset and data set.

    Examples
    --------
    >>> noise = np.zeros((2, 100))
    >>> track_labels([Track.from_arrays("song", noise, subset=subset) for subset in ("train", "test")])
    ['song (train)', 'song (test)']
    >>> track_labels([Track.from_arrays(name, noise) for name in ("one", "two")])
    ['one', 'two']
    """
    of = [track.data_set or track.data for track in tracks] if data is None else list(data)
    forms = [
        (name, f"{name} ({subset})", f"{name} ({label})", f"{name} ({label}, {subset})")
        for name, subset, label in ((track.name, track.subset, of[index]) for index, track in enumerate(tracks))
    ]
    alike: dict[str, list[int]] = {}
    for index, track in enumerate(tracks):
        alike.setdefault(track.name, []).append(index)
    labels = [track.name for track in tracks]
    for indices in alike.values():
        # all tracks of one name get the same form, the shortest that tells them apart
        chosen = next((form for form in range(4) if len({forms[i][form] for i in indices}) == len(indices)), 3)
        for index in indices:
            labels[index] = forms[index][chosen]
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise TrackError(f"two tracks are called {twice[0]!r}; rename one, or give its data set another label")
    return labels


def signal_sha256(signal: Signal) -> str:
    """Hexadecimal sha256 of rate, channels, length and all float32 samples of a signal.

    Raises
    ------
    AudioError
        The signal cannot be read, or has a sample that is not finite.

    Examples
    --------
    >>> signal_sha256(ArraySignal(np.zeros((2, 100))))[:8]
    '...'
    """
    state = hashlib.sha256(f"{signal.rate} {signal.channels} {signal.length}".encode())
    for _, block in signal.blocks():
        state.update(np.ascontiguousarray(block, dtype="<f4").tobytes())
    return state.hexdigest()


class FittedSignal(Signal):
    """A signal cut or lengthened with zeros at its end, which `fit_length` has reported."""

    def __init__(self, signal: Signal, length: int) -> None:
        self.rate, self.channels, self.length = signal.rate, signal.channels, length
        self.signal = signal

    @property
    def parts(self) -> tuple[Signal, ...]:
        """The signal as it was."""
        return (self.signal,)

    def _read(self, start: int, stop: int) -> Samples:
        inside = self.signal.read(min(start, self.signal.length), min(stop, self.signal.length))
        return np.pad(inside, ((0, 0), (0, stop - start - inside.shape[1])))

    def __str__(self) -> str:
        return str(self.signal)


def fit_length(signal: Signal, length: int, tolerance: int = LENGTH_TOLERANCE) -> tuple[Signal, str | None]:
    """Make a signal as long as its mixture, by one written rule.

    Real data sets have stems that are some samples shorter or longer than their mixture (encoders pad, editors
    round). A difference of up to `LENGTH_TOLERANCE` samples is mended: the end is cut or filled with zeros, and the
    returned note says so. A larger one is an error, as the files do not belong together. The beginning is never
    changed.

    Returns
    -------
    signal : Signal
        With ``length`` samples.
    note : str or None
        What was done, for the track's notes; None when nothing was done.

    Raises
    ------
    AudioError
        The difference is larger than the tolerance.
    """
    excess = signal.length - length
    if excess == 0:
        return signal, None
    if abs(excess) > tolerance:
        raise AudioError(
            f"{signal}: got {signal.length} samples, expected {length} as in its mixture; "
            f"a difference of up to {tolerance} is mended, this one is {abs(excess)}: export it again"
        )
    done = f"{excess} samples cut from" if excess > 0 else f"{-excess} zeros added to"
    note = f"{signal}: {done} its end, to be as long as the mixture"
    log.warning(note)
    return FittedSignal(signal, length), note
