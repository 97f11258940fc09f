import itertools

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from makers.places import SHARED
from stemfuse.analysis import GramError, GramStatistics, band_statistics
from stemfuse.blending import FusionError, LeastSquares, apply_weights, bounds, leave_one_out
from stemfuse.blending.aggregation import OVER_TRACKS, aggregate_frames
from stemfuse.blending.bounds import every_bound
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.blending.oracles import Score
from stemfuse.blending.space import FrameErrors
from stemfuse.separators import SOURCES, Stems, Track


@pytest.fixture(scope="module")
def tracks():
    return conformance_tracks(("a", "b", "c"), 3.0)


@pytest.fixture(scope="module")
def table(tracks):
    return bounds(tracks, segment_frames=2, bands_hz=(500.0, 4000.0))


def test_each_bound_contains_the_one_before(table):
    order = ["oracle corpus", "oracle track", "oracle segment", "oracle frame"]
    for source in (*SOURCES, "mean"):
        ratios = table[table["source"] == source].set_index("bound")["ratio_db"]
        assert (np.diff(ratios[order]) >= -1e-9).all(), source
        assert ratios["oracle corpus, bands"] >= ratios["oracle corpus"] - 1e-9
        assert ratios["oracle track, bands"] >= ratios["oracle track"] - 1e-9
        assert ratios["oracle corpus"] >= ratios["best single"] - 1e-9
        assert ratios["oracle frame"] >= ratios["best per frame"] - 1e-9
        values = table[table["source"] == source].set_index("bound")["sdr_db"]
        assert values["best per frame"] >= values["best per track"] >= values["best single"]


FINER = {
    "best single": ["best per track", "oracle corpus"],
    "best per track": ["best per frame", "oracle track"],
    "best per frame": ["oracle frame"],
    "oracle corpus": ["oracle track", "oracle corpus, bands"],
    "oracle corpus, bands": ["oracle track, bands"],
    "oracle track": ["oracle segment", "oracle track, bands"],
    "oracle segment": ["oracle frame"],
}
"""Which rules contain a rule."""


def assert_ordered(values):
    for coarse, finer in FINER.items():
        for fine in finer if coarse in values else ():
            if fine in values:
                assert np.all(np.asarray(values[fine]) >= np.asarray(values[coarse]) - 1e-9), (coarse, fine, values)


def random_errors(generator, tracks, rows, weights):
    """Quadratic forms of frames of three channels of five samples each, some of them silent, a few almost so."""
    inputs = generator.normal(size=(len(tracks), weights, rows)) * generator.lognormal(0, 1, (len(tracks), weights, 1))
    mixed = generator.normal(size=(len(tracks), weights)) * generator.choice([0.2, 1.0], (len(tracks), 1))
    noise = generator.lognormal(-1, 1.5, (len(tracks), 1)) * generator.normal(size=(len(tracks), rows))
    truth = (np.einsum("fir,fi->fr", inputs, mixed + 1) + noise) * generator.choice([1e-5, 0.1, 1], (len(tracks), 1))
    a, b, c = np.einsum("fir,fjr->fij", inputs, inputs), np.einsum("fir,fr->fi", inputs, truth), np.square(truth).sum(1)
    return FrameErrors(a, b, c, tracks, generator.random(len(tracks)) > 0.1)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 14), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from(list(itertools.product(("median", "mean"), OVER_TRACKS))),
)
def test_no_finer_rule_is_below_a_coarser_one(seed, lengths, weights, segment, over):
    generator = np.random.default_rng(seed)
    tracks = np.repeat(np.arange(len(lengths)), lengths)
    parts = [random_errors(generator, tracks, 5, weights) for _ in range(2)]
    counted = parts[0].counted
    whole, *parts = (
        FrameErrors(sum(p.a for p in some), sum(p.b for p in some), sum(p.c for p in some), tracks, counted)
        for some in (parts, parts[:1], parts[1:])
    )
    values, by_track = {}, {}
    for name, errors, _, _ in every_bound(whole, list(np.eye(weights)), segment, parts, Score(whole, *over)):
        sdr = whole.sdr_of(errors)
        values[name] = np.nan_to_num(aggregate_frames(sdr, tracks, *over))
        each = [aggregate_frames(sdr[tracks == track], tracks[tracks == track], over[0]) for track in set(tracks)]
        by_track[name] = np.nan_to_num(each)
    assert len(values) == 9
    assert_ordered(values)
    if over[1] != "pooled":
        single, corpus = (by_track.pop(name) for name in ("best single", "oracle corpus"))
        assert_ordered(by_track)
        assert (by_track["best per track"] >= single - 1e-9).all()
        assert (by_track["oracle track"] >= corpus - 1e-9).all()


