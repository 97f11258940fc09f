"""Mixing matrices as heat maps, in the convention of the MDX-Mixer paper: one panel per matrix, on one colour scale."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators import ChannelLabel, StemfuseError, WeightsLike

from .folding import Folded, fold, fold_alike
from .style import (
    GRID,
    INK,
    MUTED,
    add_title,
    is_narrow,
    new_figure,
    page_width,
    points,
    quiet_axes,
    scaled,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

POSITIVE, NEGATIVE, SPREAD = "#2166ac", "#b2182b", "#00704f"
ON_COLOUR = "#fdfdfd"
BOXED_BELOW = -0.3
LARGEST, BELOW, SAME_SIDE = "largest positive weight", "weight below −0.3", "mixture, same side"
BOXES = {LARGEST: ("-", 2.0, 0.0), BELOW: (":", 1.3, 0.09), SAME_SIDE: ("--", 1.0, 0.09)}
"""Line style, line width in points and inset in cells of each box."""

CELL_WIDTH, CELL_HEIGHT = 0.46, 0.235  # inches
NARROW_CELL = 0.38  # inches, before scaling: the widest usual number, in the smallest text
LETTER = 0.083  # inches, of a heading
COLUMN_GAP, ROW_GAP = 0.25, 1.25  # cells; a row gap holds the model's name
COLUMN_HEAD = 1.1
HEADING = 14
"""Letters of a column's heading."""
SIDES = {"left": "L", "right": "R", "mono": ""}


class _Panel(NamedTuple):
    title: str
    values: NDArray[np.floating]  # (output, input)
    inputs: tuple[ChannelLabel, ...]
    outputs: tuple[ChannelLabel, ...]
    spread: bool
    note: str = ""

    @property
    def columns(self) -> list[str]:
        """The group of every output channel: its source."""
        return [label.signal for label in self.outputs]

    @property
    def rows(self) -> list[str]:
        """The group of every input channel: the mixture, or its separator."""
        return [label.separator or label.source for label in self.inputs]


def plot_weights(
    weights: WeightsLike,
    segment: int | Sequence[int] | None = None,
    scale: float | None = None,
    title: str = "",
    folded: bool | None = None,
) -> Figure:
    """Mixing matrix as a heat map, in the convention of the MDX-Mixer paper's figures 4 to 6 [1]_.

    Rows are input channels: the mixture first, then each separator's stems. Columns are the output channels, and each
    cell prints its weight. In each column the largest positive weight has a bold box (all of them when several are
    equal), weights below -0.3 have a dotted box, and the mixture's weight of the same side has a dashed box.

    Parameters
    ----------
    weights : WeightsLike
        One segment gives one panel; several give their mean and their standard deviation.
    segment : int or sequence of int, optional
        Only these segments, one panel each.
    scale : float, optional
        Weight that has the full colour, of either sign; the largest absolute weight when not given.
    title : str
        Name of the fusion.
    folded : bool, optional
        One row for both sides of a stem, and one per separator where sources take nothing from other sources' stems. If
        not given, long matrices are folded where this loses nothing, very long ones always; a line says what is lost.

    Returns
    -------
    matplotlib.figure.Figure
        With a canvas, so that ``savefig`` works.

    Raises
    ------
    StemfuseError
        The weights have no such segment.

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
    ...     duration_s=None,
    ... )
    >>> [text.get_text() for text in plot_weights(weights).axes[0].texts]
    ['0.10', '0.60', '0.30', 'L', 'drums', 'mixture', 'mdx', 'demucs']
    """
    count, drawn = len(weights.matrix), fold(weights, folded)
    if segment is not None:
        chosen = [segment] if isinstance(segment, int) else list(segment)
        for index in chosen:
            if not 0 <= index < count:
                raise StemfuseError(f"got segment {index}, expected one of 0 to {count - 1}, which the weights have")
        panels = [
            _panel(f"segment {index}, from {weights.starts_s[index]:.1f} s", drawn.matrix[index], drawn)
            for index in chosen
        ]
    elif count > 1:
        panels = [
            _panel(f"mean over {count} segments", np.mean(drawn.matrix, axis=0), drawn),
            _panel("standard deviation", np.std(drawn.matrix, axis=0), drawn, spread=True),
        ]
    else:
        panels = [_panel("", drawn.matrix[0], drawn)]
    return _matrix_figure(panels, scale, title)


