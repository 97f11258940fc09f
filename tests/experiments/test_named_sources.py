"""Sources that are named, summed up or missing: nothing is scored as what it is not, and advice works when followed."""

import logging
import re
import unicodedata

import numpy as np
import pytest
import soundfile

from makers.audio import noise
from makers.commands import command
from stemfuse.blending import FusionError
from stemfuse.experiments import open_data, parse_config, run
from stemfuse.experiments.comparison import compare_stems
from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.stages.score import score_folders
from stemfuse.experiments.stages.separate import adopt_folder
from stemfuse.separators import SOURCES, Track, TrackError, parse_sources

RATE, LENGTH = 8000, 8000
FRAMES = ScoreConfig(window_s=0.5, hop_s=0.5)


def write(folder, audio):
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in audio.items():
        soundfile.write(folder / f"{name}.wav", samples.T, RATE, subtype="FLOAT")


def song(sources, seed=0):
    return dict(zip(sources, noise(len(sources), 2, LENGTH, seed=seed, scale=0.05), strict=True))


def mixed(truth):
    return {"mixture": sum(truth.values())} | truth


def errs(truth, seed, error=0.02):
    everything = sum(truth.values())
    return {
        name: 0.9 * samples + 0.1 * everything + noise(2, LENGTH, seed=seed + row, scale=error)
        for row, (name, samples) in enumerate(truth.items())
    }


def without(audio, *names):
    return {name: samples for name, samples in audio.items() if name not in names}


class TestMissingParts:
    """A sum of which a part is missing is no sum; the mixture says whether the part sounds in the song."""

    @pytest.mark.parametrize(
        ("lost", "wanted", "advice"),
        [
            ("drums", "vocals,accompaniment=drums+bass+other", "--sources vocals"),
            ("other", "rhythm=drums+bass,rest=other+vocals", "--sources rhythm=drums+bass"),
            ("bass", "rhythm=drums+bass", "--sources drums,other,vocals"),
        ],
    )
    def test_a_missing_file_of_a_sum_is_an_error_whose_advice_works(self, lost, wanted, advice, tmp_path):
        for number in range(2):
            parts = mixed(song(SOURCES, number))
            write(tmp_path / "test" / f"s{number}", without(parts, lost) if number else parts)
        with pytest.raises(TrackError, match=rf"1 of 2 tracks .*'s1': no {lost} of .* {re.escape(advice)}$"):
            open_data(tmp_path, sources=parse_sources(wanted)).tracks()
        named = advice.removeprefix("--sources ")
        for track in open_data(tmp_path, sources=parse_sources(named)):
            assert track.references.sources == tuple(parse_sources(named))

    def test_arrays_are_checked_as_files_are(self):
        truth = song(SOURCES)
        track = Track.from_arrays("s", sum(truth.values()), np.stack([truth[name] for name in SOURCES]))
        cut = Track("s", track.mixture, "test", track.references.select(("bass", "other", "vocals")))
        with pytest.raises(TrackError, match="no drums of rest"):
            open_data([cut], sources=parse_sources("vocals,rest=drums+bass+other")).tracks()

    @pytest.mark.parametrize("silent", ["drums", "bass", "other"])
    @pytest.mark.parametrize("with_file", [True, False])
    def test_a_source_that_is_not_in_a_song_is_no_fault(self, silent, with_file, tmp_path):
        truth = without(song(SOURCES), silent)
        write(tmp_path / "test" / "a", song(SOURCES, 1))
        write(tmp_path / "test" / "s", mixed(truth) if with_file else truth)
        _, track = open_data(tmp_path, "sum", parse_sources("vocals,accompaniment=drums+bass+other"))
        np.testing.assert_allclose(
            track.references["accompaniment"].read(), sum(without(truth, "vocals").values()), atol=1e-6
        )

    @pytest.mark.parametrize("lost", ["drums", "bass", "vocals"])
    def test_a_source_that_is_picked_and_missing_is_said(self, lost, tmp_path, caplog):
        for number in range(2):
            parts = mixed(song(SOURCES, number))
            write(tmp_path / "test" / f"s{number}", without(parts, lost) if number else parts)
        with caplog.at_level(logging.WARNING):
            tracks = open_data(tmp_path, sources=parse_sources(f"{lost},other")).tracks()
        assert tracks[1].references.sources == ("other",)
        assert f"a file seems to be missing: no {lost}" in caplog.text

    @pytest.mark.slow
    @pytest.mark.parametrize("lost", ["drums", "bass", "other"])
    def test_the_stems_of_an_accompaniment_are_summed_where_all_are_there(self, lost, tmp_path, caplog):
        for number in range(2):
            truth = song(SOURCES, number)
            pair = {"vocals": truth["vocals"], "accompaniment": sum(without(truth, "vocals").values())}
            write(tmp_path / "data" / "test" / f"s{number}", mixed(pair))
            stems = errs(truth, 7)
            write(tmp_path / "four" / "test" / f"s{number}", without(stems, lost) if number else stems)
        for wanted in (None, parse_sources("vocals,accompaniment=drums+bass+other")):
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                table = score_folders(tmp_path / "data", [tmp_path / "four"], FRAMES, workers=1, sources=wanted)
            row = table.set_index("metric").loc["SDR"]
            assert "accompaniment in 1 of 2 songs" in row["note"]
            assert f"track 's1' has no {lost}, which other tracks have" in caplog.text

    def test_a_run_does_not_take_a_part_for_the_sum(self, tmp_path):
        for number in range(3):
            truth = song(SOURCES, number)
            pair = {"vocals": truth["vocals"], "accompaniment": sum(without(truth, "vocals").values())}
            write(tmp_path / "data" / "test" / f"s{number}", mixed(pair))
            for label, seed in (("a", 7), ("b", 90)):
                stems = errs(truth, seed)
                write(
                    tmp_path / label / "test" / f"s{number}",
                    without(stems, "drums") if (label, number) == ("a", 1) else stems,
                )
        for label in "ab":
            adopt_folder(tmp_path / label, label, tmp_path / "data", tmp_path / "store", "as-is", show=str)
        with pytest.raises(FusionError, match="track 's1' has no stem of accompaniment by a, other tracks have"):
            run(recipe(tmp_path, fusions=["mean"]))


