"""Data sets and tracks of the package musdb are opened, separated and run as their paths are."""

import numpy as np
import pytest

from makers.audio import sources, write_track
from makers.places import CLIP
from stemfuse.analysis.bss_eval.museval import import_musdb
from stemfuse.experiments import open_data, run
from stemfuse.experiments.stages.separate import separate_paths
from stemfuse.separators import SOURCES, TrackError
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


def test_what_asks_for_other_audio_is_an_error(wav):
    wav[0].chunk_duration = 5.0
    with pytest.raises(TrackError, match=r"chunk_duration=5\.0, expected whole tracks"):
        open_data(wav)
    wav[0].chunk_duration, wav[0].path = None, "/nowhere/mixture.wav"
    with pytest.raises(TrackError, match="is missing; expected a track that lies on disk"):
        open_data(wav[0])


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
