"""The stem store: whole entries or none, whatever happens to the disk and the processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import soundfile as sf

from makers.places import TESTS
from makers.separators import Quarter
from stemfuse.separators import (
    SOURCES,
    ArraySignal,
    AudioError,
    FileSignal,
    Stems,
    StemStore,
    StoreError,
    Track,
)

RATE = 44_100


def write_mixture(path, seed=0, length=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, (length, 2)).astype("float32")
    sf.write(path, samples, RATE, subtype="FLOAT")
    return Track(path.stem, FileSignal(path))


@pytest.fixture
def track(tmp_path):
    return write_mixture(tmp_path / "data" / "a song.wav")


def filled(tmp_path, track, separator=None):
    separator = separator or Quarter()
    store = StemStore(tmp_path / "store")
    store.put(track, separator, separator.separate(track.mixture.read(), track.rate))
    return store, separator


def test_what_is_put_is_got_bit_for_bit(tmp_path, track):
    store, separator = filled(tmp_path, track)
    stems = store.get(track, separator)
    assert stems.sources == SOURCES
    np.testing.assert_array_equal(stems["vocals"].read(), np.float32(0.25) * track.mixture.read())
    folder = store.path(track, separator)
    assert folder == tmp_path / "store" / "songs" / f"quarter-{separator.fingerprint()[:8]}" / "test" / "a song"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(f"{source}.wav" for source in SOURCES), "stems.json"]
    )
    assert sf.info(folder / "bass.wav").subtype == "FLOAT"
    record = json.loads((folder / "stems.json").read_text())
    assert record["separator"]["options"] == {"gain": 0.25}
    assert record["mixture"]["sha256"] == track.mixture_sha256()
    assert store.verify() == []


def test_other_options_are_another_separator_but_another_device_is_not(tmp_path, track):
    store, _ = filled(tmp_path, track)
    assert store.get(track, Quarter(gain=0.5)) is None
    assert store.get(track, Quarter(device="cuda")) is not None
    assert store.missing([track], Quarter(gain=0.5)) == [track]


def test_stems_of_another_mixture_are_never_used(tmp_path, track):
    store, separator = filled(tmp_path, track)
    other = write_mixture(tmp_path / "elsewhere" / "a song.wav", seed=1)
    assert store.get(other, separator) is None
    assert store.missing([other], separator) == [other]
    same = Track(track.name, ArraySignal(track.mixture.read()))
    assert store.get(same, separator) is not None, "the same samples in memory are the same mixture"


def test_a_copied_or_touched_mixture_is_known_by_its_samples(tmp_path, track):
    store, separator = filled(tmp_path, track)
    os.utime(track.mixture.path, (1, 1))
    assert store.get(track, separator) is not None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "bass.wav").unlink(), "is missing"),
        (lambda folder: (folder / "bass.wav").write_bytes(b"RIFF"), "has 4 bytes"),
        (lambda folder: (folder / "stems.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "stems.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "stems.json").unlink(), "not of this store"),
        (
            lambda folder: (folder / "stems.json").write_text(
                (folder / "stems.json").read_text().replace('"schema": 2', '"schema": 99')
            ),
            "schema 99",
        ),
    ],
)
def test_a_damaged_entry_is_found_and_reported(tmp_path, track, damage, message):
    store, separator = filled(tmp_path, track)
    damage(store.path(track, separator))
    with pytest.raises(StoreError, match=message):
        store.get(track, separator)
    assert store.missing([track], separator) == [track]
    assert [problem.entry for problem in store.verify()] == [store.path(track, separator)]


def test_verify_finds_one_changed_sample_that_get_cannot_see(tmp_path, track):
    store, separator = filled(tmp_path, track)
    path = store.path(track, separator) / "other.wav"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    (problem,) = store.verify()
    assert "the samples of other have changed since written" in problem.reason


def test_putting_again_replaces_our_entry_but_never_a_foreign_folder(tmp_path, track):
    store, separator = filled(tmp_path, track)
    (store.path(track, separator) / "bass.wav").unlink()
    filled(tmp_path, track)
    assert store.missing([track], separator) == []
    foreign = write_mixture(tmp_path / "data" / "foreign.wav", seed=1)
    folder = store.path(foreign, separator)
    folder.mkdir()
    (folder / "precious.txt").write_text("keep")
    with pytest.raises(StoreError, match="another tool"):
        filled(tmp_path, foreign)
    assert (folder / "precious.txt").read_text() == "keep"


def test_stems_that_do_not_fit_are_refused(tmp_path, track):
    store = StemStore(tmp_path / "store")
    with pytest.raises(StoreError, match="length 7999, expected 8000 as in the mixture"):
        store.put(track, Quarter(), Stems(np.zeros((4, 2, 7999))))
    with pytest.raises(AudioError, match="finite numbers"):
        store.put(track, Quarter(), Stems.from_signals({"bass": ArraySignal(np.full((2, 8000), np.nan))}))
    assert not list((tmp_path / "store").rglob("*.wav"))
    with pytest.raises(StoreError, match="has a slash"):
        store.path(Track("../escape", track.mixture), Quarter())


@pytest.mark.parametrize("name", ["sp ace", "quo'te\"s", "ünïcode 日本語", "per%cent#hash", "dot.", "-dash"])
def test_odd_names_are_normal(tmp_path, name):
    track = write_mixture(tmp_path / "data" / f"{name}.wav")
    store, separator = filled(tmp_path, track)
    assert store.tracks_of(separator) == [("test", name)]
    assert store.get(track, separator).length == 8000


def test_a_name_finds_its_only_separator(tmp_path, track):
    store, separator = filled(tmp_path, track)
    assert store.find("quarter") == store.key(separator)
    assert store.find(store.key(separator)) == store.key(separator)
    with pytest.raises(StoreError, match="no separator named 'third'"):
        store.find("third")
    filled(tmp_path, track, Quarter(gain=0.1))
    with pytest.raises(StoreError, match="several separators named 'quarter'; name one of quarter-"):
        store.find("quarter")


def test_attach_names_what_is_missing(tmp_path, track):
    store, separator = filled(tmp_path, track)
    attached = store.attach(track, {"mine": separator})
    assert list(attached.stems) == ["mine"]
    assert list(store.attach(track, [store.key(separator)]).stems) == ["quarter"]
    with pytest.raises(StoreError, match="run stemfuse separate"):
        store.attach(track, [Quarter(gain=0.9)])
    with pytest.raises(StoreError, match="a name of its own"):
        store.attach(track, [separator, separator])


def test_a_read_only_store_is_read_and_the_error_gives_the_reason(tmp_path, track):
    store, separator = filled(tmp_path, track)
    other = write_mixture(tmp_path / "data" / "b.wav")
    top = store.root / "songs" / store.key(separator)
    # root may write anywhere: a file in the folder's place is read-only for everyone
    blocked = StemStore(tmp_path / "file")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        blocked.put(other, separator, separator.separate(other.mixture.read(), RATE))
    if os.geteuid() != 0:
        for folder in (top, top / "test"):
            folder.chmod(0o555)
        try:
            with pytest.raises(StoreError, match="cannot be written"):
                store.put(other, separator, separator.separate(other.mixture.read(), RATE))
            assert store.get(track, separator) is not None
        finally:
            for folder in (top, top / "test"):
                folder.chmod(0o755)


SCRIPT = """
import resource, signal, sys, os, time
import numpy as np
sys.path.insert(0, {tests!r})
from makers.separators import Quarter
from stemfuse.separators import RATE
from stemfuse.separators import FileSignal, Stems, StemStore, StoreError, Track, SOURCES
track = Track("a song", FileSignal({mixture!r}))
store = StemStore({store!r})
{body}
"""


def in_process(tmp_path, track, body, **kwargs):
    script = SCRIPT.format(
        tests=str(TESTS),
        mixture=str(track.mixture.path),
        store=str(tmp_path / "store"),
        body=textwrap.dedent(body),
    )
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, **kwargs)


def test_a_full_disk_leaves_nothing_behind(tmp_path, track):
    """A limit on file size stands in for the full disk: both fail a write in the middle of a file."""
    process = in_process(
        tmp_path,
        track,
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        try:
            store.put(track, Quarter(), Quarter().separate(track.mixture.read(), RATE))
        except StoreError as error:
            print("error:", error)
        """,
    )
    printed, _ = process.communicate(timeout=60)
    assert "error:" in printed
    assert "free some space" in printed
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {path.parent.name for path in left} <= {".contents"}, "the digest of the mixture alone is remembered"


