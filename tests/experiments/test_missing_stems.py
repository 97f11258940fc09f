"""Songs that some separators have no stems of: fused by the others, with weights that are fitted again."""

import json
import shutil

import numpy as np
import pytest
import soundfile as sf
import yaml

from makers.audio import PAIR, write_systems
from makers.commands import command
from stemfuse.blending import LeastSquares, Mean, Residual
from stemfuse.experiments import RunError, parse_config, run
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.stages import adopt_folder
from stemfuse.separators import StemStore

ERRORS = {"near": 0.02, "far": 0.03, "rough": 0.05}
LACKING = {"rough": {"song 1", "song 3"}, "far": {"song 3"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Six songs of speech and music, and stems by three systems: two of the systems lack songs."""
    root = tmp_path_factory.mktemp("missing")
    write_systems(root, 6, ERRORS, LACKING)
    return root


def recipe(place, out, **changes):
    given = {
        "out": str(out),
        "store": str(place / "store"),
        "data": [{"path": str(place / "songs"), "label": "songs", "mixture": "sum"}],
        "separators": [{"name": system, "stored": True} for system in ERRORS],
        "fusions": ["mean", "least_squares", "residual"],
        "missing": "refit",
        "players": {"tracks": 2},
        "estimates": True,
        "workers": 1,
    }
    return parse_config(given | changes)


@pytest.fixture(scope="module")
def finished(place):
    for system in ERRORS:
        options = ("--as", system, "--data", place / "songs", "--store", place / "store", "--mixture", "sum")
        done = command("adopt", place / system, *options)
        assert done.returncode == 0, done.stderr
    return run(recipe(place, place / "run"))


def with_stems(finished, labels):
    """Songs with the stems of some systems, those that have them."""
    plan = plan_run(finished.config)
    store, keys = StemStore(finished.config.store), {label: plan.keys[label] for label in labels}
    songs = [planned.track for planned in plan.tested()]
    return {song.name: store.attach(song, keys) for song in plan.having(labels, songs)}, plan


@pytest.mark.slow
def test_weights_are_solved_again_for_the_stems_that_a_song_has(finished):
    for name, labels in {
        "song 0": ("near", "far", "rough"),
        "song 1": ("near", "far"),
        "song 3": ("near",),
    }.items():
        songs, plan = with_stems(finished, labels)
        number = plan.refit_of(songs[name])
        others = [song for other, song in songs.items() if other != name]
        for fusion in (LeastSquares(), Residual(), Mean()):
            expected = fusion.fit(others).weights_
            found = finished.fusion(fusion.kind, number)
            assert found.weights_.inputs == expected.inputs, (name, fusion)
            np.testing.assert_allclose(found.weights_.matrix, expected.matrix, atol=1e-6)
            assert tuple(found.separators_) == labels
        fused = LeastSquares().fit(others).fuse(songs[name])
        written = finished.path / "estimates" / "least_squares" / songs[name].subset / name
        for source in PAIR:
            samples = sf.read(written / f"{source}.wav", dtype="float32")[0].T
            np.testing.assert_allclose(samples, fused[source].read(), atol=1e-6)


@pytest.mark.slow
def test_tables_say_which_songs_a_method_has_and_compare_on_them(finished):
    from stemfuse.experiments.report import score_tables

    ((_, table),) = score_tables(finished.path)
    table = table.set_index("method")
    assert table.loc["rough", "note"] == "on 4 of 6 songs"
    assert table.loc["far", "note"] == "on 5 of 6 songs"
    assert table.loc[["near", "mean", "least_squares", "residual"], "note"].eq("").all()
    scores = finished.scores().query("metric == 'SDR'").pivot_table("value", ["track", "source"], "fusion")
    own = scores.dropna(subset="rough")[["near", "rough"]].groupby("source").median().mean()
    assert table.loc["rough", "over best separator"] == pytest.approx(own["rough"] - own["near"], abs=0.02)
    assert table.loc["least_squares", "over best separator"] > 0.3
    (note,) = [note for note in finished.record().notes if "not all separators" in note]
    assert "song 1" in note
    assert "song 3" in note
    assert "song 0" not in note
    page = finished.report_path.read_text()
    assert "on 4 of 6 songs" in page
    assert note in page


@pytest.mark.slow
def test_stems_that_come_later_are_used_by_the_next_run(finished, place, tmp_path):
    assert run(finished.config).record().finished == finished.record().finished
    store = tmp_path / "store"
    shutil.copytree(place / "store", store)
    given = {"store": str(store), "fusions": ["mean", "least_squares"], "estimates": False}
    before = run(recipe(place, tmp_path / "run", **given))
    songs, plan = with_stems(before, ("near", "far"))
    assert plan.refit_of(songs["song 1"]) != plan.refit_of(songs["song 0"])
    made = tmp_path / "rough" / "song 1"
    shutil.copytree(place / "near" / "song 1", made)
    options = ("--as", "rough", "--data", place / "songs", "--store", store, "--mixture", "sum")
    assert command("adopt", tmp_path / "rough", *options).returncode == 0
    after = run(recipe(place, tmp_path / "run", **given))
    table = after.scores()
    assert "song 1" in set(table.loc[table["fusion"] == "rough", "track"])
    songs, plan = with_stems(after, tuple(ERRORS))
    expected = LeastSquares().fit([song for name, song in songs.items() if name != "song 1"]).weights_
    found = after.fusion("least_squares", plan.refit_of(songs["song 1"])).weights_
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-6)


@pytest.mark.slow
def test_what_cannot_be_done_is_said_before_any_work(finished, place, tmp_path):
    with pytest.raises(RunError, match=r"no usable stems by far .* of song 3.*--missing skip .*--missing refit"):
        run(recipe(place, tmp_path / "a", missing="error"))
    store = tmp_path / "store"
    shutil.copytree(place / "store", store)
    plan = plan_run(recipe(place, tmp_path / "b", store=str(store)))
    for planned in plan.tracks:
        for system in ("far", "rough"):
            if planned.track.name != ("song 0" if system == "far" else "song 2"):
                shutil.rmtree(StemStore(store).path(planned.track, plan.keys[system]), ignore_errors=True)
    with pytest.raises(
        RunError, match=r"song 0: no other song to fit on has stems by near and far; leave .*missing: skip"
    ):
        run(recipe(place, tmp_path / "b", store=str(store)))
    two = [{"name": system, "stored": True} for system in ("far", "rough")]
    with pytest.raises(RunError, match=r"no two of far, rough have stems of the same two songs"):
        run(recipe(place, tmp_path / "b", store=str(store), missing="skip", separators=two))
    assert not (tmp_path / "b").exists()


LEADERBOARD = {"near": {"song 4", "song 5"}, "far": {"song 0", "song 1"}, "rough": {"song 2", "song 3"}}
"""As in listening tests: each song has two of three systems."""


@pytest.fixture(scope="module")
def leaderboard(tmp_path_factory):
    root = tmp_path_factory.mktemp("leaderboard")
    write_systems(root, 6, ERRORS, LEADERBOARD, seconds=4)
    return root


@pytest.mark.long
def test_systems_that_share_no_song_are_compared_on_what_they_share(leaderboard):
    given = ["compare", leaderboard / "songs", *(f"{name}={leaderboard / name}" for name in ERRORS)]
    skipped = command(*given, "--missing", "skip", "--out", leaderboard / "skip", "--workers", 1)
    assert skipped.returncode == 0, skipped.stderr
    assert "no song has stems by all separators: rough left out" in " ".join(skipped.stderr.split())
    record = json.loads((leaderboard / "skip/run/record.json").read_text())
    assert {track["name"] for track in record["tracks"]} == {"song 2", "song 3"}
    refitted = command(*given, "--missing", "refit", "--out", leaderboard / "refit", "--workers", 1)
    assert refitted.returncode == 0, refitted.stderr
    record = json.loads((leaderboard / "refit/run/record.json").read_text())
    assert len(record["tracks"]) == 6
    assert any("no song to fit on has stems by all separators" in note for note in record["notes"])
    scored = run(parse_config(yaml.safe_load((leaderboard / "refit/run/config.yaml").read_text()))).scores()
    medians = scored[scored["metric"] == "SDR"].groupby(["fusion", "track"])["value"].median().unstack()
    assert medians.loc["blend"].notna().all()
    # the better of two systems with independent errors is improved in every song
    assert (medians.loc["least_squares"] > medians.loc[list(ERRORS)].max()).all()


def test_what_is_said_of_separators_that_are_left_out_is_true(tmp_path):
    """One song has stems by all: it cannot be left out in turn alone."""
    systems = {"near": 0.02, "far": 0.03, "rough": 0.05}
    write_systems(tmp_path, 4, systems, {"rough": {"song 0", "song 1", "song 2"}})
    for system in systems:
        adopt_folder(
            tmp_path / system, system, tmp_path / "songs", tmp_path / "store", mixture="sum", show=lambda line: None
        )
    given = {"missing": "skip", "fusions": ["least_squares"]}
    plan = plan_run(recipe(tmp_path, tmp_path / "run", **given))
    assert plan.dropped == (
        "only one song has stems by all separators, and a song that is left out needs another to be fitted on: "
        "rough left out"
    )
    assert list(plan.keys) == ["near", "far"]


@pytest.mark.slow
def test_the_next_command_names_no_separator_that_was_left_out(tmp_path):
    write_systems(tmp_path, 3, ERRORS, {"rough": {"song 0", "song 1"}})
    given = [f"{system}={tmp_path / system}" for system in ERRORS]
    options = ("--out", tmp_path / "out", "--missing", "skip", "--workers", 1, "--model", "rough=x")
    (tmp_path / "rough").rename(tmp_path / "stems")
    (tmp_path / "rough").mkdir()
    (tmp_path / "stems").rename(tmp_path / "rough" / "x")
    done = command("compare", tmp_path / "songs", *given, *options)
    assert done.returncode == 0, done.stderr
    following = next(line for line in done.stdout.splitlines() if line.startswith("  stemfuse fuse"))
    assert "--stems near=" in following
    assert "rough" not in following


@pytest.mark.long
def test_a_song_without_one_of_a_systems_stems_is_missing_there(place, tmp_path):
    for folder in ("songs", *ERRORS):
        shutil.copytree(place / folder, tmp_path / folder)
    (tmp_path / "far/song 2/music.wav").unlink()
    given = ["compare", tmp_path / "songs", *(f"{name}={tmp_path / name}" for name in ("near", "far"))]
    for missing, count in (("skip", 4), ("refit", 6)):
        shown = command(*given, "--missing", missing, "--out", tmp_path / missing, "--workers", 1)
        assert shown.returncode == 0, shown.stderr
        assert "far has no stems of 2 of 6 songs" in " ".join(shown.stderr.split())
        record = json.loads((tmp_path / missing / "run/record.json").read_text())
        assert len(record["tracks"]) == count


@pytest.mark.slow
def test_compare_keeps_all_songs(place, tmp_path):
    given = [f"{system}={place / system}" for system in ERRORS]
    done = command("compare", place / "songs", *given, "--out", tmp_path, "--missing", "refit", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "rough has no stems of 2 of 6 songs, fused by the others there" in done.stderr
    assert "of 6 songs won" in done.stdout
    read = command("compare", place / "songs", *given, "--out", tmp_path, "--missing", "refit", "--json")
    assert json.loads(read.stdout)["verdicts"][0]["songs"] == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("systems", "left", "said"),
    [
        (("near", "far"), 5, "far has no stems of 1 of 6 songs"),
        (("near", "rough"), 4, "rough has no stems of 2 of 6"),
        (("near", "far", "rough"), 4, "rough has no stems of 2 of 6 songs, left out: song 1, song 3"),
    ],
)
def test_fit_leaves_songs_out_that_a_separator_lacks_where_it_is_told_to(place, tmp_path, systems, left, said):
    for system in systems:
        options = ("--as", system, "--data", place / "songs", "--store", tmp_path / "store", "--mixture", "sum")
        assert command("adopt", place / system, *options).returncode == 0
    fit = ["fit", "mean", "--data", place / "songs", "--store", tmp_path / "store", "--mixture", "sum", "--workers", 1]
    fit += ["--separators", ",".join(systems), "--out", tmp_path / "x.npz"]
    refused = command(*fit)
    assert (refused.returncode, "--missing skip" in refused.stderr) == (1, True)
    done = command(*fit, "--missing", "skip")
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert f"{left} songs: " in done.stdout
