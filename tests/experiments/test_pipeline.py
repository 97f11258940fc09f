"""The pipeline end to end: real and synthetic music, interrupted and resumed, through the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import yaml

from makers.audio import clip_streams, write_track
from makers.commands import command, process
from stemfuse.blending import make_fusion
from stemfuse.experiments import ConfigError, Run, RunError, load_config, parse_config, run
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.config import SeparatorConfig
from stemfuse.experiments.demo import example_clip
from stemfuse.experiments.machine import training_devices
from stemfuse.experiments.report import score_tables
from stemfuse.experiments.stored_separators import stored_separator
from stemfuse.experiments.workers import kept_processes, run_tasks
from stemfuse.separators import SOURCES, BaseSeparator, StemStore
from stemfuse.separators.training import Execution

SEPARATORS = ["harmonic_percussive", "centre_channel"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds of real music."""
    folder = tmp_path_factory.mktemp("clip")
    write_track(folder / "test" / "song", np.stack(clip_streams(1, 2, 3, 4))[..., 88_200:176_400])
    return folder


@pytest.fixture(scope="module")
def band(tmp_path_factory):
    """A synthetic tree with one training and two test songs of two seconds."""
    root = tmp_path_factory.mktemp("data") / "synth band"
    synthesize(root, {"train": 1, "test": 2}, 2.0, 6)
    return root


def recipe(out, band, clip=None, **changes):
    music = {"path": str(clip or example_clip()), "label": "clip"}
    given = {
        "out": str(out / "run"),
        "store": str(out / "store"),
        "data": [music, {"path": str(band), "label": "band", "real": False}],
        "separators": SEPARATORS,
        "fusions": [
            "mean",
            {"name": "combine", "options": {"how": "median_wave"}},
            {"name": "fixed", "options": {"blend": {source: [0.75, 0.25] for source in SOURCES}}},
        ],
        "players": {"tracks": 1, "duration_s": 2},
        "workers": 1,
    }
    return given | changes


@pytest.fixture(scope="module")
def finished(tmp_path_factory, band, clip):
    """One undisturbed run that most tests look at."""
    out = tmp_path_factory.mktemp("finished")
    return run(parse_config(recipe(out, band, clip, estimates=True)))


def test_a_run_leaves_all_that_its_contract_names(finished):
    for name in ("config.yaml", "record.json", "scores.parquet", "report/index.html", "fusions/mean.npz"):
        assert (finished.path / name).is_file(), name
    assert list((finished.path / "museval" / "mean" / "test").glob("*.json"))
    scores = pd.read_parquet(finished.scores_path)
    assert list(scores.columns) == ["track", "fusion", "source", "frame", "metric", "value"]
    assert set(scores["fusion"]) == {*SEPARATORS, "mean", "combine", "fixed"}
    assert set(scores["source"]) == set(SOURCES)
    record = finished.record()
    assert record.finished
    assert {track.data for track in record.tracks} == {"clip", "band"}
    assert record.separators["centre_channel"].key.startswith("centre_channel-")
    assert record.separators["centre_channel"].describe["name"] == "centre_channel"
    assert load_config(finished.path / "config.yaml") == finished.config


def test_a_fusion_without_weights_is_scored_and_kept_as_json(finished):
    """The median of two is their mean: both fusions have the same scores."""
    scores = finished.scores().query("metric == 'SDR'").pivot_table("value", ["track", "source", "frame"], "fusion")
    np.testing.assert_allclose(scores["combine"], scores["mean"], atol=1e-4)
    assert (finished.path / "fusions" / "combine.json").is_file()


def test_training_songs_are_left_alone_when_nothing_learns(finished):
    store = StemStore(finished.config.store)
    for key in StemStore.keys(store):
        assert {subset for subset, _ in store.tracks_of(key)} <= {"test", "songs"}


def test_the_mean_is_at_least_as_good_as_the_mean_of_the_separators(finished):
    """The squared error of a mean is at most the mean of the squared errors."""
    scores = finished.scores()
    song = scores[scores["metric"] == "song_SDR"].pivot(index=["track", "source"], columns="fusion", values="value")
    errors = 10 ** (-song / 10)
    assert (errors["mean"] <= errors[SEPARATORS].mean(axis=1) * (1 + 1e-5)).all()


def test_estimates_are_what_was_scored(finished):
    path = next((finished.path / "estimates" / "mean").glob("*/*/vocals.wav"))
    fused, rate = sf.read(path)
    store = StemStore(finished.config.store)
    place = f"*/{{}}/{path.parent.parent.name}/{path.parent.name}/vocals.wav"
    stems = [sf.read(next(store.root.glob(place.format(key))))[0] for key in StemStore.keys(store)]
    assert (rate, sf.info(path).subtype) == (44100, "FLOAT")
    np.testing.assert_allclose(fused, np.mean(stems, axis=0), atol=1e-6)


