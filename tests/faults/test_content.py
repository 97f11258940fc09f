"""Numbers are never stale or foreign, and damage is found where it is used: replaced, copied and flipped files."""

import contextlib
import dataclasses
import json
import os
import shutil
import zipfile
from importlib.metadata import version

import numpy as np
import pytest
import soundfile as sf

import stemfuse
from stemfuse.analysis import GramStatistics
from stemfuse.experiments import RunError, parse_config, run
from stemfuse.experiments.identity import fit_digest
from stemfuse.experiments.pipeline import STAGES
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.report import write_report
from stemfuse.separators import SOURCES, BaseSeparator, FileSignal, Stems, StemStore, StoreError, Track
from stemfuse.separators.audio.whole_files import HOST, PREFIX
from stemfuse.separators.store import move_store

RATE = 44_100


class Quarter(BaseSeparator):
    """Gives every source a quarter of the mixture."""

    name = "quarter"

    def __init__(self, gain: float = 0.25):
        self.gain = gain

    def _separate(self, mixture):
        return np.stack([self.gain * mixture] * len(SOURCES))


def write_song(folder, seed=0, length=RATE * 2):
    folder.mkdir(parents=True, exist_ok=True)
    parts = np.random.default_rng(seed).normal(0, 0.1, (4, length, 2)).astype("float32")
    for source, samples in zip(SOURCES, parts, strict=True):
        sf.write(folder / f"{source}.wav", samples, RATE, subtype="FLOAT")
    sf.write(folder / "mixture.wav", parts.sum(0), RATE, subtype="FLOAT")


def recipe(place, out="run", **changes):
    given = {
        "out": str(place / out),
        "store": str(place / "store"),
        "data": [{"path": str(place / "songs"), "label": "songs"}],
        "separators": ["centre_channel", {"name": "other", "stored": True}],
        "fusions": ["mean"],
        "bounds": None,
        "players": {"tracks": 0},
        "workers": 1,
    }
    return parse_config(given | changes)


def adopt(place, gain, replace=False, subset="test"):
    """Stems of another tool: the references and some of the mixture."""
    songs = [
        Track(song.name, FileSignal(song / "mixture.wav"), subset) for song in (place / "songs" / subset).iterdir()
    ]
    for song in (place / "songs" / subset).iterdir():
        mixture, _ = sf.read(song / "mixture.wav", dtype="float32")
        folder = place / "estimates" / subset / song.name
        folder.mkdir(parents=True, exist_ok=True)
        for source in SOURCES:
            samples, _ = sf.read(song / f"{source}.wav", dtype="float32")
            sf.write(folder / f"{source}.wav", (1 - gain) * samples + gain * mixture / 4, RATE, subtype="FLOAT")
    StemStore(place / "store").adopt(place / "estimates" / subset, "other", songs, "as-is", replace=replace)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = tmp_path_factory.mktemp("undisturbed")
    write_song(place / "songs" / "test" / "one")
    adopt(place, 0.2)
    run(recipe(place))
    return place


@pytest.fixture
def place(undisturbed, tmp_path):
    """A copy of a place with songs, store and a finished run."""
    shutil.copytree(undisturbed, tmp_path / "place")
    return tmp_path / "place"


def values(finished):
    scores = finished.scores().sort_values(["track", "fusion", "source", "metric", "frame"])
    return scores["value"].to_numpy()


def truth(place, **changes):
    """Scores of a fresh run, in a fresh store where nothing is adopted."""
    return values(run(recipe(place, out="fresh", **changes)))


def flip(path, at, keep_times=True):
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << (at % 8)
    with path.open("r+b") as file:
        file.write(content)
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.slow
def test_replaced_references_are_scored_anew(place):
    before = values(run(recipe(place)))
    path = place / "songs" / "test" / "one" / "vocals.wav"
    times = path.stat()
    samples, _ = sf.read(path, dtype="float32")
    sf.write(path, 0.5 * samples, RATE, subtype="FLOAT")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = values(run(recipe(place)))
    assert not np.array_equal(before, after, equal_nan=True)
    np.testing.assert_array_equal(after, truth(place))


@pytest.mark.slow
def test_stems_that_were_adopted_anew_are_scored_anew(place):
    before = values(run(recipe(place)))
    adopt(place, 0.7, replace=True)
    after = values(run(recipe(place)))
    assert not np.array_equal(before, after, equal_nan=True)
    np.testing.assert_array_equal(after, truth(place))


