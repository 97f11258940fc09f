"""Gram statistics: the SDR of any blend, without touching audio again, is museval's."""

import numpy as np
import pytest
import soundfile as sf

from stemfuse.analysis import (
    GramError,
    GramStatistics,
    ProjectionStatistics,
    bss_eval,
    frame_slices,
)
from stemfuse.blending import Fixed, Mean, MixingWeights, apply_weights
from stemfuse.blending.candidates import CandidateScorer, blend_terms
from stemfuse.separators import RATE, SOURCES, FileSignal, Stems, StemStore, Track, input_labels, output_labels


def make_track(seed=0, seconds=4.3, window=11_025):
    """Four sources that come and go; two separators that err differently; one frame with a silent reference."""
    generator = np.random.default_rng(seed)
    length = int(seconds * RATE)
    time = np.arange(length) / RATE
    references = generator.normal(0, 0.1, (4, 2, length)) * (
        0.05 + np.abs(np.sin(time * [[1], [2], [3], [4]]))[:, None]
    )
    references[3, :, 2 * window : 3 * window] = 0
    mixture = references.sum(0)
    stems = {
        "a": 0.8 * references + 0.1 * mixture + generator.normal(0, 0.02, references.shape),
        "b": 0.7 * references + 0.1 * references[::-1] + generator.normal(0, 0.03, references.shape),
    }
    return Track.from_arrays(f"song {seed}", mixture, references, stems)


@pytest.fixture(scope="module")
def track():
    return make_track()


@pytest.fixture(scope="module")
def short():
    """Six frames of such a track: museval takes its time for each."""
    return make_track(seconds=1.6)


@pytest.fixture(scope="module")
def gram(track):
    return GramStatistics.from_track(track, 11_025, 11_025)


def random_weights(track, segments=1, seed=1, **times):
    inputs = input_labels(track)
    matrix = np.random.default_rng(seed).normal(0, 0.4, (segments, 8, len(inputs)))
    return MixingWeights(matrix, inputs, output_labels(), **times)


def audio_sdr(track, stems, window=11_025, hop=11_025, backend="fast"):
    swap = (0, 2, 1)
    return bss_eval(track.references.audio.transpose(swap), stems.audio.transpose(swap), window, hop, backend=backend)[
        0
    ]


def test_the_sdr_of_any_blend_is_that_of_its_audio(short):
    track, gram = short, GramStatistics.from_track(short, 11_025, 11_025)
    for weights in (random_weights(track), Mean().fit([track]).weights_, Fixed({"bass": [1, 0]}).fit([track]).weights_):
        if weights.sources != SOURCES:
            continue
        np.testing.assert_allclose(gram.sdr(weights), audio_sdr(track, apply_weights(weights, track)), atol=1e-5)
    assert np.isnan(gram.sdr(random_weights(track))[:, 2]).all(), "a silent reference drops the frame for all sources"


@pytest.mark.slow
def test_it_is_musevals_value_of_the_written_file(short, tmp_path):
    """float32 WAV rounds the blend to 6e-8 of its size, which moves the SDR by about as little in dB."""
    track, gram = short, GramStatistics.from_track(short, 11_025, 11_025)
    weights = random_weights(track)
    apply_weights(weights, track).write(tmp_path)
    written = Stems(np.stack([sf.read(tmp_path / f"{source}.wav")[0].T for source in SOURCES]))
    museval = audio_sdr(track, written, backend="museval")
    np.testing.assert_allclose(gram.sdr(weights), museval, rtol=0, atol=1e-6)


def test_segments_on_frame_borders_have_their_own_weights(track, gram):
    starts = np.array([0, 4, 9]) * 0.25
    weights = random_weights(track, 3, starts_s=starts)
    np.testing.assert_allclose(gram.sdr(weights), audio_sdr(track, apply_weights(weights, track)), rtol=0, atol=1e-6)
    with pytest.raises(GramError, match="borders of frames"):
        gram.sdr(random_weights(track, 2, starts_s=[0, 0.3]))
    with pytest.raises(GramError, match="must not overlap"):
        gram.sdr(random_weights(track, 2, starts_s=[0, 0.25], duration_s=5.0))


def test_overlapping_frames(short):
    gram = GramStatistics.from_track(short, 22_050, 10_000)
    weights = random_weights(short)
    expected = audio_sdr(short, apply_weights(weights, short), 22_050, 10_000)
    np.testing.assert_allclose(gram.sdr(weights), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, pytest.param(10, marks=pytest.mark.slow), 11_024, 11_025, 11_026, 33_075])
