"""Finding tracks on disk, the splits, and every bad input that reading meets."""

from __future__ import annotations

import importlib.util
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml

from makers.audio import LENGTH, sources, write_track
from makers.commands import command
from makers.places import CLIP
from stemfuse.experiments.data.datasets import DataSet, open_data, open_song
from stemfuse.separators import SOURCES, Track, TrackError, parse_sources

MUSDB_LIST = yaml.safe_load(
    Path(importlib.util.find_spec("musdb").origin).with_name("configs").joinpath("mus.yaml").read_text()
)["validation_tracks"]
ODD_NAMES = ('It\'s "quoted" & 50%', "Été – 音楽", "two  spaces", "a.b.c", "UPPER", "-dash", "[1] {x} $HOME", "ы")


def make_folders(root, names):
    for name in names:
        (root / name).mkdir(parents=True)


# finding


def test_musdb18_splits_into_86_14_and_50_by_musdbs_list_without_opening_a_file(tmp_path):
    others = [f"Band {number:02d} - Song" for number in range(86)]
    make_folders(tmp_path / "train", [*MUSDB_LIST, *others])
    make_folders(tmp_path / "test", [f"Band {number} - Test" for number in range(50)])
    data = open_data(tmp_path)
    assert data.describe()["subsets"] == {"train": 86, "valid": 14, "test": 50}
    assert (data.split, len(data), data.layout) == ("musdb", 150, "folders")
    assert data.names("valid") == tuple(sorted(MUSDB_LIST))
    assert data.names("train") == tuple(others)


@pytest.mark.parametrize(("count", "valid"), [(6, []), (7, [6]), (13, [6]), (14, [6, 13]), (30, [6, 13, 20, 27])])
def test_other_trees_give_every_seventh_training_track(count, valid, tmp_path):
    names = [f"song {number:02d}" for number in range(count)]
    make_folders(tmp_path / "train", reversed(names))
    data = open_data(tmp_path)
    expected = tuple(names[index] for index in valid)
    assert data.names() == (*(name for name in names if name not in expected), *expected)
    if valid:
        assert (data.names("valid"), data.split) == (expected, "every seventh")
    else:
        assert data.split == "none"
        with pytest.raises(TrackError, match="no subset 'valid', expected one of train; fewer than seven"):
            data.tracks("valid")


def test_a_valid_folder_is_taken_as_it_is(tmp_path):
    make_folders(tmp_path / "train", [*MUSDB_LIST, "x"])
    make_folders(tmp_path / "valid", ["v"])
    data = open_data(tmp_path)
    assert (data.subsets, data.split) == (("train", "valid"), "folder")
    assert data.names("valid") == ("v",)
    assert len(data.names("train")) == 15


def test_a_tree_is_read_with_its_samples(tmp_path):
    audio = write_track(tmp_path / "eval" / "b")
    write_track(tmp_path / "test" / "a", suffix=".flac")
    data = open_data(tmp_path)
    assert data.subsets == ("test", "eval"), "subsets the pipeline knows come first"
    assert [(track.subset, track.name) for track in data] == [("test", "a"), ("eval", "b")]
    for track in data:
        np.testing.assert_array_equal(track.mixture.read(), audio.sum(0))
        np.testing.assert_array_equal(track.required_references().read(100, 200), audio[:, :, 100:200])
        assert track.required_references().sources == SOURCES
        assert track.notes == ()


def test_tracks_without_subsets_are_the_test_set(tmp_path):
    for name in ("b", "a"):
        write_track(tmp_path / name)
    (tmp_path / "papers").mkdir()
    (tmp_path / "README.txt").write_text("read me")
    data = open_data(tmp_path)
    assert (data.subsets, data.names("test")) == (("test",), ("a", "b"))


def test_order_is_by_code_point_and_odd_names_are_names(tmp_path):
    for name in ODD_NAMES:
        write_track(tmp_path / "test" / name, parts=("mixture",))
    tracks = open_data(tmp_path).tracks()
    assert [track.name for track in tracks] == sorted(ODD_NAMES)
    assert all(track.length == LENGTH for track in tracks)


