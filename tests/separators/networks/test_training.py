"""Training separators: chunks and their augmentation, losses, files that load, killed and distributed trainings."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
import yaml

from makers.places import ROOT
from stemfuse.analysis import song_sdr
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.recipes import parse_part, read_config
from stemfuse.experiments.stages.train import TrainConfig, train_separator
from stemfuse.separators import SOURCES, Stems, Track, TrainingError, check_separator, load_separator
from stemfuse.separators.errors import CheckpointError
from stemfuse.separators.networks.tfc_tdf_separator import TrainableTFCTDF
from stemfuse.separators.networks.training.chunks import Augmentation, FixedChunks, RandomChunks
from stemfuse.separators.networks.training.objectives import sdr_db
from stemfuse.separators.networks.training.stretching import Stretching, stretched_copies
from stemfuse.separators.networks.training.trainable import trainable_class
from stemfuse.separators.networks.xumx_separator import TrainableXUMX
from stemfuse.separators.training import Recipe, read_checkpoint
from stemfuse.separators.training.schedule import Schedule
from stemfuse.separators.weights.tensors import load_strictly, read_state, save_state

pytestmark = pytest.mark.slow

RATE = 44_100
RECIPES = ROOT / "docs" / "recipes"
AS_IT_IS = Augmentation(remix=0.0, gain=(1.0, 1.0), swap=0.0, flip=0.0)

SMALL = {
    "tfc_tdf_v2": {"source": "drums", "n_fft": 1024, "hop": 512, "bins": 256, "frames": 64, "levels": 2, "growth": 4},
    "xumx": {"n_fft": 2048, "hidden": 16, "layers": 1, "chunk_s": 0.7, "bandwidth_hz": 10_000},
    "demucs_v2": {"channels": 4, "depth": 4, "resample": False, "chunk_s": 0.5},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Songs of three seconds: two to train on, one to validate."""
    folder = tmp_path_factory.mktemp("training") / "songs"
    synthesize(folder, {"train": 2, "valid": 1}, 3.0, seed=11)
    return folder


def config_of(tree, out, name, **changes):
    given = {
        "out": out,
        "data": tree,
        "network": SMALL[name],
        "chunks": 8,
        "valid_chunks": 2,
        "recipe": {"learning_rate": 0.002, "batch": 4, "epochs": 2},
        "execution": {"accelerator": "cpu"},
    }
    return parse_part(TrainConfig, given | changes)


def ramps(count=3, length=5000):
    """Songs with samples for song, source and channel by the whole number, and time by the fraction."""
    songs = []
    for song in range(count):
        audio = np.empty((4, 2, length))
        for source, channel in np.ndindex(4, 2):
            audio[source, channel] = 100 * song + 10 * source + channel + np.arange(length) / 8192
        songs.append(Track.from_arrays(f"song {song}", audio.sum(0), audio))
    return songs


def place_of(stem):
    """Song, source, first channel and start of a chunk of `ramps`."""
    number, fraction = divmod(float(stem[0, 0]), 1)
    return int(number) // 100, int(number) // 10 % 10, int(number) % 10, round(fraction * 8192)


def test_a_chunk_depends_on_its_number_alone():
    chunks = RandomChunks(ramps(), length=100, count=10, seed=3)
    (several,) = chunks.__getitems__([7, 17, 2])
    assert np.array_equal(several[1], RandomChunks(ramps(), 100, 10, seed=3)[17])
    assert not np.array_equal(several[0], several[1])
    assert not np.array_equal(several[0], RandomChunks(ramps(), 100, 10, seed=4)[7])


def test_every_epoch_has_chunks_of_its_own_and_processes_share_them():
    recipe = Recipe(batch=2)
    schedules = [Schedule(6, recipe, rank, 2, drawn=True) for rank in range(2)]
    for schedule in schedules:
        schedule.epoch = 3
    seen = [number for schedule in schedules for batch in schedule for number in batch]
    assert sorted(seen) == list(range(18, 24))


