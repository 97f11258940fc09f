"""A fusion of fusions is one matrix, where all of them are: the same audio, and exports for other programs."""

import json

import numpy as np

from makers.audio import noise32
from makers.commands import command
from stemfuse.blending import Fixed, Mean, MixingWeights, apply_weights, load_fusion
from stemfuse.blending.flattening import flattened
from stemfuse.separators import SOURCES, Track, load_separator

SEED = np.random.default_rng(4)


def described(**separators):
    return {label: separator.describe() for label, separator in separators.items()}


def saved(path, weights, separators):
    fusion = Fixed(weights).fit([])
    fusion.separators_ = separators
    weights.save(path, fusion=json.dumps({"kind": "fixed", "arguments": {"blend": {}}, "separators": separators}))
    return path


def random_weights(*separators):
    given = {source: {name: float(SEED.normal()) for name in separators} for source in SOURCES}
    return MixingWeights.same_source(given)


def test_nested_matrices_give_what_the_fusions_give_one_after_the_other(tmp_path):
    centre, other = load_separator("centre_channel"), load_separator("centre_channel", selectivity=3.0)
    repet = load_separator("repet_sim")
    inner = saved(tmp_path / "inner.npz", random_weights("a", "b"), described(a=centre, b=repet))
    both = described(a=other, c=centre) | {"inner": load_separator(str(inner)).describe()}
    outer = saved(tmp_path / "outer.npz", random_weights("a", "c", "inner"), both)
    flat, known = flattened(load_fusion(outer), outer)
    # `a` within is `c` without: the same separator; `b` is new
    assert flat.separators == ("a", "c", "b")
    assert [known[label]["name"] for label in "acb"] == ["centre_channel", "centre_channel", "repet_sim"]
    stems = {label: noise32(4, 2, 500, seed=seed) for seed, label in enumerate("acb")}
    track = Track.from_arrays("song", noise32(2, 500, seed=9), stems=stems)
    within = track.with_stems({"a": track.stems["c"], "b": track.stems["b"]})
    fused = apply_weights(load_fusion(inner).weights_, within)
    expected = apply_weights(load_fusion(outer).weights_, track.with_stems({"inner": fused}))
    np.testing.assert_allclose(apply_weights(flat, track).audio, expected.audio, atol=1e-6)


def test_others_of_one_label_are_told_apart_and_what_is_no_matrix_stays(tmp_path):
    repet, many = load_separator("repet_sim"), load_separator("repet_sim", neighbours=7)
    inner = saved(tmp_path / "inner.npz", random_weights("a"), described(a=many))
    median = tmp_path / "median.json"
    separators = described(a=repet)
    text = {"kind": "combine", "arguments": {"how": "median_wave"}, "separators": separators}
    median.write_text(json.dumps(text))
    both = separators | {
        "inner": load_separator(str(inner)).describe(),
        "median": load_separator(str(median)).describe(),
    }
    outer = saved(tmp_path / "outer.npz", random_weights("a", "inner", "median"), both)
    flat, _ = flattened(load_fusion(outer), outer)
    assert flat.separators == ("a", "inner.a", "median")


def test_an_export_names_the_separators_within(tmp_path):
    inner = saved(
        tmp_path / "inner.npz",
        MixingWeights.same_source({source: {"b": 0.5, "c": 0.5} for source in SOURCES}),
        described(b=load_separator("repet_sim"), c=load_separator("centre_channel")),
    )
    both = described(a=load_separator("harmonic_percussive")) | {"inner": load_separator(str(inner)).describe()}
    weights = MixingWeights.same_source({source: {"a": 0.5, "inner": 0.5} for source in SOURCES})
    outer = saved(tmp_path / "outer.npz", weights, both)
    result = command("export", outer, "--as", "msst", "--out", tmp_path / "blend.sh")
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "blend.sh").read_text()
    assert "inner" not in text
    assert "0.25" in text


def test_a_mean_of_other_separators_is_left_alone(tmp_path):
    track = Track.from_arrays("song", noise32(2, 100), stems={"a": noise32(4, 2, 100)})
    Mean().fit([track]).save(tmp_path / "mean.npz")
    fusion = load_fusion(tmp_path / "mean.npz")
    assert flattened(fusion, tmp_path / "mean.npz")[0] is fusion.weights_
