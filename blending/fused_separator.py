"""A fusion is a separator: a saved one with its separators, to be named, cached and fused again like any other."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from stemfuse.separators import (
    BaseSeparator,
    MissingWeightsError,
    Samples,
    Separator,
    Signal,
    StemfuseError,
    Stems,
    Sums,
    Track,
    digest,
    in_order,
    load_separator,
    matched,
    parse_sources,
)
from stemfuse.separators.audio.signals import RATE
from stemfuse.separators.descriptions import described_fingerprint, described_separator
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.separator import separate_signal
from stemfuse.separators.store.entry import TrainedSeparator

from .errors import FusionError
from .fusion import BaseFusion
from .guards import trained_on_song
from .registry import described_fusion, load_fusion

SAVED = "fusion"
"""The registered name of a saved fusion as a separator."""


@dataclass(frozen=True)
class Part:
    """A separator whose stems are fused, and how it is made.

    Attributes
    ----------
    name : str
        The name that it is registered under, or that its stems were adopted under.
    options : mapping
        Its arguments.
    description : mapping, optional
        How it described itself when the fusion was fitted: it has to be the same now. None: as it is here.
    is_open : bool
        Whether nothing is known but its name, so that stems of that name in a store will do.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    description: Mapping[str, Any] | None = None
    is_open: bool = False

    def make(self) -> Separator:
        """The separator; an error says where it cannot be made, or is another one now."""
        if self.description is None:
            return load_separator(self.name, **self.options)
        return described_separator(self.description)

    def fingerprint(self) -> str:
        """The separator's fingerprint; one that is described is not made for it."""
        return self.make().fingerprint() if self.description is None else described_fingerprint(self.description)


class FusedSeparator(BaseSeparator):
    """Base of the separators that are a fusion of other separators' stems.

    On its own it makes the stems of its parts and fuses them. Commands and recipes take these stems from the store,
    where they are made once for all that need them.
    """

    @property
    @abstractmethod
    def fusion(self) -> BaseFusion:
        """The fusion, fitted."""

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """The separators whose stems are fused, by the labels that the fusion has for them."""

    @property
    def sums(self) -> dict[str, Sums]:
        """By label, what the stems of a separator are summed up to before they are fused."""
        described = {label: part.description or {} for label, part in self.parts().items()}
        return {label: parse_sources(each["sums"]) for label, each in described.items() if each.get("sums")}

    def identity(self) -> dict[str, Any]:
        """All that the output depends on; a file by its content, whatever it is called."""
        separators = {label: part.fingerprint() for label, part in self.parts().items()}
        return {"name": self.name, "version": self.version, "separators": separators, "sums": self.sums}

    def fingerprint(self) -> str:
        """Hexadecimal sha256 of `identity`."""
        return digest(self.identity())

    def describe(self) -> dict[str, Any]:
        """As of any separator, with the fingerprints of its parts and its own: the place of a file does not count."""
        return {**super().describe(), **self.identity(), "fingerprint": self.fingerprint()}

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """What its parts were trained on, as far as that is known, and the songs that the fusion was fitted to."""
        known: list[str] = [trained_on_song(song) for song in self.fusion.songs_]
        is_known = True
        for part in self.parts().values():
            try:
                separator = part.make()
                data = separator.trained_on if isinstance(separator, TrainedSeparator) else None
            except StemfuseError:
                data = None
            is_known = is_known and data is not None
            known += data or ()
        return tuple(dict.fromkeys(known)) if known or is_known else None

    def load(self) -> None:
        """Read the weights of all parts now; see `BaseSeparator`."""
        for separator in self.made.values():
            if isinstance(separator, BaseSeparator):
                separator.load()

    def members(self) -> Mapping[str, Separator]:
        """Its parts."""
        return self.made

    @cached_property
    def made(self) -> dict[str, Separator]:
        """Its parts, made once."""
        return {label: part.make() for label, part in self.parts().items()}

    def __getstate__(self) -> dict[str, Any]:
        # other processes make what they need
        return {
            name: value for name, value in vars(self).items() if name not in ("made", "fusion", "described", "_parts")
        }

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        track = Track("mixture", mixture)
        # other fusions than constant ones may read a song more than once, and stems in order can be read once
        constant = self.fusion.constant_weights is not None
        stems: dict[str, Stems] = {}
        for label, separator in self.made.items():
            made = separate_signal(separator, mixture)
            stems[label] = made if constant else Stems(made.audio, made.sources, made.rate)
        track = matched(track.with_stems(stems), recorded=self.sums)
        for _, block in self.fusion.fuse(track).blocks():
            yield block