def test_a_touched_or_copied_file_computes_nothing(place, monkeypatch):
    first = run(recipe(place)).record()
    os.utime(place / "songs" / "test" / "one" / "bass.wav", (1, 1))
    monkeypatch.setattr("stemfuse.experiments.pipeline.STAGES", {})
    assert run(recipe(place)).record().finished == first.finished


def test_songs_of_equal_names_sizes_and_times_are_told_apart(tmp_path):
    tracks = []
    for seed in (1, 2):
        write_song(tmp_path / f"{seed}" / "song", seed)
        path = tmp_path / f"{seed}" / "song" / "mixture.wav"
        os.utime(path, (10**9, 10**9))
        tracks.append(Track("song", FileSignal(path)))
    store, separator = StemStore(tmp_path / "store"), Quarter()
    store.put(tracks[0], separator, separator.separate(tracks[0].mixture.read(), RATE))
    assert store.get(tracks[1], separator) is None
    assert store.get(tracks[0], separator) is not None


@pytest.fixture
def entry(tmp_path):
    write_song(tmp_path / "song")
    track = Track("song", FileSignal(tmp_path / "song" / "mixture.wav"))
    store = StemStore(tmp_path / "store")
    for separator in (Quarter(), Quarter(gain=0.5)):
        store.put(track, separator, separator.separate(track.mixture.read(), RATE))
    return store, track


def test_a_copied_entry_is_refused(entry):
    store, track = entry
    path, other = store.path(track, Quarter()), store.path(track, Quarter(gain=0.5))
    shutil.rmtree(other)
    shutil.copytree(path, other)
    with pytest.raises(StoreError, match=r"got stems of key 'quarter-.*copied or moved"):
        store.get(track, Quarter(gain=0.5))
    renamed = path.parent.parent / "train" / "song"
    shutil.move(path, renamed.parent / "song")
    with pytest.raises(StoreError, match="got stems of subset 'test', expected 'train'"):
        store.get(Track("song", track.mixture, subset="train"), Quarter())
    assert store.get(track, Quarter()) is None
    assert len(store.verify()) == 2


def test_records_name_their_own_files_only_and_links_are_not_followed(entry, tmp_path):
    store, track = entry
    path = store.path(track, Quarter())
    good = (path / "stems.json").read_text()
    for name in ("../../song/bass.wav", "/etc/hostname", "drums.wav", "", "..", 3):
        record = json.loads(good)
        record["files"]["bass"]["name"] = name
        del record["seal"]
        (path / "stems.json").write_text(json.dumps(record))
        with pytest.raises(StoreError, match=r"stems\.json: damaged"):
            store.get(track, Quarter())
    (path / "stems.json").write_text(good)
    assert store.get(track, Quarter()) is not None
    shutil.move(path / "bass.wav", tmp_path / "bass.wav")
    (path / "bass.wav").symlink_to(tmp_path / "bass.wav")
    with pytest.raises(StoreError, match="is a link"):
        store.get(track, Quarter())
    other = store.path(track, Quarter(gain=0.5))
    shutil.move(other, tmp_path / "elsewhere")
    other.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        store.get(track, Quarter(gain=0.5))


@pytest.mark.parametrize(
    "name", ["../../evil", "", ".", ".hidden", "a/b", "a\0b", "a\x1b[2J", "a\nb", "a\u202eb", " a "]
)
@pytest.mark.parametrize("what", ["separator", "track", "subset", "data set"])
def test_nothing_is_written_outside_the_store_and_its_names_are_those_of_files(tmp_path, name, what):
    given = {"separator": "k", "track": "song", "subset": "test", "data set": "songs", what: name}
    if what == "data set" and not name:
        return  # that is a song without one
    track = Track.from_arrays(given["track"], np.zeros((2, 100)), subset=given["subset"])
    track = dataclasses.replace(track, data_set=given["data set"])
    store = StemStore(tmp_path / "store")
    for use in (
        lambda: store.put(track, given["separator"], Stems(np.zeros((4, 2, 100)))),
        lambda: store.get(track, given["separator"]),
        lambda: store.path(track, given["separator"]),
    ):
        with pytest.raises(StoreError, match=f"^{what} '") as found:
            use()
        assert str(found.value).isprintable()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("place", ["songs", "songs/k", "songs/k/test", "songs/k/test/song"])
