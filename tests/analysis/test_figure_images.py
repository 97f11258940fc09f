"""Every figure as an image: nothing is empty, cut off, too small to read, or wider than a column of a paper."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from makers.figures import FIGURES, own_weights, random_weights
from stemfuse.analysis.figures import figure_style, plot_weights
from stemfuse.analysis.figures.folding import fold
from stemfuse.separators import StemfuseError

FREE = {"search history", "search importance", "search parallel", "search contour", "search front"}
"""Optuna's: their legends and colour bars are its own, only clipping and emptiness are looked for."""


def drawn(figure):
    """The figure's pixels, (height, width, 3), at its own size."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def faults(figure):
    """What is wrong with a figure, in words."""
    image = drawn(figure)
    height, width, _ = image.shape
    found = [
        f"ink touches the {side}"
        for side, edge in {"top": image[0], "bottom": image[-1], "left": image[:, 0], "right": image[:, -1]}.items()
        if np.abs(edge - 255).max() > 40
    ]
    for axes in figure.axes:
        box = axes.get_window_extent()
        inside = image[height - int(box.y1) : height - int(box.y0), int(box.x0) : int(box.x1)]
        if axes.axison and np.ptp(inside.reshape(-1, 3), axis=0).max(initial=0) < 30:
            found.append(f"nothing in panel {axes.get_title()!r}")
    for text in texts_of(figure):
        box = text.get_window_extent()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            found.append(f"text {text.get_text()!r} is cut off")
        if text.get_fontsize() < 6:
            found.append(f"text {text.get_text()!r} has {text.get_fontsize():.1f} points")
    return found


def texts_of(figure):
    """All texts that are drawn: names of ticks only within the limits, nothing of axes that are switched off."""
    hidden = set()
    for axes in figure.axes:
        hidden |= set() if axes.axison else set(axes.findobj(Text))
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not min(limits) <= tick.get_loc() <= max(limits):
                    hidden |= {tick.label1, tick.label2}
    texts = (text for text in figure.findobj(Text) if text not in hidden)
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def meeting(figure):
    """Names of rows, and titles of panels, that run into each other."""
    groups = [[text for text in axes.get_yticklabels() if text.get_text()] for axes in figure.axes]
    groups.append([axes.title for axes in figure.axes if axes.get_title()])
    found = []
    for texts in groups:
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
        boxes = [(name, box.padded(-1)) for name, box in boxes if box.height > 2]
        found += [
            f"{one} meets {other}"
            for index, (one, box) in enumerate(boxes)
            for other, second in boxes[index + 1 :]
            if box.overlaps(second)
        ]
    below = [axes.xaxis.label for axes in figure.axes] + [figure._supxlabel] * (figure._supxlabel is not None)
    for legend in figure.legends:
        box = legend.get_window_extent()
        named = (text for text in below if text.get_text())
        found += [f"the legend meets {text.get_text()}" for text in named if text.get_window_extent().overlaps(box)]
    return found


def check(name, style):
    with figure_style(style):
        figure = FIGURES[name]()
        assert faults(figure) + ([] if name in FREE else meeting(figure)) == []
        assert figure.get_figwidth() <= {"paper": 3.5 + 1e-9, "screen": 14}[style]


@pytest.mark.parametrize("name", ["two segments", "bounds"])
def test_a_figure_is_whole_and_can_be_read(name):
    check(name, "screen")


@pytest.mark.slow
@pytest.mark.parametrize("style", ["screen", "paper"])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_whole_and_can_be_read(name, style):
    check(name, style)


def test_the_checks_see_an_empty_panel_cut_text_and_small_text():
    from stemfuse.analysis.figures.style import new_figure

    figure = new_figure(3, 2)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set(xticks=[], yticks=[])
    figure.text(0.9, 0.5, "a text that leaves the figure", fontsize=5)
    found = "; ".join(faults(figure))
    assert "touches the right" in found
    assert "is cut off" in found
    assert "5.0 points" in found
    figure.texts[0].remove()
    assert faults(figure) == ["nothing in panel ''"]


def test_folding_keeps_what_it_shows():
    weights = random_weights("abcde", segments=3)
    folded = fold(weights)
    assert folded.matrix.shape == (3, 4, 21)
    row = weights.inputs.index("c.bass.left")
    expected = (weights.matrix[:, 2, row] + weights.matrix[:, 3, row + 1]) / 2
    column, place = ([str(label) for label in labels] for labels in (folded.outputs, folded.inputs))
    np.testing.assert_allclose(folded.matrix[:, column.index("bass"), place.index("c.bass")], expected, atol=1e-6)
    crossing = np.abs(weights.matrix[:, ::2, 1::2]).max(), np.abs(weights.matrix[:, 1::2, ::2]).max()
    assert f"from side to side up to {max(crossing):.2g}" in folded.note


def test_a_mean_of_five_takes_five_rows_and_says_a_fifth_once_each():
    figure = plot_weights(own_weights("abcde"))
    numbers = [text.get_text() for text in figure.axes[0].texts if text.get_text().startswith("0")]
    assert numbers == ["0.20"] * 20
    assert figure.axes[0].get_xlabel() == "each stem of its own source, both sides alike"


def test_a_short_matrix_stays_as_the_paper_has_it():
    assert len(fold(random_weights()).inputs) == 18
    assert len(fold(random_weights(), wanted=True).inputs) == 9


def test_an_unknown_style_is_refused_and_leaves_nothing_changed():
    from matplotlib import rcParams

    before = dict(rcParams)
    with pytest.raises(StemfuseError, match="did you mean 'paper'"), figure_style("papr"):
        pass
    with figure_style("paper"):
        assert rcParams["pdf.fonttype"] == 42
    assert dict(rcParams) == before


def test_the_sheet_alone_is_for_figures_of_ones_own():
    from matplotlib import style

    with style.context("stemfuse.analysis.figures.paper"):
        from matplotlib import rcParams

        assert rcParams["figure.figsize"] == [3.5, 2.4]
