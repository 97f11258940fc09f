"""Mixers whose weights vary in time: planted weights, a cue that switches them, the oracle, files."""

import itertools
from functools import partial

import numpy as np
import pytest

from makers.planted import planted_songs, sdr_of, switching_song, turning_with_the_voice
from stemfuse.blending import (
    FusionError,
    LeastSquares,
    MixingWeights,
    apply_weights,
    bounds,
    check_fusion,
    input_labels,
)
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.mixers.conv1x1 import Conv1x1Mixer
from stemfuse.mixers.gram_mixer import GramMixer
from stemfuse.mixers.mlp_mixer import MLPMixer, mlp_cost
from stemfuse.separators import SOURCES, ArraySignal, AudioError, Stems, Track, TrackError, TrainingError
from stemfuse.separators.training import Execution

RATE = 4000
CPU = Execution(accelerator="cpu")
SMALL = {"segment": 512, "shift": 256, "fold": 32, "layers": 1}


def oracle(track, weights):
    """Least squares in every segment of these weights on its own, joined as they are."""
    inputs = np.concatenate([track.mixture.read(), *(stems.audio.reshape(8, -1) for stems in track.stems.values())])
    references = track.references.audio.reshape(8, -1)
    matrices = []
    for start in np.rint(weights.starts_s * RATE).astype(int):
        here = slice(start, start + round(weights.duration_s * RATE))
        matrices.append(np.linalg.lstsq(inputs[:, here].T, references[:, here].T, rcond=1e-4)[0].T)
    best = MixingWeights(matrices, weights.inputs, weights.outputs, weights.starts_s, weights.duration_s)
    return sdr_of(track.references.audio, apply_weights(best, track).audio)


def fitted(mixer, train, valid=None):
    mixer.execution = CPU
    return mixer.fit(train, valid)


@pytest.fixture(scope="module")
def songs():
    return [switching_song(seed)[0] for seed in range(8)]


@pytest.fixture(scope="module")
def constant_sdr(songs):
    """The best constant weights of the held-out song itself: no constant fusion can do better on it."""
    best = Conv1x1Mixer("exact", loss="l2").fit(songs[-1:])
    return sdr_of(songs[-1].references.audio, best.fuse(songs[-1]).audio)


@pytest.mark.parametrize(
    "mixer",
    [
        GramMixer(frame_s=0.1, sides="all", dropout=0, run=8, batch=4, learning_rate=3e-3, epochs=25),
        MLPMixer(**SMALL, base="conv1x1", batch=16, learning_rate=2e-3, epochs=15),
        MLPMixer.published(segment=512, shift=256, fold=32, batch=16, learning_rate=2e-3, epochs=6),
    ],
    ids=["gram", "mlp", "published"],
)
@pytest.mark.slow
def test_a_cue_that_switches_the_weights_is_learnt(songs, constant_sdr, mixer):
    mixer = fitted(mixer, songs[:6], songs[6:7])
    test = songs[-1]
    reached, best = sdr_of(test.references.audio, mixer.fuse(test).audio), oracle(test, mixer.weights(test))
    print(f"constant {constant_sdr:.2f}, reached {reached:.2f}, oracle {best:.2f} dB")
    assert reached > constant_sdr + 3
    assert reached > best - 1


def second_sdr(track, fusion):
    """Mean and median over frames of one second of the SDR in dB, mean over sources."""
    truth, error = (
        np.square(audio.astype(float)).reshape(4, 2, -1, track.rate).sum((1, 3))
        for audio in (track.references.audio, track.references.audio - fusion.fuse(track).audio)
    )
    values = 10 * np.log10(truth / error)
    return values.mean(), np.median(values, axis=1).mean()


