"""Where stems lie: songs of one name are kept apart, songs of several names share, older stores are moved."""

import json
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from makers.audio import write_track
from makers.commands import command
from makers.separators import Quarter
from stemfuse.analysis import GramStatistics
from stemfuse.experiments import open_data
from stemfuse.separators import StemStore, StoreError, Track
from stemfuse.separators.separator import digest
from stemfuse.separators.store import move_store, stem_store
from stemfuse.separators.store.entry import mixture_of

LENGTH = 3001


def audio(seed, length=LENGTH):
    return np.random.default_rng(seed).normal(0, 0.05, (4, 2, length)).astype(np.float32)


def fill(store, tracks, separator=None):
    separator = separator or Quarter()
    for track in tracks:
        if store.missing([track], separator):
            store.put(track, separator, separator.separate(track.mixture.read(), track.rate))
    return separator


def assert_own_stems(store, track, separator):
    stems = store.get(track, separator)
    np.testing.assert_array_equal(stems["vocals"].read(), np.float32(0.25) * track.mixture.read())


def two_subsets(folder):
    for seed, subset in enumerate(("train", "test")):
        write_track(folder / "band" / subset / "song", audio(seed), subtype="FLOAT")
    return open_data(folder / "band").tracks()


def two_data_sets(folder):
    for seed, name in enumerate(("band", "hq")):
        write_track(folder / name / "test" / "song", audio(seed), subtype="FLOAT")
    return [*open_data(folder / "band"), *open_data(folder / "hq")]


def two_data_sets_of_one_name(folder):
    for seed, name in enumerate(("first", "second")):
        write_track(folder / name / "band" / "test" / "song", audio(seed), subtype="FLOAT")
    return [*open_data(folder / "first" / "band"), *open_data(folder / "second" / "band")]


def two_songs(folder):
    for seed, name in enumerate(("x", "y"), 10):
        (folder / name).mkdir()
        sf.write(folder / name / "song.wav", audio(seed).sum(0).T, 44_100, subtype="FLOAT")
    return [*open_data(folder / "x" / "song.wav"), *open_data(folder / "y" / "song.wav")]


def one_name_in_two_forms(folder):
    for seed, form in enumerate(("NFC", "NFD")):
        (folder / form / "songs").mkdir(parents=True)
        name = unicodedata.normalize(form, "Étoile – Jóga.wav")
        sf.write(folder / form / "songs" / name, audio(seed).sum(0).T, 44_100, subtype="FLOAT")
    return [*open_data(folder / "NFC" / "songs"), *open_data(folder / "NFD" / "songs")]


PLACES = {
    two_subsets: ["band/{}/test/song", "band/{}/train/song"],
    two_data_sets: ["band/{}/test/song", "hq/{}/test/song"],
    two_data_sets_of_one_name: ["band/{}/test/song", "band/{}/test/song~{}"],
    two_songs: ["x/{}/songs/song", "y/{}/songs/song"],
    one_name_in_two_forms: ["songs/{}/songs/Étoile – Jóga", "songs/{}/songs/Étoile – Jóga~{}"],
}


@pytest.mark.parametrize("made", PLACES, ids=lambda made: made.__name__)
def test_songs_of_one_name_never_share_an_entry(tmp_path, made):
    tracks, store = made(tmp_path), StemStore(tmp_path / "store")
    assert len({track.name for track in tracks}) == 1
    # twice, as what is there already must be found again
    for _ in range(2):
        separator = fill(store, tracks)
    for track in tracks:
        assert_own_stems(store, track, separator)
    expected = sorted(place.format(store.key(separator), tracks[1].mixture_sha256()[:8]) for place in PLACES[made])
    assert sorted(path.relative_to(store.root).as_posix() for path in store.entries(separator)) == expected
    assert store.verify() == []
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*.wav")}
    fill(StemStore(store.root), list(reversed(tracks)))
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*.wav")} == before


def test_what_is_written_beside_another_song_is_said(tmp_path, caplog):
    fill(StemStore(tmp_path / "store"), two_data_sets_of_one_name(tmp_path))
    assert "another song is called 'song': its stems stay, those of this one are in" in caplog.text


