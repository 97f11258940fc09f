"""Sources of any names, from data set to report: pairs, speech and music, six stems, songs that do not have all."""

import json
import logging
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
import soundfile

from makers.audio import noise
from makers.places import SHARED
from stemfuse.analysis.bss_eval.museval import import_museval
from stemfuse.analysis.scores import SONG_SDR, common_mask, scores_table
from stemfuse.blending import load_fusion
from stemfuse.experiments import open_data, parse_config, run
from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.record import TrackRecord
from stemfuse.experiments.report import score_tables
from stemfuse.experiments.report.data_sets import DataSetScores
from stemfuse.experiments.report.tables import ScoreTable
from stemfuse.experiments.run import Run
from stemfuse.experiments.stages.fuse import fuse_paths
from stemfuse.experiments.stages.measure import gain_rows
from stemfuse.experiments.stages.score import score_folders
from stemfuse.experiments.stages.separate import adopt_folder
from stemfuse.experiments.stages.single_fit import fit_fusion
from stemfuse.separators import TrackError, parse_sources

RATE, LENGTH = 8000, 16_000
REAL = SHARED / "real"
SETS = {
    "a pair": ("vocals", "accompaniment"),
    "speech": ("speech", "music", "effects"),
    "six": ("drums", "bass", "other", "vocals", "guitar", "piano"),
    "one": ("vocals",),
    "unknown words": ("vocals", "kazoo"),
}
REAL_SONGS = ("Enda Reilly - Cur An Long Ag Seol", "Hollow Ground - Ill Fate", "Tom McKenzie - Directions")
FRAMES = ScoreConfig(window_s=0.5, hop_s=0.5)


