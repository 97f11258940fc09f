"""Songs of one name, and songs in other forms, through run, fit, fuse, score and adopt."""

import shutil

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import resample_poly

from makers.audio import write_track
from makers.commands import command
from stemfuse.blending import load_fusion
from stemfuse.experiments import parse_config, run
from stemfuse.experiments.stages import fit_fusion, fuse_paths
from stemfuse.separators import SOURCES, StemfuseError, TrackError, track_labels

SEPARATORS = ["centre_channel", "harmonic_percussive"]
RATE = 44_100


def song(seed, seconds=1.2):
    """Four sources that differ in level and place, on 16 bits."""
    generator = np.random.default_rng(seed)
    gains = generator.uniform(0.3, 1.0, (4, 2, 1))
    return (0.05 * gains * generator.normal(size=(4, 2, int(seconds * RATE)))).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two data sets: train/song, test/song and test/other in one, test/song in the other; and a store."""
    folder = tmp_path_factory.mktemp("same names")
    places = ["band/train/song", "band/test/song", "band/test/other", "hq/test/song"]
    for seed, name in enumerate(places):
        write_track(folder / name, song(seed), subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def finished(place):
    given = {
        "out": place / "run",
        "store": place / "store",
        "data": [place / "band", place / "hq"],
        "separators": SEPARATORS,
        "fusions": ["mean", "least_squares"],
        "players": {"tracks": 1, "duration_s": 1},
        "estimates": True,
        "bounds": None,
        "workers": 1,
    }
    return run(parse_config({name: str(value) if name in ("out", "store") else value for name, value in given.items()}))


@pytest.mark.slow
def test_a_run_keeps_songs_of_one_name_apart(finished, place):
    scores = finished.scores()
    assert set(scores["track"]) == {"song (band, test)", "other", "song (hq, test)"}
    for label, where in (("song (band, test)", "band/test/song"), ("song (hq, test)", "hq/test/song")):
        # below the data set each is a tree that other tools read
        folder = finished.path / "estimates" / "mean" / where
        total = sum(sf.read(folder / f"{source}.wav", dtype="float32")[0] for source in SOURCES)
        mixture, _ = sf.read(place / where / "mixture.wav", dtype="float32")
        assert np.corrcoef(total.ravel(), mixture.ravel())[0, 1] > 0.99
        assert (finished.path / "museval" / "mean" / "test" / f"{label}.json").is_file()
    assert (finished.path / "estimates" / "mean" / "test" / "other").is_dir(), "names that need nothing stay"
    record = finished.record()
    assert [(track.name, track.shown, track.data) for track in record.tracks] == [
        ("song", "song (band, train)", "band"),
        ("other", "other", "band"),
        ("song", "song (band, test)", "band"),
        ("song", "song (hq, test)", "hq"),
    ]
    assert len({tuple(track.stems.values()) for track in record.tracks}) == 4
    page = finished.report_path.read_text()
    assert "song (hq, test)" in page


@pytest.mark.slow
def test_it_is_finished_when_it_is_run_again(finished, monkeypatch):
    monkeypatch.setattr("stemfuse.experiments.pipeline.STAGES", {})
    assert run(finished.config).record().finished == finished.record().finished


@pytest.mark.slow
def test_fit_and_cross_validation_take_subsets_with_songs_of_one_name(place, finished):
    data, store = place / "band", place / "store"
    table = fit_fusion(
        "least_squares", {}, data, store, SEPARATORS, place / "both.npz", train=["train", "test"], folds=2, workers=1
    )
    assert table["SDR, dB"].iloc[-1] == "gain over the mean"
    assert "3 songs are too few for an interval" in table["note"].iloc[-1]
    assert np.isfinite(table["mean"]).all()


def test_labels_are_as_short_as_they_can_be():
    (track,) = open_data_of("song")
    assert track_labels([track]) == ["song"]
    with pytest.raises(TrackError, match=r"two tracks are called 'song \(, test\)'; rename one"):
        track_labels([track, track])
    assert track_labels([track, track], ["a", "b"]) == ["song (a)", "song (b)"]


def open_data_of(name):
    from stemfuse.separators import Track

    return [Track.from_arrays(name, np.zeros((2, 100)))]


@pytest.fixture(scope="module")
def mean(place):
    fit_fusion("mean", {}, place / "band", place / "store", SEPARATORS, place / "mean.npz", workers=1)
    return place / "mean.npz"


@pytest.mark.slow
def test_nothing_is_overwritten_by_fuse_unless_asked(place, mean, tmp_path):
    for name, seed in (("x", 1), ("y", 2)):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "song.wav", song(seed).sum(0).T, RATE, subtype="FLOAT")
    first, second = tmp_path / "x" / "song.wav", tmp_path / "y" / "song.wav"
    options = ["--out", tmp_path / "out", "--store", place / "store", "--workers", 1]
    assert command("fuse", mean, first, *options).returncode == 0
    before, (first_bass, _) = (tmp_path / "out/song/bass.wav").read_bytes(), sf.read(tmp_path / "out/song/bass.wav")
    refused = command("fuse", mean, second, *options)
    assert (refused.returncode, "replace them with --replace" in refused.stderr) == (1, True)
    other = tmp_path / "least_squares.npz"
    fit_fusion("least_squares", {}, place / "band", place / "store", SEPARATORS, other, workers=1)
    assert command("fuse", other, first, *options).returncode == 1
    assert (tmp_path / "out/song/bass.wav").read_bytes() == before
    assert command("fuse", mean, first, *options).returncode == 0, "what is done already is no conflict"
    assert command("fuse", mean, second, *options, "--replace").returncode == 0
    assert (tmp_path / "out/song/bass.wav").read_bytes() != before
    both = command("fuse", mean, first, second, *[*options[:1], tmp_path / "both", *options[2:]])
    assert (both.returncode, len(both.stdout.splitlines())) == (0, 2), both.stderr
    assert sorted(path.name for path in (tmp_path / "both").iterdir() if path.is_dir()) == ["x", "y"]
    assert "other data sets have songs of the same names" in both.stderr
    assert np.array_equal(sf.read(tmp_path / "both/x/song/bass.wav")[0], first_bass)


def test_a_folder_of_someone_else_is_not_written_into(place, mean, tmp_path):
    shutil.copytree(place / "band/test/other", tmp_path / "out/other")
    before = (tmp_path / "out/other/bass.wav").read_bytes()
    with pytest.raises(StemfuseError, match="are there already; choose another --out"):
        fuse_paths(mean, [place / "band/test/other"], tmp_path / "out", place / "store", workers=1)
    assert (tmp_path / "out/other/bass.wav").read_bytes() == before


FORMS = {
    "48 kHz": (48_000, lambda audio: resample_poly(audio, 160, 147, axis=-1)),
    "22.05 kHz": (22_050, lambda audio: resample_poly(audio, 1, 2, axis=-1)),
    "mono": (RATE, lambda audio: audio.mean(1, keepdims=True)),
}


@pytest.mark.parametrize(
    "form", ["mono", *(pytest.param(form, marks=pytest.mark.slow) for form in ("48 kHz", "22.05 kHz"))]
)
def test_songs_in_other_forms_keep_them_through_the_whole_chain(place, mean, tmp_path, form):
    rate, made = FORMS[form]
    for subset, seed in (("train", 5), ("test", 6)):
        audio = made(song(seed)).astype(np.float32)
        write_track(tmp_path / "data" / subset / "song", audio, rate, subtype="FLOAT")
    options = ["--store", tmp_path / "store", "--workers", 1]
    blend, separators = tmp_path / "blend.npz", ["--separators", ",".join(SEPARATORS)]
    fit = ["fit", "least_squares", "--data", tmp_path / "data", *options, *separators, "--out", blend]
    refused = command(*fit)
    assert (refused.returncode, "add --convert" in refused.stderr) == (1, True)
    assert "Traceback" not in refused.stderr
    assert command(*fit, "--convert").returncode == 0
    # one fusion of these very songs, and one that was fitted on stereo at 44.1 kHz
    for file in (blend, mean):
        out = tmp_path / file.stem
        fused = command("fuse", file, tmp_path / "data", *options, "--out", out, "--convert")
        assert fused.returncode == 0, fused.stderr
        found, given = (sf.info(root / "test/song/bass.wav") for root in (out, tmp_path / "data"))
        assert (found.samplerate, found.channels, found.frames) == (given.samplerate, given.channels, given.frames)
    scored = command("score", "--references", tmp_path / "data", "--estimates", tmp_path / "mean", "--workers", 1)
    assert scored.returncode == 0, scored.stderr
    assert load_fusion(blend).fitted_channels == (1 if form == "mono" else 2)
    if form == "mono":
        return
    config = {"out": str(tmp_path / "run"), "store": str(tmp_path / "store"), "data": [tmp_path / "data"], "workers": 1}
    config |= {"separators": SEPARATORS, "fusions": ["mean"], "players": {"tracks": 0}, "convert": True}
    scores = run(config).scores().query("fusion == 'mean' and metric == 'song_SDR'")
    assert np.isfinite(scores["value"]).all()


@pytest.mark.slow
def test_score_and_adopt_compare_rates_as_well_as_lengths(place, finished, tmp_path):
    estimates = finished.path / "estimates" / "mean" / "test" / "other"
    for file in estimates.glob("*.wav"):
        samples, _ = sf.read(file, dtype="float32")
        for name, changed in (("header", samples), ("resampled", resample_poly(samples, 160, 147))):
            (tmp_path / name / "test" / "other").mkdir(parents=True, exist_ok=True)
            sf.write(tmp_path / name / "test" / "other" / file.name, changed, 48_000, subtype="FLOAT")
    for name in ("header", "resampled"):
        score = ["score", "--references", place / "band", "--estimates", tmp_path / name, "--workers", 1]
        adopt = ["adopt", tmp_path / name, "--as", name, "--data", place / "band", "--store", tmp_path / "store"]
        for arguments in (score, adopt):
            refused = command(*arguments)
            assert refused.returncode == 1
            assert "48000" in refused.stderr
            assert "add --convert" in refused.stderr
        if name == "resampled":
            assert command(*score, "--convert").returncode == 0
            assert command(*adopt, "--convert", "--as-is").returncode == 0
