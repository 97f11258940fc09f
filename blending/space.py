"""Which weights a constant blend may have, and its error on every frame as a quadratic form of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import Track, in_order
from stemfuse.separators.labels import ChannelLabel, output_labels

from .errors import FusionError
from .fusion import first_of
from .weights import MixingWeights

if TYPE_CHECKING:
    from stemfuse.analysis import GramStatistics

Array = NDArray[np.float64]
STEMS = ("same", "all")


@dataclass(frozen=True, eq=False)
class FrameErrors:
    """Errors of one source over all frames of some tracks: theta' A theta - 2 b' theta + c.

    Attributes
    ----------
    a, b, c : ndarray, shapes (frame, weight, weight), (frame, weight), (frame,)
        The quadratic forms.
    tracks : ndarray of int, shape (frame,)
        Which track each frame is of.
    counted : ndarray of bool, shape (frame,)
        Frames that have an SDR: no reference is silent in them.
    """

    a: Array
    b: Array
    c: Array
    tracks: NDArray[np.intp]
    counted: NDArray[np.bool_]

    def errors(self, theta: Array) -> Array:
        """Sum of (s - y)^2 in every frame, (frame,), for weights (weight,) or (frame, weight)."""
        half = np.tensordot(self.a, theta, 1) if theta.ndim == 1 else np.einsum("fij,fj->fi", self.a, theta)
        errors: Array = np.maximum(((half - 2 * self.b) * theta).sum(1) + self.c, 0)
        return errors

    def sdr(self, theta: Array) -> Array:
        """SDR of every frame in dB, (frame,); NaN in frames that do not count."""
        return self.sdr_of(self.errors(theta))

    def sdr_of(self, errors: Array) -> Array:
        """SDR of every frame in dB, (frame,), of errors (frame,); NaN in frames that do not count."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values: Array = np.where(self.counted, 10 * np.log10(self.c / errors), np.nan)
        return values

    def normal_equations(self, weights: Array) -> tuple[Array, Array]:
        """Sums of A and b over the frames, each with its weight."""
        return np.tensordot(weights, self.a, 1), weights @ self.b

    def of(self, chosen: NDArray[np.bool_]) -> FrameErrors:
        """Some of the frames."""
        return FrameErrors(self.a[chosen], self.b[chosen], self.c[chosen], self.tracks[chosen], self.counted[chosen])