def write(folder, audio, subtype="FLOAT"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in audio.items():
        soundfile.write(folder / f"{name}.wav", samples.T, RATE, subtype=subtype)


def song(sources, seed):
    """Sources that are noise, each louder than the one before."""
    audio = noise(len(sources), 2, LENGTH, seed=seed, scale=0.05)
    return {name: samples * (1 + 0.3 * row) for row, (name, samples) in enumerate(zip(sources, audio, strict=True))}


def errs(truth, seed, error=0.02):
    """Estimates: something of everything else, and noise."""
    everything = sum(truth.values())
    return {
        name: 0.9 * samples + 0.1 * everything + noise(2, LENGTH, seed=seed + row, scale=error)
        for row, (name, samples) in enumerate(truth.items())
    }


def make_set(folder, sources, subsets=("train", "test"), mixture=True):
    """A data set of one song in each subset, and estimates of two tools."""
    for number, subset in enumerate(subsets):
        truth = song(sources, number)
        rest = {} if len(sources) > 1 else {"": noise(2, LENGTH, seed=77, scale=0.05)}
        parts = {"mixture": sum(truth.values()) + sum(rest.values())} if mixture else {}
        write(folder / "data" / subset / f"song {number}", parts | truth)
        for label, seed in (("a", 10), ("b", 20)):
            write(folder / label / subset / f"song {number}", errs(truth, seed * (number + 1)))
    return folder


def adopt(folder, *labels, **options):
    for label in labels:
        adopt_folder(
            folder / label, label, folder / "data", folder / "store", "as-is", show=lambda text: None, **options
        )


def by_museval(references, estimates):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_museval().evaluate(references, estimates, win=RATE // 2, hop=RATE // 2)


@pytest.mark.parametrize(
    "kind", [kind if kind == "a pair" else pytest.param(kind, marks=pytest.mark.slow) for kind in SETS]
)
def test_a_run_works_with_any_sources(kind, tmp_path):
    sources = SETS[kind]
    folder = make_set(tmp_path, sources)
    adopt(folder, "a", "b")
    done = run(
        parse_config(
            {
                "out": folder / "run",
                "store": folder / "store",
                "data": [folder / "data"],
                "separators": [{"name": name, "stored": True} for name in "ab"],
                "fusions": ["mean", "least_squares", {"name": "combine", "options": {"how": "median_wave"}}],
                "score": {"window_s": 0.5, "hop_s": 0.5},
                "bounds": {"segment_frames": 2},
                "workers": 1,
            }
        )
    )
    ((title, table),) = score_tables(done.path)
    assert set(sources) <= set(table.columns)
    assert not table.drop(columns="note").isna().any(axis=None)
    assert table.attrs["songs"] == ["test/song 1"]
    assert "1 track" in title
    assert table.set_index("method").loc["least_squares", [f"{name} gain" for name in sources]].min() > 0
    written = json.loads((done.path / "museval" / "mean" / "test" / "song 1.json").read_text())
    assert {target["name"] for target in written["targets"]} == set(sources)
    assert set(load_fusion(done.path / "fusions" / "least_squares.npz").weights_.sources) == set(sources)
    assert all(name in done.report_path.read_text() for name in sources)
    fuse_paths(done.path / "fusions" / "mean.npz", [folder / "data"], folder / "fused", folder / "store", workers=1)
    fused = {path.stem for path in (folder / "fused" / "test" / "song 1").glob("*.wav")}
    assert fused == set(sources)


@pytest.mark.parametrize(
    "spelled",
    ["no_vocals", *(pytest.param(word, marks=pytest.mark.slow) for word in ("accompaniment", "Instrumental"))],
)
def test_pairs_beside_four_references_are_scored_as_museval_scores_them(spelled, tmp_path):
    truth = song(("drums", "bass", "other", "vocals"), 3)
    rest = truth["drums"] + truth["bass"] + truth["other"]
    estimates = errs({"vocals": truth["vocals"], "accompaniment": rest}, 9)
    write(tmp_path / "data" / "test" / "song", {"mixture": sum(truth.values())} | truth)
    write(tmp_path / "pair" / "test" / "song", {"vocals": estimates["vocals"], spelled: estimates["accompaniment"]})
    table = score_folders(tmp_path / "data", [tmp_path / "pair"], FRAMES, tmp_path / "out", workers=1)
    expected = by_museval(
        np.stack([truth["vocals"].T, rest.T]), np.stack([estimates["vocals"].T, estimates["accompaniment"].T])
    )
    found = table.set_index("metric")
    for metric, values in zip(("SDR", "ISR", "SIR", "SAR"), expected, strict=True):
        # files hold float32
        np.testing.assert_allclose(
            found.loc[metric, ["vocals", "accompaniment"]].astype(float), np.median(values, 1), atol=1e-5
        )


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real music that is shared")
@pytest.mark.parametrize("targets", [("vocals",), ("vocals", "accompaniment")])
@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("TAU1", "Al James - Schoolboy Facination"),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in product(("TAU1", "JY3"), REAL_SONGS)),
    ],
)
def test_real_pairs_and_single_sources_agree_with_museval(system, name, targets, tmp_path):
    references = {
        target: soundfile.read(REAL / "sisec18" / "references" / "test" / name / f"{target}.flac")[0]
        for target in ("vocals", "accompaniment")
    }
    voice = soundfile.read(REAL / "sisec18" / "estimates" / system / "test" / name / "vocals.flac")[0]
    estimates = {"vocals": voice, "accompaniment": sum(references.values()) - voice}
    data, made = tmp_path / "data" / "test" / name, tmp_path / system / "test" / name
    for folder, audio in ((data, references), (made, {target: estimates[target] for target in targets})):
        folder.mkdir(parents=True)
        for target, samples in audio.items():
            soundfile.write(folder / f"{target}.wav", samples, 44_100, subtype="FLOAT")
    options = ScoreConfig(window_s=1.0)
    table = score_folders(tmp_path / "data", [tmp_path / system], options, workers=1).set_index("metric")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = import_museval().evaluate(
            *(np.stack([np.float32(audio[target]) for target in targets]) for audio in (references, estimates)),
            win=44_100,
            hop=44_100,
        )
    for metric, values in zip(("SDR", "ISR", "SIR", "SAR"), expected, strict=True):
        if metric == "SIR" and len(targets) == 1:
            assert "SIR needs at least two sources" in table.loc["SIR", "note"]
        else:
            found = table.loc[metric, list(targets)].astype(float)
            np.testing.assert_allclose(found, np.nanmedian(values, axis=1), atol=1e-6)


