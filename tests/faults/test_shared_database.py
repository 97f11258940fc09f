"""A database that several searches share: made once, waited for while locked, and one line when it cannot be used."""

import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from stemfuse.blending import FusionError, open_studies
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.blending.databases import open_database, patiently, shown_address
from stemfuse.blending.search import Search

pytest.importorskip("optuna")

OPENING = """
import sys, time
from stemfuse.blending.studies import open_storage
from stemfuse.blending.kept_trials import KeptTrials
import optuna
time.sleep(max(0, float(sys.argv[1]) - time.time()))
kept = KeptTrials(open_storage("sqlite:///s.db"), "one", 1)
for number in range(3):
    kept.keep(optuna.trial.create_trial(value=1.0, params={}, distributions={}))
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def tracks():
    return conformance_tracks(("a", "b"), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_make_one_database_at_the_same_moment_all_go_on(tmp_path, count):
    moment = str(time.time() + 3)
    begun = [
        subprocess.Popen([sys.executable, "-c", OPENING, moment], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    errors = [process.communicate(timeout=120)[1] for process in begun]
    assert [process.returncode for process in begun] == [0] * count, errors
    assert {path.name for path in tmp_path.iterdir()} == {"s.db"}


@pytest.mark.slow
def test_a_database_that_another_program_locks_is_waited_for(tracks, tmp_path):
    file = tmp_path / "s.db"
    open_database(f"sqlite:///{file}", writing=True)
    other = sqlite3.connect(file, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(1.0, other.rollback)
    timer.start()
    kept = Search(trials=1, sampler="random", storage=f"sqlite:///{file}").fit(tracks)
    timer.join()
    other.close()
    assert np.array_equal(kept.weights_.matrix, Search(trials=1, sampler="random").fit(tracks).weights_.matrix)


def test_one_that_stays_locked_is_one_line():
    def locked():
        raise sqlite3.OperationalError("database is locked")

    with pytest.raises(FusionError, match=r"s\.db: locked by another program for . s; end that program"):
        patiently(locked, "s.db", patience_s=0.05)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello\n", "damaged, or no SQLite database"),
        (b"\x89PNG\r\n\x1a\n" + bytes(5000), "damaged, or no SQLite database"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "damaged, or no database of Optuna"),
    ],
)
def test_what_is_no_database_is_refused_and_stays(tracks, tmp_path, content, words):
    file = tmp_path / "s.db"
    file.write_bytes(content)
    with pytest.raises(FusionError, match=words):
        Search(trials=2, storage=f"sqlite:///{file}").fit(tracks)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("sqlite:////no/such/x.db", "the folder /no/such is missing"),
        ("nosuchthing://host/name", "no search can be kept there"),
        ("mysql+pymysql://me:secret@127.0.0.1:1/name", "missing|no search can be kept"),
    ],
)
def test_what_cannot_be_reached_is_one_line_without_its_password(address, words):
    with pytest.raises(FusionError, match=words) as caught:
        open_database(address, writing=True)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert shown_address(address) in str(caught.value) or address.startswith("sqlite")


def test_a_missing_database_is_not_made_by_looking_at_it(tmp_path):
    with pytest.raises(FusionError, match="no such file; the search was kept elsewhere"):
        open_studies(f"sqlite:///{tmp_path}/s.db", {"drums": "x"})
    assert not list(tmp_path.iterdir())