def test_hidden_things_are_passed_over_and_links_are_followed(tmp_path):
    audio = write_track(tmp_path / "elsewhere" / "real")
    root = tmp_path / "root"
    (root / "test").mkdir(parents=True)
    (root / "test" / "linked").symlink_to(tmp_path / "elsewhere" / "real", target_is_directory=True)
    (root / "train").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for hidden in (root / ".git", root / "test" / ".cache"):
        write_track(hidden)
    for stray in (root / ".DS_Store", root / "test" / ".DS_Store", tmp_path / "elsewhere" / "real" / "._drums.wav"):
        stray.write_bytes(b"\0\0\0\1Bud1")
    data = open_data(root)
    assert {subset: data.names(subset) for subset in data.subsets} == {"train": ("real",), "test": ("linked",)}
    np.testing.assert_array_equal(data.tracks("test")[0].required_references().audio, audio)


def test_musdb18_stem_files_are_read_through_pyav(tmp_path):
    for subset, name in (("train", "Band - One"), ("test", "Band - Two"), ("test", "A. Band - 3")):
        (tmp_path / subset).mkdir(exist_ok=True)
        (tmp_path / subset / f"{name}.stem.mp4").symlink_to(CLIP)
    data = open_data(tmp_path)
    assert data.layout == "stem.mp4"
    assert data.names() == ("Band - One", "A. Band - 3", "Band - Two")
    track = data.tracks("test")[1]
    assert (track.name, track.length, track.channels, track.rate) == ("Band - Two", 268_288, 2, 44_100)
    # the clip's stems add up to its mixture but for the mastering
    mixture, total = track.mixture.read(), track.required_references().audio.sum(0)
    assert np.corrcoef(mixture.ravel(), total.ravel())[0, 1] > 0.95


def test_songs_have_no_references(tmp_path):
    samples = sources()[0]
    for name in ("c.wav", "a.flac", "b.b.mp3", "d.ogg"):
        sf.write(tmp_path / name, samples.T, 44_100)
    (tmp_path / "cover.jpg").write_bytes(b"picture")
    data = open_data(tmp_path)
    assert (data.layout, data.subsets, data.names()) == ("files", ("songs",), ("a", "b.b", "c", "d"))
    for track in data:
        assert (track.subset, track.references, track.length) == ("songs", None, LENGTH)
    single = open_data(tmp_path / "c.wav").tracks()[0]
    np.testing.assert_array_equal(single.mixture.read(), samples)
    with pytest.raises(TrackError, match="'c' has no references"):
        single.required_references()


def test_one_track_is_opened_by_its_folder_or_stem_file(tmp_path, monkeypatch):
    audio = write_track(tmp_path / "My Song")
    for track in (open_song(tmp_path / "My Song"), *open_data(tmp_path / "My Song")):
        assert (track.name, track.subset) == ("My Song", "songs")
        np.testing.assert_array_equal(track.required_references().audio, audio)
    monkeypatch.chdir(tmp_path / "My Song")
    assert open_song(".").name == "My Song"
    assert open_song(CLIP).required_references().length == 268_288


def test_tracks_travel_between_processes(tmp_path):
    audio = write_track(tmp_path / "song")
    track = pickle.loads(pickle.dumps(open_song(tmp_path / "song")))
    np.testing.assert_array_equal(track.required_references().audio, audio)


# data sets that cannot be used


@pytest.mark.parametrize("mode", ["missing", "empty", "texts"])
def test_where_no_tracks_are_the_error_says_what_was_expected(mode, tmp_path):
    root = tmp_path / "root"
    if mode != "missing":
        (root / "train").mkdir(parents=True)
    if mode == "texts":
        (root / "notes.txt").write_text("x")
    with pytest.raises(TrackError, match=r"root: no (such|tracks).*expected"):
        open_data(root)


def test_tracks_beside_subsets_are_ambiguous(tmp_path):
    write_track(tmp_path / "stray")
    write_track(tmp_path / "test" / "a")
    with pytest.raises(TrackError, match="'stray' lies beside the subset 'test'"):
        open_data(tmp_path)


def test_two_tracks_of_one_name_are_an_error_within_a_subset_only(tmp_path):
    write_track(tmp_path / "train" / "same")
    write_track(tmp_path / "test" / "same")
    assert open_data(tmp_path).names() == ("same", "same")
    (tmp_path / "test" / "same.stem.mp4").symlink_to(CLIP)
    with pytest.raises(TrackError, match=r"2 tracks of test are called 'same': .*same, .*same\.stem\.mp4"):
        open_data(tmp_path)