def test_chunks_without_augmentation_are_of_one_place():
    chunks = RandomChunks(ramps(), length=100, count=10, augmentation=AS_IT_IS)
    for number in range(20):
        stems = chunks[number]
        places = [place_of(stem) for stem in stems]
        assert [place[1] for place in places] == [0, 1, 2, 3]
        assert len({(song, channel, start) for song, _, channel, start in places}) == 1
        assert np.allclose(np.diff(stems), 1 / 8192, atol=1e-4)
    assert {place_of(chunks[number][0])[0] for number in range(40)} == {0, 1, 2}


def test_remixing_takes_stems_of_different_songs_and_places():
    chunks = RandomChunks(ramps(), 100, 10, Augmentation(remix=1.0, gain=(1.0, 1.0), swap=0.0, flip=0.0))
    places = [[place_of(stem) for stem in chunks[number]] for number in range(30)]
    assert all([place[1] for place in chunk] == [0, 1, 2, 3] for chunk in places)
    assert np.mean([len({place[0] for place in chunk}) > 1 for chunk in places]) > 0.8
    assert np.mean([len({place[3] for place in chunk}) == 4 for chunk in places]) > 0.9


def test_stems_are_sums_of_stems_of_their_source():
    """Each chunk holds no other sources' samples, and sums of songs that single stems do not have."""
    # the whole number of a stem is its source's times a power of the number of stems that any sum can have
    audio = [np.full((4, 2, 300), 10.0**song) * np.array([1, 1, 1, 2])[:, None, None] for song in range(3)]
    songs = [Track.from_arrays(f"song {song}", part.sum(0), part) for song, part in enumerate(audio)]
    chunks = RandomChunks(songs, 100, 10, Augmentation(remix=0.5, gain=(1.0, 1.0), swap=0.0, flip=0.0, summed=3))
    found = np.array([chunks[number][:, 0, 0] for number in range(300)]) / [1, 1, 1, 2]
    digits = np.stack([found // 10**song % 10 for song in range(3)])
    assert (digits.sum(axis=0) == 3).all()
    # of three draws from three songs, a song is drawn once in the mean
    np.testing.assert_allclose(digits.mean(axis=(1, 2)), 1, atol=0.1)
    both = Augmentation(gain=(0.5, 2.0), swap=0.0, flip=0.5, summed=2)
    ones = Track.from_arrays("ones", np.ones((2, 300)), np.ones((4, 2, 300)))
    sums = np.stack([RandomChunks([ones], 100, 10, both)[number][:, 0, 0] for number in range(500)])
    # each part has a sign and a gain of its own
    assert (abs(sums) < 0.5).mean() > 0.05
    assert abs(sums).max() > 3
    with pytest.raises(TrainingError, match="got summed=0, expected at least one stem"):
        Augmentation(summed=0)


def test_sums_are_part_of_a_trainings_identity_only_where_there_are_any():
    """Chunks and checkpoints of trainings that do not ask for them stay what they were."""
    assert "summed" not in Augmentation().identity()
    assert Augmentation(summed=2).identity()["summed"] == 2
    # drawn by the version before there were sums
    chunk = RandomChunks(ramps(), 100, 10, seed=3)[7]
    assert [round(float(stem[0, 0]), 4) for stem in chunk] == [97.9243, 9.1243, 6.8821, 275.7177]


def test_gain_swap_and_flip_are_drawn_for_each_stem():
    songs = [Track.from_arrays("song", np.ones((2, 500)), np.ones((4, 2, 500)) * np.array([[1.0], [3.0]]))]
    chunks = RandomChunks(songs, 50, 10, Augmentation(gain=(0.5, 2.0), swap=0.25, flip=0.75))
    first = np.stack([chunks[number][:, :, 0] for number in range(500)])
    smaller, larger = np.sort(abs(first), axis=-1).T.reshape(2, -1)
    np.testing.assert_allclose(larger, 3 * smaller, rtol=1e-6)
    assert 0.5 <= smaller.min() < 0.55
    assert 1.95 < smaller.max() <= 2.0
    swapped, flipped = (abs(first[..., 0]) > abs(first[..., 1])).mean(), (first < 0).mean()
    assert swapped == pytest.approx(0.25, abs=0.04)
    assert flipped == pytest.approx(0.75, abs=0.04)
    assert len(np.unique(smaller)) > 1900


def test_standardised_songs_have_a_deviation_of_one():
    generator = np.random.default_rng(0)
    songs = [
        Track.from_arrays(f"{level}", audio.sum(0), audio)
        for level in (0.01, 0.5)
        for audio in [generator.normal(0, level, (4, 2, 20_000))]
    ]
    for chunks in (RandomChunks(songs, 20_000, 4, AS_IT_IS, standardise=True), FixedChunks(songs, 20_000, 1, True)):
        assert [float(chunks[number].sum(0).std()) for number in range(2)] == pytest.approx([1, 1], rel=1e-4)


def test_fixed_chunks_are_the_songs_own():
    chunks = FixedChunks(ramps(2), length=1000, count=3)
    assert [place_of(chunks[number][2]) for number in range(6)] == [
        (song, 2, 0, start) for song in range(2) for start in (0, 2000, 4000)
    ]


@pytest.mark.parametrize(
    ("songs", "words"),
    [
        ([], "got no tracks"),
        (ramps(1, length=99), "99 samples, chunks have 100"),
        ([Track.from_arrays("slow", np.ones((2, 200)), np.ones((4, 2, 200)), rate=8000)], "8000 Hz"),
        ([Track.from_arrays("mono", np.ones((1, 200)), np.ones((4, 1, 200)))], "1 channels"),
    ],
)
def test_songs_that_do_not_do_are_refused_in_words(songs, words):
    with pytest.raises(TrainingError, match=words):
        RandomChunks(songs, 100, 4)


def test_validation_sdr_is_the_songs_sdr():
    generator = np.random.default_rng(0)
    references = generator.normal(0, 0.1, (4, 2, 3000)).astype(np.float32)
    estimates = references + generator.normal(0, 0.05, references.shape).astype(np.float32)
    expected = song_sdr(references.transpose(0, 2, 1), estimates.transpose(0, 2, 1)).mean()
    given = [torch.as_tensor(part)[None] for part in (estimates, references, references.sum(0))]
    # what counts as silence is 30 dB below the mixture
    assert float(sdr_db(*given).mean()) == pytest.approx(expected, abs=0.1)
    silent = sdr_db(given[0] * 0, given[1] * 0, given[2])
    assert silent.numpy() == pytest.approx(np.zeros((1, 4)))


@pytest.mark.parametrize("name", ["demucs_v2", "tfc_tdf_v2", "xumx"])
def test_the_sdr_loss_is_the_songs_sdr(name):
    """Each source as it counts, soft ones as much as loud ones."""
    torch.manual_seed(0)
    sizes = {"xumx": {"layers": 1}, "tfc_tdf_v2": {"source": "all"}}.get(name, {})
    weights = {} if name == "xumx" else {"weights": (3, 1, 1, 0)}
    objective = trainable_class(name)(**{**SMALL[name], **sizes, **weights, "loss": "sdr"}).objective().train()
    stems = 0.1 * torch.randn(2, 4, 2, trainable_class(name)(**{**SMALL[name], **sizes}).length)
    with torch.no_grad():
        estimates = objective.separate(stems.sum(1))
        references = objective.covered(stems, estimates.shape[-1])
        sdr = [
            song_sdr(*(part.numpy().transpose(0, 2, 1) for part in pair))
            for pair in zip(references, estimates, strict=True)
        ]
        losses = objective(stems)
    shares = np.array(weights.get("weights", (1, 1, 1, 1)), float)
    expected = -np.array(sdr) @ (shares / shares.sum())
    # energy 20 dB below the mixture is added to signal and error
    assert losses.numpy() == pytest.approx(expected, abs=0.3)
    with torch.no_grad():
        without_drums = stems * torch.tensor([0.0, 1, 1, 1])[:, None, None]
        assert torch.isfinite(objective(without_drums)).all()


def test_initial_weights_are_started_from(tree, tmp_path):
    first = train_separator("demucs_v2", config_of(tree, tmp_path / "a", "demucs_v2", half=True))
    still = {"epochs": 0}
    again = train_separator(
        "demucs_v2", config_of(tree, tmp_path / "b", "demucs_v2", initial=first, recipe=still, half=True)
    )
    one, other = read_state(first), read_state(again)
    assert one["encoder.0.0.weight"].dtype == torch.float16
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_data_of_initial_weights_is_remembered(tree, tmp_path):
    first = tmp_path / "first.safetensors"
    save_state(
        trainable_class("demucs_v2")(**SMALL["demucs_v2"]).objective().network, first, trained_on=["musdb18hq/train"]
    )
    config = config_of(tree, tmp_path, "demucs_v2", initial=first, recipe={"epochs": 0})
    again = load_separator("demucs_v2", weights=train_separator("demucs_v2", config))
    assert again.trained_on == ("musdb18hq/train", "songs/train", "songs/valid")


def test_one_network_for_all_sources_weights_them(tree, tmp_path):
    network = SMALL["tfc_tdf_v2"] | {"source": "all", "weights": [0, 0, 0, 1]}
    objective = TrainableTFCTDF(**network).objective().train()
    stems = torch.randn(2, 4, 2, TrainableTFCTDF(**network).length) * 0.1
    estimates = objective.separate(stems.sum(1))
    assert estimates.shape == stems.shape
    expected = (estimates - stems)[:, 3].abs().mean(dim=(1, 2))
    assert torch.allclose(objective(stems), expected, rtol=1e-4)
    path = train_separator("tfc_tdf_v2", config_of(tree, tmp_path, "tfc_tdf_v2", network=network))
    separator = load_separator("tfc_tdf_v2", weights=path, source="all")
    assert separator.separate(np.zeros((2, 9000), np.float32), RATE).audio.shape == (4, 2, 9000)
    with pytest.raises(Exception, match=r"got source='vocals', but .* has weights for 4 of 4 sources"):
        load_separator("tfc_tdf_v2", weights=path, source="vocals").separate(np.zeros((2, 900), np.float32), RATE)


def test_inputs_of_xumx_are_scaled_to_the_music():
    trainable = TrainableXUMX(**SMALL["xumx"])
    generator = np.random.default_rng(0)
    audio = generator.normal(0, 0.1, (4, 2, RATE))
    data = RandomChunks([Track.from_arrays("noise", audio.sum(0), audio)], trainable.length, 8)
    objective = trainable.objective()
    trainable.prepare(objective, data, 8)
    spectra = [
        torch.stft(
            torch.as_tensor(data[number].sum(0)), 2048, 512, window=torch.hann_window(2048), return_complex=True
        ).abs()
        for number in range(8)
    ]
    used = torch.cat(spectra, dim=-1).mean(0)[: objective.network.shape.used_bins]
    scaled = (used + objective.network.mean_scale["input_mean_bass"][:, None]) * objective.network.mean_scale[
        "input_scale_bass"
    ][:, None]
    assert scaled.mean(1).abs().max() < 1e-2
    assert (scaled.std(1) - 1).abs().max() < 1e-2


def write_recipe(tree, folder, name, **changes):
    given = config_of(tree, folder / "out", name).model_dump(mode="json", include={"network", "chunks", "valid_chunks"})
    given |= {"out": str(folder / "out"), "data": str(tree), "network": SMALL[name], **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(given))
    return folder / "recipe.yaml"


def start(name, recipe, *overrides):
    command = [sys.executable, "-c", "from stemfuse.experiments.cli import main; main()", "train", name, str(recipe)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_weights(tree, tmp_path):
    changes = {
        "chunks": 40,
        "recipe": {"optimiser": "rmsprop", "learning_rate": 0.001, "batch": 2, "epochs": 2},
        "execution": {"accelerator": "cpu", "checkpoint_steps": 2},
    }
    recipe = write_recipe(tree, tmp_path / "killed", "demucs_v2", **changes)
    killed = start("demucs_v2", recipe)
    checkpoint = tmp_path / "killed" / "out" / "training.safetensors"
    reached = 0
    while killed.poll() is None and reached < 4:
        time.sleep(0.01)
        # it may be replaced by the next one between two looks at it
        with suppress(CheckpointError):
            reached = read_checkpoint(checkpoint)[1]["steps"] if checkpoint.exists() else 0
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert 4 <= read_checkpoint(checkpoint)[1]["steps"] < 40
    resumed = train_separator("demucs_v2", read_config(TrainConfig, recipe))
    whole = train_separator("demucs_v2", read_config(TrainConfig, recipe, [f"out={tmp_path / 'whole'}"]))
    one, other = read_state(resumed), read_state(whole)
    assert all(torch.equal(one[name], other[name]) for name in one)
    for folder in (tmp_path / "killed" / "out", tmp_path / "whole"):
        assert [line.split(",")[:2] for line in (folder / "history.csv").read_text().split()[1:]] == [
            ["0", "0"],
            ["1", "20"],
            ["2", "40"],
        ]


@pytest.mark.slow
def test_two_processes_are_one_with_the_summed_batch(tree, tmp_path):
    rows = {}
    for label, batch, execution in (
        ("one", 4, {"accelerator": "cpu"}),
        ("two", 2, {"accelerator": "cpu", "devices": 2, "strategy": "ddp_spawn"}),
    ):
        recipe = {"learning_rate": 0.002, "batch": batch, "epochs": 2}
        out = tmp_path / label
        train_separator("demucs_v2", config_of(tree, out, "demucs_v2", recipe=recipe, execution=execution))
        with (out / "history.csv").open() as file:
            rows[label] = [
                [float(row[name]) for name in ("train_loss", "valid_sdr_db")] for row in csv.DictReader(file)
            ]
    np.testing.assert_allclose(rows["one"], rows["two"], rtol=1e-3)


@pytest.mark.slow
def test_two_processes_share_their_normalisation(tree, tmp_path):
    execution = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_spawn"}
    path = train_separator("xumx", config_of(tree, tmp_path, "xumx", execution=execution))
    assert load_separator("xumx", weights=path).separate(np.zeros((2, 9000), np.float32), RATE).audio.shape[-1] == 9000


def test_steps_and_minutes_end_a_training(tree, tmp_path):
    recipe = {"batch": 2, "epochs": 50, "steps": 5}
    train_separator("demucs_v2", config_of(tree, tmp_path, "demucs_v2", recipe=recipe))
    lines = (tmp_path / "history.csv").read_text().split()
    assert [line.split(",")[1] for line in lines[1:]] == ["0", "4", "5"]
    # resumed with a limit of another kind, which is reached at once
    longer = {"batch": 2, "epochs": 50, "minutes": 1e-6}
    train_separator("demucs_v2", config_of(tree, tmp_path, "demucs_v2", recipe=longer))
    assert len((tmp_path / "history.csv").read_text().split()) == len(lines)


def test_what_is_wrong_is_said_in_words(tree, tmp_path):
    expected = (
        "got separator 'umx', expected one that can be trained: d3net, demucs_danna, demucs_v2, ismir2020, resunet"
    )
    with pytest.raises(ConfigError, match=expected):
        train_separator("umx", config_of(tree, tmp_path, "xumx"))
    with pytest.raises(ConfigError, match=r"recipe\.rate is unknown, allowed are optimiser, learning_rate"):
        config_of(tree, tmp_path, "xumx", recipe={"rate": 1})
    with pytest.raises(ConfigError, match=r"key epochs is unknown, allowed are out, data"):
        config_of(tree, tmp_path, "xumx", epochs=3)
    with pytest.raises(ConfigError, match=r"expected a positive rate"):
        config_of(tree, tmp_path, "xumx", recipe={"learning_rate": -1})
    with pytest.raises(ConfigError, match=r"network: key width is unknown, allowed are n_fft"):
        train_separator("xumx", config_of(tree, tmp_path, "xumx", network={"width": 3}))
    with pytest.raises(ConfigError, match=r"train: got training, expected subsets of .*: train, valid"):
        train_separator("xumx", config_of(tree, tmp_path, "xumx", train=["training"]))
    with pytest.raises(TrainingError, match=r"w\.pt is missing: correct initial="):
        train_separator("xumx", config_of(tree, tmp_path, "xumx", initial=tmp_path / "w.pt"))
    with pytest.raises(TrainingError, match="chunks have 176400: leave the track out"):
        train_separator("xumx", config_of(tree, tmp_path, "xumx", network={"chunk_s": 4.0}))
    with pytest.raises(TrainingError, match="expected one of each of drums"):
        train_separator("demucs_v2", config_of(tree, tmp_path, "demucs_v2", network={"weights": [1, 2]}))
    with pytest.raises(TrainingError, match="multiples of 32 and of 256"):
        train_separator("tfc_tdf_v2", config_of(tree, tmp_path, "tfc_tdf_v2", network={"bins": 100}))


def test_another_training_in_the_folder_is_refused(tree, tmp_path):
    train_separator("demucs_v2", config_of(tree, tmp_path, "demucs_v2", recipe={"epochs": 0}))
    with pytest.raises(TrainingError, match="of a training with other arguments or tracks"):
        train_separator("demucs_v2", config_of(tree, tmp_path, "demucs_v2", recipe={"epochs": 0}, chunks=9))


@pytest.mark.parametrize("source", ["vocals", "drums", "bass"])
def test_a_training_begins_again_when_its_audio_is_other(tree, tmp_path, caplog, source):
    shutil.copytree(tree, tmp_path / "tree")

    def train(out):
        config = config_of(tmp_path / "tree", tmp_path / out, "demucs_v2", recipe={"epochs": 1}, chunks=2, valid=[])
        return train_separator("demucs_v2", config).read_bytes()

    first = train("again")
    assert train("again") == first
    assert not list((tmp_path / "again").glob("*.other"))
    for path in (tmp_path / "tree" / "train").rglob(f"{source}.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, 0.5 * samples[::-1], rate, subtype=soundfile.info(path).subtype)
    assert train("again") == train("fresh")
    said = "of a training on other audio in the same files; it is put aside as training.safetensors.other"
    assert said in caplog.text
    assert (tmp_path / "again" / "training.safetensors.other").is_file()


@pytest.mark.parametrize("other", ["mixture", "references", "subset"])
def test_copies_are_of_the_songs_content(tmp_path, other):
    audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, RATE // 4))
    song = Track.from_arrays("song", audio.sum(0), audio)
    changed = Track.from_arrays("song", 0.5 * audio.sum(0), audio if other == "mixture" else 0.5 * audio)
    if other == "subset":
        changed = replace(changed, subset="train")
    stretching = Stretching(copies=1, semitones=0, percent=10)
    (before,), (after,) = stretched_copies([song, changed], tmp_path, stretching)
    assert len(list(tmp_path.rglob("drums.wav"))) == 2
    assert {stems["drums"].path.parent.parent.name[:5] for stems in (before, after)} == {"song-"}
    assert len({stems["drums"].path.parent.parent for stems in (before, after)}) == 2


@pytest.mark.parametrize(("stretched", "share"), [(0.96, 0.04), (1.0, 0.0), (0.0, 1.0)])
def test_originals_are_what_stretched_leaves(stretched, share):
    (song,) = ramps(1, 500)
    # copies by the hundreds in the samples' whole number
    copies = [Stems(song.references.audio + 100 * (1 + copy)) for copy in range(24)]
    augmentation = Augmentation(gain=(1.0, 1.0), swap=0.0, flip=0.0, stretched=stretched)
    chunks = RandomChunks([song], 10, 1, augmentation, copies=[copies])
    found = np.array([place_of(stem)[0] for number in range(500) for stem in chunks[number]])
    assert (found == 0).mean() == pytest.approx(share, abs=0.015 * (0 < share < 1))
    if 0 < share < 1:
        assert np.bincount(found, minlength=25) == pytest.approx(np.full(25, 80), rel=0.4), "all versions alike"


def test_stretched_copies_are_made_once(tmp_path):
    tone = np.sin(2 * np.pi * 441 * np.arange(RATE) / RATE)
    song = Track.from_arrays(
        "song/1" if os.sep != "/" else "song 1", np.ones((2, RATE)), np.ones((4, 2, 1)) * tone * 0.2
    )
    stretching = Stretching(copies=3, seed=1)
    ((first, second, third),) = stretched_copies([song], tmp_path, stretching)
    for stems, (semitones, percent) in zip((first, second, third), stretching.drawn(0), strict=True):
        assert stems.length == pytest.approx(RATE / (1 + percent / 100), abs=2)
        middle = stems["bass"].read(stems.length // 4, stems.length // 4 + 20_000)[0]
        peak_hz = np.abs(np.fft.rfft(middle, 1 << 18)).argmax() * RATE / (1 << 18)
        assert peak_hz == pytest.approx(441 * 2 ** (semitones / 12), rel=0.005)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    assert len(before) == 12
    stretched_copies([song], tmp_path, stretching)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")} == before
    chunks = RandomChunks([song], 9000, 4, Augmentation(stretched=1.0), copies=[[first, second, third]])
    pitches = {
        round(12 * np.log2(np.abs(np.fft.rfft(chunks[number][1, 0], 1 << 18)).argmax() * RATE / (1 << 18) / 441))
        for number in range(12)
    }
    assert pitches == {semitones for semitones, _ in stretching.drawn(0)}


def test_copies_belong_to_the_recipe(tree, tmp_path):
    stretch = {"copies": 1}
    train_separator("demucs_v2", config_of(tree, tmp_path, "demucs_v2", stretch=stretch, recipe={"epochs": 0}))
    assert len(list((tmp_path / "stretched").rglob("drums.wav"))) == 2


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "python_stretch.Signalsmith", None)
    with pytest.raises(TrainingError, match=r"stretched copies .* pip install 'stemfuse\[train\]'"):
        stretched_copies(ramps(1), tmp_path, Stretching(copies=1))
    assert not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("train-*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid_and_small_ones_are_of_the_packaged_files(path):
    config = read_config(TrainConfig, path)
    name = path.stem.removeprefix("train-").removesuffix("-real")
    separator = {"tfc_tdf_small": "tfc_tdf_v2", "xumx_small": "xumx", "demucs_small": "demucs_v2"}.get(name, name)
    trainable = parse_part(trainable_class(separator), config.network)
    assert f"stemfuse train {separator} docs/recipes/{path.name}" in path.read_text()
    assert name == separator or config.half
    assert trainable.length > 0
    if name != separator:
        weights = ROOT / "separators" / "networks" / "trained" / f"{name}.safetensors"
        load_strictly(trainable.objective().network, trainable.state(weights), weights)


BAND = ("synthetic band 9000/train", "synthetic band 9000/valid")
REAL = ("small networks/train", "small networks/valid")
TRAINED_ON = {"tfc_tdf_small": BAND, "xumx_small": BAND, "demucs_small": (*BAND, *REAL)}
PACKAGED = tuple(TRAINED_ON)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_separators_keep_the_rules(name):
    check_separator(load_separator(name))
    assert load_separator(name).trained_on == TRAINED_ON[name]


def test_packaged_separators_are_better_than_the_mixture_on_a_new_song(tmp_path):
    (folder,) = synthesize(tmp_path, 1, 6.0, seed=77)
    mixture, *stems = (soundfile.read(folder / f"{name}.wav", dtype="float32")[0] for name in ("mixture", *SOURCES))
    references = np.stack(stems)
    plain = song_sdr(references, np.stack([mixture] * 4)).mean()
    for name in PACKAGED:
        estimates = load_separator(name).separate(mixture.T, RATE).audio.transpose(0, 2, 1)
        assert song_sdr(references, estimates).mean() > plain + 3, name
