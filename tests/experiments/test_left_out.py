"""Songs that are left out in turn: every folder fits and tests, and no song is scored by weights that have seen it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from makers.commands import command
from stemfuse.analysis import GramStatistics
from stemfuse.blending import LeastSquares
from stemfuse.experiments import ConfigError, RunError, open_data, parse_config, run
from stemfuse.experiments.config import RunConfig
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.report import score_tables
from stemfuse.experiments.stages.single_fit import tracks_to_fit
from stemfuse.separators import SOURCES, StemStore

RATE = 44_100


def write_songs(folder, count, seed=0, name="song"):
    """Songs of noise, and stems of two separators that leak in their own ways."""
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        parts = generator.normal(0, 0.1, (4, RATE, 2)).astype("float32")
        parts *= generator.uniform(0.2, 1, (4, 1, 1)).astype("float32")
        song = folder / f"{name} {number}"
        song.mkdir(parents=True)
        for source, samples in zip(SOURCES, parts, strict=True):
            sf.write(song / f"{source}.wav", samples, RATE, subtype="FLOAT")
        sf.write(song / "mixture.wav", parts.sum(0), RATE, subtype="FLOAT")


def recipe(place, **changes):
    given = {
        "out": str(place / "run"),
        "store": str(place / "store"),
        "data": [{"path": str(place / "songs"), "label": "songs"}],
        "separators": ["centre_channel", "harmonic_percussive"],
        "fusions": ["mean", "least_squares"],
        "bounds": None,
        "players": {"tracks": 0},
        "workers": 1,
    }
    return parse_config(given | changes)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A flat folder of three songs, and its run."""
    place = tmp_path_factory.mktemp("flat")
    write_songs(place / "songs", 3)
    return place, run(recipe(place))


def sdr(finished, fusion):
    rows = finished.scores().query("metric == 'SDR' and fusion == @fusion")
    return rows.pivot_table("value", "track", "source", aggfunc="median", sort=False)[list(SOURCES)]


@pytest.mark.slow
def test_a_flat_folder_is_scored_by_weights_that_have_not_seen_the_song(flat):
    _, finished = flat
    plan = plan_run(finished.config)
    tracks = [plan.store.attach(planned.track, plan.keys) for planned in plan.tested()]
    values = sdr(finished, "least_squares")
    for track in tracks:
        weights = LeastSquares().fit([other for other in tracks if other is not track]).weights_
        expected = np.nanmedian(GramStatistics.of(track).sdr(weights), axis=1)
        np.testing.assert_allclose(values.loc[track.name], expected, atol=1e-4)
        own = LeastSquares().fit(tracks).weights_
        assert np.abs(np.nanmedian(GramStatistics.of(track).sdr(own), axis=1) - expected).max() > 0.01
    np.testing.assert_array_equal(finished.fusion("least_squares").weights_.matrix, own.matrix)


@pytest.mark.slow
def test_what_was_done_is_said_in_the_record_and_on_the_page(flat):
    _, finished = flat
    note = "each song is fused by weights that were fitted without it; the saved weights are fitted on all 3 songs"
    assert finished.record().notes == [note]
    assert note in finished.report_path.read_text()
    assert finished.record().warnings == []
    assert finished.record().fusions["mean"].folds == []
    assert len(finished.record().fusions["least_squares"].folds) == 3


@pytest.mark.slow
@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_its_folds(flat, tmp_path):
    place, finished = flat
    before = finished.scores()
    record = json.loads((finished.path / "record.json").read_text())
    damaged = finished.path / record["fusions"]["least_squares"]["folds"][1]
    damaged.write_bytes(b"damaged")
    pd.testing.assert_frame_equal(run(recipe(place)).scores(), before)
    assert run(recipe(place)).fusion("least_squares", 1).weights_.matrix.any()


@pytest.mark.slow
@pytest.mark.slow
def test_a_new_song_changes_the_weights_of_all(flat, tmp_path):
    place, _ = flat
    again = run(recipe(place, out=str(tmp_path / "two"), data=[{"path": str(place / "songs"), "tracks": 2}]))
    assert len(again.record().fusions["least_squares"].folds) == 2
    assert set(again.scores()["track"]) == {"song 0", "song 1"}


def plan_of(place, **fit):
    return plan_run(RunConfig.model_validate(recipe(place).model_dump() | {"fit": fit}))


@pytest.mark.parametrize(("count", "groups"), [(2, 2), (7, 7), (12, 8)])
def test_groups_of_songs(tmp_path, count, groups):
    write_songs(tmp_path / "songs", count)
    plan = plan_of(tmp_path)
    assert plan.folds == groups
    for fold in range(groups):
        train, valid = plan.fitted_on(fold)
        left_out = [planned.track for planned in plan.tested() if plan.refit_of(planned.track) == fold]
        assert left_out
        assert not valid
        assert {track.name for track in (*train, *left_out)} == {f"song {number}" for number in range(count)}
        assert not {*train} & {*left_out}
        assert plan.refit_of(replace(left_out[0])) == fold
    assert plan_of(tmp_path, folds=2).folds == 2


def test_a_tree_with_training_songs_keeps_its_split_unless_asked(tmp_path):
    write_songs(tmp_path / "songs" / "train", 2)
    write_songs(tmp_path / "songs" / "test", 2, seed=1, name="test song")
    plan = plan_of(tmp_path)
    assert plan.folds == 0
    assert [track.subset for track in plan.fitted_on()[0]] == ["train", "train"]
    plan = plan_of(tmp_path, folds=2)
    assert [track.subset for track in plan.fitted_on(0)[0]] == ["train", "train", "test"]
    plan = plan_of(tmp_path, test=["train", "test"], folds=4)
    assert len(plan.tested()) == 4
    assert len(plan.fitted_on(3)[0]) == 3
    assert len(plan.fitted_on()[0]) == 4