def test_all_bad_tracks_are_named_at_once_and_may_be_left_out(tmp_path, caplog):
    root = tmp_path / "test"
    write_track(root / "good")
    write_track(root / "no vocals", parts=("mixture", "drums", "bass", "other"))
    write_track(root / "text").fill(0)
    (root / "text" / "drums.wav").write_text("I am no drum.\n" * 30)
    make_folders(root, ["empty"])
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "garbage.stem.mp4").write_bytes(b"\0" * 1000)
    data = open_data(tmp_path)
    with pytest.raises(TrackError) as caught:
        data.tracks("test")
    message = str(caught.value)
    assert "5 of 6 tracks cannot be used" in message
    assert "\n" not in message
    assert len(caught.value.problems) == 5
    for part in ("'no vocals': ", "no vocals, only mixture, drums, bass, other", "'text': ", "drums.wav", "'empty': ",
                 "'gone': ", "'garbage': "):  # fmt: skip
        assert part in message
    with caplog.at_level(logging.WARNING):
        assert [track.name for track in data.tracks(skip_bad=True)] == ["good"]
    assert sum("left out: track" in record.message for record in caplog.records) == 5


def test_a_data_set_describes_itself(tmp_path):
    write_track(tmp_path / "test" / "a", parts=("mixture",))
    (tmp_path / "test" / "b.stem.mp4").symlink_to(CLIP)
    data = open_data(tmp_path)
    assert isinstance(data, DataSet)
    assert data.describe() == {
        "name": tmp_path.name,
        "path": str(tmp_path),
        "layout": "folders + stem.mp4",
        "split": "none",
        "subsets": {"test": 2},
    }
    with pytest.raises(TrackError, match="no subset 'train', expected one of test"):
        data.names("train")


def test_open_tracks_are_a_data_set():
    audio = sources()
    tracks = [
        Track.from_arrays(name, audio.sum(0), audio, subset=subset)
        for name, subset in (("b", "test"), ("a", "train"), ("a", "test"))
    ]
    data = open_data(tracks, sources={"vocals": ("vocals",), "band": ("drums", "bass", "other")})
    assert (data.subsets, data.names(), len(data), data.layout) == (("train", "test"), ("a", "b", "a"), 3, "tracks")
    band = data.tracks("train")[0].references["band"].read()
    np.testing.assert_allclose(band, audio[:3].sum(0), atol=1e-6)
    assert open_data(tracks).tracks("test") == [tracks[0], tracks[2]]
    with pytest.raises(TrackError, match=r"two tracks of test are called 'a'"):
        open_data([*tracks, tracks[2]])
    for given, kinds in (([], "nothing"), ([tracks[0], "b"], "Track, str")):
        with pytest.raises(TrackError, match=f"got a sequence of {kinds}, expected a path, a sequence of Track"):
            open_data(given)


# what lies beside


@pytest.mark.parametrize("name", ["...Baby One More Time", ".38 Special - Hold On", "..And Justice", ".5 Mile"])
def test_a_title_may_begin_with_a_dot(name, tmp_path):
    for title in (name, "Normal"):
        write_track(tmp_path / "test" / title)
    for clutter in (".git", "._Normal", ".DS_Store", ".writing-1", ".gram", ".contents"):
        write_track(tmp_path / "test" / clutter)
    (tmp_path / ".38 songs").mkdir()
    sf.write(tmp_path / ".38 songs" / f"{name}.wav", np.zeros((100, 2)), 44_100)
    assert open_data(tmp_path / "test").names() == (name, "Normal")
    assert open_data(tmp_path / ".38 songs").names() == (name,)


def write_parts(folder, names, mixture=()):
    """Noise for every name, and a mixture that is the sum of some."""
    parts = dict(zip(names, np.random.default_rng(0).normal(0, 0.1, (len(names), 1000, 2)), strict=True))
    if mixture:
        parts["mixture"] = sum(parts[name] for name in mixture)
    folder.mkdir(parents=True, exist_ok=True)
    for name, samples in parts.items():
        sf.write(folder / f"{name}.wav", samples, 44_100, subtype="FLOAT")


PAIR = ("vocals", "accompaniment")


@pytest.mark.parametrize("extra", ["click", "preview", "speech rehearsal", "guitar", "drums"])
def test_a_file_beside_voice_and_accompaniment_takes_nothing_away(extra, tmp_path, caplog):
    write_parts(tmp_path / "test" / "s", (*PAIR, extra), mixture=PAIR)
    with caplog.at_level(logging.WARNING):
        (track,) = open_data(tmp_path).tracks()
    assert track.references.sources == PAIR
    assert f"passed over: {extra}.wav, " in caplog.text
    (track,) = open_data(tmp_path, sources=parse_sources(f"vocals,{extra}")).tracks()
    assert set(track.references.sources) == {"vocals", extra}, "what the note says works"