class TestMapping:
    """``sources`` picks and sums up what data and separators give."""

    def test_references_and_stems_are_summed_alike(self, tmp_path):
        folder = make_set(tmp_path, SETS["six"])
        adopt(folder, "a", "b")
        wanted = parse_sources("vocals,accompaniment=drums+bass+other+guitar+piano")
        table = fit_fusion(
            "least_squares", {}, folder / "data", folder / "store", "ab", folder / "ls.npz", workers=1, sources=wanted
        )
        assert [column for column in table.columns[1:] if column not in ("mean", "note")] == ["vocals", "accompaniment"]
        # the file of the fusion says what its inputs are the sums of
        fuse_paths(folder / "ls.npz", [folder / "data" / "test"], folder / "fused", folder / "store", workers=1)
        fused = sorted(path.name for path in (folder / "fused").rglob("*.wav"))
        assert fused == ["accompaniment.wav", "vocals.wav"]

    def test_a_wanted_source_that_no_track_has_is_an_error(self, tmp_path):
        folder = make_set(tmp_path, SETS["speech"])
        with pytest.raises(TrackError, match=r"no track has vocals of sources vocals.* effects, music, speech"):
            open_data(folder / "data", sources=parse_sources("vocals")).tracks()
        with pytest.raises(TrackError, match=r"no track has sfx of sources rest=music\+sfx"):
            open_data(folder / "data", sources=parse_sources("rest=music+sfx")).tracks()

    @pytest.mark.parametrize("text", ["", "vocals,vocals", "a.b", "mixture", "x=drums+drums"])
    def test_wrong_words_are_refused(self, text):
        with pytest.raises(TrackError):
            parse_sources(text)


class TestDifferentSources:
    """Separators, songs and references that do not all have the same sources."""

    def test_a_voice_model_keeps_its_row_and_the_mean_is_over_what_all_have(self, tmp_path):
        folder = make_set(tmp_path, SETS["a pair"])
        for path in (folder / "b").rglob("accompaniment.wav"):
            path.unlink()
        adopt(folder, "a", "b")
        table = fit_fusion("mean", {}, folder / "data", folder / "store", "ab", folder / "m.npz", workers=1)
        rows = table.set_index(table.columns[0])
        assert np.isfinite(rows.loc["b", "vocals"])
        assert np.isnan(rows.loc["b", "accompaniment"])
        assert rows.loc["b", "note"] == "mean: of vocals; gives no accompaniment"
        assert rows.loc["a", "mean"] == rows.loc["a", "vocals"]

    @pytest.mark.slow
    def test_six_stems_are_summed_to_the_other_of_four(self, tmp_path, caplog):
        truth = song(SETS["six"], 4)
        four = {name: truth[name] for name in ("drums", "bass", "vocals")}
        four["other"] = truth["other"] + truth["guitar"] + truth["piano"]
        estimates = errs(truth, 5)
        summed = estimates | {"other": estimates["other"] + estimates["guitar"] + estimates["piano"]}
        write(tmp_path / "data" / "test" / "song", {"mixture": sum(truth.values())} | four)
        write(tmp_path / "six" / "test" / "song", estimates)
        write(tmp_path / "four" / "test" / "song", {name: summed[name] for name in four})
        with caplog.at_level(logging.WARNING):
            table = score_folders(tmp_path / "data", [tmp_path / "six", tmp_path / "four"], FRAMES, workers=1)
        sdr = table[table["metric"] == "SDR"].set_index("method")
        np.testing.assert_allclose(sdr.loc["six", "other"], sdr.loc["four", "other"], atol=1e-4)
        assert "six: other is the sum of other, guitar, piano" in caplog.text
        write(tmp_path / "odd" / "test" / "song", {"other": summed["other"], "kazoo": summed["bass"]})
        with pytest.raises(TrackError, match=r"whether kazoo is a part of other \(--sources other=other\+kazoo\)"):
            score_folders(tmp_path / "data", [tmp_path / "odd"], FRAMES, workers=1)
        sums = {"other": ("other", "kazoo")}
        table = score_folders(tmp_path / "data", [tmp_path / "odd"], FRAMES, workers=1, sources=sums)
        both = {"other": summed["other"] + summed["bass"]}
        write(tmp_path / "both" / "test" / "song", both)
        expected = score_folders(
            tmp_path / "data", [tmp_path / "both"], FRAMES, workers=1, sources={"other": ("other",)}
        )
        sdr = [one[one["metric"] == "SDR"]["other"].to_numpy() for one in (table, expected)]
        np.testing.assert_allclose(*sdr, atol=1e-4)

    @pytest.mark.slow
    @pytest.mark.skipif(not REAL.is_dir(), reason="needs the real music that is shared")
    def test_real_songs_of_three_and_four_sources_are_one_set(self, tmp_path):
        tracks = open_data(REAL / "songs", "sum").tracks()
        assert sorted(len(track.references.sources) for track in tracks) == [3, 3, 3, 4]
        start = 10 * 44_100
        for track in tracks:
            truth = {name: track.references[name].read(start, start + 2 * 44_100) for name in track.references.sources}
            everything = sum(truth.values())
            for label, leak in (("a", 0.05), ("b", 0.15)):
                made = tmp_path / label / track.subset / track.name
                made.mkdir(parents=True)
                for name, samples in truth.items():
                    estimate = (1 - leak) * samples + leak * everything
                    soundfile.write(made / f"{name}.wav", estimate.T, 44_100, subtype="FLOAT")
            kept = tmp_path / "data" / track.subset / track.name
            kept.mkdir(parents=True)
            for name, samples in truth.items():
                soundfile.write(kept / f"{name}.wav", samples.T, 44_100, subtype="FLOAT")
        adopt(tmp_path, "a", "b", mixture="sum")
        table = fit_fusion(
            "least_squares",
            {},
            tmp_path / "data",
            tmp_path / "store",
            "ab",
            tmp_path / "ls.npz",
            train=["test"],
            workers=1,
            mixture="sum",
        )
        row = table.set_index(table.columns[0]).loc["least_squares"]
        assert np.isfinite(row[["drums", "bass", "other", "vocals"]].astype(float)).all()
        assert "in 3 of 4 songs" in row["note"]
        assert "fitted on these very songs" in row["note"]