def plot_weights_grid(
    weights: Mapping[str, WeightsLike], scale: float | None = None, title: str = "", folded: bool | None = None
) -> Figure:
    """Several mixing matrices on one colour scale, each the mean over its segments.

    Parameters
    ----------
    weights : mapping of str to WeightsLike
        By the fusion's name; their inputs may differ.
    scale, title, folded
        As in `plot_weights`.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels in a row, as far as there is room.

    Raises
    ------
    StemfuseError
        There are no weights.
    """
    if not weights:
        raise StemfuseError("got no weights, expected at least one matrix to draw")
    panels = []
    for (name, one), drawn in zip(weights.items(), fold_alike(weights.values(), folded), strict=True):
        mean = "" if len(one.matrix) == 1 else f", mean over {len(one.matrix)} segments"
        panels.append(_panel(shorten(name, 28) + mean, np.mean(drawn.matrix, axis=0), drawn))
    return _matrix_figure(panels, scale, title)


def plot_difference(
    first: WeightsLike,
    second: WeightsLike,
    scale: float | None = None,
    title: str = "",
    folded: bool | None = None,
) -> Figure:
    """What one mixing matrix has more than another, as a heat map; of several segments it is their mean.

    Parameters
    ----------
    first, second : WeightsLike
        Of the same outputs, in any order. An input that only one of them has counts as 0 in the other.
    scale, title, folded
        As in `plot_weights`.

    Returns
    -------
    matplotlib.figure.Figure
        Second minus first.

    Raises
    ------
    StemfuseError
        Their outputs differ.
    """
    if set(first.outputs) != set(second.outputs):
        raise StemfuseError(
            f"got outputs {', '.join(first.outputs)} and {', '.join(second.outputs)}, expected the same sources and "
            "channels in both"
        )
    inputs = tuple(dict.fromkeys((*first.inputs, *second.inputs)))
    values = np.zeros((len(first.outputs), len(inputs)))
    for weights, sign in ((second, 1), (first, -1)):
        rows = [first.outputs.index(label) for label in weights.outputs]
        columns = [inputs.index(label) for label in weights.inputs]
        values[np.ix_(rows, columns)] += sign * np.mean(weights.matrix, axis=0)
    difference = fold(_Difference(values[None], inputs, tuple(first.outputs), np.zeros(1)), folded)
    return _matrix_figure([_panel("", difference.matrix[0], difference)], scale, title)


class _Difference(NamedTuple):
    """Weights whose labels are known to be good."""

    matrix: NDArray[np.float64]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    starts_s: NDArray[np.float64]
    duration_s: float | None = None


def largest_weight(weights: Mapping[str, WeightsLike]) -> float:
    """Largest absolute weight of the panels that `plot_weights` draws: one scale for all of them."""
    return max((float(np.abs(np.mean(one.matrix, axis=0)).max()) for one in weights.values()), default=0.0)


def _panel(title: str, values: NDArray[np.floating], drawn: Folded, spread: bool = False) -> _Panel:
    """Rows grouped by separator, the mixture first; otherwise in the order of the weights."""
    panel = _Panel(title, np.asarray(values), drawn.inputs, drawn.outputs, spread, drawn.note)
    groups = list(dict.fromkeys(panel.rows))
    inputs = panel.inputs
    order = sorted(range(len(inputs)), key=lambda i: (not inputs[i].is_mixture, groups.index(panel.rows[i])))
    return panel._replace(values=panel.values[:, order], inputs=tuple(inputs[i] for i in order))


def _places(groups: Sequence[str], gap: float) -> list[float]:
    """Positions of unit cells with a gap before each group, the first too."""
    fresh = [i == 0 or groups[i] != groups[i - 1] for i in range(len(groups))]
    return [i + gap * before for i, before in enumerate(np.cumsum(fresh).tolist())]


def _side(label: ChannelLabel) -> str:
    return SIDES.get(label.channel, label.channel)


