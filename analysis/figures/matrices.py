"""Figures of mixing matrices and scores; each function returns a matplotlib Figure and touches no global state."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import StemfuseError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

INK, MUTED, GRID, PAPER = "#1b1d22", "#6d7280", "#d5d8df", "#ffffff"
"""Text, quiet text, guide lines, ground: these and no other greys, so that a page can put its own in their place."""

POSITIVE, NEGATIVE, SPREAD = "#2166ac", "#b2182b", "#00704f"
ON_COLOUR = "#fdfdfd"
BOXED_BELOW = -0.3
LARGEST, BELOW, MIXTURE = "largest positive weight", "weight below −0.3", "mixture, same side"
BOXES = {LARGEST: ("-", 2.0, 0.0), BELOW: (":", 1.3, 0.09), MIXTURE: ("--", 1.0, 0.09)}
"""Line style, line width in points and inset in cells of each box."""

CELL_WIDTH, CELL_HEIGHT = 0.46, 0.235  # inches
COLUMN_GAP, ROW_GAP = 0.25, 1.25  # cells; a row gap holds the model's name
COLUMN_HEAD = 1.1
SIDES = {"left": "L", "right": "R", "mono": ""}


class Weights(Protocol):
    """What a figure needs of mixing weights; `stemfuse.blending.MixingWeights` has it."""

    @property
    def matrix(self) -> NDArray[np.floating]:
        """Weights, (segment, output, input)."""

    @property
    def inputs(self) -> Sequence[str]:
        """One label per input channel, such as ``"mixture.left"`` or ``"mdx.drums.right"``."""

    @property
    def outputs(self) -> Sequence[str]:
        """One label per output channel, such as ``"drums.left"``."""

    @property
    def starts_s(self) -> NDArray[np.floating]:
        """Where each segment begins, in seconds."""


class _Label(NamedTuple):
    group: str
    stem: str
    side: str

    @property
    def is_mixture(self) -> bool:
        return self.group == "mixture" and not self.stem


class _Panel(NamedTuple):
    title: str
    values: NDArray[np.floating]  # (output, input)
    inputs: tuple[_Label, ...]
    outputs: tuple[_Label, ...]
    spread: bool


def plot_weights(
    weights: Weights, segment: int | Sequence[int] | None = None, scale: float | None = None, title: str = ""
) -> Figure:
    """Mixing matrix as a heat map, in the convention of the MDX-Mixer paper's figures 4 to 6 [1]_.

    Rows are input channels, the mixture first, then each separator's stems; columns are the output channels; each
    cell prints its weight. In each column the largest positive weight has a bold box (all of them when several are
    equal), weights below -0.3 a dotted box, and the mixture's weight of the same side a dashed box.

    Parameters
    ----------
    weights : Weights
        One segment gives one panel; several give their mean and their standard deviation.
    segment : int or sequence of int, optional
        Only these segments, one panel each.
    scale : float, optional
        Weight that has the full colour, of either sign; the largest absolute weight when not given.
    title : str
        Name of the fusion.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works.

    Raises
    ------
    StemfuseError
        A segment that is not there was asked for.

    References
    ----------
    .. [1] Nakano and Goto, "MDX-Mixer", IEICE Trans. E107-D(8), 2024.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> weights = SimpleNamespace(
    ...     matrix=np.array([[[0.1, 0.6, 0.3]]]),
    ...     inputs=("mixture.left", "mdx.drums.left", "demucs.drums.left"),
    ...     outputs=("drums.left",),
    ...     starts_s=np.zeros(1),
    ... )
    >>> [text.get_text() for text in plot_weights(weights).axes[0].texts]
    ['0.10', '0.60', '0.30', 'L', 'drums', 'mixture', 'mdx', 'demucs']
    """
    count = len(weights.matrix)
    if segment is not None:
        chosen = [segment] if isinstance(segment, int) else list(segment)
        for index in chosen:
            if not 0 <= index < count:
                raise StemfuseError(f"segment {index} was asked for, the weights have segments 0 to {count - 1}")
        panels = [
            _panel(f"segment {index}, from {weights.starts_s[index]:.1f} s", weights.matrix[index], weights)
            for index in chosen
        ]
    elif count > 1:
        panels = [
            _panel(f"mean over {count} segments", np.mean(weights.matrix, axis=0), weights),
            _panel("standard deviation", np.std(weights.matrix, axis=0), weights, spread=True),
        ]
    else:
        panels = [_panel("", weights.matrix[0], weights)]
    return _matrix_figure(panels, scale, title)


def plot_weights_grid(weights: Mapping[str, Weights], scale: float | None = None, title: str = "") -> Figure:
    """Several mixing matrices on one colour scale, each the mean over its segments.

    Parameters
    ----------
    weights : mapping of str to Weights
        By the fusion's name; their inputs may differ.
    scale, title
        As in `plot_weights`.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels in a row.

    Raises
    ------
    StemfuseError
        There are no weights.
    """
    if not weights:
        raise StemfuseError("no weights came, expected at least one matrix to draw")
    panels = []
    for name, one in weights.items():
        mean = "" if len(one.matrix) == 1 else f", mean over {len(one.matrix)} segments"
        panels.append(_panel(shorten(name, 28) + mean, np.mean(one.matrix, axis=0), one))
    return _matrix_figure(panels, scale, title)


def largest_weight(weights: Mapping[str, Weights]) -> float:
    """Largest absolute weight of the panels that `plot_weights` draws: a scale on which all can be compared."""
    return max((float(np.abs(np.mean(one.matrix, axis=0)).max()) for one in weights.values()), default=0.0)


def new_figure(width: float, height: float) -> Figure:
    """White figure of ``width`` times ``height`` inches with its own canvas, laid out so that nothing is cut off."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor=PAPER)
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.07)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure


def shorten(name: str, length: int = 40) -> str:
    """Leave out the middle of a name that is too long for its place."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[1 - length // 2 :]}"


def quiet_axes(axes: Axes) -> None:
    """No frame, no tick marks, small ink labels in which ``$`` is only a letter."""
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)


def _panel(title: str, values: NDArray[np.floating], weights: Weights, spread: bool = False) -> _Panel:
    """Rows grouped by model, the mixture first; otherwise in the order of the weights."""
    labels = []
    for label in weights.inputs:
        *names, side = label.rsplit(".", 2)  # from the right: a separator's own name may hold dots
        labels.append(_Label("".join(names[:1]), "".join(names[1:]), SIDES.get(side, side)))
    outputs = []
    for label in weights.outputs:
        source, _, side = label.rpartition(".")
        outputs.append(_Label(source, "", SIDES.get(side, side)))
    groups = list(dict.fromkeys(label.group for label in labels))
    order = sorted(range(len(labels)), key=lambda i: (not labels[i].is_mixture, groups.index(labels[i].group)))
    return _Panel(title, np.asarray(values)[:, order], tuple(labels[i] for i in order), tuple(outputs), spread)


def _places(labels: Sequence[_Label], gap: float) -> list[float]:
    """Positions of unit cells with a gap before each group, the first too."""
    fresh = [i == 0 or labels[i].group != labels[i - 1].group for i in range(len(labels))]
    return [i + gap * before for i, before in enumerate(np.cumsum(fresh).tolist())]


def _matrix_figure(panels: Sequence[_Panel], scale: float | None, title: str) -> Figure:
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    columns = max(_places(panel.outputs, COLUMN_GAP)[-1] + 1 for panel in panels)
    rows = max(_places(panel.inputs, ROW_GAP)[-1] + 1 for panel in panels)
    kinds = sorted({panel.spread for panel in panels})
    panel_height = (rows + COLUMN_HEAD) * CELL_HEIGHT
    figure = new_figure(
        across * (columns * CELL_WIDTH + 0.8) + len(kinds) * 0.9, down * (panel_height + 0.5) + 0.35 + 0.3 * bool(title)
    )
    grid = figure.subplots(down, across, squeeze=False)
    for unused in grid.flat[len(panels) :]:
        unused.set_axis_off()
    for spread in kinds:
        members = [(axes, panel) for axes, panel in zip(grid.flat, panels, strict=False) if panel.spread == spread]
        largest = max(float(np.nanmax(np.abs(panel.values), initial=0.0)) for _, panel in members)
        colours = _colours(spread, (None if spread else scale) or largest or 1.0)
        for axes, panel in members:
            _draw_matrix(axes, panel, colours)
            axes.set(xlim=(0, columns + 0.06), ylim=(rows + 0.06, -COLUMN_HEAD))
        bar = figure.colorbar(
            colours,
            ax=[axes for axes, _ in members],
            shrink=min(1.0, 2.4 / (down * panel_height)),
            anchor=(0.0, 0.9),
            aspect=16,
        )
        bar.set_label("standard deviation" if spread else "weight", fontsize=8.5, color=INK)
        bar.outline.set_visible(False)
        bar.solids.set_rasterized(True)  # type: ignore[union-attr]  # transparent vector steps show seams
        quiet_axes(bar.ax)
    if title:
        figure.suptitle(
            shorten(title, int(9 * figure.get_figwidth())), fontsize=11, fontweight="bold", color=INK, parse_math=False
        )
    kinds_of_box = {kind for panel in panels for kind, _, _ in _boxes(panel)}
    if kinds_of_box:
        _explain_boxes(figure, kinds_of_box)
    return figure


def _colours(spread: bool, limit: float) -> ScalarMappable:
    """Red to blue through transparency: through white on paper, through the page's own ground elsewhere."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba

    stops = [(0.0, NEGATIVE, 1.0), (0.5, NEGATIVE, 0.0), (0.5, POSITIVE, 0.0), (1.0, POSITIVE, 1.0)]
    if spread:
        stops = [(0.0, SPREAD, 0.0), (1.0, SPREAD, 1.0)]
    ramp = LinearSegmentedColormap.from_list("weights", [(at, to_rgba(hue, alpha)) for at, hue, alpha in stops], 513)
    return ScalarMappable(Normalize(0.0 if spread else -limit, limit), ramp)