@pytest.mark.parametrize(("count", "fitted", "validated"), [(6, 6, 0), (7, 7, 0), (8, 7, 1), (14, 12, 2)])
def test_of_few_training_songs_none_is_set_aside_by_run_and_fit_alike(tmp_path, count, fitted, validated):
    write_songs(tmp_path / "songs" / "train", count)
    write_songs(tmp_path / "songs" / "test", 1, seed=1, name="test song")
    expected = [fitted, validated]
    assert [len(part) for part in plan_of(tmp_path).fitted_on()] == expected
    assert [len(part) for part in tracks_to_fit(open_data(tmp_path / "songs"), ["train"], ["valid"])] == expected
    (tmp_path / "songs" / "valid").mkdir()
    shutil.move(tmp_path / "songs" / "train" / "song 0", tmp_path / "songs" / "valid")
    # what the data set itself sets aside stays
    assert [len(part) for part in plan_of(tmp_path).fitted_on()] == [count - 1, 1]


@pytest.mark.parametrize("subset", ["train", "valid", "live"])
def test_one_subset_of_any_name_is_enough(tmp_path, subset):
    write_songs(tmp_path / "songs" / subset, 3)
    plan = plan_of(tmp_path)
    assert plan.folds == 3
    assert len(plan.tested()) == 3


def test_what_cannot_be_fitted_is_said_with_what_to_do(tmp_path):
    write_songs(tmp_path / "songs", 1)
    with pytest.raises(RunError, match="or give more than one song with references: they are left out in turn"):
        plan_of(tmp_path)
    tree = tmp_path / "tree"
    write_songs(tree / "songs" / "train", 2)
    with pytest.raises(RunError, match=r"tested songs are fitted on, such as .*; set fit.folds=5"):
        plan_of(tree, folds=0, test=["train"])
    with pytest.raises(ConfigError, match="one group leaves no song"):
        recipe(tmp_path, fit={"folds": 1})


@pytest.mark.slow
@pytest.mark.parametrize(("sounding", "silent"), [(0, "vocals"), (2, "drums"), (1, "bass")])
def test_a_song_without_which_nothing_can_be_fitted_ends_no_run(tmp_path, sounding, silent):
    write_songs(tmp_path / "songs", 3)
    for number in {0, 1, 2} - {sounding}:
        song = tmp_path / "songs" / f"song {number}"
        parts = {name: sf.read(song / f"{name}.wav", dtype="float32")[0] for name in ("mixture", silent)}
        sf.write(song / "mixture.wav", parts["mixture"] - parts[silent], RATE, subtype="FLOAT")
        sf.write(song / f"{silent}.wav", 0 * parts[silent], RATE, subtype="FLOAT")
    finished = run(recipe(tmp_path, estimates=True, players={"tracks": 3}))
    (note,) = [note for note in finished.record().notes if note.startswith("least_squares: no scores of")]
    assert f"test/song {sounding}" in note
    assert f"{silent} is silent in all of them" in note
    scores = finished.scores().query("metric == 'SDR' and frame >= 0")
    of_song = scores[scores["track"] == f"song {sounding}"]
    assert set(of_song["fusion"]) == {"mean", "centre_channel", "harmonic_percussive"}
    estimates = tmp_path / "run" / "estimates"
    assert not (estimates / "least_squares" / "test" / f"song {sounding}").exists()
    assert (estimates / "mean" / "test" / f"song {sounding}").is_dir()
    # as it is done, a second run computes nothing and says the same
    again = run(recipe(tmp_path, estimates=True, players={"tracks": 3}))
    assert again.record().notes == finished.record().notes
    assert again.record().finished == finished.record().finished


@pytest.mark.slow
def test_stems_in_the_store_are_separated_once(flat):
    store = StemStore(flat[0] / "store")
    assert [len(store.tracks_of(key)) for key in StemStore.keys(store)] == [3, 3]


@pytest.mark.slow
def test_a_file_that_was_fitted_on_tested_songs_says_so(flat, tmp_path):
    place, _ = flat
    options = ("--separators", "centre_channel,harmonic_percussive", "--store", place / "store", "--workers", 1)
    fitted = command("fit", "least_squares", "--data", place / "songs", *options, "--out", tmp_path / "seen.npz")
    assert fitted.returncode == 0, fitted.stderr
    write_songs(tmp_path / "new", 1, seed=1, name="new")
    shutil.copytree(place / "songs" / "song 1", tmp_path / "new" / "song 1")
    part = {"name": "fixed", "label": "seen", "options": {"blend": str(tmp_path / "seen.npz")}}
    given = {"store": str(place / "store"), "data": [{"path": str(tmp_path / "new")}], "fusions": ["mean", part]}
    finished = run(recipe(tmp_path, **given))
    note = "its file was fitted on 1 of these 2 songs: on others it gains less"
    ((_, table),) = score_tables(finished.path)
    assert table.set_index("method")["note"].to_dict() == {
        "centre_channel": "", "harmonic_percussive": "", "mean": "", "seen": note
    }  # fmt: skip
    assert note in finished.report_path.read_text()
    # what the run saves knows it too
    again = {"name": "fixed", "label": "seen", "options": {"blend": str(finished.path / "fusions" / "seen.npz")}}
    assert note in [
        fusion.note for fusion in run(recipe(tmp_path / "b", **given | {"fusions": [again]})).record().fusions.values()
    ]