def _matrix_figure(panels: Sequence[_Panel], scale: float | None, title: str) -> Figure:
    columns = max(_places(panel.columns, COLUMN_GAP)[-1] + 1 for panel in panels)
    rows = max(_places(panel.rows, ROW_GAP)[-1] + 1 for panel in panels)
    kinds = sorted({panel.spread for panel in panels})
    panel_width, panel_height = columns * _cell_width(panels) + scaled(0.8), (rows + COLUMN_HEAD) * scaled(CELL_HEIGHT)
    across = min(2, len(panels))
    bars = 0.9 * len(kinds)
    if is_narrow():
        # every cell has its number: the bar of colours goes first
        across, bars = max(1, min(across, int(page_width() / panel_width))), 0.0
    down = -(-len(panels) // across)
    figure = new_figure(
        across * panel_width + bars + 0.1 * is_narrow(),
        down * (panel_height + scaled(0.5)) + scaled(0.55) + scaled(0.3) * bool(title),
        fixed=True,
    )
    grid = figure.subplots(down, across, squeeze=False)
    for unused in grid.flat[len(panels) :]:
        unused.set_axis_off()
    for spread in kinds:
        members = [(axes, panel) for axes, panel in zip(grid.flat, panels, strict=False) if panel.spread == spread]
        largest = max(float(np.nanmax(np.abs(panel.values), initial=0.0)) for _, panel in members)
        colours = weight_colours(spread, (None if spread else scale) or largest or 1.0)
        for axes, panel in members:
            _draw_matrix(axes, panel, colours)
            axes.set(xlim=(0, columns + 0.06), ylim=(rows + 0.06, -COLUMN_HEAD))
            axes.set_xlabel(
                textwrap.fill(panel.note, int(panel_width * 120 / points(7.5))), fontsize=points(7.5), color=MUTED
            )
        if bars:
            _add_colour_bar(figure, colours, [axes for axes, _ in members], spread, down * panel_height)
    add_title(figure, title)
    kinds_of_box = {kind for panel in panels for kind, _, _ in _boxes(panel)}
    if kinds_of_box:
        _explain_boxes(figure, kinds_of_box)
    return figure


def _cell_width(panels: Sequence[_Panel]) -> float:
    """Inches, in which numbers fit and headings of columns do not meet."""
    cell = NARROW_CELL if is_narrow() else CELL_WIDTH
    for panel in panels:
        for group in dict.fromkeys(panel.columns):
            cell = max(cell, (LETTER * len(shorten(group, HEADING)) + 0.05) / panel.columns.count(group))
    return scaled(cell)


def _add_colour_bar(figure: Figure, colours: ScalarMappable, members: list[Axes], spread: bool, height: float) -> None:
    bar = figure.colorbar(colours, ax=members, shrink=min(1.0, 2.4 / height), anchor=(0.0, 0.9), aspect=16)
    bar.set_label("standard deviation" if spread else "weight", fontsize=points(8.5), color=INK)
    bar.outline.set_visible(False)
    bar.solids.set_rasterized(True)  # type: ignore[union-attr]  # transparent vector steps show seams
    quiet_axes(bar.ax)


def weight_colours(spread: bool, limit: float) -> ScalarMappable:
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

    x, y = _places(panel.columns, COLUMN_GAP), _places(panel.rows, ROW_GAP)
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
            fontsize=points(7.5),
            color=MUTED if value == 0 else _text_colour(faces[column * len(y) + row]),
            in_layout=False,  # within its cell; measuring hundreds of these takes as long as drawing them
        )
    for place, label in zip(x, panel.outputs, strict=True):
        axes.text(place + 0.5, 0.1, _side(label), ha="center", va="center", fontsize=points(8), color=INK)
    head: dict[str, Any] = {"fontsize": points(8.5), "fontweight": "bold", "color": INK, "parse_math": False}
    for group in dict.fromkeys(panel.columns):
        members = [place for place, name in zip(x, panel.columns, strict=True) if name == group]
        middle = (members[0] + members[-1] + 1) / 2
        axes.text(middle, -COLUMN_HEAD + 0.4, shorten(group, HEADING), ha="center", va="center", **head)
    for group in dict.fromkeys(panel.rows):
        first = y[panel.rows.index(group)]
        axes.text(x[0], first - 0.42, shorten(group), ha="left", va="center", **head)
    for kind, column, row in _boxes(panel):
        axes.add_patch(_box(kind, x[column], y[row]))
    names = [f"{label.source if label.separator else ''} {_side(label)}".strip() for label in panel.inputs]
    axes.set_xticks([])
    axes.set_yticks([place + 0.5 for place in y], names)
    axes.set_title(panel.title, fontsize=points(9.5), color=INK, parse_math=False)
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
            # folded rows have no side
            if panel.inputs[row].is_mixture and panel.outputs[column].channel == panel.inputs[row].channel != "":
                yield SAME_SIDE, column, row


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
        ncols=1 if figure.get_figwidth() < 3.4 else 2 if figure.get_figwidth() < 4.6 else 3,
        fontsize=points(8),
        frameon=False,
        labelcolor=INK,
        handlelength=1.6,
        handleheight=1.1,
    )