def test_short_tracks_have_the_frames_that_museval_has(length):
    generator = np.random.default_rng(length)
    references = generator.normal(0, 0.1, (4, 2, length)).astype("float32")
    track = Track.from_arrays("short", references.sum(0), references, {"a": references + 0.01})
    gram = GramStatistics.from_track(track, 11_025, 11_025)
    expected = audio_sdr(track, track.stems["a"])
    np.testing.assert_allclose(gram.sdr(Mean().fit([track]).weights_), expected, rtol=0, atol=1e-5)
    assert len(frame_slices(length, 11_025, 11_025)) == expected.shape[1]


def test_silent_estimates_drop_the_frame_for_all(track, gram):
    silent = Fixed({"drums": [1, 0], "bass": [1, 0], "other": [1, 0], "vocals": [0, 0]}).fit([track])
    assert np.isnan(gram.sdr(silent.weights_)).all()
    inverted = random_weights(track).matrix.copy()
    # right is minus left where all inputs are mono: museval calls that silent
    inverted[0, 1] = -inverted[0, 0].reshape(-1, 2)[:, ::-1].ravel()
    mono = make_track(3)
    double = np.repeat(mono.references.audio[:, :1], 2, axis=1)
    same = Track.from_arrays("mono", double.sum(0), double, {"a": double, "b": 0.5 * double})
    weights = MixingWeights(inverted, input_labels(track), output_labels())
    assert np.isnan(GramStatistics.from_track(same, 11_025, 11_025).sdr(weights)).all()


def test_a_perfect_estimate_is_infinite_or_above_140_db():
    track = make_track()
    perfect = track.with_stems({"a": track.references})
    sdr = GramStatistics.from_track(perfect, 11_025, 11_025).sdr(
        Fixed({s: [1, 0] for s in SOURCES}).fit([perfect]).weights_
    )
    assert np.nanmin(sdr) > 140


def test_gradient_is_the_slope_of_the_sdr(track, gram):
    weights = random_weights(track)
    gradient = gram.sdr_gradient(weights)
    step = 1e-3
    for output, source in ((0, 0), (3, 1), (7, 3)):
        for column in (0, 5, 17):
            sides = []
            for sign in (1, -1):
                moved = weights.matrix.astype(float)
                moved[0, output, column] += sign * step
                # matrices are float32: the step that was really made counts
                moved32 = MixingWeights(moved, weights.inputs, weights.outputs)
                sides.append((moved32.matrix[0, output, column], gram.sdr(moved32)[source]))
            slope = (sides[0][1] - sides[1][1]) / (float(sides[0][0]) - float(sides[1][0]))
            keep = np.isfinite(slope)
            np.testing.assert_allclose(gradient[keep, output, column], slope[keep], rtol=1e-3, atol=1e-4)


def test_select_keeps_what_is_asked_for(track, gram):
    labels = ("b.bass.left", "mixture.right")
    chosen = gram.select(labels)
    np.testing.assert_array_equal(chosen.input_moments[:, 0, 1], gram.input_moments[:, 12, 1])
    assert gram.inputs[12] == "b.bass.left"
    with pytest.raises(GramError, match=r"no input 'c\.bass\.left'"):
        gram.select(["c.bass.left"])


def test_statistics_survive_the_disk(tmp_path, gram):
    path = tmp_path / "gram.npz"
    gram.save(path)
    again = GramStatistics.load(path)
    np.testing.assert_array_equal(again.moments, gram.moments)
    assert (again.inputs, again.outputs, again.window, again.rate) == (gram.inputs, gram.outputs, 11_025, RATE)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(GramError, match="no Gram statistics"):
        GramStatistics.load(path)


