"""Mixers' data path, training loop and 1x1 convolution: planted weights, optima, resumed and distributed training."""

import importlib
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from makers.places import TESTS
from makers.planted import planted_songs, planted_weights
from stemfuse.blending import FusionError, MixingWeights, input_labels
from stemfuse.blending.conformance import check_fusion, conformance_tracks
from stemfuse.mixers.conv1x1 import Conv1x1Mixer
from stemfuse.mixers.exact import solve
from stemfuse.mixers.huber import Newton, duality_gaps
from stemfuse.mixers.second_moments import SecondMoments, least_squares, whitening
from stemfuse.mixers.segments import Normalisation, Segments, TrackBlocks, segment_starts
from stemfuse.separators import (
    SOURCES,
    ArraySignal,
    AudioError,
    Stems,
    Track,
    TrackError,
    TrainingError,
    write_audio,
)
from stemfuse.separators.training import Execution, Recipe, read_checkpoint, write_checkpoint

RATE = 8000
CPU = Execution(accelerator="cpu")


def test_exact_recovers_planted_weights():
    for mixture in (True, False):
        songs = planted_songs(mixture=mixture)
        mixer = Conv1x1Mixer("exact", mixture=mixture).fit(songs)
        error = mixer.weights_.matrix - planted_weights(songs[0], mixture=mixture).matrix
        assert abs(error).max() < 1e-5
        assert mixer.weights_.inputs == input_labels(songs[0], mixture)


@pytest.mark.slow
def test_adam_recovers_planted_weights():
    songs = planted_songs(length=4000)
    mixer = Conv1x1Mixer(segment=512, shift=128, learning_rate=3e-3, batch=8, epochs=50)
    mixer.execution = CPU
    mixer.fit(songs[:2], songs[2:])
    assert abs(mixer.weights_.matrix - planted_weights(songs[0]).matrix).max() < 1e-3
    assert mixer.history_[0]["valid_loss"] > 100 * min(row["valid_loss"] for row in mixer.history_)


def test_exact_reaches_the_linear_programs_optimum():
    """Least absolute errors as a linear program, solved by HiGHS, one output channel at a time."""
    songs = planted_songs(2, length=150, noise=0.8)
    blocks = TrackBlocks(songs)
    solution = solve(blocks)
    inputs, references = (np.concatenate(part).astype(float) for part in zip(*blocks.blocks(), strict=True))
    count, width = inputs.shape
    costs = np.concatenate([np.zeros(width), np.ones(count)])
    sides = np.block([[inputs, -np.eye(count)], [-inputs, -np.eye(count)]])
    free = [(None, None)] * width + [(0, None)] * count
    optima = [
        linprog(costs, sides, np.concatenate([target, -target]), bounds=free, method="highs").fun / count
        for target in references.T
    ]
    reached = np.abs(references - inputs @ solution.matrix.T).mean()
    assert np.mean(optima) <= reached * (1 + 1e-7) <= np.mean(optima) * (1 + solution.gap + 1e-6)
    assert solution.gap <= 1e-4
    assert reached < np.abs(references - inputs @ solve(blocks, "l2").matrix.T).mean() * 0.999


def test_exact_proves_its_gap_on_more_samples_than_it_starts_from(monkeypatch):
    exact = importlib.import_module("stemfuse.mixers.exact")
    monkeypatch.setattr(exact, "ROWS", 500)
    blocks = TrackBlocks(planted_songs(3, length=20_000, noise=0.5))
    few, best = solve(blocks, tolerance=1e-3), solve(blocks, tolerance=1e-4)
    assert few.gap <= 1e-3
    assert best.loss <= few.loss <= best.loss * (1 + few.gap + 1e-6)
    assert {row["stage"] for row in few.history} == {0, 1}


def test_gram_least_squares_is_numpys():
    blocks = TrackBlocks(planted_songs(2, noise=0.5))
    inputs, references = (np.concatenate(part).astype(float) for part in zip(*blocks.blocks(), strict=True))
    expected = np.linalg.lstsq(inputs, references, rcond=None)[0].T
    np.testing.assert_allclose(solve(blocks, "l2").matrix, expected, atol=1e-7)


def test_a_silent_or_repeated_stem_does_no_harm():
    song = planted_songs(1, noise=0.3)[0]
    silent = song.with_stems({"silent": Stems(np.zeros((4, 2, song.length)), SOURCES, RATE), "twin": song.stems["a"]})
    plain, more = (Conv1x1Mixer("exact").fit([track]) for track in (song, silent))
    errors = [np.abs(mixer.fuse(silent).audio - song.required_references().audio).mean() for mixer in (plain, more)]
    assert errors[1] <= errors[0] * (1 + 2e-4)