def test_links_in_the_store_are_neither_written_nor_read_through(tmp_path, place):
    track = Track.from_arrays("song", np.ones((2, 100)))
    outside, store = tmp_path / "outside", StemStore(tmp_path / "store")
    stems = Stems(np.ones((4, 2, 100)))
    store.put(track, "k", stems)
    shutil.move(tmp_path / "store" / place, outside)
    (tmp_path / "store" / place).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    for use in (
        lambda: store.get(track, "k"),
        lambda: store.put(track, "k", stems),
        lambda: store.description("k"),
    ):
        with pytest.raises(StoreError, match="is a link, expected a folder"):
            use()
    assert store.missing([track], "k") == [track]
    assert [problem for problem in store.verify() if "is a link" in problem.reason]
    assert sorted(outside.rglob("*")) == before


def test_a_store_may_itself_be_a_link_and_its_notes_may_not(tmp_path):
    track = Track.from_arrays("song", np.ones((2, 100)))
    for folder in ("elsewhere", "notes"):
        (tmp_path / folder).mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "elsewhere")
    store = StemStore(tmp_path / "store")
    for notes in (".places", ".contents"):
        (tmp_path / "elsewhere" / notes).symlink_to(tmp_path / "notes")
    store.put(track, "k", Stems(np.ones((4, 2, 100))))
    assert store.get(track, "k") is not None
    assert store.verify() == []
    assert list((tmp_path / "notes").iterdir()) == []


def test_an_older_store_is_not_moved_through_links(tmp_path):
    store = StemStore(tmp_path / "store")
    for name in ("a", "b"):
        store.put(Track.from_arrays(name, np.ones((2, 100))), "k", Stems(np.ones((4, 2, 100))))
    (tmp_path / "outside").mkdir()
    shutil.move(tmp_path / "store" / "songs" / "k", tmp_path / "outside" / "k")
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "k").symlink_to(tmp_path / "outside" / "k")
    moved = move_store(tmp_path / "store")
    assert not moved.entries
    assert len(moved.left) == 2
    assert all("is a link" in reason for reason in moved.left.values())
    assert len(list((tmp_path / "outside").rglob("stems.json"))) == 2


def test_a_flip_in_any_file_of_an_entry_is_found(entry):
    store, track = entry
    path = store.path(track, Quarter())
    wrong = silent = 0
    generator = np.random.default_rng(0)
    expected = store.get(track, Quarter()).read()
    for file in (path / "stems.json", path / "vocals.wav"):
        good = file.read_bytes()
        for at in generator.integers(0, len(good), 50):
            flip(file, int(at))
            try:
                stems = store.get(track, Quarter())
                wrong += stems is not None and not np.array_equal(stems.read(), expected)
                silent += 1
            except StoreError:
                pass
            file.write_bytes(good)
    assert (wrong, silent) == (0, 0)
    assert store.get(track, Quarter()) is not None


@pytest.mark.slow
def test_damaged_stems_are_separated_again_and_adopted_ones_refused(place, caplog):
    before = values(run(recipe(place)))
    store = StemStore(place / "store")
    path = store.root / "songs" / store.find("centre_channel") / "test" / "one" / "vocals.wav"
    flip(path, 50_001)
    np.testing.assert_array_equal(values(run(recipe(place))), before)
    assert "the samples of vocals have changed" in caplog.text
    assert store.verify() == []
    path = store.root / "songs" / store.find("other") / "test" / "one" / "vocals.wav"
    flip(path, 50_001)
    for out in ("run", "second"):
        with pytest.raises(RunError, match="no usable stems by other"):
            run(recipe(place, out=out))