@pytest.mark.slow
def test_separators_that_take_turns_with_the_voice_are_followed():
    songs = [turning_with_the_voice(seed) for seed in range(16)]
    mixer, constant = fitted(GramMixer(), songs[:12]), LeastSquares("all", mixture=True).fit(songs[:12])
    reached, start = (np.mean([second_sdr(song, fusion)[1] for song in songs[12:]]) for fusion in (mixer, constant))
    table = bounds(songs[12:], segment_frames=1).query("source == 'mean'").set_index("bound")["sdr_db"]
    print(f"constant {start:.2f}, reached {reached:.2f}, oracle {table['oracle segment']:.2f} dB")
    assert start < table["oracle segment"] - 10
    assert reached > table["oracle segment"] - 2


def test_training_starts_at_the_constant_weights_of_the_loss():
    songs = [turning_with_the_voice(seed, 6) for seed in range(4)]
    start, base = (fitted(GramMixer(loss, frame_s=1.0, epochs=0), songs) for loss in ("sdr", "l2"))
    constant = LeastSquares("all", mixture=True, tied=False).fit(songs)
    reached, energy, best = (np.mean([second_sdr(song, f)[0] for song in songs]) for f in (start, base, constant))
    assert reached > energy + 0.3
    assert reached > best - 0.1


def test_constant_weights_are_kept_where_songs_that_are_left_out_gain_nothing():
    songs = planted_songs(9, 16_000, noise=1.0)
    options = {"frame_s": 0.125, "learning_rate": 0.01, "dropout": 0, "epochs": 40, "sides": "all", "run": 16}
    reached = {}
    for name, more in {"guarded": {}, "start": {"epochs": 0}, "trained": {"folds": 0}}.items():
        mixer = fitted(GramMixer(**{**options, **more}), songs[:4])
        reached[name] = np.mean([sdr_of(song.references.audio, mixer.fuse(song).audio) for song in songs[4:]])
    assert reached["trained"] < reached["start"] - 0.02
    assert reached["guarded"] == pytest.approx(reached["start"], abs=0.005)