def test_segments_cover_a_song_and_are_normalised_by_its_mixture():
    songs = planted_songs(2, length=1000)
    blocks = TrackBlocks(songs)
    segments = Segments(blocks, 300, 300, tails=True)
    assert len(segments) == 4 + 4
    deviation = songs[1].mixture.read().astype(float).std()
    inputs, references = segments[7]
    assert not inputs[177:].any()
    assert not references[177:].any()
    np.testing.assert_allclose(inputs[:177, :2].T * deviation, songs[1].mixture.read(900, 1077), rtol=1e-5)
    np.testing.assert_allclose(references[:177, 6:].T * deviation, songs[1].references["vocals"].read(900), rtol=1e-5)
    assert segments.__getitems__([0, 7])[0][1].tobytes() == inputs.tobytes()
    assert segment_starts(1000, 300, 100, tails=False)[-1] + 300 == 1000
    with pytest.raises(IndexError, match="there are 8"):
        segments[8]


def test_normalisation_has_an_inverse():
    song = planted_songs(1)[0]
    scale = Normalisation.of(song.mixture)
    scaled = scale.apply(song.mixture.read())
    assert abs(scaled.mean()) < 1e-4
    assert abs(scaled.std() - 1) < 1e-5
    np.testing.assert_allclose(scale.invert(scaled), song.mixture.read(), atol=1e-7)
    assert Normalisation.of(Stems(np.zeros((1, 2, 9)), ("bass",))["bass"]) == Normalisation(1.0, 0.0)


def test_audio_is_read_where_it_lies(tmp_path):
    """Segments of WAV files, read by worker processes, are those of the same audio in memory."""
    from torch.utils.data import DataLoader

    from stemfuse.separators import FileSignal

    song = planted_songs(1, length=2000)[0]
    signals = {}
    for name, stems in {"references": song.references, **song.stems}.items():
        stems.write(tmp_path / name)
        signals[name] = Stems.from_signals({s: FileSignal(tmp_path / name / f"{s}.wav") for s in stems.sources})
    write_audio([tmp_path / "mixture.wav"], [song.mixture.read()[None]], RATE, 2)
    references = signals.pop("references")
    on_disk = Track(song.name, FileSignal(tmp_path / "mixture.wav"), "train", references, signals)
    segments = Segments(TrackBlocks([on_disk]), 256, 128)
    expected = Segments(TrackBlocks([song]), 256, 128)
    loaded = DataLoader(segments, batch_size=4, num_workers=2, collate_fn=tuple)
    inputs = np.concatenate([batch[0] for batch in loaded])
    np.testing.assert_array_equal(inputs, expected.__getitems__(range(len(expected)))[0])


def test_songs_shorter_than_a_segment_train_too():
    songs = planted_songs(3, length=700)
    mixer = Conv1x1Mixer(segment=1 << 12, shift=1 << 10, learning_rate=1e-2, batch=3, epochs=100)
    mixer.execution = CPU
    mixer.fit(songs)
    assert abs(mixer.weights_.matrix - planted_weights(songs[0]).matrix).max() < 0.02


def test_what_cannot_be_trained_on_is_refused():
    songs = planted_songs(2)
    broken = songs[0].stems["a"].audio.copy()
    broken[2, 1, 4321] = np.nan
    spoilt = songs[0].with_stems({"a": Stems(broken, SOURCES, RATE)})
    for mixer in (Conv1x1Mixer("exact"), Conv1x1Mixer(segment=512, shift=512, epochs=1)):
        mixer.execution = CPU
        with pytest.raises(AudioError, match="sample 4321 of channel 1 is nan"):
            mixer.fit([spoilt])
    wrong = songs[0].references.audio.copy()
    wrong[1, 0, 99] = np.inf
    with pytest.raises(AudioError, match="sample 99 of channel 0 is inf"):
        Conv1x1Mixer("exact").fit([Track("t", songs[0].mixture, "train", Stems(wrong, SOURCES, RATE), songs[0].stems)])
    with pytest.raises(TrackError, match="no references"):
        Conv1x1Mixer("exact").fit([Track("t", songs[0].mixture, stems=songs[0].stems)])
    with pytest.raises(FusionError, match="all need the same stems"):
        Conv1x1Mixer("exact").fit([songs[0], songs[1].with_stems({"more": songs[1].stems["a"]})])
    with pytest.raises(FusionError, match="validation track"):
        Conv1x1Mixer().fit(songs[:1], [songs[1].with_stems({"more": songs[1].stems["a"]})])
    with pytest.raises(FusionError, match="no track"):
        Conv1x1Mixer("exact").fit([])