@pytest.mark.slow
def test_rot_that_no_stamp_shows_is_found_by_the_next_run_and_by_verify(place, monkeypatch):
    before = values(run(recipe(place)))
    store = StemStore(place / "store")
    path = store.root / "songs" / store.find("centre_channel") / "test" / "one" / "bass.wav"
    flip(path, 50_001)
    # as if the disk had changed it: what is remembered has the stamps of the damaged file
    key, track = (
        store.find("centre_channel"),
        Track("one", FileSignal(place / "songs/test/one/mixture.wav"), data_set="songs"),
    )
    store._keep(store.path(track, key), store.record(track, key))
    assert store.get(track, key) is not None
    np.testing.assert_array_equal(values(run(recipe(place, out="second"))), before)
    assert store.verify() == []
    flip(path, 50_001)
    store._keep(store.path(track, key), store.record(track, key))
    np.testing.assert_array_equal(values(run(recipe(place), verify=True)), before)
    assert store.verify() == []


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Five songs of two subsets, and the stems of them."""
    place = tmp_path_factory.mktemp("many")
    for number in range(4):
        write_song(place / "songs" / "test" / f"song {number}", number, RATE // 2)
    write_song(place / "songs" / "train" / "song 4", 4, RATE // 2)
    with only("separate"):
        run(of_many(place, "first", {"folds": 4}))
    return place


@contextlib.contextmanager
def only(*stages):
    """Runs end after these stages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stemfuse.experiments.pipeline.STAGES", {name: STAGES[name] for name in stages})
        yield


def of_many(place, out, fit, **changes):
    fusions = [{"name": "least_squares", "options": {"stems": "all", "mixture": True}}]
    given = {"separators": ["centre_channel", "harmonic_percussive"], "fusions": fusions, "fit": fit}
    return recipe(place, out, **(given | changes))


BOTH = {"train": ["train", "test"]}
FITS = [
    ({"folds": 4}, {"folds": 2}),
    ({"folds": 2}, {"folds": 4}),
    ({"folds": 0}, {"folds": 3}),
    (BOTH | {"test": ["test"], "folds": 2}, BOTH | {"test": ["train", "test"], "folds": 2}),
    (BOTH | {"test": ["test", "train"], "folds": 2}, BOTH | {"test": ["test"], "folds": 2}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), FITS)
def test_songs_are_fused_by_weights_that_have_not_seen_them_when_other_songs_are_left_out(
    many, tmp_path, before, after
):
    for out, fits in (("again", (before, after)), ("fresh", (after,))):
        for fit in fits:
            with only("separate", "fit"):
                finished = run(of_many(many, str(tmp_path / out), fit))
    again, fresh = (weights_of(tmp_path / out) for out in ("again", "fresh"))
    assert again == fresh
    assert len(finished.record().fusions["least_squares"].folds) == after["folds"]


def weights_of(folder):
    record = json.loads((folder / "record.json").read_text())["fusions"]["least_squares"]
    return {file: (folder / file).read_bytes() for file in (record["file"], *record.get("folds", ()))}


@pytest.mark.slow
@pytest.mark.parametrize("package", ["numpy", "scipy", "stemfuse", "torch", "optuna"])
def test_fits_depend_on_the_versions_of_what_they_use(many, monkeypatch, package):
    parts = {"search": {"trials": 9}, "least_squares": {}, "gram_mixer": {}, "bandwise": {"fusion": "search"}}
    fusions = [{"name": name, "options": options} for name, options in parts.items()]
    plan = plan_run(of_many(many, "fits", {"folds": 2}, fusions=fusions))
    before = {part.name: fit_digest(plan, part) for part in plan.fusions}
    monkeypatch.setattr("stemfuse.__version__", "9.9.9" if package == "stemfuse" else stemfuse.__version__)
    monkeypatch.setattr(
        "stemfuse.experiments.machine.version",
        lambda name: "9.9.9" if name == package else version(name),
    )
    changed = {part.name for part in plan.fusions if fit_digest(plan, part) != before[part.name]}
    assert changed == {"torch": {"gram_mixer"}, "optuna": {"search", "bandwise"}}.get(package, set(parts))


@pytest.fixture
def pictured(place, monkeypatch):
    """A function that runs all but the scores; the page is not drawn."""
    monkeypatch.setattr("stemfuse.experiments.report.write_report", lambda *_: None)

    def pictured(out="run", **changes):
        with only("separate", "fit", "bound", "report"):
            return run(recipe(place, out, **({"players": {"tracks": 1, "duration_s": 0.5}} | changes))).path

    return pictured


def replace_references(place):
    path = place / "songs" / "test" / "one" / "vocals.wav"
    samples, _ = sf.read(path, dtype="float32")
    sf.write(path, 0.5 * samples, RATE, subtype="FLOAT")


