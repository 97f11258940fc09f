"""The Wiener filter of a blend's own spectra: its formula, what is chosen, and what it is worth on real voices."""

import json

import numpy as np
import pytest
import soundfile as sf

from makers.places import SHARED
from stemfuse.blending import FittedWiener, FusionError, LeastSquares, Mean, check_fusion, load_fusion
from stemfuse.blending.classical.spectral import ShortTimeFourier
from stemfuse.blending.classical.wiener import Wiener
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.separators import RATE, Track, TrackError

SISEC = SHARED / "real" / "sisec18"
SYSTEMS = {"JY3": 0, "MDL1": 0, "STL1": 2048, "TAK2": 0, "TAU1": 0, "UHL3": 0}
"""With the samples that they lie late."""


def sdr(reference, estimate):
    return 10 * np.log10(np.square(reference).sum() / np.square(reference - estimate).sum())


def leaking_song(seed, leak=0.3, seconds=3.0):
    """Two tones that come and go by turns, each in both channels by gains of its own, and stems that leak alike."""
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    gates = np.repeat(rng.uniform(0, 1, (2, 30)), len(time) // 30, axis=1)
    tones = [np.sin(2 * np.pi * pitch * time) for pitch in rng.uniform(200, 4000, 2)]
    sources = np.stack(
        [gate * tone * np.array([[1.0], [gain]]) for gate, tone, gain in zip(gates, tones, (0.3, 0.9), strict=True)]
    )
    stems = {name: sources + leak * sources[::-1] + rng.normal(0, 0.002, sources.shape) for name in "ab"}
    return Track.from_arrays(f"song {seed}", sources.sum(0), sources, stems, sources=("bass", "vocals"))


@pytest.mark.parametrize(
    "fusion",
    [
        FittedWiener(),
        FittedWiener("mean", n_fft=1024, hop=256, rest=True),
        FittedWiener("residual", exponents=[0.7], n_fft=512, hop=128),
        FittedWiener("combine", n_fft=512, hop=128),
        FittedWiener(FittedWiener("mean", n_fft=512, hop=128), n_fft=1024, hop=256),
        FittedWiener({"kind": "fixed", "arguments": {"blend": {"vocals": {"a": 0.5, "b": 0.5}}}}, n_fft=512, hop=128),
    ],
    ids=repr,
)
def test_it_conforms(fusion):
    check_fusion(fusion)


@pytest.mark.parametrize("exponent", [1.0, 0.6])
def test_the_filter_is_one_step_of_expectation_maximisation(exponent):
    """Against the definition: all spectra of the song at once, inverses instead of Cramer's rule."""
    rng = np.random.default_rng(1)
    estimates = rng.normal(0, 0.1, (3, 2, 12_000)) * rng.uniform(0, 2, (3, 1, 12)).repeat(1000, -1)
    mixture = estimates.sum(0) + rng.normal(0, 0.02, (2, 12_000))
    track = Track.from_arrays("song", mixture, stems={"a": estimates}, sources=("drums", "bass", "vocals"))
    fused = Wiener(n_fft=512, hop=128, phase="estimate", exponent=exponent).fuse(track).audio

    transform, whole = ShortTimeFourier(512, 128), track.stems["a"].audio.astype(np.float64)
    first, last = transform.touching(0, 12_000)
    given = transform.spectra(lambda start, stop: whole[..., start:stop], 12_000, first, last)
    heard = track.mixture.read().astype(np.float64)
    mixed = transform.spectra(lambda start, stop: heard[..., start:stop], 12_000, first, last)
    power = np.square(np.abs(given)).mean(1)
    spatial = np.einsum("sctb,sdtb->sbcd", given, given.conj()) / power.sum(1)[..., None, None]
    parts = np.einsum("stb,sbcd->stbcd", power**exponent, spatial)
    inverse = np.linalg.inv(parts.sum(0) + 2.0**-26 * np.eye(2))
    expected = np.einsum("stbcd,tbde,etb->sctb", parts, inverse, mixed)
    np.testing.assert_allclose(fused, transform.samples(expected, first, 0, 12_000), atol=1e-6)


def test_what_leaks_alike_into_all_stems_is_filtered_out():
    songs = [leaking_song(seed) for seed in range(4)]
    fusion = FittedWiener("mean").fit(songs[:3])
    assert min(fusion.shares_.values()) > 0.5
    blend = Mean().fit(songs)
    for source in ("bass", "vocals"):
        truth = songs[3].references[source].read()
        gain = sdr(truth, fusion.fuse(songs[3])[source].read()) - sdr(truth, blend.fuse(songs[3])[source].read())
        assert gain > 3


def test_where_the_filter_does_not_help_the_blend_is_kept():
    songs = [leaking_song(seed, leak=0.0) for seed in range(3)]
    rng = np.random.default_rng(5)
    # true stems beside a mixture that is not their sum: the filter would spread its noise
    spoiled = [
        Track.from_arrays(
            song.name,
            song.mixture.read() + rng.normal(0, 0.3, song.mixture.read().shape),
            song.references.audio,
            {"a": song.references.audio},
            sources=("bass", "vocals"),
        )
        for song in songs
    ]
    fusion = FittedWiener("mean").fit(spoiled)
    assert fusion.shares_ == {"bass": 0.0, "vocals": 0.0}
    np.testing.assert_allclose(fusion.fuse(spoiled[0]).audio, songs[0].references.audio, atol=1e-5)


def test_shares_are_chosen_with_blends_that_have_not_seen_the_song(monkeypatch):
    songs, fitted = [leaking_song(seed) for seed in range(7)], []
    fit = LeastSquares.fit
    monkeypatch.setattr(
        LeastSquares, "fit", lambda self, train, valid=None: fitted.append(len(train)) or fit(self, train)
    )
    FittedWiener(n_fft=512, hop=128, exponents=[0.7]).fit(songs)
    assert fitted == [7, 5, 5, 6, 6, 6]


def test_a_source_that_no_song_has_stays_as_the_blend_gives_it():
    songs = []
    for seed in range(2):
        song = leaking_song(seed)
        references = song.references.audio.copy()
        references[0] = 0
        stems = {name: stem.audio for name, stem in song.stems.items()}
        songs.append(Track.from_arrays(song.name, references.sum(0), references, stems, sources=("bass", "vocals")))
    fusion = FittedWiener("mean", n_fft=512, hop=128).fit(songs)
    assert list(fusion.shares_) == ["vocals"]
    song = leaking_song(9)
    np.testing.assert_allclose(
        fusion.fuse(song)["bass"].read(), Mean().fit([song]).fuse(song)["bass"].read(), atol=1e-6
    )


def test_it_is_saved_with_what_it_has_learnt(tmp_path):
    tracks = conformance_tracks()
    fusion = FittedWiener(n_fft=512, hop=128).fit(tracks[:-1])
    fusion.save(tmp_path / "fusion.json")
    again = load_fusion(tmp_path / "fusion.json")
    assert again.fitted_sources == fusion.fitted_sources
    np.testing.assert_array_equal(again.fuse(tracks[-1]).audio, fusion.fuse(tracks[-1]).audio)
    described = json.loads((tmp_path / "fusion.json").read_text())
    FittedWiener("mean", n_fft=512, hop=128).fit(tracks[:1]).base_.save(tmp_path / "bad.base.npz")
    (tmp_path / "bad.json").write_text(json.dumps(described))
    with pytest.raises(FusionError, match=r"bad\.json: bad\.base\.npz is not the blend"):
        load_fusion(tmp_path / "bad.json")
    learnt = described["learnt"]
    for spoilt in (
        {},
        {"shares": {}},
        learnt | {"shares": {"drums": 2}},
        described["learnt"] | {"shares": [1]},
        described["learnt"] | {"exponent": "x"},
    ):
        (tmp_path / "bad.json").write_text(json.dumps(described | {"learnt": spoilt}))
        with pytest.raises(FusionError, match=r"bad\.json: .*fit again"):
            load_fusion(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text(json.dumps(described | {"learnt": described["learnt"] | {"exponent": 3}}))
    with pytest.raises(FusionError, match="got exponent=3"):
        load_fusion(tmp_path / "bad.json")


def test_errors_say_what_was_expected(tmp_path):
    tracks = conformance_tracks()
    FittedWiener("mean", n_fft=512, hop=128).fit(tracks).save(tmp_path / "fusion.json")
    with pytest.raises(FusionError, match="got no exponents"):
        FittedWiener(exponents=[]).fit(tracks)
    with pytest.raises(FusionError, match="got exponent=2"):
        FittedWiener(exponents=[2]).fit(tracks)
    with pytest.raises(FusionError, match="expected one of mixture, estimate"):
        Wiener(phase="own").check()
    with pytest.raises(FusionError, match="a single source cannot be filtered"):
        FittedWiener({"kind": "fixed", "arguments": {"blend": {"vocals": {"a": 1.0}}}}, rest=False).fit(tracks)
    (tmp_path / "alone.json").write_text((tmp_path / "fusion.json").read_text())
    with pytest.raises(FusionError, match=r"alone\.base\.npz: no such file"):
        load_fusion(tmp_path / "alone.json")
    with pytest.raises(FusionError, match="not fitted"):
        FittedWiener().fuse(tracks[0])
    with pytest.raises(FusionError, match="not fitted"):
        FittedWiener().save(tmp_path / "x.json")
    with pytest.raises(TrackError, match="has no references"):
        FittedWiener("mean").fit([Track("bare", tracks[0].mixture, stems=tracks[0].stems)])


def read_song(name):
    references = [
        sf.read(SISEC / "references" / "test" / name / f"{part}.flac")[0].T for part in ("vocals", "accompaniment")
    ]
    length = references[0].shape[1]
    stems = {}
    for system, late in SYSTEMS.items():
        audio = sf.read(SISEC / "estimates" / system / "test" / name / "vocals.flac")[0].T[:, late:]
        stems[system] = np.pad(audio, ((0, 0), (0, max(0, length - audio.shape[1]))))[None, :, :length]
    return Track.from_arrays(name, sum(references), np.stack(references)[:1], stems, sources=("vocals",))


@pytest.mark.slow
@pytest.mark.skipif(not SISEC.is_dir(), reason="needs the shared data")
def test_real_voices_gain_half_a_decibel_over_least_squares():
    """Each of seven songs by what was fitted to the six others; TAU1 is the best of the six systems."""
    songs = [read_song(path.name) for path in sorted((SISEC / "references" / "test").iterdir())]
    options = {"stems": "all", "mixture": True, "ridge": "auto"}
    gains, over_best = [], []
    for number, song in enumerate(songs):
        rest = songs[:number] + songs[number + 1 :]
        truth = song.references["vocals"].read()
        blend = LeastSquares(**options).fit(rest)
        filtered = FittedWiener({"kind": "least_squares", "arguments": options}).fit(rest)
        scores = [sdr(truth, fusion.fuse(song)["vocals"].read()) for fusion in (blend, filtered)]
        gains.append(scores[1] - scores[0])
        over_best.append(scores[1] - sdr(truth, song.stems["TAU1"]["vocals"].read()))
    assert np.mean(gains) > 0.5
    assert np.mean(over_best) > 0.7
    assert np.mean(over_best) > 2.45 * np.std(over_best, ddof=1) / len(songs) ** 0.5