@pytest.mark.parametrize(
    "arguments",
    [
        {"solver": "newton"},
        {"loss": "l3"},
        {"optimiser": "sgd"},
        {"initial": "zeros"},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"patience": 0},
        {"segment": 0},
        {"solver": "exact", "loss": "sdr"},
    ],
)
def test_unknown_arguments_are_refused(arguments):
    with pytest.raises((FusionError, TrainingError), match=r"unknown|expected|no exact"):
        fit_briefly(**arguments)


def fit_briefly(**arguments):
    mixer = Conv1x1Mixer(**{"epochs": 1, "segment": 512, **arguments})
    mixer.execution = CPU
    mixer.fit(planted_songs(1))


@pytest.mark.parametrize("loss", ["l2", "sdr"])
def test_other_losses_and_rmsprop_lower_the_error(loss):
    songs = planted_songs(3, length=4000)
    mixer = Conv1x1Mixer(loss=loss, segment=512, shift=512, batch=4, epochs=15, optimiser="rmsprop", learning_rate=0.01)
    mixer.execution = CPU
    mixer.fit(songs[:2], songs[2:])
    errors = mixer.fuse(songs[2]).audio - songs[2].references.audio
    assert np.square(errors).sum() < 0.02 * np.square(songs[2].references.audio).sum()


def test_accumulated_batches_are_one_large_batch():
    songs = planted_songs(2)
    results = []
    for batch, accumulate in ((8, 1), (2, 4)):
        mixer = Conv1x1Mixer(segment=512, shift=200, batch=batch, accumulate=accumulate, epochs=2)
        mixer.execution = CPU
        results.append(mixer.fit(songs).weights_.matrix)
    np.testing.assert_allclose(results[0], results[1], atol=2e-6)


def test_the_best_epoch_is_kept_and_training_stops_early():
    songs = planted_songs(3, length=2000)
    mixer = Conv1x1Mixer(segment=512, shift=512, learning_rate=0.2, batch=2, epochs=60, patience=3, initial="mean")
    mixer.execution = CPU
    mixer.fit(songs[:2], songs[2:])
    losses = [row["valid_loss"] for row in mixer.history_]
    assert len(losses) < 61
    assert int(np.argmin(losses)) == len(losses) - 4
    segments = Segments(TrackBlocks(songs[2:]), 512, 512, tails=True)
    inputs, references = segments.__getitems__(range(len(segments)))
    assert abs(np.abs(references - inputs @ mixer.weights_.matrix[0].T).mean() - min(losses)) < 1e-6


CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
from makers.planted import planted_songs
from stemfuse.mixers.conv1x1 import Conv1x1Mixer
from stemfuse.separators.training import Execution

def progress(row):
    print(row["epoch"], flush=True)
    time.sleep({pause})