def test_a_second_run_computes_nothing(finished, band, clip, monkeypatch):
    monkeypatch.setattr(BaseSeparator, "separate", lambda *_: pytest.fail("a separator ran"))
    page = finished.report_path.stat().st_mtime_ns
    config = recipe(finished.path.parent, band, clip, estimates=True)
    assert run(config).record().started == finished.record().started
    assert finished.report_path.stat().st_mtime_ns == page


@pytest.mark.slow
def test_another_fusion_on_a_warm_store_runs_no_separator(finished, band, tmp_path, monkeypatch):
    monkeypatch.setattr(BaseSeparator, "separate", lambda *_: pytest.fail("a separator ran"))
    data = [{"path": str(band), "label": "band", "tracks": 1}]
    store = str(finished.config.store)
    again = run(recipe(tmp_path, band, store=store, data=data, fusions=["mean"], bounds=None)).scores()
    theirs = finished.scores().query("track in @again.track and fusion in @again.fusion")
    keys = ["track", "fusion", "source", "metric", "frame"]
    same = again.merge(theirs, on=keys, how="left", suffixes=("", "_before"))
    assert set(again["fusion"]) == {*SEPARATORS, "mean"}
    np.testing.assert_array_equal(same["value"], same["value_before"])


@pytest.mark.slow
def test_killed_with_9_and_started_again_it_ends_with_the_same_scores(finished, band, tmp_path):
    path = tmp_path / "recipe.yaml"
    data = [{"path": str(band), "label": "band", "real": False}]
    path.write_text(yaml.safe_dump(recipe(tmp_path, band, data=data, workers=2, bounds=None)), encoding="utf-8")
    arguments = [sys.executable, "-m", "stemfuse", "run", str(path)]
    killed = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "store").glob("*/*/*/*/stems.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = {entry: entry.stat().st_mtime_ns for entry in (tmp_path / "store").glob("*/*/*/*/stems.json")}
    assert kept
    assert not (tmp_path / "run" / "scores.parquet").exists()
    again = command("run", path)
    assert again.returncode == 0, again.stderr
    assert {entry: entry.stat().st_mtime_ns for entry in kept} == kept, "what was done is not done again"
    whole = finished.scores()
    whole = whole[whole["track"].isin([track.name for track in finished.record().tracks if track.data == "band"])]
    pd.testing.assert_frame_equal(Run.open(tmp_path / "run").scores(), whole.reset_index(drop=True))
    assert StemStore(tmp_path / "store").verify() == []


def test_ctrl_c_ends_with_a_message_and_keeps_what_is_done(band, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(tmp_path, band)), encoding="utf-8")
    arguments = [sys.executable, "-m", "stemfuse", "run", str(path)]
    stopped = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "store").glob("*/*/*/*/stems.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    stopped.send_signal(signal.SIGINT)
    _, messages = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, messages
    assert "the same command goes on from here" in messages
    assert "Traceback" not in messages


@pytest.mark.slow
def test_the_report_can_be_made_again_from_the_folder(finished):
    before = finished.report_path.read_text()
    finished.report_path.unlink()
    result = command("report", finished.path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(finished.report_path)
    assert finished.report_path.read_text() == before


@pytest.mark.slow
def test_score_reads_the_estimates_as_the_run_did(finished, band, tmp_path):
    estimates = finished.path / "estimates"
    arguments = ["score", "--references", band, "--estimates", estimates / "mean", "--estimates", estimates / "fixed"]
    arguments += ["--workers", 1]
    result = command(*arguments, "--out", tmp_path / "scores", "--json")
    assert result.returncode == 0, result.stderr
    rows = {(row["method"], row["metric"]): row for row in json.loads(result.stdout)}
    scores = finished.scores()
    names = [track.name for track in finished.record().tracks if track.data == "band"]
    of_band = scores[scores["track"].isin(names) & (scores["fusion"] == "mean") & (scores["metric"] == "song_SDR")]
    expected = of_band.groupby("source")["value"].mean()
    for source in SOURCES:
        assert rows["mean", "song_SDR"][source] == pytest.approx(expected[source], abs=1e-6)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "scores" / ".parts").iterdir()}
    assert command(*arguments, "--out", tmp_path / "scores").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in parts} == parts, "a second call scores nothing anew"


