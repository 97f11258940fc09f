"""Data sets and tracks of the package musdb are opened, separated and run as their paths are."""

from collections import Counter

import numpy as np
import pytest

from makers.audio import sources, write_track
from makers.places import CLIP
from stemfuse.analysis.bss_eval.museval import import_musdb
from stemfuse.experiments import open_data, parse_config, run
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.stages.separate import separate_paths
from stemfuse.separators import SOURCES, TrackError, load_separator
from stemfuse.separators.audio.signals import FileSignal

pytestmark = pytest.mark.ffmpeg  # musdb asks ffprobe for the length of every file


@pytest.fixture(scope="module")
def musdb():
    return import_musdb()


@pytest.fixture
def wav(tmp_path, musdb):
    for subset, names in (("train", ["A - One", "Meaxic - Take A Step"]), ("test", ["B - Two"])):
        for seed, name in enumerate(names):
            write_track(tmp_path / "HQ" / subset / name, sources(20_000, seed=seed))
    return musdb.DB(root=str(tmp_path / "HQ"), is_wav=True)


@pytest.fixture
def stems(tmp_path, musdb):
    (tmp_path / "MUSDB18" / "test").mkdir(parents=True)
    (tmp_path / "MUSDB18" / "test" / "B - Two.stem.mp4").symlink_to(CLIP)
    return musdb.DB(root=str(tmp_path / "MUSDB18"), subsets="test")


def test_a_db_of_folders_is_its_path(wav, tmp_path):
    data, same = open_data(wav), open_data(tmp_path / "HQ")
    assert data == same
    assert {subset: data.names(subset) for subset in data.subsets} == {
        "train": ("A - One",),
        "valid": ("Meaxic - Take A Step",),
        "test": ("B - Two",),
    }
    for track, other in zip(data, same, strict=True):
        assert (track.name, track.subset, track.data_set) == (other.name, other.subset, "HQ")
    only = open_data(type(wav)(root=wav.root, is_wav=True, subsets="test"))
    assert (only.subsets, only.names()) == (("test",), ("B - Two",))


def test_a_db_of_stem_files_is_read_here(stems, monkeypatch):
    monkeypatch.setattr("stempeg.read_stems", lambda *_, **__: pytest.fail("musdb decoded a file"))
    (track,) = open_data(stems)
    assert (track.name, track.subset, track.length, track.required_references().sources) == (
        "B - Two",
        "test",
        268_288,
        SOURCES,
    )
    assert np.isfinite(track.mixture.read(0, 1000)).all()


def test_one_track_is_opened(wav, stems):
    for db, count in ((wav, 3), (stems, 1)):
        assert len(db) == count
        (track,) = open_data(db[-1 % count])
        assert (track.name, track.subset) == ("B - Two", "test")


def test_a_list_of_tracks_is_those_tracks(wav):
    data = open_data([wav[0], wav[2]])
    assert data.names() == (wav[0].name, wav[2].name)
    assert data.subsets == tuple(dict.fromkeys((wav[0].subset, wav[2].subset)))
    # split as their tree is
    assert open_data(list(wav)) == open_data(wav)
    assert [track.data_set for track in open_data((wav[1],))] == ["HQ"]


def test_a_track_of_musdb_is_separated_as_its_samples(wav):
    separator, track = load_separator("centre_channel"), wav[2]
    expected = separator.separate(track.audio.T, track.rate).audio
    np.testing.assert_array_equal(separator.separate(track).audio, expected)


def test_what_asks_for_other_audio_is_an_error(wav):
    wav[0].chunk_duration = 5.0
    with pytest.raises(TrackError, match=r"chunk_duration=5\.0, expected whole tracks"):
        open_data(wav)
    wav[0].chunk_duration, wav[0].path = None, "/nowhere/mixture.wav"
    with pytest.raises(TrackError, match="is missing; expected a track that lies on disk"):
        open_data(wav[0])


