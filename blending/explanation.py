"""What a mixing matrix does: a plain blend of each source, a residual rule, and what neither of them explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.labels import ChannelLabel, channel_names, mixture_labels, output_labels, stem_labels

from .errors import FusionError
from .weights import MixingWeights

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Blend = dict[str, dict[str, float]]
Places = dict[tuple[str, str], tuple[list[int], list[int]]]

PARTS = ("base", "residual", "own", "cross")
"""Parts of a decomposition, in order; they sum to the matrix."""

CANCELLED = 0.1
"""Sum of weights, relative to the sum of their absolute values, below which no blend can be derived from them."""

TOLERANCE = 1e-5
"""Difference of a weight that is only rounding."""


def constant_matrix(weights: MixingWeights) -> Array:
    """The matrix (output, input) of constant weights.

    Raises
    ------
    FusionError
        The weights have several segments, or a channel of an output is missing.
    """
    if len(weights.matrix) > 1:
        raise FusionError(
            f"got weights of {len(weights.matrix)} segments, expected constant ones; take one segment, or their mean"
        )
    channels = _channels(weights)
    if weights.outputs != output_labels(weights.sources, len(channels)):
        raise FusionError(f"got outputs {', '.join(weights.outputs)}, expected every source with the same channels")
    matrix: Array = weights.matrix[0].astype(np.float64)
    return matrix


def same_source_places(weights: MixingWeights) -> Places:
    """Where the weights of a source's own stems are, each channel for the same channel.

    Returns
    -------
    dict of (source, separator) to (rows, columns)
        One row and one column per channel. Separators that do not give a source with all channels are left out.

    Examples
    --------
    >>> same_source_places(MixingWeights.same_source({"bass": {"a": 1.0}}))
    {('bass', 'a'): ([0, 1], [0, 1])}
    """
    channels = len(_channels(weights))
    column = {label: index for index, label in enumerate(weights.inputs)}
    places: Places = {}
    for source in weights.sources:
        rows = [weights.outputs.index(label) for label in output_labels((source,), channels)]
        for separator in weights.separators:
            labels = stem_labels(separator, (source,), channels)
            if all(label in column for label in labels):
                places[source, separator] = rows, [column[label] for label in labels]
    return places


def own_source(weights: MixingWeights) -> NDArray[np.bool_]:
    """Which weights, (output, input), take a source from its own stems, any channel."""
    given = np.array([ChannelLabel.parse(label).source for label in weights.inputs])
    wanted = np.array([ChannelLabel.parse(label).signal for label in weights.outputs])
    own: NDArray[np.bool_] = wanted[:, None] == given
    return own


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A mixing matrix taken apart by `decompose`.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Labels, as in `MixingWeights`.
    matrices : dict of str to ndarray, shape (output, input), float64
        By the names of `PARTS`; they sum to the matrix.
    gains : dict of source to (same, other)
        Gains of the residual rule, as `stemfuse.blending.redistribute` takes them.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    matrices: dict[str, Array]
    gains: dict[str, tuple[float, float]]

    def parts(self) -> dict[str, MixingWeights]:
        """Each part as weights, such as `stemfuse.analysis.plot_weights_grid` draws side by side on one scale."""
        return {
            name: MixingWeights(matrix.astype(np.float32), self.inputs, self.outputs)
            for name, matrix in self.matrices.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per source and a last one, ``"all"``.

        Returns
        -------
        DataFrame
            ``source``; the gains ``same_gain`` and ``other_gain`` (NaN for all); ``energy``, the sum of squares of the
            matrix minus the base; and the shares of it that are ``residual``, ``own`` and ``cross``, which
            sum to one, or are NaN where there is no energy but rounding.
        """
        import pandas as pd

        energies = {name: self._energies(self.matrices[name]) for name in PARTS[1:]}
        total = self._energies(sum((self.matrices[name] for name in PARTS[1:]), np.zeros(())))
        gains = np.array([*self.gains.values(), (np.nan, np.nan)])
        shares = {
            name: np.divide(energy, total, out=np.full_like(total, np.nan), where=total > TOLERANCE**2)
            for name, energy in energies.items()
        }
        named = {"source": [*self.gains, "all"], "same_gain": gains[:, 0], "other_gain": gains[:, 1]}
        return pd.DataFrame(named | {"energy": total} | shares)

    def _energies(self, matrix: Array) -> Array:
        """Sum of squares of each source's weights, then of all."""
        squares = np.square(matrix).reshape(len(self.gains), -1).sum(1)
        return np.append(squares, squares.sum())