def test_separate_and_list_through_the_command_line(tmp_path, band):
    store = tmp_path / "store"
    song = next(band.glob("test/*/mixture.wav"))
    result = command("separate", song, "--separator", "centre_channel", "--store", store, "--json")
    assert result.returncode == 0, result.stderr
    (entry,) = json.loads(result.stdout)
    assert sorted(path.stem for path in Path(entry["path"]).glob("*.wav")) == sorted(SOURCES)
    listed = command("list", "separators", "--json")
    assert {"demucs", "repet_sim", *SEPARATORS} <= set(json.loads(listed.stdout))


def test_combine_through_the_command_line(tmp_path):
    generator = np.random.default_rng(0)
    stems = [generator.normal(0, 0.1, (9000, 2)).astype("float32") for _ in range(3)]
    files = [tmp_path / f"stem {number}.wav" for number in range(3)]
    for file, samples in zip(files, stems, strict=True):
        sf.write(file, samples, 44100, subtype="FLOAT")
    out = tmp_path / "out.wav"
    result = command("combine", *files, "--how", "avg_wave", "--weights", "2,1,1", "--out", out)
    assert (result.returncode, result.stdout.strip()) == (0, str(out)), result.stderr
    np.testing.assert_allclose(sf.read(out)[0], np.average(stems, axis=0, weights=[2, 1, 1]), atol=1e-7)
    for arguments, code in ((["--how", "avg_wave", "--weights", "2,x"], 2), (["--how", "best"], 2)):
        refused = command("combine", *files, *arguments, "--out", out)
        assert refused.returncode == code
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "nowhere.yaml"], 2, "cannot be read"),
        (["separate", "nowhere.wav", "--separator", "centre_channel", "--store", "s"], 2, "nowhere.wav"),
        (["separate", ".", "--separator", "centaur", "--store", "s"], 2, "centre_channel, command"),
        (["report", "."], 2, "no run folder"),
        (["list", "dragons"], 2, "expected one of separators, fusions, datasets, presets"),
        (["score", "--references", "none", "--estimates", "none"], 2, "none"),
    ],
)
def test_errors_are_one_message_without_a_traceback(tmp_path, arguments, code, message):
    result = command(*arguments, cwd=tmp_path)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_tracks_that_fail_are_all_named_and_the_others_are_kept(tmp_path):
    data = tmp_path / "data" / "test"
    generator = np.random.default_rng(0)
    for name, bad in (("fine", False), ("broken", True), ("cracked", True)):
        (data / name).mkdir(parents=True)
        for part in ("mixture", *SOURCES):
            samples = generator.normal(0, 0.1, (22050, 2)).astype("float32")
            if bad:
                samples[100, 0] = np.nan
            sf.write(data / name / f"{part}.wav", samples, 44100, subtype="FLOAT")
    config = {"out": tmp_path / "run", "store": tmp_path / "store", "data": [data.parent], "separators": SEPARATORS[1:]}
    with pytest.raises(RunError, match=r"2 of 3 failed: (?s:.)*sample 100 of channel 0 is nan"):
        run(config | {"workers": 1})
    store = StemStore(tmp_path / "store")
    assert store.tracks_of(store.find("centre_channel")) == [("test", "fine")]