def test_kill_9_in_the_middle_of_a_write_leaves_no_half_entry(tmp_path, track):
    process = in_process(
        tmp_path,
        track,
        """
        def slow(start, stop):
            print("writing", flush=True)
            if start:
                time.sleep(60)
            return np.zeros((4, 2, stop - start), np.float32)
        from stemfuse.separators import stems
        stems.BLOCK = 1000
        Stems.blocks.__defaults__ = (1000,)
        store.put(track, Quarter(), Stems.lazy(slow, SOURCES, 2, track.length))
        """,
    )
    assert process.stdout.readline() == "writing\n"
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = StemStore(tmp_path / "store")
    assert store.missing([track], Quarter()) == [track]
    assert any("killed" in problem.reason for problem in store.verify())
    filled(tmp_path, track)
    assert store.missing([track], Quarter()) == []
    assert store.verify() == [], "the next write clears what the killed process left"


def test_two_processes_fill_one_store(tmp_path, track):
    body = """
        for _ in range(20):
            store.put(track, Quarter(), Quarter().separate(track.mixture.read(), RATE))
        print("done")
        """
    processes = [in_process(tmp_path, track, body) for _ in range(2)]
    store, seen = StemStore(tmp_path / "store"), 0
    while any(process.poll() is None for process in processes):
        stems = store.get(track, Quarter())
        if stems is not None:
            seen += 1
        time.sleep(0.01)
    assert [process.communicate()[0] for process in processes] == ["done\n", "done\n"]
    assert seen
    assert store.verify() == []


def test_removing_is_not_an_error_when_there_is_nothing(tmp_path, track):
    store, separator = filled(tmp_path, track)
    store.remove(track, separator)
    store.remove(track, separator)
    assert store.get(track, separator) is None
    shutil.rmtree(store.root)
    assert store.keys() == []
    assert store.verify() == []