def test_songs_of_sequences_are_those_songs(songs):
    from stemfuse.mixers.features import frame_features
    from stemfuse.mixers.frame_sequences import FrameSequences
    from stemfuse.mixers.segments import TrackBlocks

    blocks = TrackBlocks(songs[:3])
    describe = partial(frame_features, labels=blocks.inputs, edges_hz=[500.0])
    every = FrameSequences(blocks, 2000, 4, describe)
    some, alone = every.of([2, 0]), FrameSequences(TrackBlocks([songs[2], songs[0]]), 2000, 4, describe)
    assert (every.songs, some.songs, len(some)) == (3, 2, len(alone))
    for one, other in zip(some.__getitems__(range(len(some))), alone.__getitems__(range(len(some))), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(some.least_squares(1e-4), alone.least_squares(1e-4))
    np.testing.assert_array_equal(some.mean, alone.mean)


@pytest.mark.long
def test_the_cue_is_learnt_however_the_segment_is_folded(songs, constant_sdr):
    """The ablation of fold and pool that docs/results.md prints: `-s` shows it."""
    size = {"layers": 2, "segment": 512, "shift": 256, "fold": 32, "batch": 16, "learning_rate": 2e-3, "epochs": 8}
    reached = {}
    for folding, pooling in itertools.product(("patches", "consecutive"), ("channels", "tokens")):
        mixers = [MLPMixer(**size, centred=True, folding=folding, pooling=pooling, seed=seed) for seed in range(3)]
        fused = [fitted(mixer, songs[:6], songs[6:7]).fuse(songs[-1]).audio for mixer in mixers]
        values = [sdr_of(songs[-1].references.audio, audio) for audio in fused]
        reached[folding, pooling] = np.mean(values)
        print(f"{folding}, {pooling}: {np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} dB")
    assert min(reached.values()) > constant_sdr + 3
    assert reached["patches", "channels"] > max(reached.values()) - 0.5


@pytest.mark.parametrize(
    "mixer",
    [
        GramMixer(frame_s=0.125, epochs=3),
        GramMixer(frame_s=0.125, epochs=3, base="conv1x1", mixture=False),
        MLPMixer(**SMALL, base="conv1x1", epochs=1),
    ],
    ids=["gram", "gram-conv1x1", "mlp"],
)
def test_planted_constant_weights_are_recovered(mixer):
    songs = [switching_song(seed, 2.0, switching=False, error=0) for seed in range(3)]
    tracks = [track for track, _ in songs]
    if not mixer.mixture:
        tracks = [track.with_stems({"mix": Stems(track.mixture.read()[None], ("other",), RATE)}) for track in tracks]
    weights = fitted(mixer, tracks[:2], tracks[2:]).weights(tracks[2])
    planted = songs[0][1][0]
    if not mixer.mixture:
        planted = np.concatenate([planted[:, 2:], planted[:, :2]], axis=1)
    assert len(weights.matrix) > 3
    assert abs(weights.matrix - planted).max() < 1e-3


def test_an_mlp_mixer_learns_from_scratch(songs):
    mixer = fitted(MLPMixer(**SMALL, dropout=0.1, batch=8, learning_rate=2e-3, epochs=4), songs[:2], songs[6:7])
    losses = [row["valid_loss"] for row in mixer.history_]
    assert min(losses) < 0.6 * losses[0]


@pytest.mark.parametrize("loss", ["median_sdr", "l2"])
def test_losses_of_moments_lower_what_they_name(songs, loss):
    mixer = GramMixer(loss, frame_s=0.125, base="mean", hidden=0, run=8, learning_rate=0.01, epochs=8, sides="all")
    losses = [row["valid_loss"] for row in fitted(mixer, songs[:3], songs[6:7]).history_]
    assert min(losses) < losses[0] - (1.0 if loss == "median_sdr" else 0.3 * losses[0])


def test_scores_from_moments_are_those_of_the_audio(songs):
    import torch

    from stemfuse.mixers.features import frame_features
    from stemfuse.mixers.frame_sequences import FrameSequences
    from stemfuse.mixers.gram_network import GramObjective
    from stemfuse.mixers.losses import FLOOR
    from stemfuse.mixers.segments import TrackBlocks

    blocks = TrackBlocks(songs[:1])
    mixer = GramMixer(frame_s=0.5, base="mean")
    network = mixer.build(blocks.inputs, blocks.outputs)
    network.base.copy_(torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, network.base.shape)))
    describe = partial(frame_features, labels=blocks.inputs, edges_hz=mixer.edges_hz)
    sequences = FrameSequences(blocks, 2000, 4, describe)
    batch = [torch.as_tensor(part) for part in sequences.__getitems__([1])]
    inputs, references = blocks.read(0, 4000, 4000 + 2500 + 2500)
    fused = inputs @ network.base.numpy().T
    squared, decibels = [], []
    for start in range(0, 4000, 1000):
        error = np.square(references - fused)[start : start + 2000].mean(0)
        energy = np.square(references)[start : start + 2000].mean(0)
        squared.append(error.mean())
        shares = (energy.reshape(4, 2).sum(1) + FLOOR) / (error.reshape(4, 2).sum(1) + FLOOR)
        decibels.append(10 * np.log10(shares))
    assert abs(GramObjective(network, "l2")(*batch).item() - np.mean(squared)) < 1e-4
    assert abs(GramObjective(network, "sdr")(*batch).item() + np.mean(decibels)) < 1e-3
    assert abs(GramObjective(network, "median_sdr")(*batch).item() + np.median(decibels, axis=0).mean()) < 1.0


def test_silent_references_do_not_count_in_the_score():
    import torch

    from stemfuse.mixers.gram_network import GramObjective

    mixer = GramMixer()
    network = mixer.build(("a.bass.left", "a.bass.right"), ("bass.left", "bass.right"))
    features, eye = torch.zeros(1, 2, len(network.mean)), torch.eye(2).expand(1, 2, 2, 2)
    present, sounding = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[[True], [False]]])
    energies = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    for loss in ("sdr", "median_sdr"):
        # the weights are zero, so that the error of the frame that counts is the reference itself: 0 dB
        value = GramObjective(network, loss)(features, eye, torch.zeros(1, 2, 2, 2), energies, present, sounding)
        assert abs(value.item()) < 1e-5
        none = GramObjective(network, loss)(features, eye, eye, energies, present, torch.zeros_like(sounding))
        assert none.item() == 0


