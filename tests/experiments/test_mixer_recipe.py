"""KUIELab's two steps at tiny sizes: networks trained, the Mixer fitted on their stems, both as one separator."""

import numpy as np
import pytest

from makers.commands import command
from makers.places import ROOT
from stemfuse.blending import load_fusion
from stemfuse.experiments import load_config, run
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.data import open_data
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.recipes import parse_part
from stemfuse.experiments.stages.train import TrainConfig, train_separator
from stemfuse.separators import SOURCES, load_separator

RECIPE = ROOT / "docs" / "recipes" / "kuielab-mixer.yaml"
TINY = {"n_fft": 1024, "hop": 512, "bins": 256, "frames": 32, "levels": 2, "layers": 1, "growth": 4}


def trained(place, source):
    """A network of one source after four steps."""
    given = {
        "out": place / "nets" / source,
        "data": place / "band",
        "network": TINY | {"source": source},
        "augmentation": {"remix": 1.0, "stretched": 0.0},
        "chunks": 8,
        "recipe": {"learning_rate": 0.002, "batch": 2, "epochs": 1},
        "execution": {"accelerator": "cpu"},
    }
    return train_separator("tfc_tdf_v2", parse_part(TrainConfig, given))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Songs of the synthetic band, and four networks that were trained on them."""
    folder = tmp_path_factory.mktemp("chain")
    synthesize(folder / "band", {"train": 2, "test": 1}, 2.0, seed=31)
    for source in SOURCES:
        trained(folder, source)
    return folder


def recipe(place, *more):
    """The shipped recipe at a tiny size."""
    networks = [
        f"separators.{number}.options.weights={place}/nets/{source}/{source}.safetensors"
        for number, source in enumerate(("bass", "drums", "other", "vocals"))
    ]
    where = [f"out={place}/run", f"store={place}/store", f"data.0.path={place}/band", "workers=1", "players.tracks=0"]
    small = ["fit.augment.separate=2", "fit.augment.seconds=1"]
    small += ["fusions=[{name: conv1x1, label: Mixer, options: {epochs: 1, segment: 16384, shift: 16384}}]"]
    return load_config(RECIPE, [*where, *networks, *small, *more])


@pytest.mark.slow
def test_the_two_steps_give_one_separator_that_is_the_fusion(place, tmp_path):
    finished = run(recipe(place))
    record = finished.record()
    remixes = [track for track in record.tracks if track.name.startswith("remix")]
    assert [track.subset for track in remixes] == ["train", "train"]
    assert all(len(track.stems) == 4 and track.notes[0].startswith("mixed of drums of ") for track in remixes)
    assert set(finished.scores()["track"]) == {track.name for track in open_data(place / "band").tracks("test")}

    file = finished.path / "fusions" / "Mixer.npz"
    models = ",".join(f"{source}={place}/nets/{source}/{source}.safetensors" for source in SOURCES)
    export = ["export", file, "--as", "kuielab_mdx", "--out", tmp_path / "chain", "--option", f"models={models}"]
    done = command(*export)
    assert done.returncode == 0, done.stderr
    plan = plan_run(recipe(place))
    (song,) = (plan.attach(entry.track) for entry in plan.tested())
    separator = load_separator("kuielab_mdx", weights=tmp_path / "chain")
    made, fused = separator.separate(song.mixture.read(), song.rate), load_fusion(file).fuse(song)
    for source in SOURCES:
        difference = made[source].read() - fused[source].read()
        assert np.abs(difference).max() < 1e-5, source
    assert separator.trained_on == ("band/train",)


@pytest.mark.slow
def test_a_run_with_remixes_goes_on_and_does_nothing_twice(place):
    finished = run(recipe(place))
    before = {file: file.stat().st_mtime_ns for file in place.rglob("*.wav")}
    first = finished.record()
    again = run(recipe(place)).record()
    assert again.finished == first.finished, "nothing has changed"
    # more of them: those that are there are neither mixed nor separated again
    run(recipe(place, "fit.augment.separate=3"))
    after = {file: file.stat().st_mtime_ns for file in place.rglob("*.wav")}
    assert {file: after[file] for file in before} == before
    added = {file.parent.name for file in after.keys() - before.keys()}
    assert added == {"remix 0002"}