songs = planted_songs(3)
mixer = Conv1x1Mixer(segment=512, shift=100, batch=2, epochs=6)
mixer.execution = Execution(accelerator="cpu", checkpoints={folder!r}, checkpoint_steps=3, progress=progress)
mixer.fit(songs[:2], songs[2:]).save({out!r})
"""


# separators are trained by the same loop; their test of it is not slow
@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, capsys):
    def script(folder, pause):
        return CHILD.format(
            tests=str(TESTS), folder=str(tmp_path / folder), out=str(tmp_path / f"{folder}.npz"), pause=pause
        )

    killed = subprocess.Popen([sys.executable, "-c", script("killed", 0.3)], stdout=subprocess.PIPE, text=True)
    for line in killed.stdout:
        if line.strip() == "2":
            break
    # somewhere within the third epoch
    checkpoint = tmp_path / "killed" / "training.safetensors"
    before = checkpoint.stat().st_mtime_ns
    while checkpoint.stat().st_mtime_ns == before and killed.poll() is None:
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.npz").exists()
    _, described = read_checkpoint(checkpoint)
    assert described["steps"] > 0
    exec(script("killed", 0), {"__name__": "killed"})
    assert capsys.readouterr().out.split()[-1] == "6"
    exec(script("whole", 0), {"__name__": "whole"})
    killed_weights, whole = (MixingWeights.load(tmp_path / f"{folder}.npz").matrix for folder in ("killed", "whole"))
    np.testing.assert_array_equal(killed_weights, whole)


@pytest.mark.slow
def test_two_processes_are_one_with_the_summed_batch():
    """Gloo on the CPU; 19 segments, so that the last step is dealt out unevenly."""
    songs = planted_songs(3, length=2000)
    results = []
    for batch, execution in (
        (4, CPU),
        (2, Execution(accelerator="cpu", devices=2, strategy="ddp_spawn")),
    ):
        mixer = Conv1x1Mixer(segment=512, shift=170, batch=batch, epochs=3)
        mixer.execution = execution
        results.append(mixer.fit(songs[:2], songs[2:]))
    one, two = results
    np.testing.assert_allclose(one.weights_.matrix, two.weights_.matrix, atol=1e-6)
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose([row[name] for row in one.history_], [row[name] for row in two.history_], rtol=1e-5)


@pytest.mark.parametrize("changed", ["mixture", "references", "stems"])
def test_a_training_begins_again_when_its_audio_is_other(tmp_path, caplog, changed):
    (song,) = planted_songs(1)

    def half(stems):
        return Stems(0.5 * stems.read(), stems.sources, stems.rate)

    parts = {
        "mixture": ArraySignal(0.5 * song.mixture.read(), song.rate),
        "references": half(song.references),
        "stems": {label: half(given) for label, given in song.stems.items()},
    }
    other = replace(song, **{changed: parts[changed]})

    def fit(track, folder):
        mixer = Conv1x1Mixer(segment=512, shift=512, epochs=1)
        mixer.execution = Execution(accelerator="cpu", checkpoints=folder)
        return mixer.fit([track]).weights_.matrix

    fit(song, tmp_path / "again")
    np.testing.assert_array_equal(fit(other, tmp_path / "again"), fit(other, tmp_path / "fresh"))
    assert "it is put aside as training.safetensors.other, and the training begins again" in caplog.text


def test_a_checkpoint_of_another_training_is_refused_and_a_damaged_one_put_aside(tmp_path, caplog):
    songs = planted_songs(1)
    first = Conv1x1Mixer(segment=512, shift=512, epochs=1)
    other = Conv1x1Mixer(segment=512, shift=512, epochs=1, seed=5)
    longer = Conv1x1Mixer(segment=512, shift=512, epochs=2)
    for mixer in (first, other, longer):
        mixer.execution = Execution(accelerator="cpu", checkpoints=tmp_path)
    whole = first.fit(songs).weights_.matrix
    assert [row["epoch"] for row in longer.fit(songs).history_] == [0, 1, 2]
    with pytest.raises(TrainingError, match="other arguments or tracks"):
        other.fit(songs)
    checkpoint = tmp_path / "training.safetensors"
    flipped = bytearray(checkpoint.read_bytes())
    flipped[-1] ^= 1
    for damaged in (b"no tensors", bytes(flipped)):
        checkpoint.write_bytes(damaged)
        np.testing.assert_array_equal(first.fit(songs).weights_.matrix, whole)
        assert (tmp_path / "training.safetensors.damaged").read_bytes() == damaged
    assert caplog.text.count("is put aside as training.safetensors.damaged, and the training begins again") == 2


def test_safetensors_of_other_programs_are_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(TrainingError, match="train again"):
        read_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(TrainingError, match="no such file"):
        read_checkpoint(tmp_path / "y.safetensors")
    write_checkpoint(tmp_path / "z.safetensors", {"a": {"b/c": torch.arange(3)}}, {"name": "Ä"})
    groups, described = read_checkpoint(tmp_path / "z.safetensors")
    assert groups["a"]["b/c"].tolist() == [0, 1, 2]
    assert described == {"name": "Ä"}


def test_a_recipe_is_checked():
    with pytest.raises(TrainingError, match="expected at least 1"):
        Recipe(accumulate=0)


def test_importing_mixers_does_not_import_torch():
    code = "import sys, stemfuse.mixers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("arguments", [{"solver": "exact"}, {"segment": 4096, "shift": 4096, "epochs": 1}])
def test_conv1x1_is_a_fusion(arguments):
    mixer = Conv1x1Mixer(**arguments)
    mixer.execution = CPU
    check_fusion(mixer, conformance_tracks(seconds=0.3))


def test_least_absolute_errors_use_a_direction_that_only_large_errors_see():
    """Two stems that differ by 1e-3, and only where the error is large: the Hessian does not see it, the proof does."""
    rng = np.random.default_rng(0)
    stem, error = rng.normal(size=(50_000, 1)), rng.laplace(0, 0.3, (50_000, 1))
    twin = stem + 1e-3 * rng.normal(size=stem.shape) * (np.abs(error) > 0.5)
    inputs, reference = np.hstack([stem, twin]), stem + error
    plain = SecondMoments(2, 1)
    plain.add(inputs, reference)
    moments = SecondMoments(2, 1, whitening(plain.inputs))
    moments.add(inputs, reference)
    newton = Newton(least_squares(moments), np.array([0.01]))
    for _ in range(12):
        sweep = newton.next_sweep()
        sweep.add(inputs, reference)
        sweep = newton.update(sweep, moments)
    assert duality_gaps(sweep, moments) < 1e-3 * sweep.absolute