def test_constraints_hold(songs):
    tracks = [track.with_stems({"b": Stems(track.references.audio * 1.1, SOURCES, RATE)}) for track in songs[:2]]
    own = {"a": 0, "b": 1}
    for constraint in ("simplex", "selection"):
        mixer = GramMixer(constraint=constraint, frame_s=0.25, epochs=10, run=8, learning_rate=0.01)
        weights = fitted(mixer, tracks[:1], tracks[1:]).weights(tracks[1])
        assert (weights.matrix >= 0).all()
        np.testing.assert_allclose(weights.matrix.sum(2), 1, atol=1e-6)
        for row, output in enumerate(weights.outputs):
            others = [
                column for column, label in enumerate(weights.inputs) if label not in (f"a.{output}", f"b.{output}")
            ]
            assert not weights.matrix[:, row, others].any()
        second = [weights.inputs.index(f"b.{output}") for output in weights.outputs]
        share = weights.matrix[:, range(8), second]
        assert own["b"] == 1
        assert (share == 1).all() if constraint == "selection" else (share > 0.6).all()
    voice = songs[0].with_stems({"a": songs[0].stems["a"].select(["vocals"])})
    with pytest.raises(FusionError, match="no separator gives drums"):
        fitted(GramMixer(constraint="simplex"), [voice])


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: GramMixer(frame_s=0.25, run=4, **more),
        lambda **more: MLPMixer(**{**SMALL, "dropout": 0.3}, base="mean", batch=8, **more),
    ],
    ids=["gram", "mlp"],
)
class TestBoth:
    @pytest.fixture
    def songs(self):
        return [switching_song(seed, 2.5)[0] for seed in range(2)]

    def test_untrained_corrections_are_the_constant_fusion(self, songs, make):
        mixer = fitted(make(epochs=0), songs[:1])
        weights = mixer.weights(songs[1])
        constant = MixingWeights(weights.matrix[0], weights.inputs, weights.outputs)
        difference = mixer.fuse(songs[1]).audio - apply_weights(constant, songs[1]).audio
        assert abs(difference).max() < 1e-6

    def test_files_bring_back_the_same_weights(self, songs, make, tmp_path):
        mixer = fitted(make(epochs=2), songs[:1])
        mixer.save(tmp_path / "mixer.safetensors")
        assert {path.name for path in tmp_path.iterdir()} == {"mixer.safetensors", "mixer.json"}
        restored = make(epochs=2).restore(tmp_path / "mixer.safetensors")
        np.testing.assert_array_equal(restored.weights(songs[1]).matrix, mixer.weights(songs[1]).matrix)
        with pytest.raises(FusionError, match=r"saved as \.safetensors"):
            mixer.save(tmp_path / "mixer.npz")
        with pytest.raises(FusionError, match="not fitted"):
            make().save(tmp_path / "other.safetensors")
        other = GramMixer(edges_hz=(50.0,)) if mixer.kind == "gram_mixer" else MLPMixer(fold=16, segment=64)
        with pytest.raises(FusionError, match="not a network of"):
            other.restore(tmp_path / "mixer.safetensors")

    def test_an_interrupted_training_goes_on_to_the_same_weights(self, make, tmp_path):
        class StoppedError(Exception):
            """Raised in place of the user's interrupt."""

        def stop(row):
            if row["epoch"] == 2:
                raise StoppedError

        songs = [switching_song(seed, 3.0)[0] for seed in range(3)]
        results = []
        for folder, progress in (("a", None), ("b", stop), ("b", None)):
            mixer = make(epochs=4, seed=3)
            mixer.execution = Execution("cpu", checkpoints=tmp_path / folder, checkpoint_steps=9, progress=progress)
            if progress is None:
                results.append(mixer.fit(songs[:1], songs[1:2]).weights(songs[2]).matrix)
            else:
                with pytest.raises(StoppedError):
                    mixer.fit(songs[:1], songs[1:2])
        np.testing.assert_array_equal(results[0], results[1])

    def test_songs_of_any_length_are_fused(self, songs, make):
        mixer = fitted(make(epochs=1), songs[:1])
        for length in (1, 100, 511, 512, 513, 999, 1000, 1001, 1501):
            stems = {"a": Stems(songs[1].stems["a"].read(0, length), SOURCES, RATE)}
            short = Track.from_arrays("short", songs[1].mixture.read(0, length), rate=RATE).with_stems(stems)
            audio = mixer.fuse(short).audio
            assert audio.shape == (4, 2, length)
            assert np.isfinite(audio).all()

    def test_fewer_sources_and_no_mixture(self, songs, make):
        tracks = [
            track.with_stems(
                {"voice": track.stems["a"].select(["vocals"]), "pair": track.stems["a"].select(SOURCES[:2])}
            )
            for track in songs[:2]
        ]
        mixer = fitted(make(epochs=1, mixture=False), tracks[:1], tracks[1:])
        weights = mixer.weights(tracks[1])
        assert weights.inputs == input_labels(tracks[1], mixture=False)
        assert weights.matrix.shape[1:] == (8, 14)

    def test_training_on_songs_shorter_than_a_segment(self, songs, make):
        stems, mixture, references = songs[1].stems["a"], songs[1].mixture, songs[1].references
        parts = [
            Track(
                f"part {start}",
                Stems(mixture.read(start, start + 300)[None], ("x",), RATE)["x"],
                "train",
                Stems(references.read(start, start + 300), SOURCES, RATE),
                {"a": Stems(stems.read(start, start + 300), SOURCES, RATE)},
            )
            for start in range(0, 1500, 300)
        ]
        assert np.isfinite(fitted(make(epochs=2), parts[:4], parts[4:]).history_[-1]["valid_loss"])

    def test_what_does_not_fit_is_refused(self, songs, make):
        with pytest.raises(FusionError, match="not fitted"):
            make().weights(songs[0])
        broken = songs[0].stems["a"].audio.copy()
        broken[1, 0, 3210] = np.nan
        spoilt = songs[0].with_stems({"a": Stems(broken, SOURCES, RATE)})
        with pytest.raises(AudioError, match="sample 3210 of channel 0 is nan"):
            fitted(make(epochs=1), [spoilt])
        mixer = fitted(make(epochs=1), songs[:1])
        with pytest.raises(AudioError, match="sample 3210 of channel 0 is nan"):
            mixer.weights(spoilt)
        with pytest.raises(TrackError, match=r"no input 'a\.drums\.left'"):
            mixer.weights(Track("bare", songs[0].mixture))
        other = Track.from_arrays("fast", np.zeros((2, 900)), None, {"a": np.zeros((4, 2, 900))}, rate=8000)
        with pytest.raises(TrackError, match="8000 Hz"):
            mixer.weights(other)
        with pytest.raises(FusionError, match="base"):
            fitted(type(mixer)(base="best"), songs[:1])
        with pytest.raises(FusionError, match="loss"):
            fitted(make(loss="l3"), songs[:1])


