"""How mixers are trained by a recipe and at the command line: packs, precision, curves, and what is refused."""

import csv
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from makers.commands import command
from stemfuse.experiments import ConfigError, parse_config, run
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.config import FusionConfig, TrainingConfig
from stemfuse.experiments.identity import fit_digest, run_identity
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.training import PACKS, execution_of
from stemfuse.separators import StemStore

SEPARATORS = ["harmonic_percussive", "centre_channel"]
MLP = {"segment": 4096, "shift": 4096, "fold": 64, "layers": 1, "epochs": 2}
LOG = {"log": "tensorboard"} if find_spec("tensorboard") else {}
CONV = {"segment": 4096, "shift": 4096, "epochs": 2, "accumulate": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    synthesize(folder / "band", {"train": 2, "test": 1}, 1.5, seed=8)
    return folder


def recipe(place, out, **training):
    fusions = [
        {"name": "mlp_mixer", "label": "mlp", "options": MLP},
        {"name": "conv1x1", "label": "conv", "options": CONV},
    ]
    given = {
        "out": str(place / out),
        "store": str(place / "store"),
        "data": [{"path": str(place / "band"), "real": False}],
        "separators": SEPARATORS,
        "fusions": fusions,
        "bounds": None,
        "players": {"tracks": 0},
        "workers": 1,
    }
    return parse_config(given | ({"training": training} if training else {}))


@pytest.fixture(scope="module")
def finished(place):
    """A run whose mixers are trained from packs, which is the default, with curves where they can be written."""
    return run(recipe(place, "run", **LOG))


def packs(place):
    return {path.name: path.stat().st_mtime_ns for path in (place / "store" / PACKS).glob("*.pack")}


def fit(place, name, out, options, **training):
    given = ["--data", place / "band", "--store", place / "store", "--separators", ",".join(SEPARATORS), "--folds", 0]
    given += [f"--option={key}={value}" for key, value in options.items()]
    given += [f"--training={key}={value}" for key, value in training.items()]
    done = command("fit", name, *given, "--out", place / out)
    assert done.returncode == 0, done.stderr
    return (place / out).read_bytes(), " ".join(done.stderr.split())


@pytest.mark.slow
def test_packs_are_shared_and_give_the_same_weights_bit_for_bit(place, finished, monkeypatch):
    # what is done in seconds says nothing of its size
    monkeypatch.setattr("stemfuse.mixers.estimate.SMALL_FLOPS", 0)
    monkeypatch.setattr("stemfuse.mixers.estimate.SHORT_S", 0)
    made = packs(place)
    assert len(made) == 2, "one for each training song, for both mixers"
    learnt = {name: (finished.path / "fusions" / name).read_bytes() for name in ("mlp.safetensors", "conv.npz")}
    assert fit(place, "mlp_mixer", "plain.safetensors", MLP, packs=False)[0] == learnt["mlp.safetensors"]
    plain, said = fit(place, "conv1x1", "plain.npz", CONV, packs=False)
    assert plain == learnt["conv.npz"]
    assert "conv1x1: 144 parameters; " in said
    assert " on the first steps " in said
    assert fit(place, "conv1x1", "packed.npz", CONV)[0] == plain
    assert packs(place) == made
    assert fit(place, "conv1x1", "coarse.npz", CONV, pack_kind="float16")[0] != plain
    assert len(packs(place)) == 4


@pytest.mark.slow
def test_what_decides_weights_is_part_of_a_fit_and_nothing_else_is(place, finished):
    plan = plan_run(recipe(place, "run"))
    usual = [run_identity(plan), *(fit_digest(plan, part) for part in plan.fusions)]
    for training in ({"accelerator": "cpu", "packs": False}, {"checkpoint_minutes": 1, "strategy": "ddp_spawn"}, LOG):
        plan = plan_run(recipe(place, "run", **training))
        assert [run_identity(plan), *(fit_digest(plan, part) for part in plan.fusions)] == usual
    for training in ({"precision": "bf16-mixed"}, {"tf32": True}, {"pack_kind": "float16"}, {"devices": 2}):
        plan = plan_run(recipe(place, "run", **training))
        found = [run_identity(plan), *(fit_digest(plan, part) for part in plan.fusions)]
        assert not set(found) & set(usual)
        # the mean, which is not trained, is what it was
        (mean,) = FusionConfig(name="mean").cells()
        assert fit_digest(plan, mean) == fit_digest(plan_run(recipe(place, "run")), mean)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs the package tensorboard")
def test_curves_are_written_for_tensorboard_and_read_back(place, finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for label in ("mlp", "conv"):
        (folder,) = (finished.path / "tensorboard").glob(f"{label}-*")
        curves = EventAccumulator(str(folder)).Reload()
        with (finished.path / f"fusions/{label}-history.csv").open() as file:
            rows = list(csv.DictReader(file))[1:]
        points = [(event.step, event.value) for event in curves.Scalars("loss/train")]
        assert points == [(int(row["step"]), pytest.approx(float(row["train_loss"]))) for row in rows]
        assert {"learning rate", "items per second"} <= set(curves.Tags()["scalars"])
    # they are no results: the next run does not ask for them
    run(recipe(place, "run"))
    assert folder.is_dir()


WRONG = {
    "precision=16": "precision: got 16",
    "devices=0": "devices: got 0",
    "packs=maybe": "packs: got 'maybe'",
    "pack_kind=float8": "did you mean 'float32'",
    "log=wandb": "log: got 'wandb'",
    "strategy=ddp": "torchrun",
    "nodes=2": "torchrun",
    "checkpoint_minutes=-1": "checkpoint_minutes: got -1",
    "checkpoints=1": "checkpoints is unknown",
}


@pytest.mark.parametrize("wrong", [*WRONG, "accelerator=cuda", "log=tensorboard"])
def test_wrong_values_are_refused_in_one_line_before_any_work(place, tmp_path, wrong, monkeypatch):
    expected = WRONG.get(wrong)
    if wrong == "accelerator=cuda":
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        expected = "the 0 CUDA devices"
    elif wrong == "log=tensorboard":
        # as where it is not installed
        known = "stemfuse.separators.optional.find_spec"
        monkeypatch.setattr(known, lambda name: None if name == "tensorboard" else find_spec(name))
        expected = "the package tensorboard is missing: pip install 'stemfuse[tensorboard]'"
    given = ["--data", place / "band", "--store", tmp_path / "store", "--separators", "centre_channel"]
    single = command("fit", "mlp_mixer", *given, "--out", tmp_path / "x.safetensors", "--training", wrong)
    config = tmp_path / "recipe.yaml"
    config.write_text(
        f"{{out: {tmp_path}/run, store: {tmp_path}/store, data: [{place}/band], separators: [centre_channel]}}"
    )
    whole = command("run", config, f"training.{wrong}")
    for done in (single, whole):
        assert done.returncode == 2, done.stderr
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_float16_packs_need_packs(place):
    with pytest.raises(ConfigError, match="pack_kind float16 with packs: false"):
        recipe(place, "x", packs=False, pack_kind="float16")


@pytest.mark.slow
def test_two_processes_by_recipe(place, finished):
    """Everything that a spawned process is given can be sent to it."""
    training = {"devices": 2, "accelerator": "cpu"}
    assert execution_of(TrainingConfig(**training), StemStore(place / "store")).strategy == "ddp_spawn"
    fit(place, "conv1x1", "spawned.npz", CONV, **training)
    assert len((place / "spawned-history.csv").read_text().splitlines()) == 2 + CONV["epochs"]


@pytest.mark.slow
def test_two_processes_of_torchrun_write_one_fusion(place, finished):
    given = ["--data", "band", "--store", "store", "--separators", ",".join(SEPARATORS), "--folds", "0"]
    given += [f"--option={key}={value}" for key, value in CONV.items()]
    given += ["--training=devices=2", "--training=strategy=ddp", "--training=accelerator=cpu"]
    program = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", sys.executable, "-m", "stemfuse"]
    done = subprocess.run(
        [sys.executable, *program, "fit", "conv1x1", *given, "--out", "torchrun.npz"],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("saved: torchrun.npz") == 1
    assert sorted(path.name for path in place.glob("*torchrun*")) == ["torchrun-history.csv", "torchrun.npz"]