@pytest.mark.parametrize("parts", [("drums", "bass", "other"), ("guitar", "other"), ("drums",)])
def test_an_accompaniment_beside_its_parts_is_their_sum(parts, tmp_path, caplog):
    write_parts(tmp_path / "test" / "s", (*PAIR, *parts), mixture=("vocals", *parts))
    with caplog.at_level(logging.WARNING):
        (track,) = open_data(tmp_path).tracks()
    assert set(track.references.sources) == {"vocals", *parts}
    assert "passed over: accompaniment.wav, the sum of other sources" in caplog.text
    (track,) = open_data(tmp_path, sources=parse_sources("vocals,accompaniment")).tracks()
    assert track.references.sources == PAIR


@pytest.mark.parametrize("sources", [PAIR, ("speech", "music", "effects"), SOURCES, ("vocals", "kazoo")])
@pytest.mark.parametrize("file", ["preview.mp3", "cover.m4a", "notes.wav"])
@pytest.mark.parametrize("text", ["no music " * 50, ""])
def test_a_file_of_another_name_that_is_no_audio_is_passed_over(sources, file, text, tmp_path, caplog):
    write_parts(tmp_path / "test" / "s", sources, mixture=sources)
    (tmp_path / "test" / "s" / file).write_text(text)
    with caplog.at_level(logging.WARNING):
        (track,) = open_data(tmp_path).tracks()
    assert set(track.references.sources) == set(sources)
    assert f"passed over: {file}, " in caplog.text


@pytest.mark.parametrize("file", ["drums.wav", "mixture.flac", "guitar.mp3", "lead.wav"])
def test_a_part_that_is_no_audio_is_an_error(file, tmp_path):
    name = Path(file).stem
    write_parts(tmp_path / "test" / "s", ("vocals", name) if name != "mixture" else SOURCES, mixture=("vocals",))
    (tmp_path / "test" / "s" / f"{name}.wav").unlink()
    (tmp_path / "test" / "s" / file).write_bytes(b"")
    with pytest.raises(TrackError, match=rf"1 of 1 tracks cannot be used: .*{file}"):
        open_data(tmp_path, sources=parse_sources("lead") if name == "lead" else None).tracks()


@pytest.mark.parametrize("place", ["metadata", "test/metadata"])
@pytest.mark.parametrize("file", ["vocals.wav", "old/vocals.wav", "notes.txt"])
def test_what_lies_in_a_folder_beside_the_songs_is_no_track(place, file, tmp_path, caplog):
    """A folder called ``metadata`` may hold anything, unless audio lies in it as in a track."""
    write_parts(tmp_path / "test" / "s", SOURCES, mixture=SOURCES)
    junk = tmp_path / place / "x" / file
    junk.parent.mkdir(parents=True)
    junk.write_bytes(b"junk")
    data = open_data(tmp_path)
    assert data.subsets == ("test",)
    assert [track.name for track in data.tracks()] == ["s"]


def test_a_track_and_a_subset_may_be_called_metadata(tmp_path):
    write_parts(tmp_path / "a" / "test" / "metadata", SOURCES, mixture=SOURCES)
    write_parts(tmp_path / "a" / "test" / "s", SOURCES, mixture=SOURCES)
    assert open_data(tmp_path / "a").names("test") == ("metadata", "s")
    write_parts(tmp_path / "b" / "metadata" / "s", SOURCES, mixture=SOURCES)
    assert open_data(tmp_path / "b").names("metadata") == ("s",)


def test_tracks_that_cannot_be_used_have_a_line_each(tmp_path):
    for name in "ab":
        make_folders(tmp_path / "data" / "test", [name])
        (tmp_path / "data" / "test" / name / "vocals.wav").write_bytes(b"junk")
    write_parts(tmp_path / "data" / "test" / "good", SOURCES, mixture=SOURCES)
    with pytest.raises(TrackError) as error:
        open_data(tmp_path / "data").tracks()
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    done = command("separate", tmp_path / "data", "--separator", "centre_channel", "--store", tmp_path / "store")
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "2 of 3 tracks cannot be used: track 'a': " in said
    assert "\\n" not in said