@pytest.mark.parametrize("new", ["another folder/test/song", "band/train/song", "band/test/another name"])
def test_a_song_that_has_another_name_now_keeps_its_stems(tmp_path, new):
    write_track(tmp_path / "band" / "test" / "song", audio(0), subtype="FLOAT")
    store = StemStore(tmp_path / "store")
    separator = fill(store, open_data(tmp_path / "band"))
    (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(tmp_path / "band" / "test" / "song", tmp_path / new)
    (track,) = open_data((tmp_path / new).parent.parent)
    assert store.missing([track], separator) == []
    assert_own_stems(store, track, separator)
    assert list(store.attach(track, [separator]).stems) == ["quarter"]
    shutil.rmtree(store.root / ".places")
    again = StemStore(store.root)
    assert again.missing([track], separator) == []
    assert_own_stems(again, track, separator)


@pytest.mark.parametrize("hidden", ["lost", "unwritable", "emptied"])
def test_a_store_that_was_copied_without_its_hidden_folders_knows_its_songs(tmp_path, monkeypatch, hidden):
    tracks = [Track.from_arrays(f"song {seed}", audio(seed).sum(0)) for seed in range(3)]
    store = StemStore(tmp_path / "store")
    separator = fill(store, tracks)
    copy = tmp_path / "copy"
    shutil.copytree(store.root, copy, ignore=shutil.ignore_patterns(".*"))
    if hidden == "unwritable":
        (copy / ".places").write_text("a file in the place of the notes")
    if hidden == "emptied":
        shutil.copytree(store.root / ".places", copy / ".places")
        for note in (copy / ".places").iterdir():
            note.write_text("{}")
    looked = []
    monkeypatch.setattr(stem_store, "mixture_of", lambda path: looked.append(path) or mixture_of(path))
    for number, track in enumerate(tracks):
        renamed = replace(track, name=f"another name {number}", subset="live", data_set="elsewhere")
        assert_own_stems(StemStore(copy), renamed, separator)
        assert StemStore(copy).missing([Track.from_arrays("new", audio(9).sum(0))], separator) != []
    # every entry once, and then what is found
    assert len(looked) <= 3 + 12 or hidden == "unwritable"
    # what was added since is found as well
    added = Track.from_arrays("added", audio(7).sum(0))
    fill(store, [added])
    place = store.path(added, separator)
    shutil.copytree(place, copy / place.relative_to(store.root))
    assert_own_stems(StemStore(copy), replace(added, name="yet another name"), separator)


def test_a_note_that_leads_elsewhere_is_not_followed(tmp_path):
    first, second = two_data_sets(tmp_path)
    store = StemStore(tmp_path / "store")
    separator = fill(store, [first, second])
    notes = sorted((store.root / ".places").glob("*.json"))
    texts = [note.read_text() for note in notes]
    for note, text in zip(notes, reversed(texts), strict=True):
        note.write_text(text)
    for text in (None, "[]", '{"path": 3}', '{"path": "../../../etc"}', '{"path": "a/b/c/d"}'):
        if text is not None:
            notes[0].write_text(text)
        for track in (first, second):
            elsewhere = Track("renamed", track.mixture)
            assert store.get(track, separator) is not None
            found = store.get(elsewhere, separator)
            assert found is None or np.array_equal(found["bass"].read(), np.float32(0.25) * track.mixture.read())


def test_a_damaged_entry_of_another_name_is_separated_again_under_its_own(tmp_path):
    write_track(tmp_path / "band" / "test" / "song", audio(0), subtype="FLOAT")
    (track,) = open_data(tmp_path / "band")
    store = StemStore(tmp_path / "store")
    separator = fill(store, [track])
    renamed = Track("renamed", track.mixture, data_set="band")
    (store.path(track, separator) / "bass.wav").unlink()
    fill(store, [renamed])
    assert store.get(renamed, separator) is not None
    assert store.path(renamed, separator).name == "renamed"


def age(store):
    """Turn a store into what the first schema wrote."""
    keys = store.keys()
    for path in [path for key in keys for path in store.entries(key)]:
        record = json.loads((path / "stems.json").read_text("utf-8"))
        record |= {"schema": 1, "data": "musdb18hq" if record["data"] == "band" else record["track"]}
        record.pop("seal")
        record["seal"] = digest(record)
        (path / "stems.json").write_text(json.dumps(record), encoding="utf-8")
        older = store.root.joinpath(*path.relative_to(store.root).parts[1:])
        older.parent.mkdir(parents=True, exist_ok=True)
        path.rename(older)
    for folder in (store.root / "band", store.root / "x", store.root / ".places", store.root / ".contents"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def older(tmp_path):
    """A store of the first schema, with statistics: two songs of a data set, and a song without references."""
    tracks = [*two_subsets(tmp_path), next(iter(two_songs(tmp_path)))]
    store = StemStore(tmp_path / "store")
    fill(store, tracks)
    fill(store, tracks[:1], Quarter(gain=0.5))
    GramStatistics.from_store(store, tracks[0], {"a": Quarter()}, 1000, 1000)
    age(store)
    return StemStore(tmp_path / "store"), tracks


def test_an_older_store_is_recognised_and_moved_without_computing(older, monkeypatch):
    store, tracks = older
    for use in (
        lambda: store.missing(tracks, Quarter()),
        lambda: store.get(tracks[0], Quarter()),
        lambda: store.find("quarter"),
        lambda: store.verify(),
        lambda: store.put(tracks[0], Quarter(), Quarter().separate(tracks[0].mixture.read(), 44_100)),
    ):
        with pytest.raises(StoreError, match=f"older stemfuse .*move it with: stemfuse store move {store.root}$"):
            use()
    before = sorted(path.stat().st_ino for path in store.root.rglob("*.wav"))
    moved = move_store(store.root)
    assert (len(moved.entries), moved.left) == (4, {})
    assert sorted(path.stat().st_ino for path in store.root.rglob("*.wav")) == before
    store = StemStore(store.root)
    assert store.verify() == []
    assert sorted(path.name for path in store.root.iterdir() if path.name[0] != ".") == ["musdb18hq", "songs"]
    for track in tracks:
        assert_own_stems(store, track, Quarter())
    assert store.missing(tracks[:1], Quarter(gain=0.5)) == []
    monkeypatch.setattr(GramStatistics, "from_track", lambda *_: pytest.fail("statistics were computed again"))
    GramStatistics.from_store(store, tracks[0], {"a": Quarter()}, 1000, 1000)
    assert move_store(store.root) == ({}, {})


def test_a_move_that_was_killed_goes_on(older):
    store, tracks = older
    entries = sorted(path.parent for path in store.root.glob("*/*/*/stems.json"))
    # killed once after an entry, once between an entry's record and its folder
    with pytest.MonkeyPatch.context() as patch:
        renamed = Path.rename
        count = iter(range(9))
        patch.setattr(Path, "rename", lambda *given: renamed(*given) if next(count) < 1 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            move_store(store.root)
    with pytest.raises(StoreError, match="store move"):
        StemStore(store.root).find("quarter")
    assert len(move_store(store.root).entries) == len(entries) - 1
    for track in tracks:
        assert_own_stems(StemStore(store.root), track, Quarter())


def test_what_is_damaged_in_an_older_store_moves_and_is_still_found(older):
    store, tracks = older
    key = f"quarter-{Quarter().fingerprint()[:8]}"
    (store.root / key / "train" / "song" / "stems.json").write_text("{")
    (store.root / key / "test" / "song" / "bass.wav").write_bytes(b"RIFF")
    assert len(move_store(store.root).entries) == 4
    store = StemStore(store.root)
    assert len(store.verify()) == 2
    assert store.missing(tracks, Quarter()) == [track for track in tracks if track.subset != "songs"]


def test_an_older_store_through_the_command_line(older, tmp_path):
    store, _ = older
    options = ["--separator", "centre_channel", "--store", store.root, "--workers", 1]
    refused = command("separate", tmp_path / "band", *options)
    assert refused.returncode == 1
    advice = refused.stderr.strip().rpartition("with: ")[2]
    assert advice == f"stemfuse store move {store.root}"
    moved = command(*advice.split()[1:], "--json")
    assert moved.returncode == 0, moved.stderr
    assert len(json.loads(moved.stdout)) == 4
    assert command("separate", tmp_path / "band", *options).returncode == 0
    assert command("store", "verify", store.root).returncode == 0
    assert "0 entries moved" in command("store", "move", store.root).stderr
    missing = command("store", "move", tmp_path / "nowhere")
    assert (missing.returncode, "no such folder" in missing.stderr) == (1, True)