CHANGES = {
    "stems": lambda place: adopt(place, 0.7, replace=True),
    "references": replace_references,
    "length": {"players": {"tracks": 1, "duration_s": 0.25}},
    "fusions": {"fusions": ["mean", {"name": "average", "label": "second"}]},
    "fewer": {"fusions": []},
}


@pytest.mark.parametrize("what", CHANGES)
def test_excerpts_are_of_what_they_are_called(place, pictured, what):
    changes = CHANGES[what] if isinstance(CHANGES[what], dict) else {}
    before = excerpts(pictured())
    if not changes:
        CHANGES[what](place)
    after = excerpts(pictured(**changes))
    assert after != before
    assert after == excerpts(pictured("fresh", **changes))


def excerpts(finished):
    return {name: audio for name, audio in contents(finished / "report" / "audio").items() if name.endswith(".flac")}


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}


@pytest.mark.slow
def test_weights_that_are_predicted_for_a_song_follow_its_stems(place, pictured):
    write_song(place / "songs" / "train" / "two", 2)
    given = {
        "separators": ["centre_channel", {"name": "other", "stored": True}],
        "fusions": [{"name": "gram_mixer", "options": {"epochs": 1}}],
        "fit": {"train": ["train"], "valid": []},
    }
    adopt(place, 0.2, replace=True)
    adopt(place, 0.2, replace=True, subset="train")
    before = contents(pictured(**given) / "fusions")
    adopt(place, 0.7, replace=True)
    after = contents(pictured(**given) / "fusions")
    assert after["gram_mixer-one.npz"] != before["gram_mixer-one.npz"]
    assert after["gram_mixer.safetensors"] == before["gram_mixer.safetensors"]
    assert after["gram_mixer-one.npz"] == contents(pictured("fresh", **given) / "fusions")["gram_mixer-one.npz"]
    finished = pictured(**given, players={"tracks": 0})
    assert not (finished / "fusions" / "gram_mixer-one.npz").exists()
    assert json.loads((finished / "record.json").read_text())["fusions"]["gram_mixer"].get("songs", {}) == {}


