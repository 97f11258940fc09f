"""Taking mixing matrices apart, and reducing them to weighted averages."""

import numpy as np
import pytest

from makers.places import DATA
from stemfuse.analysis import plot_weights_grid
from stemfuse.blending import FusionError, MixingWeights, import_kuielab_mixer, output_labels, redistribute
from stemfuse.blending.explanation import PARTS, decompose, weighted_average
from stemfuse.separators import SOURCES

CHECKPOINT = DATA / "kuielab_mixer.ckpt"
GAINS = {"drums": (0.24, 0.15), "bass": (0.08, -0.07), "other": (0.2, 0.0), "vocals": (0.0, 0.0)}
BLEND = {
    "drums": {"a": 0.25, "b": 0.75},
    "bass": {"a": 1.25, "b": -0.25},
    "other": {"b": 1.0},
    "vocals": {"a": 0.5, "b": 0.375, "voice": 0.125},
}


def table_of(decomposition):
    return decomposition.to_frame().set_index("source")


def changed(weights, **entries):
    """Weights with ``output__input=value`` added, dots written as underscores."""
    matrix = weights.matrix.copy()
    for place, value in entries.items():
        row, column = (label.replace("_", ".") for label in place.split("__"))
        matrix[0, weights.outputs.index(row), weights.inputs.index(column)] += value
    return MixingWeights(matrix, weights.inputs, weights.outputs)


def both_channels(weights, output, label, value):
    return changed(weights, **{f"{output}_{side}__{label}_{side}": value for side in ("left", "right")})


@pytest.mark.skipif(not CHECKPOINT.exists(), reason="needs the published mixer")
def test_published_mixer_is_a_residual_rule():
    weights = import_kuielab_mixer(CHECKPOINT, "tfc_tdf")
    table = table_of(decompose(weights))
    gains = {"bass": (0.08, 0.07), "drums": (0.24, 0.15), "other": (0.20, 0.12), "vocals": (0.06, 0.015)}
    for source, expected in gains.items():
        np.testing.assert_allclose(table.loc[source, ["same_gain", "other_gain"]].astype(float), expected, atol=0.006)
    shares = table.loc[list(SOURCES), "residual"]
    assert round(shares.min(), 2) == 0.93
    assert round(shares.max(), 3) == 0.999
    identity = np.eye(8, 10, k=2)
    np.testing.assert_allclose(table.loc["all", "energy"], np.square(weights.matrix[0] - identity).sum())
    assert table.loc["all", "cross"] < 0.004


def test_planted_rule_on_a_planted_blend_is_recovered():
    blend = MixingWeights.same_source(BLEND)
    weights = redistribute(blend, GAINS)
    found = decompose(weights)
    for source, expected in GAINS.items():
        np.testing.assert_allclose(found.gains[source], expected, atol=1e-6)
    base = found.matrices["base"]
    np.testing.assert_allclose(base[:, : len(blend.inputs)], blend.matrix[0], atol=1e-6)
    assert not base[:, len(blend.inputs) :].any()
    np.testing.assert_allclose(found.matrices["residual"], weights.matrix[0] - base, atol=1e-6)
    np.testing.assert_allclose(table_of(found).loc[["drums", "bass", "other", "all"], "residual"], 1, atol=1e-6)
    # vocals are the bare blend: there is nothing to share out but rounding
    assert table_of(found).loc["vocals", ["residual", "own", "cross"]].isna().all()