@pytest.mark.skipif(not (SHARED / "real" / "sisec18").is_dir(), reason="no real music here")
def test_bounds_of_real_songs_are_ordered_track_by_track():
    place, tracks = SHARED / "real" / "sisec18", []
    for song in sorted((place / "references" / "test").iterdir()):
        voice, others = (sf.read(song / f"{name}.flac")[0].T for name in ("vocals", "accompaniment"))
        stems = {
            system: sf.read(place / "estimates" / system / "test" / song.name / "vocals.flac")[0].T[None]
            for system in ("JY3", "TAK2", "TAU1", "UHL3")
        }
        tracks.append(
            Track.from_arrays(song.name, voice + others, voice[None], rate=44_100, sources=("vocals",)).with_stems(
                {name: Stems(audio.astype("f4"), ("vocals",), 44_100) for name, audio in stems.items()}
            )
        )
    for some in ([track] for track in tracks):
        assert_ordered(bounds(some, segment_frames=2).query("source == 'mean'").set_index("bound")["sdr_db"])
    table = bounds(tracks, segment_frames=2, bands_hz=(500.0, 4000.0)).query("source == 'mean'").set_index("bound")
    assert_ordered(table["sdr_db"])
    assert table.loc["oracle frame", "sdr_db"] > table.loc["oracle corpus", "sdr_db"] + 0.1


def median_sdr(track, stems):
    """Of whole frames of one second, from the audio."""
    seconds = track.length // 44_100
    truth, error = (
        np.square(audio[..., : seconds * 44_100].astype(float)).reshape(4, 2, seconds, -1).sum((1, 3))
        for audio in (track.references.audio, track.references.audio - stems.audio)
    )
    return np.median(10 * np.log10(truth / error), axis=1)


def test_best_single_and_oracles_are_the_scores_of_real_audio(tracks, table):
    first = table.set_index(["bound", "source"])["sdr_db"]
    by_track = {"a": [], "b": [], "c": [], "oracle": []}
    blend = LeastSquares("all", mixture=True).fit(tracks)
    for track in tracks:
        for name, stems in track.stems.items():
            by_track[name].append(median_sdr(track, stems))
        by_track["oracle"].append(median_sdr(track, apply_weights(blend.weights_, track)))
    medians = {name: np.median(values, axis=0) for name, values in by_track.items()}
    for number, source in enumerate(SOURCES):
        best = max(medians[name][number] for name in "abc")
        assert first["best single", source] == pytest.approx(best, abs=1e-6)
        assert first["oracle corpus", source] == pytest.approx(medians["oracle"][number], abs=1e-4)


def test_a_switching_mix_is_reached_by_segments_and_not_by_constants():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 0.1, (2, 4, 2, 6 * 44_100)).astype(np.float32)
    references = first.copy()
    references[..., 3 * 44_100 :] = second[..., 3 * 44_100 :]
    track = Track.from_arrays("switch", references.sum(0), references, {"a": first, "b": second})
    table = bounds([track], stems="same", mixture=False, segment_frames=3).set_index(["bound", "source"])
    for source in SOURCES:
        assert table.loc[("oracle segment", source), "sdr_db"] > 100
        assert table.loc[("oracle track", source), "ratio_db"] < 5
        assert table.loc[("oracle segment", source), "ratio_db"] > 100
        assert table.loc[("best per frame", source), "sdr_db"] > 100
    assert table.loc[("oracle segment", "bass"), "weights"] == 2 * 2


def test_bands_reach_a_mix_that_depends_on_frequency():
    generator = np.random.default_rng(1)
    first, second = generator.normal(0, 0.1, (2, 4, 2, 2 * 44_100)).astype(np.float32)
    shape = (*first.shape[:2], 2, 44100)
    low, high = np.fft.rfft(first.reshape(shape)), np.fft.rfft(second.reshape(shape))
    low[..., 1000:] = high[..., 1000:]
    references = np.fft.irfft(low, 44_100).reshape(first.shape).astype(np.float32)
    track = Track.from_arrays("bands", references.sum(0), references, {"a": first, "b": second})
    table = bounds([track], "same", False, bands_hz=(999.5,)).set_index(["bound", "source"])["sdr_db"]
    assert table["oracle corpus, bands", "vocals"] > 100
    assert table["oracle frame", "vocals"] < 30


def test_band_statistics_add_up_and_refuse_bad_edges(tracks):
    parts = band_statistics(tracks[0], [200.0, 2000.0, 9000.0])
    np.testing.assert_allclose(
        sum(part.moments for part in parts), GramStatistics.of(tracks[0]).moments, rtol=1e-9, atol=1e-9
    )
    for edges in ([], [0.0], [5000.0, 100.0], [30_000.0]):
        with pytest.raises(GramError, match="band edges"):
            band_statistics(tracks[0], edges)


def test_the_useless_separator_is_found(tracks):
    generator = np.random.default_rng(2)
    useless = [track.with_stems({"noise": _noise(generator, track)}) for track in tracks]
    table = leave_one_out(useless[:2], test=useless[2:]).set_index(["without", "source"])["loss_db"]
    losses = {name: table[name, "mean"] for name in ("a", "b", "c", "noise")}
    assert abs(losses["noise"]) < 0.02
    assert losses["a"] == max(losses.values())
    assert losses["a"] > 0.2
    assert table["", "mean"] == 0
    with pytest.raises(FusionError, match="at least two"):
        leave_one_out(
            [Track.from_arrays("one", t.mixture.read(), t.references.audio, {"a": t.stems["a"].audio}) for t in tracks]
        )


def _noise(generator, track):
    from stemfuse.separators import Stems

    return Stems(generator.normal(0, 0.1, (4, 2, track.length)).astype(np.float32))