@pytest.mark.slow
def test_songs_that_a_method_lacks_are_named_or_left_out(tmp_path):
    folder = make_set(tmp_path, SETS["speech"], ("train", "valid", "test"))
    for path in (folder / "b" / "valid" / "song 1").iterdir():
        path.unlink()
    both = [folder / "a", folder / "b"]
    with pytest.raises(TrackError, match=r"b has none of 1 of 3 tracks: 'song 1'; .*--missing skip"):
        score_folders(folder / "data", both, FRAMES, workers=1, missing="error")
    table = score_folders(folder / "data", both, FRAMES, workers=1, missing="skip")
    assert table.attrs["songs"] == ["train/song 0", "test/song 2"]


@pytest.mark.slow
def test_a_run_names_songs_that_a_separator_lacks_or_leaves_them_out(tmp_path, caplog):
    folder = make_set(tmp_path, SETS["speech"], ("train", "valid", "test"))
    for path in (folder / "b" / "valid" / "song 1").iterdir():
        path.unlink()
    adopt(folder, "a", "b")
    recipe = {
        "out": folder / "run",
        "store": folder / "store",
        "data": [folder / "data"],
        "separators": [{"name": name, "stored": True} for name in "ab"],
        "fusions": ["least_squares"],
        "bounds": None,
        "players": {"tracks": 0},
        "score": {"window_s": 0.5, "hop_s": 0.5},
        "workers": 1,
    }
    with pytest.raises(RunError, match=r"no usable stems by b .* of song 1; .*--missing skip"):
        run(parse_config(recipe))
    with caplog.at_level(logging.WARNING):
        done = run(parse_config(recipe | {"missing": "skip"}))
    assert "b has no stems of 1 of 3 songs, left out for all: valid/song 1" in caplog.text
    assert Run(done.path).record().left_out == {"b": ["valid/song 1"]}
    assert "b has no stems of valid/song 1" in done.report_path.read_text()