def recipe(folder, **more):
    return parse_config(
        {
            "out": folder / "run",
            "store": folder / "store",
            "data": [folder / "data"],
            "separators": [{"name": name, "stored": True} for name in "ab"],
            "bounds": None,
            "players": {"tracks": 0},
            "score": {"window_s": 0.5, "hop_s": 0.5},
            "workers": 1,
        }
        | more
    )


class TestNames:
    """A source is named as its file is, in any case, spelling and form of Unicode."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("file", "wanted", "named"),
        [
            ("no_vocals", "vocals,no_vocals", "accompaniment"),
            ("Instrumental", "vocals,Instrumental", "accompaniment"),
            ("Drums", "Drums", "drums"),
            ("Kazoo", "kazoo,Vocal", "kazoo"),
            ("instrumental", "instrumental=drums+bass", "instrumental"),
        ],
    )
    def test_a_source_has_the_name_of_its_file(self, file, wanted, named, tmp_path):
        truth = song(("vocals", file))
        write(tmp_path / "data" / "test" / "s", mixed(truth))
        write(tmp_path / "a" / "test" / "s", errs(truth, 3))
        (track,) = open_data(tmp_path / "data", sources=parse_sources(wanted))
        np.testing.assert_array_equal(track.references[named].read(), truth[file].astype("float32"))
        table = score_folders(
            tmp_path / "data", [tmp_path / "a"], FRAMES, workers=1, sources=parse_sources(wanted)
        ).set_index("metric")
        assert table.loc["SDR", named] > 0

    @pytest.mark.parametrize("name", ["flöte", "Flöte", "göğüs"])
    def test_a_name_in_two_forms_of_unicode_is_one_source(self, name, tmp_path):
        for number, form in enumerate(("NFC", "NFD")):
            write(tmp_path / "test" / f"s{number}", mixed(song(("vocals", unicodedata.normalize(form, name)), number)))
        first, second = open_data(tmp_path)
        assert first.references.sources == second.references.sources
        for form in ("NFC", "NFD"):
            wanted = parse_sources(unicodedata.normalize(form, name))
            assert all(track.references.sources == tuple(wanted) for track in open_data(tmp_path, sources=wanted))

    def test_a_song_without_a_wanted_source_is_named(self, tmp_path, caplog):
        for number, sources in enumerate((("speech", "music"), ("effects", "music"))):
            write(tmp_path / "test" / f"s{number}", mixed(song(sources, number)))
        with caplog.at_level(logging.WARNING):
            open_data(tmp_path, sources=parse_sources("speech")).tracks()
        assert "no wanted source among effects, music; 1 in all, in 's1'" in caplog.text

    @pytest.mark.parametrize(
        "subset",
        ["Übung", pytest.param("Café", marks=pytest.mark.slow), pytest.param("Prüfung", marks=pytest.mark.slow)],
    )
    def test_subsets_are_one_in_two_forms_of_unicode(self, subset, tmp_path):
        for place, form in (("data", "NFD"), ("a", "NFC"), ("b", "NFD")):
            for number, part in enumerate((subset, "Zweité")):
                truth = song(("speech", "music"), number)
                audio = mixed(truth) if place == "data" else errs(truth, ord(place))
                write(tmp_path / place / unicodedata.normalize(form, part) / "song", audio)
        assert set(open_data(tmp_path / "data").subsets) == {subset, "Zweité"}
        store = ("--data", tmp_path / "data", "--store", tmp_path / "store")
        for label in "ab":
            done = command("adopt", tmp_path / label, "--as", label, "--as-is", *store)
            assert done.returncode == 0, done.stderr
        for form in ("NFC", "NFD"):
            given = ("--train", unicodedata.normalize(form, subset), "--valid", "Zweité", "--workers", 1)
            done = command("fit", "mean", *store, "--separators", "a,b", "--out", tmp_path / f"{form}.npz", *given)
            assert done.returncode == 0, done.stderr


class TestPartialSets:
    """Data sets with some references only, or with names that nobody knows, go through every command."""

    @pytest.mark.parametrize(
        "sources",
        [
            ("drums", "vocals"),
            pytest.param(("bass", "other"), marks=pytest.mark.slow),
            pytest.param(("drums", "bass", "vocals"), marks=pytest.mark.slow),
        ],
    )
    def test_some_references_are_enough(self, sources, tmp_path):
        for number in range(2):
            truth = song(SOURCES, number)
            some = {name: truth[name] for name in sources}
            write(tmp_path / "data" / "test" / f"s{number}", {"mixture": sum(truth.values())} | some)
            for label, seed in (("a", 3), ("b", 40)):
                write(tmp_path / label / "test" / f"s{number}", errs(some, seed))
        store = ("--data", tmp_path / "data", "--store", tmp_path / "store")
        named = ("--sources", ",".join(sources))
        for label, more in (("a", ()), ("b", named)):
            done = command("adopt", tmp_path / label, "--as", label, "--as-is", *store, *more)
            assert done.returncode == 0, done.stderr
        done = command(
            "fit", "mean", *store, "--separators", "a,b", "--out", tmp_path / "m.npz", "--workers", 1, *named
        )
        assert done.returncode == 0, done.stderr
        done = command(
            "fuse",
            tmp_path / "m.npz",
            tmp_path / "data",
            "--store",
            tmp_path / "store",
            "--out",
            tmp_path / "f",
            "--workers",
            1,
        )
        assert done.returncode == 0, done.stderr
        assert {path.stem for path in (tmp_path / "f" / "test" / "s0").glob("*.wav")} == set(sources)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "sources",
        [
            ("lead", "backing"),
            pytest.param(("kazoo", "vuvuzela"), marks=pytest.mark.slow),
            pytest.param(("Left hand", "Right hand"), marks=pytest.mark.slow),
        ],
    )
    def test_names_that_nobody_knows_are_named(self, sources, tmp_path):
        for number in range(2):
            truth = song(sources, number)
            write(tmp_path / "data" / f"s{number}", truth)
            for label, seed in (("a", 3), ("b", 40)):
                write(tmp_path / label / f"s{number}", errs(truth, seed))
        named = ("--sources", ",".join(sources), "--mixture", "sum")
        store = ("--data", tmp_path / "data", "--store", tmp_path / "store")
        for label in "ab":
            done = command("adopt", tmp_path / label, "--as", label, "--as-is", *store, *named)
            assert done.returncode == 0, done.stderr
        done = command(
            "fit", "mean", *store, "--separators", "a,b", "--out", tmp_path / "m.npz", "--workers", 1, *named
        )
        assert done.returncode == 0, done.stderr
        for given in (
            ("--store", tmp_path / "store"),
            ("--stems", f"a={tmp_path / 'a'}", "--stems", f"b={tmp_path / 'b'}"),
        ):
            out = tmp_path / f"fused{len(given)}"
            done = command("fuse", tmp_path / "m.npz", tmp_path / "data", *given, "--out", out, "--workers", 1, *named)
            assert done.returncode == 0, done.stderr
            assert {path.stem for path in (out / "test" / "s0").glob("*.wav")} == {name.casefold() for name in sources}

    def test_a_set_with_some_references_is_separated(self, tmp_path):
        truth = song(SOURCES)
        write(
            tmp_path / "data" / "test" / "s",
            {"mixture": sum(truth.values()), "drums": truth["drums"], "bass": truth["bass"]},
        )
        given = ("--separator", "centre_channel", "--store", tmp_path / "store", "--convert")
        done = command("separate", tmp_path / "data", *given)
        assert done.returncode == 0, done.stderr
        write(tmp_path / "flat" / "s", song(("lead", "backing")))
        done = command("separate", tmp_path / "flat", *given, "--mixture", "sum", "--sources", "lead,backing")
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["guitar", *(pytest.param(name, marks=pytest.mark.slow) for name in ("organ", "synths"))]
)
def test_parts_of_other_are_added_to_new_songs_as_they_were_in_the_fit(part, tmp_path):
    for number in range(2):
        truth = song((*SOURCES, part), number)
        four = without(truth, part) | {"other": truth["other"] + truth[part]}
        write(tmp_path / "data" / "test" / f"s{number}", mixed(four))
        write(tmp_path / "a" / "test" / f"s{number}", truth)
        write(tmp_path / "b" / "test" / f"s{number}", truth)
    store = ("--data", tmp_path / "data", "--store", tmp_path / "store")
    for label in "ab":
        assert command("adopt", tmp_path / label, "--as", label, *store).returncode == 0
    given = ("--separators", "a,b", "--out", tmp_path / "m.npz", "--workers", 1)
    assert command("fit", "mean", *store, *given).returncode == 0
    write(tmp_path, {"new": sum(truth.values())})
    write(tmp_path / "c" / "new", truth)
    stems = [f"--stems={label}={tmp_path / 'c'}" for label in "ab"]
    done = command("fuse", tmp_path / "m.npz", tmp_path / "new.wav", *stems, "--out", tmp_path / "f", "--workers", 1)
    assert done.returncode == 0, done.stderr
    fused, _ = soundfile.read(tmp_path / "f" / "new" / "other.wav")
    np.testing.assert_allclose(fused.T, truth["other"] + truth[part], atol=1e-6)


MAPPINGS = [
    "vocals,accompaniment=drums+bass+other",
    "rhythm=drums+bass,melody=other+vocals",
    "other,vocals",
]


class TestMappings:
    """``sources`` in a recipe and in compare."""

    @pytest.fixture
    def folder(self, tmp_path):
        for number in range(3):
            truth = song(SOURCES, number)
            write(tmp_path / "data" / "test" / f"s{number}", mixed(truth))
            for label, seed in (("a", 3), ("b", 40)):
                write(tmp_path / label / "test" / f"s{number}", errs(truth, seed + 10 * number))
        return tmp_path

    @pytest.mark.slow
    @pytest.mark.parametrize("text", MAPPINGS)
    def test_a_run_scores_what_its_recipe_wants(self, text, folder):
        for label in "ab":
            adopt_folder(folder / label, label, folder / "data", folder / "store", "as-is", show=str)
        done = run(recipe(folder, fusions=["least_squares"], sources=text))
        assert set(done.scores()["source"]) == set(parse_sources(text))

    @pytest.mark.slow
    @pytest.mark.parametrize("text", MAPPINGS)
    def test_compare_scores_what_is_wanted(self, text, folder):
        stems = {label: folder / label for label in "ab"}
        done = compare_stems(
            folder / "data", stems, folder / "out", sources=parse_sources(text), how="as-is", workers=1
        )
        assert set(done.scores()["source"]) == set(parse_sources(text))

    @pytest.mark.slow
    def test_compare_takes_names_that_nobody_knows(self, tmp_path):
        for number in range(3):
            truth = song(("lead", "backing"), number)
            write(tmp_path / "data" / f"s{number}", truth)
            for label, seed in (("a", 3), ("b", 40)):
                write(tmp_path / label / f"s{number}", errs(truth, seed + 10 * number))
        stems = {label: tmp_path / label for label in "ab"}
        wanted = parse_sources("lead,backing")
        done = compare_stems(tmp_path / "data", stems, tmp_path / "out", sources=wanted, how="as-is", workers=1)
        assert set(done.scores()["source"]) == {"lead", "backing"}