def test_configs_name_the_keys_they_know(tmp_path):
    good = {"out": "r", "store": "s", "data": ["d"], "separators": ["repet_sim"]}
    for change, message in (
        ({"fusion": 1}, "key fusion is unknown, allowed are out, store, data"),
        ({"data": [{"path": "d", "pth": 1}]}, r"key data\.0\.pth is unknown, allowed are path, label"),
        ({"separators": ["a", "a"]}, "two separators and fusions are called a"),
        ({"score": {"window_s": -1}}, r"score\.window_s: got -1, input should be greater than 0"),
        ({"separators": []}, "separators"),
        ({"fit": {"test": "test"}}, r"fit\.test: got 'test', expected a list, such as \[test\]"),
        ({"bounds": {"bands_hz": 500}}, r"bounds\.bands_hz: got 500, expected a list, such as \[500\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config(good | change)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(good))
    config = load_config(path, ["score.backend=museval", "data.0=other songs", "workers=3"])
    assert (config.score.backend, str(config.data[0].path), config.workers) == ("museval", "other songs", 3)
    for override in ("nothing", "data.7=x", "out.sub=1"):
        with pytest.raises(ConfigError, match="override"):
            load_config(path, [override])
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(path)


@pytest.mark.slow
@pytest.mark.ffmpeg
def test_museval_reads_our_estimates_tree_and_agrees(finished, band):
    """Where a real ffmpeg is, musdb and museval themselves read the data and the estimates."""
    import musdb
    import museval

    references = musdb.DB(root=str(band), is_wav=True, subsets="test")
    estimates = finished.path / "estimates" / "mean"
    output = finished.path.parent / "museval output"
    museval.eval_mus_dir(dataset=references, estimates_dir=str(estimates), output_dir=str(output))
    theirs = {}
    for file in output.glob("test/*.json"):
        for target in json.loads(file.read_text())["targets"]:
            values = [frame["metrics"]["SDR"] for frame in target["frames"]]
            theirs[file.stem, target["name"]] = np.nanmedian(values)
    ours = (
        finished.scores().query("fusion == 'mean' and metric == 'SDR'").groupby(["track", "source"])["value"].median()
    )
    names = [track.name for track in references]
    assert names
    for name in names:
        for source in SOURCES:
            assert ours[name, source] == pytest.approx(theirs[name, source], abs=2e-5)


def test_nothing_is_printed_where_a_program_reads(finished, tmp_path, band):
    result = process("list", "fusions", "--json", env={**os.environ, "COLUMNS": "20"})
    assert set(json.loads(result.stdout)) >= {"mean", "fixed"}
    assert result.stderr == ""


@pytest.mark.slow
def test_estimates_are_written_for_songs_that_were_scored_before(finished, tmp_path, band):
    data = [{"path": str(band), "label": "band", "tracks": 1}]
    store = str(finished.config.store)
    before = recipe(tmp_path, band, store=store, fusions=["mean"], bounds=None, data=data)
    run(before)
    again = run(before | {"estimates": True})
    assert len(list((again.path / "estimates/mean/test").glob("*/vocals.wav"))) == 1


def test_a_record_that_is_none_is_one_clear_line(tmp_path):
    for text, words in (
        ("[1]", "is no record of a run .the file: Input should be a valid dictionary"),
        ('{"fusions": {"mean": 3}}', r"is no record of a run .fusions\.mean: Input should be"),
        ('{"tracks": ', "damaged"),
    ):
        (tmp_path / "record.json").write_text(text)
        with pytest.raises(RunError, match=f"record.json: {words}") as raised:
            Run.open(tmp_path).record()
        assert "\n" not in str(raised.value)
        assert "delete it and run again" in str(raised.value)


def test_a_record_is_written_as_it_was_read(tmp_path, finished):
    text = finished.record_path.read_text("utf-8")
    again = Run(tmp_path)
    again.write_record(finished.record())
    assert again.record_path.read_text("utf-8") == text
    older = {"tracks": [{"name": "a"}], "fusions": {"mean": {"linear": True}}, "from another version": [1]}
    (tmp_path / "record.json").write_text(json.dumps(older))
    again.write_record(again.record())
    written = json.loads(again.record_path.read_text())
    assert written.pop("seal")
    assert written == older


def test_devices_are_those_that_were_used(finished, tmp_path):
    assert finished.record().machine["device"] == "cpu"
    store = StemStore(tmp_path)
    for options, devices in (({}, ["cpu"]), ({"device": "cuda"}, ["cuda:0"]), ({"device": "cuda:1"}, ["cuda:1"])):
        assert stored_separator(SeparatorConfig(name="xumx_small", options=options), store).devices == devices
    assert stored_separator(SeparatorConfig(name="centre_channel"), store).devices == ["cpu"]
    mixer = make_fusion("gram_mixer")
    mixer.execution = Execution(accelerator="cuda", devices=2)
    assert training_devices(mixer) == ["cpu"], "it is not trained"
    mixer.history_ = [{"epoch": 1.0}]
    assert training_devices(mixer) == ["cuda:0", "cuda:1"]


def test_a_finished_run_is_shown_as_it_was_printed_without_what_takes_long_to_import(finished):
    program = (
        "import sys\n"
        "from stemfuse.experiments.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'pandas', 'torch', 'matplotlib.pyplot', 'scipy.fft'} & set(sys.modules)))"
    )
    path = finished.path / "config.yaml"
    shown = subprocess.run([sys.executable, "-c", program, "run", path], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
    title, table = score_tables(finished.path)[0]
    assert title in shown.stdout
    for method, value in zip(table["method"], table["mean"], strict=True):
        assert f"{value:.2f}" in next(line for line in shown.stdout.splitlines() if line.startswith(f"{method} "))


@pytest.mark.slow
def test_stages_share_their_processes():
    tasks = ["__import__('os').getpid()"] * 4
    with kept_processes(2):
        shared = [{pid for _, pid in run_tasks(eval, tasks, 2)} for _ in range(2)]
    alone = {pid for _, pid in run_tasks(eval, tasks, 2)}
    assert len(shared[0] | shared[1]) <= 2
    assert not alone & (shared[0] | shared[1] | {os.getpid()})