def test_the_store_keeps_them_and_reads_no_audio_again(tmp_path, track, monkeypatch):
    track.mixture.read()
    for name, samples in {"mixture": track.mixture.read(), **{s: track.references[s].read() for s in SOURCES}}.items():
        sf.write(tmp_path / f"{name}.wav", samples.T, RATE, subtype="FLOAT")
    files = {source: FileSignal(tmp_path / f"{source}.wav") for source in SOURCES}
    on_disk = Track("song", FileSignal(tmp_path / "mixture.wav"), references=Stems.from_signals(files))
    store = StemStore(tmp_path / "store")
    for name in "ab":
        store.put(on_disk, f"{name}-00000000", track.stems[name], {"name": name})
    keys = {name: f"{name}-00000000" for name in "ab"}
    first = GramStatistics.from_store(store, on_disk, keys, 11_025, 11_025)
    assert store.keys() == ["a-00000000", "b-00000000"], "statistics are listed as a separator"
    monkeypatch.setattr(FileSignal, "_read", lambda *_: pytest.fail("audio was read"))
    again = GramStatistics.from_store(store, on_disk, keys, 11_025, 11_025)
    np.testing.assert_array_equal(first.moments, again.moments)
    monkeypatch.undo()
    (file,) = (store.root / ".gram").rglob("*.npz")
    file.write_text("damaged")
    np.testing.assert_array_equal(
        first.moments, GramStatistics.from_store(store, on_disk, keys, 11_025, 11_025).moments
    )
    other = GramStatistics.from_store(store, on_disk, {"a": "a-00000000"}, 11_025, 11_025)
    assert len(other.inputs) < len(first.inputs)


@pytest.mark.parametrize("frames", ["median", "mean"])
@pytest.mark.parametrize("tracks", ["median", "mean", "pooled"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_candidates_are_scored_as_their_sdr_aggregates(frames, tracks, count):
    grams = [GramStatistics.from_track(make_track(seed, 3 + seed), 11_025, 11_025) for seed in range(count)]
    terms = blend_terms(grams[0], "bass", mixture=True)
    assert list(terms) == ["mixture", "a.bass", "b.bass"]
    scorer = CandidateScorer(grams, "bass", terms, frames, tracks)
    weights = np.random.default_rng(5).normal(0, 0.5, (20, 3))
    scores = scorer.score_many(weights)
    for theta, score in zip(weights, scores, strict=True):
        per_track = []
        for gram in grams:
            matrix = np.zeros((1, 8, len(gram.inputs)))
            for value, brings in zip(theta, terms.values(), strict=True):
                for row, side in enumerate(("left", "right"), start=2):
                    matrix[0, row, gram.inputs.index(brings[f"bass.{side}"])] = value
            sdr = 10 * np.log10(gram.reference_energies[:, 2:4].sum(1) / gram.errors(matrix)[:, 2:4].sum(1))
            per_track.append(sdr[~gram.silent])
        statistic = {"median": np.median, "mean": np.mean}
        if tracks == "pooled":
            expected = statistic[frames](np.concatenate(per_track))
        else:
            expected = statistic[tracks]([statistic[frames](values) for values in per_track])
        assert score == pytest.approx(expected, abs=1e-9)


def test_candidates_know_their_limits(gram):
    terms = blend_terms(gram, "vocals", stems="all", mixture=True, tied=False)
    assert len(terms) == 2 * 18
    scorer = CandidateScorer([gram], "vocals", terms)
    assert np.isnan(scorer.score(np.zeros(36))), "no weight at all is a silent estimate"
    with pytest.raises(GramError, match="got 2 weights, expected 36"):
        scorer.score([1, 2])
    with pytest.raises(GramError, match="no reference 'flute'"):
        CandidateScorer([gram], "flute", terms)
    with pytest.raises(GramError, match="at least one of each"):
        CandidateScorer([], "vocals", terms)


@pytest.mark.parametrize(("window", "hop"), [pytest.param(11_025, 11_025, marks=pytest.mark.slow), (22_050, 10_000)])
@pytest.mark.slow
def test_all_four_metrics_of_a_blend_come_from_small_matrices(short, window, hop):
    track = short
    statistics = ProjectionStatistics.from_track(track, ["b", "a"], mixture=True, window=window, hop=hop)
    for seed in range(3):
        weights = random_weights(track, seed=seed)
        swap = (0, 2, 1)
        audio = apply_weights(weights, track).audio.transpose(swap)
        expected = bss_eval(track.references.audio.transpose(swap), audio, window, hop)
        for name, ours, theirs in zip(expected._fields, statistics.scores(weights), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6, err_msg=name)


def test_projections_are_made_of_what_is_asked_for(track):
    statistics = ProjectionStatistics.from_track(track, ["a"], window=11_025, hop=11_025)
    assert statistics.gram.inputs == tuple(label for label in input_labels(track) if label.startswith("a."))
    assert statistics.own.shape == (17, 4, 10, 10)
    with pytest.raises(GramError, match="no input"):
        statistics.scores(Mean().fit([track]).weights_)
    with pytest.raises(GramError, match="one segment"):
        statistics.scores(MixingWeights(np.ones((2, 8, 8)), statistics.gram.inputs, output_labels(), starts_s=[0, 0.5]))