@dataclass(frozen=True, eq=False)
class BlendSpace:
    """The constant blends of some inputs: for every source, which weights there are.

    Parameters
    ----------
    grams : sequence of GramStatistics
        One per track, all with the same inputs.
    stems : {"same", "all"}
        Stems of the blended source only, or of all sources.
    mixture : bool
        Whether the mixture has weights too.
    tied : bool
        One weight for all channels, left from left and right from right, or one for every pair of channels.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> space = BlendSpace.of(conformance_tracks(("a", "b")), mixture=True)
    >>> space.names("bass")
    ('mixture', 'a.bass', 'b.bass')
    """

    grams: Sequence[GramStatistics]
    stems: Literal["same", "all"] = "same"
    mixture: bool = False
    tied: bool = True

    def __post_init__(self) -> None:
        if self.stems not in STEMS:
            raise FusionError(f"got stems={self.stems!r}, expected 'same' or 'all'")
        if not self.grams:
            raise FusionError("got no tracks, expected at least one with references and stems")
        every = dict.fromkeys(label for gram in self.grams for label in gram.inputs)
        for gram in self.grams:
            for label in map(ChannelLabel.parse, every):
                # what is not in a song has no stem there, and no reference
                if str(label) not in gram.inputs and (label.is_mixture or label.source in gram.sources):
                    raise FusionError(
                        f"track {gram.track!r} has no input {label}, other tracks have: it has "
                        f"{', '.join(gram.inputs)}; all tracks need the same separators and sources"
                    )

    @classmethod
    def of(
        cls,
        tracks: Sequence[Track],
        stems: Literal["same", "all"] = "same",
        mixture: bool = False,
        tied: bool = True,
    ) -> BlendSpace:
        """The space of tracks with references and stems; audio is read unless the store has its statistics."""
        from stemfuse.analysis import GramStatistics

        # the mixture alone can be an input too
        if not mixture or any(track.stems for track in tracks):
            first_of(tracks)
        return cls([GramStatistics.of(track) for track in tracks], stems, mixture, tied)

    def on(self, tracks: Sequence[Track]) -> BlendSpace:
        """The same weights on other tracks."""
        return BlendSpace.of(tracks, self.stems, self.mixture, self.tied)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Sources of the references, of any track, that have at least one input."""
        kinds = {gram.sources: gram for gram in self.grams}
        named = next(iter(kinds)) if len(kinds) == 1 else in_order(source for sources in kinds for source in sources)
        return tuple(source for source in named if self.terms(source))

    def grams_of(self, source: str) -> list[GramStatistics]:
        """Statistics of the tracks that have a source."""
        return [gram for gram in self.grams if source in gram.sources]

    def terms(self, source: str) -> Mapping[str, Mapping[str, str]]:
        """Weights of a source by name, with the input that each adds to an output channel; see `blend_terms`.

        Inputs are those that all tracks with this source have.
        """
        from .candidates import blend_terms

        grams = self.grams_of(source)
        shared = [label for label in grams[0].inputs if all(label in gram.inputs for gram in grams)]
        first = grams[0] if len(shared) == len(grams[0].inputs) else grams[0].select(shared)
        return blend_terms(first, source, self.stems, self.mixture, self.tied)

    def names(self, source: str) -> tuple[str, ...]:
        """Names of the weights of a source."""
        return tuple(self.terms(source))

    def equal(self, source: str) -> Array:
        """The plain mean of the source's own stems, each channel from the same channel."""
        own = [
            all(_is_same(output, label, source) for output, label in routes.items())
            for routes in self.terms(source).values()
        ]
        count = sum(own) / (1 if self.tied else len(self.grams[0].outputs) // len(self.grams[0].sources))
        return np.asarray(own) / count if count else np.zeros(len(own))

    def groups(self, source: str) -> list[NDArray[np.intp]]:
        """Indices of the weights of each output channel; tied weights are one group, for all channels."""
        owners = [tuple(routes) for routes in self.terms(source).values()]
        return [np.flatnonzero([owner == shared for owner in owners]) for shared in dict.fromkeys(owners)]

    def frames(self, source: str) -> FrameErrors:
        """The source's error on every frame of all tracks."""
        from .candidates import quadratic_form

        terms = self.terms(source)
        numbers = [number for number, gram in enumerate(self.grams) if source in gram.sources]
        parts = [quadratic_form(self.grams[number], source, terms) for number in numbers]
        a, b, c = (np.concatenate(each) for each in zip(*parts, strict=True))
        tracks = np.repeat(numbers, [len(part[2]) for part in parts])
        silent = np.concatenate([self.grams[number].silent for number in numbers])
        return FrameErrors(a, b, c, tracks, ~silent & (c > 0))

    def silence(self, source: str) -> str:
        """Which references are silent in all frames of the tracks with a source, and what to do, in words."""
        grams = self.grams_of(source)
        every = in_order(name for gram in grams for name in gram.sources)
        silent = [
            name for name in every if all(gram.silent_sources([name]).all() for gram in grams if name in gram.sources)
        ]
        if not silent:
            return "some reference is silent in each; give longer or other tracks"
        others = [name for name in every if name not in silent]
        if not others:
            return "all references are silent in all of them; give other tracks"
        how = f"--sources {','.join(others)}, in a recipe sources: [{', '.join(others)}]"
        return (
            f"{' and '.join(silent)} {'is' if len(silent) == 1 else 'are'} silent in all of them: fit without ({how})"
        )

    def weights(self, theta: Mapping[str, Array]) -> MixingWeights:
        """The matrix of a blend, from the weights of every source."""
        used = {label for source in theta for routes in self.terms(source).values() for label in routes.values()}
        every = dict.fromkeys(label for gram in self.grams for label in gram.inputs)
        inputs = [label for label in every if label in used]
        channels = len(self.grams[0].outputs) // len(self.grams[0].sources)
        outputs = output_labels([source for source in self.sources if source in theta], channels)
        matrix = np.zeros((1, len(outputs), len(inputs)))
        for source, values in theta.items():
            for value, routes in zip(values, self.terms(source).values(), strict=True):
                for output, label in routes.items():
                    matrix[0, outputs.index(output), inputs.index(label)] += value
        return MixingWeights(matrix.astype(np.float32), tuple(inputs), outputs)


def _is_same(output: str, label: str, source: str) -> bool:
    """Whether an input is the output's own channel by some separator."""
    given = ChannelLabel.parse(label)
    return given.is_stem and given.source == source and output == str(given._replace(separator=""))