@pytest.fixture
def large(tmp_path, musdb):
    """Ten training tracks, two of them of musdb's validation list, and two to test on."""
    train = [*(f"A{number} - Song" for number in range(8)), "Meaxic - Take A Step", "Skelpolu - Human Mistakes"]
    for subset, names in (("train", train), ("test", ["B1 - x", "B2 - y"])):
        for seed, name in enumerate(names):
            write_track(tmp_path / "HQ" / subset / name, sources(5_000, seed=seed))
    return lambda **options: musdb.DB(root=str(tmp_path / "HQ"), is_wav=True, **options)


def counts(tracks):
    return dict(Counter(track.subset for track in tracks))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"train": 8, "valid": 2, "test": 2}),
        ({"subsets": "train"}, {"train": 8, "valid": 2}),
        ({"subsets": "train", "split": "train"}, {"train": 8}),
        ({"subsets": "train", "split": "valid"}, {"valid": 2}),
        ({"subsets": "test"}, {"test": 2}),
    ],
)
def test_a_db_that_was_split_is_not_split_again(large, options, expected, tmp_path):
    db = large(**options)
    assert counts(open_data(db)) == expected
    for data in ([db], db, [{"path": db, "label": "music"}]):
        config = parse_config(recipe(tmp_path, data))
        assert counts(entry.track for entry in plan_run(config).tracks) == expected
        assert config.data[0].name == ("music" if isinstance(data, list) and data[0] is not db else "HQ")
        # what the run keeps as its recipe means the same
        assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [slice(3), slice(7, 10), slice(9, 12), slice(0, 10, 9)])
def test_a_db_of_some_tracks_is_those_tracks(large, chosen, tmp_path):
    db = large()
    whole = {(track.name, track.subset) for track in open_data(db)}
    db.tracks = db.tracks[chosen]
    names = {track.name for track in db.tracks}
    planned = [entry.track for entry in plan_run(parse_config(recipe(tmp_path, db))).tracks]
    for tracks in (open_data(db), planned):
        assert {(track.name, track.subset) for track in tracks} == {one for one in whole if one[0] in names}
    config = parse_config(recipe(tmp_path, [{"path": db, "subsets": ["train"]}]))
    assert config.data[0].subsets == ("train",)


@pytest.mark.slow
def test_names_that_no_track_has_are_wrong_usage(large, tmp_path):
    config = parse_config(recipe(tmp_path, [{"path": str(tmp_path / "HQ"), "names": ["A1 - Son"]}]))
    large()
    with pytest.raises(TrackError, match=r"no track 'A1 - Son'.*did you mean 'A1 - Song'") as caught:
        plan_run(config)
    assert caught.value.is_usage


def recipe(folder, data):
    given = {"out": str(folder / "run"), "store": str(folder / "store"), "data": data, "fusions": ["mean"]}
    return given | {"separators": ["centre_channel"], "bounds": None}


@pytest.mark.slow
def test_a_db_is_separated_and_run(wav, tmp_path, monkeypatch):
    read = []
    original = FileSignal._read
    monkeypatch.setattr(
        FileSignal, "_read", lambda self, *span: read.append((self.path, *span)) or original(self, *span)
    )
    entries = separate_paths([wav], "centre_channel", {}, tmp_path / "store", workers=1)
    assert [entry["track"] for entry in entries] == ["A - One", "Meaxic - Take A Step", "B - Two"]
    assert len(separate_paths([wav[0]], "centre_channel", {}, tmp_path / "store", workers=1)) == 1
    spans = [span for span in read if span[0].name == "mixture.wav"]
    # once to know what it is, once to separate it
    assert max(map(spans.count, spans)) <= 2
    given = {"out": str(tmp_path / "run"), "store": str(tmp_path / "store"), "data": [wav], "fusions": ["mean"]}
    given |= {"separators": ["centre_channel"], "players": {"tracks": 0}, "bounds": None, "workers": 1}
    assert set(run(given).scores()["track"]) == {"B - Two"}