def decompose(weights: MixingWeights, base: MixingWeights | None = None) -> Decomposition:
    """Take a mixing matrix apart: base + residual rule + own stems + other inputs.

    Parameters
    ----------
    weights : MixingWeights
        Constant ones of any fusion.
    base : MixingWeights, optional
        The blend to start from, over the same outputs and some of the inputs. If not given: for each source its own
        stems, every channel from the same channel, with the matrix's own weights scaled to sum to one. Of a
        single separator that is the identity. Where such weights cancel, all count the same.

    Returns
    -------
    Decomposition
        ``base``; ``residual``, what the mixture minus the sum of the base's estimates adds to each source with one
        gain for its same channel and one for its other channels; ``own``, what is left on a source's own stems
        (another level, the other channel); ``cross``, what is left on other sources' stems and on the mixture.

    Raises
    ------
    FusionError
        The weights are not constant, or the base does not fit them.

    Notes
    -----
    With B the base, M the selection of the mixture, S the sum over sources, the rule is A (M - S B) as in
    `stemfuse.blending.redistribute`. A is fitted by least squares on the weights themselves, so that the energies of
    the rule and of the remainder add up to that of W - B. Without the mixture among the inputs there is no such rule.
    Energy here is that of weights, not of audio: a weight on a soft stem counts as much as one on a loud stem.

    A matrix that is such a rule on a blend whose weights sum to one is recovered exactly, for the rule scales all
    weights of a source's own stems by the same factor. The mixer that KUIELab published [1]_ is in this view the
    identity and, for 93 to 99.9 % of the remaining energy, the rule.

    References
    ----------
    .. [1] Kim, Choi, Chung, Lee and Jung, "KUIELab-MDX-Net", MDX workshop at ISMIR 2021.

    Examples
    --------
    >>> from stemfuse.blending.classical.residual import redistribute
    >>> blend = MixingWeights.same_source({source: {"a": 0.3, "b": 0.7} for source in ("bass", "vocals")})
    >>> table = decompose(redistribute(blend, {"bass": (0.5, 0.25)})).to_frame()
    >>> table.loc[0, ["same_gain", "other_gain", "residual"]].astype(float).round(5).tolist()
    [0.5, 0.25, 1.0]
    """
    matrix = constant_matrix(weights)
    blend = _normalised_base(matrix, weights) if base is None else _placed(base, weights)
    rule, gains = _residual_rule(matrix - blend, blend, weights)
    rest = matrix - blend - rule
    own = np.where(own_source(weights), rest, 0.0)
    matrices = dict(zip(PARTS, (blend, rule, own, rest - own), strict=True))
    return Decomposition(weights.inputs, weights.outputs, matrices, gains)


def weighted_average(weights: MixingWeights, nearest: bool = False) -> Blend:
    """Weights per source and separator of a blend that is a weighted average of each source's own stems.

    That is all that Demucs, MSST and audio-separator compute: every channel is treated alike, and the weights of a
    source are divided by their sum. Negative weights work there too.

    Parameters
    ----------
    weights : MixingWeights
        Constant ones.
    nearest : bool
        What to do with a blend that is more: leave out the mixture, other sources' stems and other channels, take the
        mean over the channels and scale each source's weights to sum to one, instead of raising.

    Returns
    -------
    dict of source to dict of separator to weight
        Each source's weights sum to one. Weights that are only rounding are left out.

    Raises
    ------
    FusionError
        The weights are not constant; or they are more than such an average (the message names what is more, and how
        much it is); or a source's own stems are not used at all, or cancel.

    Examples
    --------
    >>> blend = MixingWeights.same_source({"bass": {"a": 0.6, "b": 0.3}})
    >>> weighted_average(blend)
    Traceback (most recent call last):
    ...
    stemfuse.blending.errors.FusionError: ... the weights of bass sum to 0.9; without that 1.2 % ...
    >>> {name: round(weight, 3) for name, weight in weighted_average(blend, nearest=True)["bass"].items()}
    {'a': 0.667, 'b': 0.333}
    """
    matrix, places = constant_matrix(weights), same_source_places(weights)
    average, sums = np.zeros_like(matrix), {}
    blend: Blend = {}
    for source in weights.sources:
        levels = {name: level for name, level in _levels(matrix, places, source).items() if abs(level) > TOLERANCE}
        if _cancel(levels):
            raise FusionError(
                f"the weights of {source} for its own stems are {_listed(levels)}; a weighted average divides by "
                f"their sum, which has to be positive: fit {source} from its own stems"
            )
        sums[source] = sum(levels.values())
        blend[source] = {separator: level / sums[source] for separator, level in levels.items()}
        for separator, share in blend[source].items():
            average[places[source, separator]] = share
    change = matrix - average
    if not nearest and np.abs(change).max() > TOLERANCE:
        share = np.square(change).sum() / np.square(matrix).sum()
        raise FusionError(
            "the blend is no weighted average of each source's own stems, which is all that the program computes: "
            f"{'; '.join(_surplus(weights, matrix, sums))}; without that {100 * share:.2g} % of the weights' energy "
            "would change. Fit weights that sum to one, or take the nearest average (--option nearest=true)"
        )
    return blend


