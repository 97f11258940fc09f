"""Mixing weights: the one form that every linear fusion's result takes, in memory and on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemfuse.separators import write_whole
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.foreign.arrays import read_arrays
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.labels import ChannelLabel, channel_names, check_channel_labels, output_labels, stem_labels
from stemfuse.separators.names import did_you_mean

from .errors import FusionError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class MixingWeights:
    """Weights of a linear fusion, Y_k = X_k W_k, for one song or all songs.

    Parameters
    ----------
    matrix : array_like, shape (segment, output, input)
        Kept as float32; a matrix (output, input) is one segment. It is W_k transposed.
    inputs : sequence of str
        Labels of the input channels, such as ``"mixture.left"`` and ``"mdx.drums.right"``.
    outputs : sequence of str
        Labels of the output channels, such as ``"drums.left"``.
    starts_s : sequence of float
        Where each segment starts, in seconds, ascending from 0.
    duration_s : float, optional
        Length of every segment when segments overlap: they are then joined by weighted overlap-add with a Hann
        window, normalised by the windows' sum. Without it each segment lasts until the next one starts.

    Raises
    ------
    FusionError
        Shapes and labels do not fit, a label is none, or a weight is NaN or infinite.

    Examples
    --------
    >>> weights = MixingWeights.same_source({"drums": {"a": 0.2, "b": 0.8}})
    >>> weights.matrix.shape, weights.inputs[0], weights.outputs[1]
    ((1, 2, 4), 'a.drums.left', 'drums.right')
    """

    matrix: NDArray[np.float32]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    starts_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    duration_s: float | None = None

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float32, ndmin=3)
        starts = np.array(self.starts_s, dtype=np.float64, ndmin=1)
        inputs, outputs = tuple(map(str, self.inputs)), tuple(map(str, self.outputs))
        if matrix.shape != (len(starts), len(outputs), len(inputs)):
            raise FusionError(
                f"got a matrix of shape {matrix.shape}, expected (segment, output, input) = "
                f"({len(starts)}, {len(outputs)}, {len(inputs)})"
            )
        if not np.isfinite(matrix).all():
            raise FusionError(f"{int((~np.isfinite(matrix)).sum())} weights are NaN or infinite; fit again")
        if starts[0] != 0 or (np.diff(starts) <= 0).any() or not np.isfinite(starts).all():
            raise FusionError(f"segments start at {starts}, expected ascending seconds from 0")
        if len(set(inputs)) < len(inputs) or len(set(outputs)) < len(outputs):
            raise FusionError("two inputs or two outputs have the same label")
        check_channel_labels(inputs, outputs, FusionError)
        matrix.flags.writeable = starts.flags.writeable = False
        for name, value in (("matrix", matrix), ("starts_s", starts), ("inputs", inputs), ("outputs", outputs)):
            object.__setattr__(self, name, value)

    @classmethod
    def same_source(cls, weights: Mapping[str, Mapping[str, float]], channels: int = 2) -> MixingWeights:
        """Constant weights by which each source is a sum of the separators' stems of that source.

        Parameters
        ----------
        weights : mapping of source to mapping of separator to weight
            Every channel is mixed from the same channel of the stems.
        channels : int
            Number of channels.
        """
        separators = list(dict.fromkeys(separator for given in weights.values() for separator in given))
        inputs = [
            label
            for separator in separators
            for label in stem_labels(separator, [name for name in weights if separator in weights[name]], channels)
        ]
        outputs = output_labels(tuple(weights), channels)
        matrix = np.zeros((1, len(outputs), len(inputs)), np.float32)
        for source, given in weights.items():
            for separator, weight in given.items():
                for channel in channel_names(channels):
                    output, label = (str(ChannelLabel(name, source, channel)) for name in ("", separator))
                    matrix[0, outputs.index(output), inputs.index(label)] = weight
        return cls(matrix, tuple(inputs), outputs)

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of the outputs, in order."""
        return tuple(dict.fromkeys(ChannelLabel.parse(label).signal for label in self.outputs))

    @property
    def separators(self) -> tuple[str, ...]:
        """Separators among the inputs, in order."""
        labels = map(ChannelLabel.parse, self.inputs)
        return tuple(dict.fromkeys(label.separator for label in labels if label.is_stem))

    def to_frame(self, form: Literal["all", "nonzero", "pivot"] = "all") -> pd.DataFrame:
        """The weights as a table.

        Parameters
        ----------
        form : {"all", "nonzero", "pivot"}
            ``"all"``: one row per weight, with segment, start_s, output, input, weight; ``"nonzero"``: without weights
            that are 0; ``"pivot"``: source by separator, as `stemfuse.blending.pivot.source_pivot` has it.

        Examples
        --------
        >>> weights = MixingWeights.same_source({"bass": {"a": 0.25, "b": 0.75}})
        >>> weights.to_frame("pivot").to_dict("index")
        {'bass': {'a': 0.25, 'b': 0.75, 'sum': 1.0}}
        >>> len(weights.to_frame()), len(weights.to_frame("nonzero"))
        (8, 4)
        """
        import pandas as pd

        if form == "pivot":
            from .pivot import source_pivot

            return source_pivot(self)
        if form not in ("all", "nonzero"):
            raise FusionError(f"got form {form!r}, expected all, nonzero or pivot{did_you_mean(form, FORMS)}")
        segments, outputs, inputs = self.matrix.shape
        rows = pd.DataFrame(
            {
                "segment": np.repeat(np.arange(segments), outputs * inputs),
                "start_s": np.repeat(self.starts_s, outputs * inputs),
                "output": np.tile(np.repeat(self.outputs, inputs), segments),
                "input": np.tile(self.inputs, segments * outputs),
                "weight": self.matrix.ravel(),
            }
        )
        return rows if form == "all" else rows[rows["weight"] != 0].reset_index(drop=True)

    @property
    def figures(self) -> tuple[str, ...]:
        """What `plot` can draw of these weights."""
        return ("matrix", "time") if len(self.matrix) > 1 else ("matrix", "parts")

    def plot(
        self,
        how: str = "matrix",
        segment: int | Sequence[int] | None = None,
        title: str = "",
        folded: bool | None = None,
    ) -> Figure:
        """Draw the weights.

        Parameters
        ----------
        how : str
            ``"matrix"``, as the MDX-Mixer paper draws it: of several segments mean and spread; ``"time"``: over the
            time of the song; ``"parts"``: constant weights decomposed, see `stemfuse.blending.decompose`.
        segment : int or sequence of int, optional
            These segments alone, as matrices side by side.
        title : str
            Above the figure.
        folded : bool, optional
            See `stemfuse.analysis.plot_weights`.

        Returns
        -------
        matplotlib.figure.Figure
            With a canvas, so that ``savefig`` works; notebooks show it.

        Raises
        ------
        FusionError
            These weights cannot be drawn so; the message lists how they can.
        """
        from stemfuse.analysis.figures import plot_weights, plot_weights_grid, plot_weights_over_time

        if how not in self.figures:
            raise FusionError(
                f"got {how!r}; of weights of {counted(len(self.matrix), 'segment')} can be drawn: "
                f"{', '.join(self.figures)}{did_you_mean(how, self.figures)}"
            )
        if how == "time":
            return plot_weights_over_time(self, title=title)
        if how == "parts":
            from .explanation import decompose

            return plot_weights_grid(decompose(self).parts(), title=title, folded=folded)
        return plot_weights(self, segment, title=title, folded=folded)

    def __repr__(self) -> str:
        inputs = [*(["mixture"] if any(map(_is_mixture, self.inputs)) else []), *self.separators]
        segments, outputs, rows = self.matrix.shape
        return (
            f"<MixingWeights: {', '.join(self.sources)} from {', '.join(inputs) or 'nothing'}; "
            f"{rows} inputs x {outputs} outputs, {counted(segments, 'segment')}>"
        )

    def __str__(self) -> str:
        return "\n".join(
            [repr(self), self.to_frame("pivot").to_string(float_format="{:.3f}".format, na_rep=""), *self._said()]
        )

    def _repr_html_(self) -> str:
        from stemfuse.separators.faces import html_table

        table = self.to_frame("pivot")
        rows = [
            [source, *("" if np.isnan(value) else f"{value:+.3f}" for value in row.values())]
            for source, row in table.to_dict("index").items()
        ]
        return html_table(["weights", *table.columns], rows, repr(self)[1:-1], "; ".join(self._said()))

    def _said(self) -> list[str]:
        """What the pivot does not show."""
        from .pivot import channel_structure

        return channel_structure(self)

    def save(self, path: str | os.PathLike[str], **extra: str) -> None:
        """Write one ``.npz``: matrix, inputs, outputs, starts_s and, if set, duration_s."""
        arrays: dict[str, ArrayLike] = {
            "matrix": self.matrix,
            "inputs": np.array(self.inputs, dtype=np.str_),
            "outputs": np.array(self.outputs, dtype=np.str_),
            "starts_s": self.starts_s,
            **{name: np.array(text, dtype=np.str_) for name, text in extra.items()},
        }
        if self.duration_s is not None:
            arrays["duration_s"] = np.float64(self.duration_s)
        write_whole(Path(path), lambda file: np.savez(file, allow_pickle=False, **arrays))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MixingWeights:
        """Read what `save` wrote.

        Raises
        ------
        FusionError
            The file is missing, damaged or not of this kind.
        """
        return cls.from_arrays(load_arrays(path), path)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], path: str | os.PathLike[str]) -> MixingWeights:
        """Weights from the arrays of a file that has been read."""
        try:
            duration = arrays.get("duration_s")
            return cls(
                arrays["matrix"],
                tuple(arrays["inputs"].tolist()),
                tuple(arrays["outputs"].tolist()),
                arrays["starts_s"],
                None if duration is None else float(duration),
            )
        except KeyError as error:
            raise FusionError(
                f"{path}: the array {error} is missing; expected weights as MixingWeights.save writes"
            ) from error
        # arrays of another type or with more dimensions
        except FusionError as error:
            raise FusionError(f"{path}: {error}") from error
        except (TypeError, ValueError) as error:
            raise FusionError(f"{path}: no weights, expected them as MixingWeights.save writes ({error})") from error


FORMS = ("all", "nonzero", "pivot")


def _is_mixture(label: str) -> bool:
    return ChannelLabel.parse(label).is_mixture


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1, "segment"), counted(3, "segment")
    ('1 segment', '3 segments')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def load_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz``, within the bounds of `stemfuse.separators.foreign`.

    Raises
    ------
    FusionError
        The file is missing, damaged, too large or not of this kind.
    """
    try:
        return read_arrays(path)
    except FileNotFoundError as error:
        raise wrong_usage(FusionError(f"{path}: no such file; stemfuse fit makes one")) from error
    except (OSError, ForeignFileError) as error:
        raise FusionError(f"{path}: no weights can be read ({error}); expected an .npz of stemfuse") from error