@pytest.mark.slow
def test_bfloat16_and_two_processes_reach_about_the_same(tmp_path):
    """Two processes with buffers, checkpoints and a result larger than a pipe; Adam makes much of rounding."""
    tracks = [switching_song(seed, 3.0)[0] for seed in range(3)]
    spawned = Execution("cpu", devices=2, strategy="ddp_spawn", checkpoints=tmp_path)
    losses = []
    for execution, batch in ((CPU, 4), (Execution("cpu", precision="bf16-mixed"), 4), (spawned, 2)):
        mixer = MLPMixer(**SMALL, base="mean", batch=batch, epochs=2)
        mixer.execution = execution
        losses.append([row["valid_loss"] for row in mixer.fit(tracks[:2], tracks[2:]).history_])
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
    np.testing.assert_allclose(losses[2], losses[0], rtol=2e-2)
    assert losses[1][1:] != losses[0][1:]
    with pytest.raises(TrainingError, match="expected 32-true or bf16-mixed"):
        Execution(precision="16")


def test_variants_of_the_mlp_mixer_are_as_large_as_stated():
    from stemfuse.mixers.mlp_network import MLPMixerNetwork

    for options in ({}, {"token_hidden": 5, "channel_hidden": 7}, {"layers": 0}, {"pooling": "tokens"}):
        for more in ({}, {"folding": "consecutive", "dropout": 0.5}):
            network = MLPMixerNetwork(6, 8, 64, 8, **{"layers": 2, **options}, **more)
            expected = mlp_cost(6, 8, 64, 8, **{"layers": 2, **options})["parameters"]
            assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_a_column_is_a_patch_or_a_row_is_consecutive_samples():
    import torch

    from stemfuse.mixers.mlp_network import MLPMixerNetwork

    inputs = torch.arange(12.0).reshape(1, 6, 2)
    folded = {way: MLPMixerNetwork(2, 2, 6, 3, folding=way).fold(inputs)[0] for way in ("patches", "consecutive")}
    assert folded["consecutive"].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    # the left channel's patches 0 2, 4 6, 8 10, then the right one's
    assert folded["patches"].T.tolist() == [[0, 2], [4, 6], [8, 10], [1, 3], [5, 7], [9, 11]]
    for wrong in ({"fold": 5}, {"fold": 3, "pooling": "time"}, {"fold": 3, "folding": "random"}):
        with pytest.raises(FusionError, match=r"divides the segment|channels, tokens"):
            MLPMixerNetwork(2, 2, 6, **wrong)


