"""Searches that are killed, torn, damaged or done twice at once end with the weights of an undisturbed one."""

import itertools
import logging
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from stemfuse.blending import FusionError, open_studies, search
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.blending.criteria import criterion
from stemfuse.blending.search import Search

pytest.importorskip("optuna")

TRIALS = 12
SEARCHING = """
import sys
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.blending.search import Search
import numpy as np
search = Search(trials=int(sys.argv[2]), sampler=sys.argv[3], storage=sys.argv[1])
np.save(sys.argv[4], search.fit(conformance_tracks(("a", "b"), 2.0)).weights_.matrix)
"""


@pytest.fixture(scope="module")
def tracks():
    return conformance_tracks(("a", "b"), 2.0)


@pytest.fixture(scope="module")
def undisturbed(tracks):
    return Search(trials=TRIALS).fit(tracks)


def trials_of(search):
    return {
        source: [(trial.params, trial.values) for trial in study.trials] for source, study in search.studies_.items()
    }


def same(first, second):
    return np.array_equal(first.weights_.matrix, second.weights_.matrix) and trials_of(first) == trials_of(second)


def searching(folder, trials, sampler, name="weights.npy"):
    command = [sys.executable, "-c", SEARCHING, "search.journal", str(trials), sampler, name]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)


def kill_at(process, journal, size):
    """Kill the process once its journal is that long; whether it still ran."""
    while process.poll() is None and not (journal.exists() and journal.stat().st_size >= size):
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    return process.returncode == -9


@pytest.mark.parametrize(
    ("sampler", "rounds"),
    [
        pytest.param("tpe", 1, marks=pytest.mark.slow),
        *(pytest.param(name, 4, marks=pytest.mark.long) for name in ("cmaes", "random", "grid", "nsga2")),
        pytest.param("tpe", 40, marks=pytest.mark.long),
    ],
)
def test_killed_with_9_and_resumed_gives_the_trials_of_an_undisturbed_search(tracks, tmp_path, sampler, rounds):
    # the storage is a relative path, the form of which locks were dangling links
    expected, generator = Search(trials=TRIALS, sampler=sampler).fit(tracks), random.Random(0)
    journal, killed = tmp_path / "search.journal", 0
    for _ in range(rounds):
        journal.unlink(missing_ok=True)
        sizes = sorted(generator.randrange(500, 30_000) for _ in range(min(rounds, 2)))
        killed += sum(kill_at(searching(tmp_path, TRIALS, sampler), journal, size) for size in sizes)
        last = searching(tmp_path, TRIALS, sampler)
        last.communicate(timeout=60)
        assert last.returncode == 0
        assert np.array_equal(np.load(tmp_path / "weights.npy"), expected.weights_.matrix)
        assert same(Search(trials=TRIALS, sampler=sampler, storage=str(journal)).fit(tracks), expected)
    assert killed


def test_stopped_after_any_trial_it_goes_on_with_the_same_trials(tracks, undisturbed, tmp_path):
    class StopError(Exception):
        pass

    for stop in (1, 8, 3 * TRIALS + 11):
        calls = itertools.count(1)

        def progress(source, done, total, calls=calls, stop=stop):
            if next(calls) == stop:
                raise StopError

        search = Search(trials=TRIALS, storage=str(tmp_path / f"{stop}.journal"))
        search.progress = progress
        with pytest.raises(StopError):
            search.fit(tracks)
        assert same(Search(trials=TRIALS, storage=search.storage).fit(tracks), undisturbed)


def test_a_longer_search_goes_on_from_a_shorter_one(tracks, undisturbed, tmp_path):
    storage = str(tmp_path / "search.journal")
    Search(trials=TRIALS // 2, storage=storage).fit(tracks)
    assert same(Search(trials=TRIALS, storage=storage).fit(tracks), undisturbed)


def test_kept_scores_are_not_computed_again(tracks, undisturbed, tmp_path, monkeypatch):
    storage = str(tmp_path / "search.journal")
    Search(trials=TRIALS, storage=storage).fit(tracks)

    def nobody(*arguments):
        raise AssertionError("scored again")

    def of_all_songs(metric, space, songs, *arguments):
        # songs that are left out in turn are scored one by one
        return nobody if len(songs) > 1 else criterion(metric, space, songs, *arguments)

    monkeypatch.setattr("stemfuse.blending.search.criterion", of_all_songs)
    assert same(Search(trials=TRIALS, storage=storage).fit(tracks), undisturbed)


@pytest.mark.slow
def test_two_searches_at_once_in_one_storage_give_the_same_weights(undisturbed, tmp_path):
    both = [searching(tmp_path, TRIALS, "tpe", f"{name}.npy") for name in "ab"]
    for process in both:
        process.communicate(timeout=60)
    for name in "ab":
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), undisturbed.weights_.matrix)


@pytest.mark.parametrize("target", ["search.journal", pytest.param("elsewhere/search.journal", marks=pytest.mark.slow)])
def test_a_lock_that_nobody_holds_is_cleared_within_seconds(tracks, undisturbed, tmp_path, caplog, target):
    storage = tmp_path / "search.journal"
    Search(trials=3, storage=str(storage)).fit(tracks)
    storage.with_name("search.journal.lock").symlink_to(target)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        resumed = Search(trials=TRIALS, storage=str(storage)).fit(tracks)
    assert same(resumed, undisturbed)
    assert time.monotonic() - started < 10
    assert [record.message for record in caplog.records if "is cleared" in record.message] == [
        f"{storage}.lock: the lock of a process that was killed is cleared"
    ]
    assert not os.path.lexists(f"{storage}.lock")


