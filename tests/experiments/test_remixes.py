"""Songs mixed anew to fit on: what they are made of, how they are kept, and who refuses them."""

import json

import numpy as np
import pytest
import soundfile

from makers.audio import write_track
from makers.commands import command
from stemfuse.blending import load_fusion
from stemfuse.experiments.config import AugmentConfig, SeparatorConfig
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import ConfigError, RunError
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.recipes import parse_config
from stemfuse.experiments.remixes import Remixes, remixed_tracks
from stemfuse.experiments.stages.separate import separate_paths
from stemfuse.experiments.stored_separators import stored_separator
from stemfuse.separators import SOURCES, StemStore, Track

RATE = 44_100
SEPARATOR = "centre_channel"
SECOND = {"separate": 3, "seconds": 0.5}


@pytest.fixture(scope="module")
def band(tmp_path_factory):
    """Five songs to train on and one to test, of a second and more, with samples that name song and source."""
    root = tmp_path_factory.mktemp("remixes") / "songs"
    for song in range(6):
        audio = np.random.default_rng(song).normal(0, 0.02, (4, 2, RATE + 1000 * song)).astype(np.float32)
        write_track(root / ("test" if song == 5 else "train") / f"song {song}", audio, subtype="FLOAT")
    return root


def remixed(band, store, separate=3, seconds=0.5, seed=0, **more):
    songs, made = open_data(band).tracks("train"), StemStore(store)
    separators = [stored_separator(SeparatorConfig(name=SEPARATOR), made)]
    return remixed_tracks(songs, AugmentConfig(separate=separate, seconds=seconds, seed=seed), made, separators, **more)


def audio_of(track):
    return np.stack([track.mixture.read(), *(track.references[source].read() for source in SOURCES)])