@pytest.mark.parametrize(("layers", "dropout"), [(8, 0.0), (16, 0.2)])
def test_the_published_mixer_is_the_papers_equations(layers, dropout):
    """The forward pass of Nakano and Goto's section 3.2, for x[f, t, c] = X[f T / F + t, c], never folded."""
    from scipy.special import erf

    song, fold, tokens = switching_song(1, 1.0)[0], 4, 16
    song = Track("shifted", ArraySignal(song.mixture.read() + 0.01, RATE), "train", song.references, song.stems)
    mixer = fitted(MLPMixer.published(layers, dropout, segment=fold * tokens, fold=fold, batch=64, epochs=1), [song])
    assert (mixer.folding, mixer.pooling, mixer.centred, mixer.base) == ("patches", "channels", True, "none")
    audio = np.concatenate([song.mixture.read(), *(stems.audio.reshape(8, -1) for stems in song.stems.values())])
    channels = len(audio)
    mixture = song.mixture.read().astype(float)
    start = 3 * fold * tokens // 4  # the fourth segment
    x = (audio[:, start : start + fold * tokens].T - mixture.mean()) / mixture.std()
    x = x.reshape(fold, tokens, channels)
    state = {name: value.double().numpy() for name, value in mixer.network_.state_dict().items()}

    def normalised(x, name):
        gain, bias = (state[f"{name}.{part}"].reshape(channels, fold).T[:, None] for part in ("weight", "bias"))
        mean, variance = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-5) * gain + bias

    def gelu(x):
        return x * (1 + erf(x / np.sqrt(2))) / 2

    for layer in range(layers):
        name = f"mixer.{layer}.token_mixing"
        within = np.einsum("ht,ftc->hfc", state[f"{name}.0.weight"], normalised(x, f"mixer.{layer}.token_norm"))
        within = gelu(within + state[f"{name}.0.bias"][:, None, None])
        within = np.einsum("th,hfc->ftc", state[f"{name}.3.weight"], within)
        x = x + within + state[f"{name}.3.bias"][None, :, None]
        name = f"mixer.{layer}.channel_mixing"
        first = state[f"{name}.0.weight"].reshape(-1, channels, fold)
        second = state[f"{name}.3.weight"].reshape(channels, fold, -1)
        between = np.einsum("hcf,ftc->ht", first, normalised(x, f"mixer.{layer}.channel_norm"))
        between = gelu(between + state[f"{name}.0.bias"][:, None])
        x = x + np.einsum("cfh,ht->ftc", second, between) + state[f"{name}.3.bias"].reshape(channels, fold).T[:, None]
    expected = (state["head.weight"] @ x.mean((0, 2)) + state["head.bias"]).reshape(-1, channels)
    weights = mixer.weights(song)
    assert weights.starts_s[3] == start / RATE
    np.testing.assert_allclose(weights.matrix[3], expected, atol=2e-6)