def test_songs_that_are_not_chosen_leave_the_page(place, pictured):
    for name, seed in (("three", 3), ("two", 2)):
        write_song(place / "songs" / "test" / name, seed, RATE // 2)
    given = {"separators": ["centre_channel"]}
    for count in (3, 1, 2, 0):
        finished = pictured(**given, players={"tracks": count, "duration_s": 0.25})
        entries = json.loads((finished / "report" / "audio" / "players.json").read_text())["tracks"]
        assert [entry["track"] for entry in entries] == ["one", "three", "two"][:count]
        listed = {file["path"] for entry in entries for file in entry["files"]}
        there = {
            file.relative_to(finished / "report").as_posix() for file in finished.rglob("report/audio/*/**/*.flac")
        }
        assert there == listed


@pytest.mark.parametrize("changes", [{"bounds": None}, {"separators": ["centre_channel"]}, {"damaged": "bounds.csv"}])
def test_bounds_do_not_outlive_their_recipe(place, pictured, changes):
    given = {"bounds": {"bands_hz": None}, "separators": ["centre_channel", "harmonic_percussive"], "fusions": []}
    finished = pictured(**given)
    assert {"bounds.csv", "leave_one_out.csv"} <= set(contents(finished))
    if damaged := changes.pop("damaged", ""):
        (finished / damaged).write_text("garbage")
        changes = {"bounds": None}
    left = contents(pictured(**(given | changes)))
    assert "leave_one_out.csv" not in left
    assert ("bounds.csv" in left) == ("bounds" not in changes)


@pytest.mark.parametrize("mine", ["fusions/notes.txt", "figures/mine.png", "fusions/second.txt", "museval/mean/x.json"])
def test_what_a_run_wrote_for_an_earlier_recipe_goes_and_the_users_files_stay(place, pictured, caplog, mine):
    finished = pictured(fusions=["mean", {"name": "average", "label": "second"}])
    assert (finished / "fusions" / "second.npz").is_file()
    for _ in range(2):
        (finished / mine).parent.mkdir(parents=True, exist_ok=True)
        (finished / mine).write_text("mine")
        pictured(fusions=["mean"])
        assert not (finished / "fusions" / "second.npz").exists()
        assert (finished / "fusions" / "mean.npz").is_file()
        assert (finished / mine).read_text() == "mine"
    assert "deleted what the recipe does not have any more: fusions/second.npz" in caplog.text


RUN_FILES = ["scores.parquet", "fusions/mean.npz", "report/index.html", "config.yaml", "checksums.json"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_FILES)
@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_a_finished_run_heals_its_files(place, name, how):
    finished = run(recipe(place))
    before, path = values(finished), finished.path / name
    content = path.read_bytes()
    if how == "flip":
        flip(path, len(content) // 2)
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    again = run(recipe(place))
    np.testing.assert_array_equal(values(again), before)
    if name != "checksums.json":
        assert path.read_bytes() == content or name == "report/index.html"
    stamp = path.stat().st_mtime_ns
    run(recipe(place))
    assert path.stat().st_mtime_ns == stamp, "healed once"


@pytest.mark.slow
def test_an_interrupted_run_heals_its_parts_and_fusions(place):
    finished = run(recipe(place))
    before = values(finished)
    for path in [*(finished.path / ".parts").glob("*.parquet"), finished.path / "fusions" / "mean.npz"]:
        record = finished.record()
        record.finished = None
        finished.write_record(record)
        flip(path, path.stat().st_size // 2)
        np.testing.assert_array_equal(values(run(recipe(place))), before)


@pytest.mark.slow
def test_a_report_is_not_made_of_damaged_scores(place):
    finished = run(recipe(place))
    flip(finished.scores_path, 400)
    with pytest.raises(RunError, match=r"scores\.parquet: damaged"):
        finished.scores()
    run(recipe(place))
    path = finished.path / "config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(RunError, match=r"config\.yaml: damaged"):
        write_report(finished.path)


@pytest.mark.slow
def test_checksums_of_files_elsewhere_are_passed_over(place):
    finished = run(recipe(place))
    precious = place / "precious.journal"
    precious.write_text("keep")
    path = finished.path / "checksums.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"../precious.journal": ["0" * 64, [1]], str(precious): ["0" * 64, [1]]}))
    run(recipe(place))
    assert precious.read_text() == "keep"


def test_statistics_are_of_the_audio_that_their_name_says(entry, tmp_path):
    store, track = entry
    song = tmp_path / "song"
    references = Stems.from_signals({source: FileSignal(song / f"{source}.wav") for source in SOURCES})
    track = Track("song", track.mixture, references=references)
    half = GramStatistics.from_store(store, track, {"a": Quarter(gain=0.5)})
    quarter = GramStatistics.from_store(store, track, {"a": Quarter()})
    first, second = sorted((store.root / ".gram").rglob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    shutil.copy(first, second)
    again = GramStatistics.from_store(store, track, {"a": Quarter()})
    np.testing.assert_array_equal(again.moments, quarter.moments)
    assert not np.array_equal(half.moments, quarter.moments)


def test_a_flip_in_statistics_is_harmless(entry, tmp_path):
    store, track = entry
    song = tmp_path / "song"
    references = Stems.from_signals({source: FileSignal(song / f"{source}.wav") for source in SOURCES})
    track = Track("song", track.mixture, references=references)
    expected = GramStatistics.from_store(store, track, {"a": Quarter()}).moments
    (path,) = (store.root / ".gram").rglob("*.npz")
    good = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(good), 60):
        path.write_bytes(good)
        flip(path, int(at))
        np.testing.assert_array_equal(GramStatistics.from_store(store, track, {"a": Quarter()}).moments, expected)
    path.write_bytes(good)
    assert zipfile.is_zipfile(path)


@pytest.mark.slow
def test_what_killed_writers_left_is_cleared_at_the_next_start(place):
    finished = run(recipe(place))
    dead = f"{PREFIX}{HOST}-{2**22 - 3}-00000000"
    store = StemStore(place / "store")
    stems = store.entries(store.keys()[0])[0].parent.parent
    for folder in (finished.path, finished.path / "report", finished.path / ".parts", stems):
        (folder / dead).mkdir()
        (folder / dead / "x.wav").write_text("half")
        (folder / f"{dead}.json").write_text("half")
    run(recipe(place))
    assert not list(place.rglob(f"{PREFIX}*"))