class SavedFusion(FusedSeparator):
    """A saved fusion as a separator: stems of its separators, fused. The file alone is a name for it, too.

    Parameters
    ----------
    file : path-like
        What ``stemfuse fit``, a run or a fusion's ``save`` wrote. What it holds is what counts, not its name.
    separators : mapping, optional
        By label, the separator of each input that the file does not describe, as weights from elsewhere: its name, or
        ``{name: ..., options: {...}}``. When not given, the label is the name.

    Notes
    -----
    The separators are those that the fusion was fitted with, of the same version and weights. One of them may be a
    saved fusion again: it is looked for where it was, and then beside ``file``. A fusion that is among its own
    separators is refused.

    Examples
    --------
    >>> import tempfile
    >>> from stemfuse.blending import MixingWeights
    >>> blend = MixingWeights.same_source({"vocals": {"repet_sim": 0.5, "centre_channel": 0.5}})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     blend.save(f"{folder}/blend.npz")
    ...     separator = load_separator(f"{folder}/blend.npz")
    ...     separator.sources, list(separator.parts())
    (('vocals',), ['repet_sim', 'centre_channel'])
    """

    name: ClassVar[str] = SAVED

    def __init__(self, file: str | os.PathLike[str] | None = None, separators: Mapping[str, Any] | None = None) -> None:
        self.file, self.separators = file, separators

    @property
    def path(self) -> Path:
        """The file, which has to be named."""
        if self.file is None:
            raise wrong_usage(
                MissingWeightsError(f"{self.name}: no file is named, expected one that stemfuse fit saved: file=PATH")
            )
        return Path(self.file).expanduser()

    @cached_property
    def fusion(self) -> BaseFusion:
        """The fusion, read from its file."""
        check_acyclic(self.path)
        return load_fusion(self.path)

    @cached_property
    def described(self) -> BaseFusion:
        """The fusion without the networks that it may have: all that its identity needs."""
        check_acyclic(self.path)
        return described_fusion(self.path)

    def parts(self) -> Mapping[str, Part]:
        """See `FusedSeparator`."""
        return self._parts

    @cached_property
    def _parts(self) -> Mapping[str, Part]:
        described, given = described_separators(self.described, self.path), self.separators or {}
        weights = self.described.constant_weights
        labels = list(weights.separators if weights is not None else described or given)
        if unknown := [label for label in given if label not in labels]:
            raise wrong_usage(
                FusionError(f"{self.path}: got separator {unknown[0]!r}, it fuses {', '.join(labels) or 'none'}")
            )
        if not labels and weights is None and not self.described.needs_no_stems:
            raise wrong_usage(
                FusionError(f"{self.path}: the file does not name its separators; name them: separators={{a: NAME}}")
            )
        return {label: _part(label, given.get(label, described.get(label))) for label in labels}

    def files(self) -> tuple[Path, ...]:
        """All files of the fusion, and those of the fusions among its separators."""
        nested = [SavedFusion(file).files() for file in nested_files(self.described, self.path) if file.is_file()]
        return (*self._own_files(), *(file for files in nested for file in files))

    def _own_files(self) -> tuple[Path, ...]:
        saved = self.path.with_suffix(self.described.suffix) if self.path.suffix in TWO_FILES else self.path
        return self.described.saved_files(saved)

    def weights_sha256(self) -> dict[str, str]:
        """File name and sha256 of the fusion's own files."""
        return {file.name: _sha256(file) for file in self._own_files()}

    def identity(self) -> dict[str, Any]:
        """See `FusedSeparator`."""
        return {**super().identity(), "fusion": sorted(self.weights_sha256().values())}

    def describe(self) -> dict[str, Any]:
        """See `FusedSeparator`; the file is named by its whole path, so that it is found again."""
        described = super().describe()
        described["options"] = {**described["options"], "file": str(self.path.absolute())}
        return described

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the fusion gives; of one without weights, what its separators give."""
        given = (source for separator in self.made.values() for source in separator.sources)
        return self.fusion.fitted_sources or in_order(given)

    @property
    def rate(self) -> int:  # type: ignore[override]
        """Sample rate in Hz that it was fitted at, or else that its separators work at."""
        return self.fusion.fitted_rate or next((each.rate for each in self.made.values()), RATE)

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Of the tracks that it was fitted on."""
        return self.fusion.fitted_channels or 2


TWO_FILES = (".json", ".safetensors")
"""Suffixes of which a saved fusion may have both: it can be named by either."""


def described_separators(fusion: BaseFusion, file: Path) -> dict[str, Mapping[str, Any]]:
    """How the separators of a saved fusion describe themselves, by label; fusions among them by where they lie now.

    Parameters
    ----------
    fusion : BaseFusion
        From ``file``.
    file : Path
        A fusion among the separators that is not where it was is looked for beside it.
    """
    return {label: _found(description, file) for label, description in fusion.separators_.items()}


def nested_files(fusion: BaseFusion, file: Path) -> list[Path]:
    """Files of the fusions among the separators of a saved fusion."""
    described = described_separators(fusion, file).values()
    files = [each.get("options", {}).get("file") for each in described if each.get("name") == SAVED]
    return [Path(file) for file in files if isinstance(file, str)]


def check_acyclic(file: Path, outer: tuple[Path, ...] = ()) -> None:
    """Refuse a saved fusion that is among its own separators, or among those of a fusion that it fuses.

    Raises
    ------
    FusionError
        The message names the files in their order.
    """
    here = file.resolve()
    if here in outer:
        way = " > ".join(path.name for path in (*outer[outer.index(here) :], here))
        raise wrong_usage(
            FusionError(f"{here}: a fusion cannot be its own separator ({way}); fit one of them with other separators")
        )
    # one that is missing is an error where its stems are needed
    if here.is_file():
        for nested in nested_files(described_fusion(here), here):
            check_acyclic(nested, (*outer, here))


def _found(description: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    options = description.get("options")
    if description.get("name") != SAVED or not isinstance(options, Mapping) or "file" not in options:
        return description
    nested = Path(str(options["file"]))
    beside = file.parent / nested.name
    if nested.is_file() or not beside.is_file():
        return description
    return {**description, "options": {**options, "file": str(beside)}}


def _part(label: str, given: Any) -> Part:
    """A separator as a file describes it, or as it was named."""
    if given is None or isinstance(given, str):
        return Part(given or label, is_open=True)
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise wrong_usage(FusionError(f"{label}: got separator {given!r}, expected a name, or a name and options"))
    options = given.get("options") or {}
    is_described = bool(given.keys() - {"name", "options", "sums"})
    return Part(given["name"], MappingProxyType(dict(options)), given if is_described else None)


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise FusionError(f"{file}: cannot be read ({error.strerror or error})") from error