class TestSilence:
    """What is silent is named, and counts nowhere."""

    def test_a_silent_reference_is_in_no_mean_of_whole_songs(self, tmp_path):
        folder = make_set(tmp_path, SETS["speech"])
        path = folder / "data" / "test" / "song 1" / "music.wav"
        soundfile.write(path, np.zeros((LENGTH, 2)), RATE, subtype="FLOAT")
        table = score_folders(folder / "data", [folder / "a"], FRAMES, workers=1)
        row = table[table["metric"] == SONG_SDR].iloc[0]
        assert row["music"] > 0
        assert row["dropped"] == 1
        assert row["note"] == "music in 1 of 2 songs; the reference of music is silent in 1 of 2 songs"

    def test_a_silent_estimate_leaves_the_others_their_values(self, tmp_path):
        folder = make_set(tmp_path, SETS["a pair"])
        for path in (folder / "b").rglob("vocals.wav"):
            soundfile.write(path, np.zeros((LENGTH, 2)), RATE, subtype="FLOAT")
        adopt(folder, "a", "b")
        table = fit_fusion("least_squares", {}, folder / "data", folder / "store", "ab", folder / "l.npz", workers=1)
        rows = table.set_index(table.columns[0])
        assert np.isfinite(rows.loc[["a", "mean", "least_squares"], "vocals"]).all()
        assert "its estimate of vocals is silent in all songs" in rows.loc["b", "note"]

    def test_the_silent_source_is_named_and_the_advice_works(self, tmp_path):
        folder = make_set(tmp_path, SETS["speech"])
        for path in (folder / "data").rglob("effects.wav"):
            soundfile.write(path, np.zeros((LENGTH, 2)), RATE, subtype="FLOAT")
        adopt(folder, "a", "b")
        given = ("least_squares", {}, folder / "data", folder / "store", "ab", folder / "l.npz")
        with pytest.raises(
            ValueError, match=r"effects is silent in all of them: fit without \(--sources music,speech, in a recipe "
        ):
            fit_fusion(*given, workers=1)
        table = fit_fusion(*given, workers=1, sources=parse_sources("speech,music"))
        assert not table.drop(columns="note").isna().any(axis=None)
        assert isinstance(table, pd.DataFrame)


GIVEN = {
    "a voice model is the best": (
        {"four": {"drums": 5, "bass": 6, "vocals": 7}, "voice": {"vocals": 9}},
        {"drums": 6, "bass": 6.5, "vocals": 9.25},
        {"drums": 1, "bass": 0.5, "vocals": 0.25},
        "over drums, bass: four; vocals: voice; mean: of drums, bass, vocals",
    ),
    "no source in common": (
        {"voice": {"vocals": 9}, "rest": {"accompaniment": 12}},
        {"vocals": 9.5, "accompaniment": 13},
        {"vocals": 0.5, "accompaniment": 1},
        "over vocals: voice; accompaniment: rest; mean: of vocals, accompaniment",
    ),
    "what no separator gives": (
        {"one": {"vocals": 5}, "two": {"vocals": 6}},
        {"vocals": 7, "accompaniment": 13},
        {"vocals": 1, "accompaniment": np.nan},
        "no gain of accompaniment: no song has a value of it in both",
    ),
    "the best has all": (
        {"good": {"vocals": 9, "drums": 5}, "weak": {"vocals": 6, "drums": 4}},
        {"vocals": 10, "drums": 7},
        {"vocals": 1, "drums": 2},
        "",
    ),
}


def scored(methods):
    """A score table of five songs, 0.1 dB apart: the fewest that have intervals."""
    tables = [
        scores_table(f"song {song}", name, list(values), {"SDR": [[value + song / 10] for value in values.values()]})
        for song in range(5)
        for name, values in methods.items()
    ]
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize("kind", GIVEN)
def test_gains_are_over_the_best_of_each_source_or_say_why_not(kind):
    singles, fused, gains, note = GIVEN[kind]
    scores = scored(singles | {"blend": fused})
    rows = gain_rows(scored(singles | {"mean": fused, "blend": fused}), "blend")
    first = rows.iloc[0]
    assert {source: first[source] for source in gains} == pytest.approx(gains, nan_ok=True)
    assert first["note"] == note
    assert rows.iloc[1, 0].startswith(first["SDR, dB"] + ": 95 % from")

    masked, dropped = common_mask(scores)
    tracks = tuple(TrackRecord(name=name) for name in masked["track"].unique())
    data = DataSetScores("", None, tracks, scores, masked, dropped, (*singles, "blend"), ("blend",), {})
    frame = ScoreTable.of(data, "SDR").to_frame().set_index("method")
    row = frame.loc["blend"]
    assert {source: row[f"{source} gain"] for source in gains} == pytest.approx(gains, nan_ok=True)
    assert ("no gain of accompaniment: no separator has it" in row["note"]) == (kind == "what no separator gives")