@pytest.mark.parametrize("tear", ["end", "middle", "first line", "glued"])
def test_a_torn_journal_is_cut_back(tracks, undisturbed, tmp_path, caplog, tear):
    storage = tmp_path / "search.journal"
    Search(trials=TRIALS // 2, storage=str(storage)).fit(tracks)
    whole = storage.read_bytes()
    lines = whole.splitlines(keepends=True)
    storage.write_bytes(
        {
            "end": whole[:-40],
            "middle": b"".join([*lines[:9], b"\0" * 100, *lines[9:]]),
            "first line": lines[0][:7],
            "glued": b"".join([*lines[:9], lines[9][:30], *lines[10:]]),
        }[tear]
    )
    with caplog.at_level(logging.WARNING):
        assert same(Search(trials=TRIALS, storage=str(storage)).fit(tracks), undisturbed)
    assert "are cut off" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.long)])
def test_flipped_bits_in_a_journal_change_nothing(tracks, undisturbed, tmp_path, count):
    storage, generator = tmp_path / "search.journal", random.Random(1)
    names = {source: study.study_name for source, study in undisturbed.studies_.items()}
    Search(trials=TRIALS, storage=str(storage)).fit(tracks)
    whole = storage.read_bytes()
    for _ in range(count):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        storage.write_bytes(damaged)
        try:
            kept = open_studies(str(storage), names)
        except FusionError:
            pass
        else:
            assert all(len(study.trials) <= TRIALS for study in kept.values())
        assert same(Search(trials=TRIALS, storage=str(storage)).fit(tracks), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ['"datetime_start"', '"datetime_complete"', '\\"high\\": 1.0'])
def test_trials_that_optuna_would_not_take_are_made_again(tracks, undisturbed, tmp_path, caplog, wrong):
    """What the checksum of a trial leaves out."""
    storage = tmp_path / "search.journal"
    Search(trials=TRIALS, storage=str(storage)).fit(tracks)
    whole = storage.read_text()
    storage.write_text(whole.replace(wrong, wrong.replace("date", "dare").replace("1.0", "0.0"), 1))
    assert storage.read_text() != whole
    with caplog.at_level(logging.WARNING):
        assert same(Search(trials=TRIALS, storage=str(storage)).fit(tracks), undisturbed)
    assert "made again" in caplog.text or "is put aside" in caplog.text


@pytest.mark.parametrize("content", [b"dear diary\n", b"[1]\n", b"\x89PNG\r\n\x1a\n" + bytes(100), b"x"])
def test_a_file_that_is_no_journal_is_refused_and_stays(tracks, tmp_path, content):
    file = tmp_path / "diary.txt"
    file.write_bytes(content)
    with pytest.raises(FusionError, match="no journal of Optuna"):
        Search(trials=3, storage=str(file)).fit(tracks)
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


@pytest.mark.slow
def test_trials_of_another_search_under_the_same_name_are_made_again(tracks, undisturbed, tmp_path, caplog):
    import optuna

    storage = f"sqlite:///{tmp_path}/search.db"
    name = undisturbed.studies_["drums"].study_name
    foreign = optuna.create_study(storage=storage, study_name=name, directions=["maximize"])
    for trial in undisturbed.studies_["bass"].trials:
        foreign.add_trial(trial)
    with caplog.at_level(logging.WARNING):
        assert same(Search(trials=TRIALS, storage=storage).fit(tracks), undisturbed)
    assert "damaged, its trials from 0 on are made again" in caplog.text


@pytest.mark.parametrize(
    "storage", ["kept/search.journal", pytest.param("sqlite:///search.db", marks=pytest.mark.slow)]
)
def test_a_relative_storage_is_kept_as_it_was_given(tracks, tmp_path, monkeypatch, storage):
    monkeypatch.chdir(tmp_path)
    search = Search(trials=3, storage=storage).fit(tracks)
    assert search.arguments()["storage"] == storage
    assert (tmp_path / storage.removeprefix("sqlite:///")).is_file()


def test_a_full_disk_is_one_line(tracks, undisturbed, tmp_path, monkeypatch):
    storage, real, calls = str(tmp_path / "search.journal"), os.fsync, itertools.count()

    def full(descriptor):
        if next(calls) > 12:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FusionError, match="No space left on device"):
        Search(trials=TRIALS, storage=storage).fit(tracks)
    monkeypatch.undo()
    assert same(Search(trials=TRIALS, storage=storage).fit(tracks), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"sampler": "random"}, {"constraint": "simplex"}])
def test_scores_that_another_version_has_kept_are_not_taken(tracks, tmp_path, monkeypatch, options):
    given = {"trials": 3, **options}
    Search(**given, storage=str(tmp_path / "kept.journal")).fit(tracks)
    monkeypatch.setattr(search, "version", lambda package: "9.9.9")
    scored = search.criterion
    monkeypatch.setattr(search, "criterion", lambda *about: lambda weights: -scored(*about)(weights))
    kept, expected = (
        Search(**given, storage=storage).fit(tracks) for storage in (str(tmp_path / "kept.journal"), None)
    )
    assert same(kept, expected)