def _listed(levels: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {level:.3g}" for name, level in levels.items()) or "none"


def _surplus(weights: MixingWeights, matrix: Array, sums: Mapping[str, float]) -> list[str]:
    """What a blend has that a weighted average cannot have, in words."""
    places = same_source_places(weights)
    own = own_source(weights)
    same_channel = np.zeros_like(own)
    for place in places.values():
        same_channel[place] = True
    mixture = np.broadcast_to([ChannelLabel.parse(label).is_mixture for label in weights.inputs], own.shape)
    found = []
    for name, mask in (
        ("weights on the mixture", mixture),
        ("weights on other sources' stems", ~own & ~mixture),
        ("weights on other channels of a stem", own & ~same_channel),
    ):
        if (largest := np.abs(matrix[mask]).max(initial=0.0)) > TOLERANCE:
            found.append(f"{name} (up to {largest:.3g})")
    if (spread := max(float(np.ptp(matrix[place])) for place in places.values())) > TOLERANCE:
        found.append(f"weights that differ between the channels (by up to {spread:.3g})")
    if off := {source: total for source, total in sums.items() if abs(total - 1) > TOLERANCE}:
        found.append(f"the weights of {', '.join(f'{source} sum to {total:.3g}' for source, total in off.items())}")
    return found or ["small differences between the weights"]


def _channels(weights: MixingWeights) -> tuple[str, ...]:
    return channel_names(len(weights.outputs) // len(weights.sources))


def _normalised_base(matrix: Array, weights: MixingWeights) -> Array:
    places = same_source_places(weights)
    base = np.zeros_like(matrix)
    for source in weights.sources:
        levels = _levels(matrix, places, source)
        if _cancel(levels):
            levels = dict.fromkeys(levels, 1.0)
        for separator, level in levels.items():
            base[places[source, separator]] = level / sum(levels.values())
    return base


def _placed(base: MixingWeights, weights: MixingWeights) -> Array:
    """The matrix of a given base over all inputs of the weights."""
    given = constant_matrix(base)
    if base.outputs != weights.outputs:
        raise FusionError(f"got a base for {', '.join(base.outputs)}, the weights are for {', '.join(weights.outputs)}")
    if unknown := [label for label in base.inputs if label not in weights.inputs]:
        raise FusionError(f"the base has an input {unknown[0]!r}, the weights have {', '.join(weights.inputs)}")
    placed = np.zeros((len(weights.outputs), len(weights.inputs)))
    placed[:, [weights.inputs.index(label) for label in base.inputs]] = given
    return placed


def _residual_rule(off: Array, base: Array, weights: MixingWeights) -> tuple[Array, dict[str, tuple[float, float]]]:
    """The residual rule that explains most of ``off``, and its gains."""
    channels = _channels(weights)
    mixture = mixture_labels(len(channels))
    if not set(mixture) <= set(weights.inputs):
        return np.zeros_like(off), dict.fromkeys(weights.sources, (0.0, 0.0))
    residual = -base.reshape(-1, len(channels), len(weights.inputs)).sum(0)
    residual[range(len(channels)), [weights.inputs.index(label) for label in mixture]] += 1
    sides = np.stack([residual.ravel(), (residual.sum(0) - residual).ravel()], axis=1)
    targets = off.reshape(len(weights.sources), -1).T
    solved = np.linalg.lstsq(sides, targets)[0]
    rule = (sides @ solved).T.reshape(off.shape)
    gains = {
        source: (float(same), float(other)) for source, (same, other) in zip(weights.sources, solved.T, strict=True)
    }
    return rule, gains


def _levels(matrix: Array, places: Places, source: str) -> dict[str, float]:
    """Weight of each separator's stem of one source, the mean over channels."""
    return {separator: float(matrix[place].mean()) for (given, separator), place in places.items() if given == source}


def _cancel(levels: Mapping[str, float]) -> bool:
    """Whether weights of one source cancel, or sum to zero or less, so that dividing by their sum means nothing."""
    return sum(levels.values()) <= CANCELLED * sum(map(abs, levels.values()))