def _draw_matrix(axes: Axes, panel: _Panel, colours: ScalarMappable) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    x, y = _places(panel.outputs, COLUMN_GAP), _places(panel.inputs, ROW_GAP)
    cells = [Rectangle((left, top), 1, 1) for left in x for top in y]
    faces = colours.to_rgba(panel.values.ravel())
    axes.add_collection(PatchCollection(cells, facecolors=faces, edgecolors=GRID, linewidths=0.6))
    for (column, row), value in np.ndenumerate(panel.values):
        axes.text(
            x[column] + 0.5,
            y[row] + 0.54,
            _printed(value),
            ha="center",
            va="center",
            fontsize=7.5,
            color=MUTED if value == 0 else _text_colour(faces[column * len(y) + row]),
            in_layout=False,  # within its cell; measuring hundreds of these takes as long as drawing them
        )
    for place, label in zip(x, panel.outputs, strict=True):
        axes.text(place + 0.5, 0.1, label.side, ha="center", va="center", fontsize=8, color=INK)
    head: dict[str, Any] = {"fontsize": 8.5, "fontweight": "bold", "color": INK, "parse_math": False}
    for group in dict.fromkeys(label.group for label in panel.outputs):
        members = [place for place, label in zip(x, panel.outputs, strict=True) if label.group == group]
        middle = (members[0] + members[-1] + 1) / 2
        axes.text(middle, -COLUMN_HEAD + 0.4, shorten(group, 14), ha="center", va="center", **head)
    for group in dict.fromkeys(label.group for label in panel.inputs):
        first = next(place for place, label in zip(y, panel.inputs, strict=True) if label.group == group)
        axes.text(x[0], first - 0.42, shorten(group), ha="left", va="center", **head)
    for kind, column, row in _boxes(panel):
        axes.add_patch(_box(kind, x[column], y[row]))
    axes.set_xticks([])
    axes.set_yticks([place + 0.5 for place in y], [f"{label.stem} {label.side}".strip() for label in panel.inputs])
    axes.set_title(panel.title, fontsize=9.5, color=INK, parse_math=False)
    quiet_axes(axes)


def _text_colour(face: NDArray[np.floating]) -> str:
    """The one that reads better on a cell (red, green, blue, opacity) of white paper."""
    colour = face[:3] * face[3] + 1 - face[3]
    luminance = colour**2.2 @ (0.2126, 0.7152, 0.0722)
    return ON_COLOUR if luminance < 0.2 else INK


def _printed(value: float) -> str:
    if np.isnan(value):
        return "–"
    text = "0" if value == 0 else f"{value:z.2f}" if abs(value) < 100 else f"{value:.3g}"
    return text.replace("-", "−")


def _boxes(panel: _Panel) -> Iterator[tuple[str, int, int]]:
    """Which box goes around which cell (output, input), in the paper's convention."""
    for column, weights in enumerate([] if panel.spread else panel.values):
        largest = np.nanmax(weights, initial=0.0)
        for row, weight in enumerate(weights):
            if largest > 0 and np.isclose(weight, largest, rtol=1e-6, atol=0):
                yield LARGEST, column, row
            if weight < BOXED_BELOW:
                yield BELOW, column, row
            if panel.inputs[row].is_mixture and panel.inputs[row].side == panel.outputs[column].side:
                yield MIXTURE, column, row


def _box(kind: str, x: float = 0.0, y: float = 0.0) -> Rectangle:
    from matplotlib.patches import Rectangle

    style, width, inset = BOXES[kind]
    size = 1 - 2 * inset
    return Rectangle(
        (x + inset, y + inset), size, size, fill=False, edgecolor=INK, linestyle=style, linewidth=width, label=kind
    )


def _explain_boxes(figure: Figure, kinds: Collection[str]) -> None:
    figure.legend(
        handles=[_box(kind) for kind in BOXES if kind in kinds],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
        labelcolor=INK,
        handlelength=1.6,
        handleheight=1.1,
    )
