"""Constant blends of weights that are known: the mean, given weights, published presets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stemfuse.separators import SOURCES, Track, in_order
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.names import did_you_mean

from .errors import FusionError
from .fusion import LinearFusion, first_of, given_sources
from .weights import MixingWeights


@dataclass(frozen=True)
class Preset:
    """Published blend weights.

    Parameters
    ----------
    roles : tuple of str
        The separators that are blended, in order.
    weights : mapping of source to tuple of float
        One weight per role.
    paper : str
        Where they were published.
    note : str
        What a user has to know.
    separators : tuple of tuple of str
        By role, the registered separators that are the paper's.
    """

    roles: tuple[str, ...]
    weights: Mapping[str, tuple[float, ...]]
    paper: str
    note: str = ""
    separators: tuple[tuple[str, ...], ...] = ()

    def has_others(self, names: Sequence[str]) -> bool:
        """Whether roles are filled by other separators than the paper's, by their registered names in order.

        Examples
        --------
        >>> danna = PRESETS["danna-sep"]
        >>> danna.has_others(["xumx", "unet_danna", "demucs_danna"]), danna.has_others(["xumx", "repet_sim", "demucs"])
        (False, True)
        """
        own = self.separators or ((),) * len(self.roles)
        return any(name not in known for name, known in zip(names, own, strict=False))


PRESETS = {
    "danna-sep": Preset(
        roles=("xumx", "unet", "demucs"),
        weights={
            "drums": (0.2, 0.2, 0.6),
            "bass": (0.1, 0.17, 0.73),
            "other": (0.0, 0.5, 0.5),
            "vocals": (0.2, 0.4, 0.4),
        },
        paper="Yu and Cheuk, Danna-Sep: unite to separate them all, MDX workshop 2021",
        note="The workshop's slides print 0.2 for the X-UMX bass: a misprint, the three would sum to 1.1.",
        separators=(("xumx",), ("unet_danna",), ("demucs_danna",)),
    ),
    "kuielab-mdx": Preset(
        roles=("mdx_net", "demucs"),
        weights={"drums": (0.5, 0.5), "bass": (0.5, 0.5), "other": (0.7, 0.3), "vocals": (0.9, 0.1)},
        paper="Kim, Choi, Chung, Lee and Jung, KUIELab-MDX-Net, MDX workshop 2021",
        note="mdx_net is the output of the four TFC-TDF networks after their Mixer; demucs is Demucs v2.",
        separators=(("kuielab_mdx",), ("demucs_v2",)),
    ),
    "uhlich2017": Preset(
        roles=("feed_forward", "blstm"),
        weights=dict.fromkeys(SOURCES, (0.25, 0.75)),
        paper="Uhlich et al., Improving music source separation based on deep neural networks through data "
        "augmentation and network blending, ICASSP 2017",
        note="One weight for all sources, chosen on the development set of DSD100.",
    ),
}


SUFFIXES = (".npz", ".json", ".safetensors")
"""Of files of fusions; only the first kind has constant weights."""


def list_presets() -> list[str]:
    """Names of the published blends that `Fixed` knows, sorted.

    Examples
    --------
    >>> list_presets()
    ['danna-sep', 'kuielab-mdx', 'uhlich2017']
    """
    return sorted(PRESETS)


class Mean(LinearFusion):
    """The mean of all separators' stems of each source: the blend to beat.

    A source that only some separators give is the mean of theirs.

    Examples
    --------
    >>> import numpy as np
    >>> stems = np.ones((4, 2, 1000), "float32")
    >>> track = Track.from_arrays("song", stems.sum(0), stems={"a": stems, "b": 2 * stems})
    >>> Mean().fit([track]).fuse(track).audio[0, 0, 0].item()
    1.5
    """

    kind = "mean"
    learns = False

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Take the separators' names from the tracks; their audio is not read.

        Parameters
        ----------
        train : sequence of Track
            With the stems of the same separators.
        valid : sequence of Track, optional
            Not used.
        """
        track = first_of(train)
        weights: dict[str, dict[str, float]] = {}
        given = given_sources(train)
        for source in in_order(source for sources in given.values() for source in sources):
            giving = [separator for separator, sources in given.items() if source in sources]
            weights[source] = {separator: 1 / len(giving) for separator in giving}
        self.weights_ = MixingWeights.same_source(weights, track.channels)
        return self