@pytest.mark.parametrize("mixer", [GramMixer(epochs=1), MLPMixer(8192, 8192, 128, 1, base="mean", epochs=1)])
def test_varying_mixers_are_fusions(mixer):
    mixer.execution = CPU
    check_fusion(mixer, conformance_tracks(("a",), seconds=0.3))


def without_bass(track, spelt_out=False):
    """The song without a bass: no stem and no reference of it, or silent ones."""
    audio, stems = (signal.audio.copy() for signal in (track.references, track.stems["a"]))
    mixture = track.mixture.read() - audio[1]
    if spelt_out:
        audio[1], stems[1] = 0, 0
        return Track.from_arrays(track.name, mixture, audio, {"a": stems}, RATE)
    kept, sources = [0, 2, 3], [SOURCES[place] for place in (0, 2, 3)]
    return Track.from_arrays(track.name, mixture, audio[kept], {"a": stems[kept]}, RATE, sources)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv1x1Mixer("exact"),
        lambda: Conv1x1Mixer(segment=512, shift=512, epochs=1),
        lambda: MLPMixer(**SMALL, base="mean", epochs=1),
        lambda: GramMixer(frame_s=0.25, run=4, epochs=2, loss="l2"),
        lambda: GramMixer(frame_s=0.25, run=4, epochs=2, base="mean"),
    ],
    ids=["exact", "conv1x1", "mlp", "gram-l2", "gram-sdr"],
)
def test_a_source_that_is_not_in_a_song_is_silent_there(make):
    songs = [switching_song(seed, 2.0)[0] for seed in range(3)]
    trained = [songs[0], without_bass(songs[1])]
    mixer, silent = fitted(make(), trained, [trained[1]]), None
    fused = mixer.fuse(without_bass(songs[2]))
    assert fused.sources == ("drums", "other", "vocals")
    assert mixer.fuse(songs[2]).sources == SOURCES
    if getattr(mixer, "loss", "") != "sdr":
        spelt = [songs[0], without_bass(songs[1], spelt_out=True)]
        silent = fitted(make(), spelt, [spelt[1]])
        ours, theirs = (each.weights(without_bass(songs[2], spelt_out=True)).matrix for each in (mixer, silent))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    last = mixer.weights(without_bass(songs[2]))
    assert np.isfinite(last.matrix).all()
    lost = songs[2].with_stems({"a": songs[2].stems["a"].select(["drums", "other", "vocals"])})
    with pytest.raises(TrackError, match=r"has no input 'a\.bass\.left'"):
        mixer.fuse(lost).read(0, 1)
    with pytest.raises(FusionError, match=r"has no a\.bass\.left.*, others have; all need the same stems"):
        fitted(make(), [songs[0], lost])


def test_weights_of_the_last_song_are_predicted_once(monkeypatch):
    songs = [switching_song(seed, 2.0)[0] for seed in range(2)]
    mixer = fitted(GramMixer(epochs=1, frame_s=0.25, run=2), songs)
    asked = []
    predict = mixer.predict
    monkeypatch.setattr(mixer, "predict", lambda track: asked.append(track.name) or predict(track))
    first = mixer.weights(songs[0])
    assert mixer.weights(songs[0]) is first
    mixer.fuse(songs[0])
    assert asked == ["song 0"]
    # another song, and another network, have other weights
    assert not np.array_equal(mixer.weights(songs[1]).matrix, first.matrix)
    again = mixer.weights(songs[0])
    np.testing.assert_array_equal(again.matrix, first.matrix)
    fitted(mixer, songs[:1])
    assert not np.array_equal(mixer.weights(songs[0]).matrix, first.matrix)
    assert asked == ["song 0", "song 1", "song 0", "song 0"]