def test_what_the_rule_does_not_explain_is_a_part_of_its_own():
    """Opposite changes on left and right are orthogonal to the rule, which treats both alike."""
    weights = redistribute(MixingWeights.same_source(BLEND), GAINS)
    crossed = changed(
        weights,
        drums_left__a_vocals_left=0.3,
        drums_right__a_vocals_right=-0.3,
        bass_left__a_bass_right=0.2,
        bass_right__a_bass_left=-0.2,
        other_left__mixture_left=0.1,
        other_right__mixture_right=-0.1,
    )
    found = decompose(crossed)
    for source, expected in GAINS.items():
        np.testing.assert_allclose(found.gains[source], expected, atol=1e-6)
    difference = crossed.matrix[0] - weights.matrix[0]
    rows = np.array([label.startswith("bass") for label in weights.outputs])
    np.testing.assert_allclose(found.matrices["own"], np.where(rows[:, None], difference, 0), atol=1e-6)
    np.testing.assert_allclose(found.matrices["cross"], np.where(rows[:, None], 0, difference), atol=1e-6)
    table = table_of(found)
    rule = np.square(found.matrices["residual"][:2]).sum()
    np.testing.assert_allclose(
        table.loc["drums", ["residual", "own", "cross"]], [rule / (rule + 0.18), 0, 0.18 / (rule + 0.18)], atol=1e-6
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_sum_to_any_matrix_and_shares_to_one(seed):
    generator = np.random.default_rng(seed)
    stems = [f"{separator}.{label}" for separator in ("a.v2", "b") for label in output_labels()]
    weights = MixingWeights(
        generator.normal(0.2, 0.5, (8, 18)), (*output_labels(("mixture",)), *stems), output_labels()
    )
    found = decompose(weights)
    assert tuple(found.matrices) == PARTS
    np.testing.assert_allclose(sum(found.matrices.values()), weights.matrix[0], rtol=0, atol=1e-15)
    frame = found.to_frame()
    assert frame["source"].tolist() == [*SOURCES, "all"]
    np.testing.assert_allclose(frame[["residual", "own", "cross"]].sum(axis=1), 1)
    np.testing.assert_allclose(
        frame["energy"].iloc[-1], np.square(weights.matrix[0] - found.matrices["base"]).sum(), rtol=1e-6
    )


def test_without_mixture_there_is_no_rule():
    weights = both_channels(MixingWeights.same_source(BLEND), "drums", "a_vocals", 0.5)
    found = decompose(both_channels(weights, "vocals", "a_vocals", -0.1))
    assert not found.matrices["residual"].any()
    assert set(found.gains.values()) == {(0.0, 0.0)}
    table = table_of(found)
    np.testing.assert_allclose(table.loc["drums", ["energy", "residual", "own", "cross"]], [0.5, 0, 0, 1], atol=1e-6)
    assert table.loc["vocals", "own"] == 1
    assert table.loc["other", "energy"] == 0
    assert np.isnan(table.loc["other", "cross"])


def test_source_without_stems_comes_from_the_residual():
    """Model B of the MDX-Mixer paper gives vocals only: drums are mixture minus vocals."""
    only = MixingWeights(
        np.kron([[0.3, -0.3], [0.1, 0.9]], np.eye(2)),
        (*output_labels(("mixture",)), *(f"b.{label}" for label in output_labels(("vocals",)))),
        output_labels(("drums", "vocals")),
    )
    found = decompose(only)
    np.testing.assert_allclose([found.gains["drums"], found.gains["vocals"]], [(0.3, 0), (0.1, 0)], atol=1e-6)
    np.testing.assert_allclose(table_of(found)["residual"], 1)


def test_weights_that_cancel_start_from_equal_ones():
    found = decompose(MixingWeights.same_source({"bass": {"a": 1.0, "b": -0.99}, "drums": {"a": -1.0}}))
    assert found.matrices["base"][0].tolist() == [0.5, 0, 0, 0, 0.5, 0]
    assert found.matrices["base"][2].tolist() == [0, 0, 1, 0, 0, 0]


def test_given_base_is_used():
    base = MixingWeights.same_source({source: {"a": 0.5} for source in SOURCES})
    weights = redistribute(base, {"bass": 0.5})
    found = decompose(weights, base)
    np.testing.assert_allclose(found.gains["bass"], (0.5, 0), atol=1e-7)
    assert table_of(found).loc["all", "residual"] == pytest.approx(1)
    assert table_of(decompose(weights)).loc["all", "residual"] < 0.9
    with pytest.raises(FusionError, match=r"got a base for bass\.left, bass\.right, the weights"):
        decompose(weights, MixingWeights.same_source({"bass": {"a": 1.0}}))
    with pytest.raises(FusionError, match=r"'z\.drums\.left', the weights have a\.drums"):
        decompose(weights, MixingWeights.same_source({source: {"z": 1.0} for source in SOURCES}))


def test_mono_has_one_gain():
    blend = MixingWeights.same_source({source: {"a": 1.0} for source in SOURCES}, channels=1)
    assert decompose(redistribute(blend, 0.25)).gains["bass"] == pytest.approx((0.25, 0))


def test_weights_that_vary_in_time_are_refused():
    weights = MixingWeights(np.ones((2, 1, 1)), ["a.bass.mono"], ["bass.mono"], [0, 1])
    with pytest.raises(FusionError, match="got weights of 2 segments, expected constant"):
        decompose(weights)
    with pytest.raises(FusionError, match="same channels"):
        decompose(MixingWeights(np.ones((1, 1, 3)), ["a.bass.left", "a.bass.right", "mixture.left"], ["bass.left"]))


def test_parts_are_drawn_side_by_side():
    parts = decompose(redistribute(MixingWeights.same_source(BLEND), GAINS)).parts()
    titles = [axes.get_title() for axes in plot_weights_grid(parts).axes]
    assert titles[: len(PARTS)] == list(PARTS)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("mixture", 0.1, r"weights on the mixture \(up to 0.1\)"),
        ("a_vocals", -0.2, r"weights on other sources' stems \(up to 0.2\)"),
        ("a_drums", 0.25, "the weights of drums sum to 1.25;.* 0.85 %"),
    ],
)
def test_more_than_a_weighted_average_is_named(place, value, message):
    blend = redistribute(MixingWeights.same_source(BLEND), 0.0)
    assert weighted_average(blend) == {source: pytest.approx(shares) for source, shares in BLEND.items()}
    with pytest.raises(FusionError, match=message):
        weighted_average(both_channels(blend, "drums", place, value))


def test_channels_of_a_weighted_average_are_alike():
    blend = MixingWeights.same_source(BLEND)
    with pytest.raises(FusionError, match=r"other channels of a stem \(up to 0.3\)"):
        weighted_average(changed(blend, bass_left__a_bass_right=0.3))
    tilted = changed(blend, bass_left__a_bass_left=0.1, bass_right__a_bass_right=-0.1)
    with pytest.raises(FusionError, match=r"differ between the channels \(by up to 0.2\)"):
        weighted_average(tilted)
    assert weighted_average(tilted, nearest=True)["bass"] == pytest.approx(BLEND["bass"])


def test_nearest_average_keeps_proportions_and_needs_a_positive_sum():
    weights = redistribute(MixingWeights.same_source(BLEND), GAINS)
    nearest = weighted_average(weights, nearest=True)
    assert nearest == {source: pytest.approx(shares, abs=1e-6) for source, shares in BLEND.items()}
    for shares in ({"a": 1.0, "b": -1.0}, {"a": 0.0}, {"a": -1.0}):
        with pytest.raises(FusionError, match=r"weights of bass for its own stems are (a|none)"):
            weighted_average(MixingWeights.same_source({"bass": shares}), nearest=True)


def test_rounding_is_no_weight():
    blend = MixingWeights.same_source({"bass": {"a": 0.3 + 1e-7, "b": 0.7, "c": 1e-8}})
    assert weighted_average(blend) == {"bass": pytest.approx({"a": 0.3, "b": 0.7}, abs=1e-6)}