class Fixed(LinearFusion):
    """Weights that are given: by source and separator, by a preset's name, or as `MixingWeights`.

    Parameters
    ----------
    blend : str, mapping or MixingWeights
        A preset of `list_presets`; or the ``.npz`` of fitted weights; or source to weights, one per separator, as a
        sequence or by name (``{"vocals": {"mdx": 0.9, "demucs": 0.1}}``); or a matrix with labels. They are used as
        they are: nothing is normalised.
    separators : sequence of str, optional
        The separators that a preset's roles or a sequence of weights mean, in order; when not given, the
        tracks' separators in their order.

    Examples
    --------
    >>> import numpy as np
    >>> stems = np.ones((4, 2, 1000), "float32")
    >>> track = Track.from_arrays("song", stems.sum(0), stems={"a": stems, "b": 2 * stems})
    >>> fusion = Fixed("kuielab-mdx", separators=("b", "a")).fit([track])
    >>> round(fusion.fuse(track)["vocals"].read(0, 1)[0, 0].item(), 6)
    1.9
    """

    kind = "fixed"
    learns = False

    def __init__(self, blend: str | Mapping[str, Any] | MixingWeights, separators: Sequence[str] | None = None) -> None:
        self.blend = blend
        self.separators = separators

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Bring the weights into a matrix for these tracks; their audio is not read.

        Parameters
        ----------
        train : sequence of Track
            With the stems of the same separators.
        valid : sequence of Track, optional
            Not used.

        Raises
        ------
        FusionError
            The separator or source of a weight is missing, or the number of separators does not fit.
        """
        if isinstance(self.blend, MixingWeights):
            self.weights_ = self.blend
            return self
        if files := self.files():
            self.weights_ = _fitting(MixingWeights.load(files[0]), files[0], train)
            return self
        track = first_of(train)
        names = tuple(track.stems) if self.separators is None else tuple(self.separators)
        giving = given_sources(train)
        self.weights_ = MixingWeights.same_source(
            {
                source: self._named(source, given, names, giving)
                for source, given in self._by_source(names, giving).items()
            },
            track.channels,
        )
        return self

    def check_inputs(self, given: Mapping[str, Sequence[str] | None]) -> None:
        """Raise where a file's weights, or a preset's roles, are of other separators than these."""
        for file in self.files():
            if missing := [name for name in MixingWeights.load(file).separators if name not in given]:
                raise FusionError(_of_others(MixingWeights.load(file), file, f"got {', '.join(given)}", missing[0]))
        if isinstance(self.blend, str) and self.blend in PRESETS:
            self._by_source(tuple(given) if self.separators is None else tuple(self.separators), {})

    def stand_ins(self, made: Mapping[str, str]) -> str:
        """What is to be said of a preset whose roles other separators fill than the paper's; empty where none does.

        Parameters
        ----------
        made : mapping of str to str
            By label, the registered name of each separator, in order.

        Examples
        --------
        >>> Fixed("kuielab-mdx").stand_ins({"a": "kuielab_mdx", "b": "repet_sim"})
        'kuielab-mdx weights on a, b, not on the separators of the paper'
        """
        preset = PRESETS.get(self.blend) if isinstance(self.blend, str) else None
        labels = list(made) if self.separators is None else list(self.separators)
        if preset is None or not preset.has_others([made.get(label, "") for label in labels]):
            return ""
        return f"{self.blend} weights on {', '.join(labels)}, not on the separators of the paper"

    def files(self) -> tuple[Path, ...]:
        """The file of the weights, where one is given."""
        is_file = isinstance(self.blend, str) and self.blend not in PRESETS and Path(self.blend).suffix in SUFFIXES
        return (Path(str(self.blend)).expanduser(),) if is_file else ()

    def check(self) -> None:
        """Raise unless the preset is known, or the file of the weights can be read."""
        super().check()
        if files := self.files():
            MixingWeights.load(files[0])
        elif isinstance(self.blend, str) and self.blend not in PRESETS:
            raise wrong_usage(
                FusionError(
                    f"preset {self.blend!r} is unknown, there are {', '.join(list_presets())}; a file of weights ends "
                    f"in .npz{did_you_mean(self.blend, PRESETS)}"
                )
            )

    def _by_source(self, names: tuple[str, ...], giving: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
        """Weights per source, a preset looked up and its number of separators checked."""
        if isinstance(self.blend, str):
            self.check()
            preset = PRESETS[self.blend]
            if len(names) != len(preset.roles):
                raise FusionError(
                    f"preset {self.blend}: got {len(names)} separators ({', '.join(names)}), expected "
                    f"{len(preset.roles)} in the order {', '.join(preset.roles)}: --option 'separators=[...]'"
                )
            return preset.weights
        if not isinstance(self.blend, Mapping) or not self.blend:
            raise FusionError(f"got blend={self.blend!r}, expected a preset's name or weights for each source")
        sources = in_order(source for given in giving.values() for source in given)
        unknown = set(self.blend) - {*SOURCES, *sources}
        if unknown:
            raise FusionError(f"got weights for {', '.join(sorted(unknown))}, the sources are {', '.join(sources)}")
        return {source: self.blend[source] for source in in_order(self.blend)}

    @staticmethod
    def _named(
        source: str, given: Any, names: tuple[str, ...], giving: Mapping[str, Sequence[str]]
    ) -> dict[str, float]:
        """Weights of one source by separator; those of missing stems have to be zero."""
        if not isinstance(given, Mapping):
            if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != len(names):
                raise FusionError(
                    f"{source}: got weights {given} for separators {', '.join(names)}, expected one number for each"
                )
            given = dict(zip(names, given, strict=True))
        weights = {}
        for separator, weight in given.items():
            if source in giving.get(separator, ()):
                weights[separator] = float(weight)
            elif weight:
                raise FusionError(
                    f"{source}: weight {weight} is for {separator!r}, the tracks have no such stem; "
                    f"their separators are {', '.join(giving)}"
                )
        return weights

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights; a given matrix is saved bare and loads as a ``fixed`` fusion again."""
        if isinstance(self.blend, MixingWeights):
            self.blend.save(path)
        else:
            super().save(path)


def _fitting(weights: MixingWeights, file: Path, train: Sequence[Track]) -> MixingWeights:
    """Weights of a file, which need stems that all tracks have; the first one is asked."""
    if train:
        track = first_of(train)
        if missing := [name for name in weights.separators if name not in track.stems]:
            has = f"track {track.name!r} has stems by {', '.join(track.stems)}"
            raise FusionError(_of_others(weights, file, has, missing[0]))
    return weights


def _of_others(weights: MixingWeights, file: Path, has: str, missing: str) -> str:
    """What is said where weights are of other separators than those that there are."""
    return (
        f"{file}: its weights are for {', '.join(weights.separators)}, {has}; {missing} is missing: give separators "
        "the labels that the file has"
    )