def stamps(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_each_source_is_of_another_song_and_the_mixture_is_their_sum(band, tmp_path):
    songs = open_data(band).tracks("train")
    remixes = Remixes(songs, RATE // 2, seed=3)
    tracks = remixed(band, tmp_path / "store", 4, seed=3)
    assert [track.name for track in tracks] == [f"remix {number:04d}" for number in range(4)]
    assert {(track.subset, track.length, track.data) for track in tracks} == {("train", RATE // 2, songs[0].data)}
    seen = set()
    for number, track in enumerate(tracks):
        mixture, *stems = audio_of(track)
        assert np.array_equal(mixture, np.sum(stems, axis=0, dtype=np.float32))
        parts = remixes.drawn(number)
        assert [part.source for part in parts] == list(SOURCES)
        assert len({part.song for part in parts}) == 4, "no two sources of one song"
        for part, stem in zip(parts, stems, strict=True):
            reference = songs[part.song].references[part.source]
            assert np.array_equal(stem, reference.read(part.start, part.start + track.length))
            assert f"{part.source} of song {part.song} from" in track.notes[0]
        seen.add(tuple(parts))
    assert len(seen) == 4
    assert {part.song for parts in seen for part in parts} == {0, 1, 2, 3, 4}


def test_songs_repeat_only_where_they_are_fewer_than_the_sources():
    songs = [Track.from_arrays(name, np.ones((2, 50)), np.ones((4, 2, 50))) for name in "ab"]
    for number in range(10):
        assert sorted(part.song for part in Remixes(songs, 50).drawn(number)) == [0, 0, 1, 1]


def test_remixes_are_seeded_and_more_of_them_begin_with_the_same(band, tmp_path):
    first = remixed(band, tmp_path / "a" / "store", 2)
    more = remixed(band, tmp_path / "b" / "store", 4)
    assert all(np.array_equal(audio_of(one), audio_of(other)) for one, other in zip(first, more, strict=False))
    (other,) = remixed(band, tmp_path / "a" / "store", 1, seed=1)
    assert other.data_set != first[0].data_set
    assert not np.array_equal(audio_of(other), audio_of(first[0]))
    assert first[0].data_set == more[0].data_set
    assert first[0].data_set.startswith("remixes-")


def test_a_second_call_writes_only_what_is_missing_or_damaged(band, tmp_path, caplog):
    store, root = tmp_path / "store", tmp_path / "store-remixes"
    before = [audio_of(track) for track in remixed(band, store)]
    written = stamps(root)
    assert len(written) == 3 * 6
    remixed(band, store)
    assert stamps(root) == written
    (first, second, _) = sorted(root.glob("*/train/*"))
    record = json.loads((first / "remix.json").read_text())
    assert record["mixed of"].startswith("drums of song ")
    # killed before the second one was whole, and somebody has changed the first
    for file in second.iterdir():
        file.unlink()
    second.rmdir()
    audio, _ = soundfile.read(first / "bass.wav", dtype="float32")
    soundfile.write(first / "bass.wav", -audio, RATE, subtype="FLOAT")
    caplog.clear()
    after = [audio_of(track) for track in remixed(band, store)]
    assert [message for message in caplog.messages if "damaged or changed, made again" in message] != []
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    changed = {file.parent for file, stamp in stamps(root).items() if written.get(file) != stamp}
    assert changed == {first, second}


def test_songs_that_are_too_short_or_differ_are_refused_in_one_line(band, tmp_path):
    songs, store = open_data(band).tracks("train"), StemStore(tmp_path / "store")
    with pytest.raises(ConfigError, match="0 of 5 songs to fit on have references and 30 s, expected at least two"):
        remixed_tracks(songs, AugmentConfig(separate=1), store, [])
    mono = Track.from_arrays("mono", np.ones((1, RATE)), np.ones((4, 1, RATE)))
    with pytest.raises(ConfigError, match=r"2 channels.* or .*1 channels.*convert some first"):
        remixed_tracks([*songs, mono], AugmentConfig(separate=1, seconds=0.5), store, [])


def recipe(band, place, **changes):
    given = {"out": place / "run", "store": place / "store", "data": [band], "separators": [SEPARATOR]}
    fusions = [{"name": "least_squares", "options": {"stems": "all", "mixture": True}}]
    return parse_config(given | {"fusions": fusions, "fit": {"augment": SECOND}, "bounds": None} | changes)


def test_a_run_fits_on_remixes_beside_its_songs_and_tests_on_none(band, tmp_path):
    plan = plan_run(recipe(band, tmp_path))
    train, valid = plan.fitted_on()
    songs, remixes = [f"song {song}" for song in range(5)], ["remix 0000", "remix 0001", "remix 0002"]
    assert [track.name for track in train] == songs + remixes
    assert valid == []
    assert [entry.track.name for entry in plan.tested()] == ["song 5"]
    assert set(train) <= set(plan.needed())
    nothing_learnt = plan_run(recipe(band, tmp_path, fusions=["mean"]))
    assert [track.name for track in nothing_learnt.of("train")] == songs


def test_folds_and_stored_stems_are_refused_in_one_line(band, tmp_path):
    with pytest.raises(RunError, match=r"fit.augment: songs are left out in turn.*fit.test"):
        plan_run(recipe(band, tmp_path, fit={"augment": SECOND, "test": ["train"]}))
    separate_paths([band], SEPARATOR, {}, tmp_path / "store", workers=1)
    stored = [{"name": SEPARATOR, "stored": True}]
    with pytest.raises(ConfigError, match="augment: centre_channel: only stored stems are at hand") as caught:
        plan_run(recipe(band, tmp_path, separators=stored))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store-remixes").exists()


def test_the_command_fits_on_remixes_and_scores_on_songs(band, tmp_path):
    out = tmp_path / "blend.npz"
    fit = ["fit", "least_squares", "--data", band, "--store", tmp_path / "store", "--separators", SEPARATOR]
    fit += ["--out", out, "--workers", 1, "--option", "stems=all", "--option", "mixture=true"]
    plain = command(*fit, "--folds", 0)
    assert plain.returncode == 0, plain.stderr
    before = load_fusion(out)
    done = command(*fit, "--augment", "separate=2,seconds=0.5", "--replace")
    assert done.returncode == 0, done.stderr
    assert "5 songs: train/song 0" in done.stdout
    after = load_fusion(out)
    assert not np.array_equal(before.weights_.matrix, after.weights_.matrix)
    assert len(after.songs_) == len(before.songs_) + 2
    separated = (tmp_path / "store").glob("remixes-*/*/train/*")
    assert sorted(path.name for path in separated) == ["remix 0000", "remix 0001"]
    for augment, more, words in (
        ("separate=2,seconds=0.5", ["--folds", 3], "expected one of the two"),
        ("seconds=1", [], "--augment: key separate is missing"),
        ("separate=0", [], "separate: got 0"),
    ):
        wrong = command(*fit, "--augment", augment, *more)
        assert wrong.returncode == 2
        assert words in wrong.stderr
        assert len(wrong.stderr.strip().splitlines()) == 1
