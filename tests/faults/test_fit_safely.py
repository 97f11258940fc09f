"""A fit at the command line is as safe as a run: killed or stopped, the same command goes on to the same weights."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from makers.audio import write_systems
from stemfuse.experiments import open_data
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.outputs import room_for
from stemfuse.experiments.stages import fit_fusion
from stemfuse.experiments.stages.train import Journal
from stemfuse.experiments.stages.unfinished import UnfinishedFit
from stemfuse.separators import StemStore

pytest.importorskip("torch")

SEPARATORS = ("centre_channel", "harmonic_percussive")
OPTIONS = {"segment": 8192, "shift": 4096, "epochs": 6}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    synthesize(folder / "band", {"train": 2}, 1.0, seed=8)
    fit_fusion("conv1x1", OPTIONS, folder / "band", folder / "store", SEPARATORS, folder / "whole.npz", workers=1)
    return folder


def start(place, out, epochs=6):
    options = [f"--option={name}={value}" for name, value in (OPTIONS | {"epochs": epochs}).items()]
    given = ["--data", "band", "--store", "store", "--separators", ",".join(SEPARATORS), "--workers", "1"]
    command = [sys.executable, "-m", "stemfuse", "fit", "conv1x1", *given, "--out", out, *options]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def signal_after(place, process, name, rows, number):
    """Send a signal once so many epochs are on record; whether the process still ran."""
    while process.poll() is None:
        found = list(place.glob(f".{name}-*.fitting/history.csv"))
        if found and len(found[0].read_text().splitlines()) > rows:
            break
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate(timeout=100)


def weights(file):
    return np.load(file)["matrix"]


@pytest.mark.slow
def test_killed_with_9_the_same_command_goes_on(place):
    process = start(place, "killed.npz", epochs=400)
    signal_after(place, process, "killed", 2, signal.SIGKILL)
    assert process.returncode == -9
    assert not (place / "killed.npz").exists()
    fit_fusion("conv1x1", OPTIONS, place / "band", place / "store", SEPARATORS, place / "killed.npz", workers=1)
    assert not list(place.glob(".killed-*"))
    assert len((place / "killed-history.csv").read_text().splitlines()) >= 1 + 1 + OPTIONS["epochs"]


@pytest.mark.slow
def test_ctrl_c_leaves_what_was_learnt_and_the_same_command_goes_on(place):
    process = start(place, "stopped.npz", epochs=400)
    _, messages = signal_after(place, process, "stopped", 3, signal.SIGINT)
    assert process.returncode == 130, messages
    assert "stopped.npz holds what was learnt until then" in " ".join(messages.split())
    learnt = weights(place / "stopped.npz")
    assert np.isfinite(learnt).all()
    assert not np.array_equal(learnt, weights(place / "whole.npz"))
    # what it left is its own to replace: no other file is kept beside
    fit_fusion("conv1x1", OPTIONS, place / "band", place / "store", SEPARATORS, place / "stopped.npz", workers=1)
    assert sorted(path.name for path in place.glob("*stopped*")) == ["stopped-history.csv", "stopped.npz"]


def test_a_fit_stopped_between_epochs_gives_the_weights_of_an_undisturbed_one(place):
    calls = []

    def progress(stage, done, total):
        if stage == "conv1x1":
            calls.append(done)
            if done == 3:
                raise KeyboardInterrupt

    given = (place / "band", place / "store", SEPARATORS, place / "resumed.npz")
    with pytest.raises(KeyboardInterrupt):
        fit_fusion("conv1x1", OPTIONS, *given, workers=1, progress=progress)
    assert (place / "resumed.npz").is_file()
    calls.clear()
    fit_fusion("conv1x1", OPTIONS, *given, workers=1, folds=0, progress=lambda *row: calls.append(row[1]))
    assert np.array_equal(weights(place / "resumed.npz"), weights(place / "whole.npz"))
    rows = (place / "resumed-history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", *map(str, range(OPTIONS["epochs"] + 1))]
    assert 1 not in calls[-3:]


@pytest.mark.parametrize(
    ("name", "options"),
    [("conv1x1", OPTIONS), ("search", {"trials": 12, "sampler": "tpe"})],
    ids=["trained", "searched"],
)
def test_a_fit_stopped_while_songs_are_left_out_does_not_learn_all_of_it_again(place, tmp_path, name, options):
    given = (name, options, place / "band", place / "store", SEPARATORS, tmp_path / "out.npz")
    stages = []

    def stop(stage, done, total):
        if stage == f"{name} with songs left out":
            raise KeyboardInterrupt

    undisturbed = fit_fusion(*given, workers=1)
    expected = weights(tmp_path / "out.npz")
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(KeyboardInterrupt):
        fit_fusion(*given, workers=1, progress=stop)
    assert list(tmp_path.glob(".out-*.fitting"))
    table = fit_fusion(*given, workers=1, progress=lambda *row: stages.append(row))
    # neither the fit nor that without the first song begins anew: no epoch, and no trial of the first, is said again
    if name == "conv1x1":
        assert not [row for row in stages if row[0] == "conv1x1" and row[1] < OPTIONS["epochs"]]
    assert table.equals(undisturbed)
    np.testing.assert_array_equal(weights(tmp_path / "out.npz"), expected)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == (["out-history.csv", "out.npz"] if name == "conv1x1" else ["out.npz"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv1x1", "gram_mixer"])
def test_what_is_stopped_before_the_first_epoch_writes_no_file(place, tmp_path, name, caplog):
    options = OPTIONS if name == "conv1x1" else {"epochs": 6}
    out = tmp_path / ("x.npz" if name == "conv1x1" else "x.safetensors")
    given = (name, options, place / "band", place / "store", SEPARATORS, out)

    def stop(stage, done, total):
        if stage == name and done == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_fusion(*given, workers=1, progress=stop)
    assert "nothing was learnt yet" in "".join(caplog.messages)
    assert not out.exists()
    fit_fusion(*given, workers=1)
    assert out.is_file()
    assert not list(tmp_path.glob(".x-*"))


@pytest.mark.parametrize("silent", [["speech"], ["music"], ["speech", "music"]])
def test_a_fit_that_fails_at_once_leaves_nothing_behind(tmp_path, silent):
    write_systems(tmp_path, 2, {"a": 0.02, "b": 0.03})
    for source in silent:
        for file in (tmp_path / "songs").rglob(f"{source}.wav"):
            audio, rate = soundfile.read(file)
            soundfile.write(file, 0 * audio, rate, subtype="FLOAT")
    store, out = tmp_path / "store", tmp_path / "s.npz"
    for system in "ab":
        StemStore(store).adopt(tmp_path / system, system, open_data(tmp_path / "songs", "sum"), "as-is")
    with pytest.raises(ValueError, match="no frame in which every reference sounds"):
        fit_fusion("search", {}, tmp_path / "songs", store, ["a", "b"], out, workers=1, mixture="sum")
    assert not list(tmp_path.glob(".s-*"))


@pytest.mark.slow
def test_a_file_that_was_there_is_kept_unless_it_is_the_same(place, tmp_path):
    out = tmp_path / "blend.npz"
    given = (place / "band", place / "store", SEPARATORS, out)
    fit_fusion("mean", {}, *given, workers=1)
    mean = out.read_bytes()
    fit_fusion("mean", {}, *given, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["blend.npz"]
    for _ in range(2):
        fit_fusion("least_squares", {}, *given, workers=1)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["blend.1.npz", "blend.npz"]
        assert (tmp_path / "blend.1.npz").read_bytes() == mean
    fit_fusion("mean", {}, *given, workers=1, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blend.1.npz", "blend.npz"]


def test_a_file_that_was_there_has_its_name_again_where_the_new_one_fails(tmp_path):
    out = tmp_path / "blend.safetensors"
    out.write_bytes(b"old")
    out.with_suffix(".json").write_bytes(b"old, too")

    def fail():
        with room_for(out, False, (".json",)):
            out.write_bytes(b"half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "blend.safetensors": b"old",
        "blend.json": b"old, too",
    }


@pytest.mark.slow
def test_a_search_that_is_stopped_keeps_its_trials(place, tmp_path):
    pytest.importorskip("optuna")
    given = (place / "band", place / "store", SEPARATORS, tmp_path / "search.npz")

    def progress(stage, done, total):
        if stage.startswith("search: vocals") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_fusion("search", {"trials": 4, "sampler": "random"}, *given, workers=1, progress=progress)
    assert next(tmp_path.glob(".search-*.fitting/search.journal")).stat().st_size > 1000
    fit_fusion("search", {"trials": 4, "sampler": "random"}, *given, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["search.npz"]


def test_only_what_the_fit_itself_left_may_be_replaced(tmp_path):
    out = tmp_path / "x.npz"
    unfinished = UnfinishedFit(out, "0" * 64)
    unfinished.begin()
    out.write_bytes(b"learnt until now")
    assert not unfinished.may_replace()
    unfinished.stop()
    assert unfinished.may_replace()
    out.write_bytes(b"another one")
    assert not unfinished.may_replace()


DAMAGED = [
    b"",
    b"epoci,loss\n0,1\n",
    b"epoch,loss\nx,1\n",
    b"epoch,loss\n0,x\n",
    b"\xff\xfe",
    b"epoch,loss\n\n0\n",
    b"epoch,loss\n0,1,2\n",
    b"epoch,loss\n0,\x00\n",
    b'epoch,loss\n"0,1\n',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_history_is_begun_anew_with_a_warning(tmp_path, caplog, content):
    unfinished = UnfinishedFit(tmp_path / "blend.npz", "0" * 64)
    unfinished.begin()
    unfinished.add({"epoch": 0, "loss": 2.0})
    unfinished.history.write_bytes(content)
    unfinished.add({"epoch": 1, "loss": 1.5})
    assert unfinished.history.read_text() == "epoch,loss\n1,1.5\n"
    journal = Journal(tmp_path / "history.csv")
    row = {"step": 9, "train_loss": 0.5, "valid_loss": -1.5, "seconds": 2.0}
    journal.path.write_bytes(content)
    journal({"epoch": 1, **row})
    journal({"epoch": 2, **row})
    assert journal.path.read_text().splitlines()[1:] == ["1,9,0.5,1.5,2.0", "2,9,0.5,1.5,2.0"]
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == (2 if content else 0)
    assert all("damaged" in text and "\n" not in text for text in warned)


def test_rows_of_earlier_epochs_stay_in_a_history(tmp_path):
    unfinished = UnfinishedFit(tmp_path / "blend.npz", "0" * 64)
    unfinished.begin()
    for epoch in (0, 1, 2, 3, 1, 2):
        unfinished.add({"epoch": epoch, "loss": 2.0, **({"rate": 0.1} if epoch else {})})
    assert unfinished.history.read_text() == "epoch,loss,rate\n0,2.0,\n1,2.0,0.1\n2,2.0,0.1\n"
