"""Figures: the paper's convention cell by cell, one scale for all panels, nothing cut off, nothing global touched."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.figures.matrices import (
    BELOW,
    LARGEST,
    NEGATIVE,
    POSITIVE,
    SAME_SIDE,
    SPREAD,
    largest_weight,
    plot_weights,
    plot_weights_grid,
)
from stemfuse.analysis.figures.scores import FUSION_COLOUR, SEPARATOR_COLOUR, plot_gains, plot_scores
from stemfuse.analysis.figures.time import plot_weights_over_time
from stemfuse.analysis.scores import check_scores, scores_table
from stemfuse.separators import SOURCES, StemfuseError

OUTPUTS = tuple(f"{source}.{side}" for source in SOURCES for side in ("left", "right"))


def labels(separators, mixture=True):
    channels = ("left", "right")
    named = [f"mixture.{side}" for side in channels] if mixture else []
    return (
        *named,
        *(f"{name}.{source}.{side}" for name, sources in separators.items() for source in sources for side in channels),
    )


def weights(inputs, segments=1, seed=0, outputs=OUTPUTS):
    matrix = np.random.default_rng(seed).normal(0, 0.2, (segments, len(outputs), len(inputs)))
    return SimpleNamespace(
        matrix=matrix.astype(np.float32),
        inputs=inputs,
        outputs=outputs,
        starts_s=np.arange(segments) * 1.5,
        duration_s=None,
    )


def cells(axes):
    """Printed numbers by place, and faces by place, of the cells of one panel."""
    printed = {}
    for text in axes.texts:
        x, y = text.get_position()
        if text.get_fontsize() == 7.5:
            printed[round(x - 0.5, 3), round(y - 0.54, 3)] = text.get_text()
    collection = axes.collections[0]
    faces = {
        tuple(np.round(path.get_extents().min, 3)): face
        for path, face in zip(collection.get_paths(), collection.get_facecolors(), strict=True)
    }
    return printed, faces


def boxes(axes):
    """Text inside every box, by kind."""
    printed, _ = cells(axes)
    found = {kind: [] for kind in (LARGEST, BELOW, SAME_SIDE)}
    for patch in axes.patches:
        if isinstance(patch, Rectangle):
            place = patch.get_center() - np.array(0.5)
            found[patch.get_label()].append(printed[tuple(np.round(place, 3))])
    return found


def assert_nothing_cut(figure):
    """The extent of all that is drawn lies inside the figure, in inches."""
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0, f"{-drawn.x0:.2f} inches are cut off at the left"
    assert drawn.y0 >= 0, f"{-drawn.y0:.2f} inches are cut off at the bottom"
    assert drawn.x1 <= width, f"{drawn.x1 - width:.2f} inches are cut off at the right"
    assert drawn.y1 <= height, f"{drawn.y1 - height:.2f} inches are cut off at the top"


def test_boxes_follow_the_papers_convention():
    inputs = ("a.drums.left", "a.drums.right", "mixture.left", "mixture.right", "b.drums.left", "b.drums.right")
    matrix = [[[0.5, 0.0, 0.11, 0.12, 0.6, -0.31], [-0.45, -0.3, 0.13, 0.14, 0.01, -0.5]]]
    planted = SimpleNamespace(matrix=np.array(matrix), inputs=inputs, outputs=OUTPUTS[:2], starts_s=[0.0])
    figure = plot_weights(planted)
    assert boxes(figure.axes[0]) == {
        LARGEST: ["0.60", "0.14"],
        BELOW: ["−0.31", "−0.45", "−0.50"],
        SAME_SIDE: ["0.11", "0.14"],
    }
    styles = {patch.get_label(): (patch.get_linestyle(), patch.get_linewidth()) for patch in figure.axes[0].patches}
    assert styles[LARGEST][0] == "-"
    assert styles[LARGEST][1] > 1.5
    assert styles[BELOW][0] == ":"
    assert styles[SAME_SIDE][0] == "--"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [LARGEST, BELOW, SAME_SIDE]


def test_equal_largest_weights_are_all_boxed_and_negative_columns_have_none():
    third = np.float32(1 / 3)
    planted = SimpleNamespace(
        matrix=np.array([[[third, third, third], [-0.1, -0.2, 0.0]]]),
        inputs=("a.bass.left", "b.bass.left", "c.bass.left"),
        outputs=("bass.left", "vocals.left"),
        starts_s=[0.0],
    )
    assert boxes(plot_weights(planted).axes[0]) == {LARGEST: ["0.33"] * 3, BELOW: [], SAME_SIDE: []}


def test_rows_are_the_mixture_then_each_model_with_its_name_above_and_a_gap():
    inputs = ("my.net.vocals.left", "other.drums.left", "my.net.bass.left", "mixture.left", "mixture.right")
    planted = weights(inputs, outputs=OUTPUTS[:1])
    axes = plot_weights(planted).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["L", "R", "vocals L", "bass L", "drums L"]
    names = [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"]
    assert names == ["drums", "mixture", "my.net", "other"]
    assert np.diff(axes.get_yticks()) == pytest.approx([1, 2.25, 1, 2.25])
    printed, _ = cells(axes)
    shown = [printed[place] for place in sorted(printed, key=lambda place: place[1])]
    order = [3, 4, 0, 2, 1]
    assert shown == [f"{planted.matrix[0, 0, i]:.2f}".replace("-", "−") for i in order]


def test_zero_and_almost_zero_differ_and_have_no_minus():
    planted = SimpleNamespace(
        matrix=np.array([[[0.0, -0.001, 123.4, np.nan]]]),
        inputs=("a.x.1", "a.x.2", "a.x.3", "a.x.4"),
        outputs=("x.1",),
        starts_s=[0.0],
    )
    printed, _ = cells(plot_weights(planted).axes[0])
    assert [printed[place] for place in sorted(printed, key=lambda place: place[1])] == ["0", "0.00", "123", "–"]


def test_colours_are_symmetric_about_zero_and_the_same_in_all_panels():
    inputs = ("a.x.left", "b.x.left")
    one = SimpleNamespace(matrix=np.array([[[0.5, -0.5]]]), inputs=inputs, outputs=("x.left",), starts_s=[0.0])
    two = SimpleNamespace(matrix=np.array([[[0.5, 1.0]]]), inputs=inputs, outputs=("x.left",), starts_s=[0.0])
    figure = plot_weights_grid({"one": one, "two": two})
    (first, second) = (list(cells(axes)[1].values()) for axes in figure.axes[:2])
    assert first[0] == pytest.approx(second[0]), "the same weight has another colour in another panel"
    assert first[0][3] == pytest.approx(first[1][3], abs=0.01), "plus and minus are not equally strong"
    assert first[0][:3] == pytest.approx(to_rgb(POSITIVE), abs=0.01)
    assert first[1][:3] == pytest.approx(to_rgb(NEGATIVE), abs=0.01)
    assert second[1][3] == pytest.approx(1)
    assert largest_weight({"one": one, "two": two}) == 1
    alone = list(cells(plot_weights(one, scale=1.0).axes[0])[1].values())
    assert alone[0] == pytest.approx(first[0]), "a given scale differs from the grid's"


def test_segments_give_mean_and_standard_deviation():
    varying = weights(labels({"a": SOURCES}), segments=6)
    figure = plot_weights(varying)
    mean, spread = figure.axes[:2]
    assert mean.get_title() == "mean over 6 segments"
    assert spread.get_title() == "standard deviation"
    expected = f"{varying.matrix[:, 7, 9].mean():.2f}".replace("-", "−")
    last = max(cells(mean)[0])
    assert cells(mean)[0][last] == expected
    assert cells(spread)[0][last] == f"{varying.matrix[:, 7, 9].std():.2f}"
    assert not spread.patches, "the spread has no largest weight to box"
    assert cells(spread)[1][max(cells(spread)[1])][:3] == pytest.approx(to_rgb(SPREAD), abs=0.01)


def test_chosen_segments_share_a_scale_and_absent_ones_are_errors():
    varying = weights(labels({"a": SOURCES}), segments=4)
    varying.matrix[1] *= 5
    figure = plot_weights(varying, segment=[0, 1])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["segment 0, from 0.0 s", "segment 1, from 1.5 s"]
    limit = np.abs(varying.matrix[:2]).max()
    strongest = max(face[3] for face in cells(figure.axes[0])[1].values())
    assert strongest == pytest.approx(np.abs(varying.matrix[0]).max() / limit, abs=0.01)
    with pytest.raises(StemfuseError, match="got segment 4, expected one of 0 to 3"):
        plot_weights(varying, segment=4)
    with pytest.raises(StemfuseError, match="got no weights"):
        plot_weights_grid({})


LONG = "a separator with a very long name that somebody chose without thinking of figures"


@pytest.mark.parametrize(
    ("separators", "mixture", "segments"),
    [
        ({"a": ("vocals",), "b": SOURCES}, True, 1),
        ({f"{LONG} {n}": SOURCES for n in range(8)}, False, 1),
        ({"repet_sim": SOURCES, "x$\\frac": SOURCES, "音楽": SOURCES}, True, 5),
    ],
    ids=["two-one-source", "eight-long", "varying-hostile"],
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_no_label_of_a_matrix_is_cut_and_numbers_stay_in_their_cells(separators, mixture, segments):
    figure = plot_weights(weights(labels(separators, mixture), segments), title=LONG)
    assert_nothing_cut(figure)
    axes = figure.axes[0]
    cell = np.abs(np.diff(axes.transData.transform([(0, 0), (1, 1)]), axis=0))[0]
    for text in axes.texts:
        if text.get_fontsize() == 7.5:
            box = text.get_window_extent()
            assert (box.size < cell).all(), f"{text.get_text()} is larger than its cell"


@pytest.mark.parametrize(("first", "second"), [(POSITIVE, NEGATIVE), (SEPARATOR_COLOUR, FUSION_COLOUR)])
def test_colour_pairs_differ_for_colour_blind_readers(first, second):
    # Machado, Oliveira and Fernandes 2009, severity 1: protanopia and deuteranopia
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    for seen in (np.eye(3), protan, deutan):
        linear = [np.array(to_rgb(colour)) ** 2.2 @ np.transpose(seen) for colour in (first, second)]
        shown = [np.clip(colour, 0, 1) ** (1 / 2.2) for colour in linear]
        assert np.linalg.norm(shown[0] - shown[1]) > 0.35


def score_rows(methods, tracks=5, seed=0):
    chance = np.random.default_rng(seed)
    tables = []
    for track in range(tracks):
        song = chance.normal(4, 1.5, (4, 9))
        for name, offset in methods.items():
            sdr = song + offset + chance.normal(0, 0.1, (4, 9))
            tables.append(scores_table(f"song {track}", name, SOURCES, {"SDR": sdr}, {"song_SDR": sdr.mean(axis=1)}))
    return check_scores(pd.concat(tables, ignore_index=True))


def test_scores_show_every_track_and_the_median_of_medians():
    table = score_rows({"one": 0.0, "two": 1.0, "mean": 2.0})
    table.loc[(table["fusion"] == "two") & (table["source"] == "bass"), "value"] = np.nan
    figure = plot_scores(table, methods=["one", "two", "mean"], fusions=["mean"])
    assert [axes.get_title() for axes in figure.axes] == list(SOURCES)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["one", "two", "mean"]
    rows = table[(table["fusion"] == "mean") & (table["source"] == "drums") & (table["metric"] == "SDR")]
    by_track = rows.groupby("track")["value"].median()
    dots, bar = figure.axes[0].lines[4:6]
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(by_track))
    assert list(bar.get_xdata()) == pytest.approx([by_track.median()] * 2)
    assert dots.get_color() == FUSION_COLOUR
    assert figure.axes[0].lines[0].get_color() == SEPARATOR_COLOUR
    assert [text.get_text() for text in figure.axes[1].texts] == ["no score"]
    assert figure.get_supxlabel() == "SDR in dB"
    assert_nothing_cut(figure)


def test_whole_song_scores_use_the_whole_song_and_unknown_metrics_are_errors():
    table = score_rows({"one": 0.0}, tracks=3)
    songs = table[(table["metric"] == "song_SDR") & (table["source"] == "vocals")]["value"]
    figure = plot_scores(table, "song_SDR")
    assert sorted(figure.axes[3].lines[0].get_xdata()) == pytest.approx(sorted(songs))
    assert figure.get_supxlabel() == "song SDR in dB"
    with pytest.raises(ScoreError, match="got metric 'SIR', expected one of SDR, song_SDR"):
        plot_scores(table, "SIR")


@pytest.mark.parametrize("count", [3, 12])
def test_no_label_of_the_scores_is_cut(count):
    assert_nothing_cut(plot_scores(score_rows({f"{LONG} {n}": n / 3 for n in range(count)}, tracks=2)))


def test_gains_show_the_interval_and_fill_only_those_that_exclude_zero():
    gains = {"two": {"low": 0.8, "difference": 1.0, "high": 1.3}, "mean": {"low": -0.2, "difference": 0.1, "high": 0.4}}
    comparison = pd.DataFrame(
        {"fusion": name, "baseline": "one", "source": source, "metric": "SDR", **gain}
        for name, gain in gains.items()
        for source in (*SOURCES, "mean")
    )
    figure = plot_gains(comparison, fusions=["mean"])
    assert [axes.get_title() for axes in figure.axes] == [*SOURCES, "mean"]
    zero, interval, mark, other_interval, other_mark = figure.axes[0].lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(interval.get_xdata()) == [0.8, 1.3]
    assert mark.get_markerfacecolor() == SEPARATOR_COLOUR, "an interval above 0 is not filled"
    assert list(other_interval.get_xdata()) == [-0.2, 0.4]
    assert other_mark.get_markerfacecolor() == "#ffffff", "an interval around 0 is filled"
    assert other_mark.get_markeredgecolor() == FUSION_COLOUR
    assert len({axes.get_xlim() for axes in figure.axes}) == 1, "panels have different scales"
    assert figure.get_supxlabel() == "SDR above one in dB"
    assert_nothing_cut(figure)


def test_gains_without_values_are_marked():
    comparison = pd.DataFrame(
        {
            "fusion": ["mean"],
            "baseline": "one",
            "source": "bass",
            "metric": "SDR",
            "difference": np.nan,
            "low": np.nan,
            "high": np.nan,
        }
    )
    assert [text.get_text() for text in plot_gains(comparison).axes[0].texts] == ["no score"]
    with pytest.raises(ScoreError, match="an empty comparison"):
        plot_gains(comparison.iloc[:0])


def test_pyplot_stays_untouched_and_matplotlib_is_imported_only_to_draw():
    script = (
        "import sys; from stemfuse.analysis import plot_weights; assert 'matplotlib' not in sys.modules\n"
        "import numpy as np; from types import SimpleNamespace\n"
        "one = SimpleNamespace(matrix=np.ones((1, 1, 1)), inputs=('a.x.left',), outputs=('x.left',), starts_s=[0])\n"
        "plot_weights(one)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("duration_s", "places", "values"),
    [(None, [0, 2, 4], [0.1, 0.6, 0.6]), (4.0, [2, 4], [0.1, 0.6])],
    ids=["steps to the end", "middles of segments that overlap"],
)
def test_weights_over_time_stand_where_they_hold(duration_s, places, values):
    matrix = np.array([[[0.1, 0.9]], [[0.6, 0.4]]])
    labels = (("mixture.left", "mdx.drums.left"), ("drums.left",))
    weights = SimpleNamespace(matrix=matrix, starts_s=np.array([0.0, 2.0]), duration_s=duration_s)
    weights.inputs, weights.outputs = labels
    figure = plot_weights_over_time(weights)
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "mixture"]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == (places, values)
