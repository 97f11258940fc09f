"""A damaged run folder without checksums: the report says in one line what is wrong, and touches nothing outside."""

import contextlib
import json
import shutil

import numpy as np
import pytest

from makers.commands import command
from stemfuse.experiments import RunError, parse_config, run
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.lock import run_lock
from stemfuse.experiments.record import FusionRecord, RunRecord
from stemfuse.experiments.report import read_players
from stemfuse.experiments.report.fusions import bound_tables
from stemfuse.experiments.run import Run
from stemfuse.separators import AudioError, Stems, StemStore, Track
from stemfuse.separators.store.entry import sealed

PLAYERS = "report/audio/players.json"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    synthesize(place / "band", 1, 1.0, 3, subset="test")
    recipe = {"out": "run", "store": "store", "data": ["band"], "separators": ["centre_channel", "harmonic_percussive"]}
    recipe = {**recipe, "fusions": ["mean"], "workers": 1, "bounds": {"bands_hz": None}}
    paths = {"out": str(place / "run"), "store": str(place / "store"), "data": [str(place / "band")]}
    run(parse_config({**recipe, **paths, "players": {"tracks": 1, "duration_s": 1}}))
    return place / "run"


@pytest.fixture
def folder(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "run")
    (copy / "checksums.json").unlink()
    return copy


ENTRY = {"track": "x", "start_s": 0, "duration_s": 1, "song_s": 1, "gain_db": 0, "files": []}
FILE = {"kind": "method", "method": "mean", "source": "bass", "path": "audio/x.wav", "waveform": ""}
LISTS = [
    {"tracks": [1]},
    {"tracks": [{"track": "x"}]},
    {"tracks": 5},
    {"songs": []},
    [],
    {"tracks": [ENTRY | {"duration_s": float("inf")}]},
    {"tracks": [ENTRY | {"files": [5]}]},
    {"tracks": [ENTRY | {"files": [FILE | {"path": "../../outside.wav"}]}]},
    {"tracks": [ENTRY | {"files": [FILE | {"path": "/outside.wav"}]}]},
    {"tracks": [ENTRY | {"files": [FILE | {"waveform": None}]}]},
]


@pytest.mark.parametrize("content", LISTS, ids=lambda content: json.dumps(content)[:40])
def test_lists_of_players_are_checked_when_they_are_read(tmp_path, content):
    path = tmp_path / PLAYERS
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    with pytest.raises(AudioError, match=r"players\.json: damaged \(") as found:
        read_players(tmp_path)
    assert "\n" not in str(found.value)
    path.write_text(json.dumps({"tracks": [ENTRY | {"files": [FILE]}]}))
    assert read_players(tmp_path)[0]["files"] == [FILE]


TABLES = [
    b"garbage",
    b"\xff\xfe",
    b"",
    b"data,bound,source,sdr_db,weights\n",
    b"data,bound\na,b\n",
    b"data,bound,source,sdr_db,weights\na,b,bass,1,\na,b,bass,2,\n",
    b'data,bound,source,sdr_db,weights\na,b,mean,1,x\n"',
    b"a,b\n1,2,3\n1,2,3,4\n",
]


@pytest.mark.parametrize("content", TABLES)
@pytest.mark.parametrize("name", ["bounds.csv", "leave_one_out.csv"])
def test_tables_of_bounds_are_checked_when_they_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    # the columns of bounds are not those of what separators are worth
    is_empty = content.endswith(b"weights\n") and name == "bounds.csv"
    with contextlib.nullcontext() if is_empty else pytest.raises(RunError) as found:
        assert bound_tables(Run(tmp_path)) == {}
    assert is_empty or any(f"{name}: {words}" in str(found.value) for words in ("damaged (", "got the columns"))
    assert is_empty or "\n" not in str(found.value)


@pytest.mark.parametrize("file", ["/etc/hostname", "../outside.npz", "fusions/../../outside", "a\0b"])
@pytest.mark.parametrize("field", ["file", "history", "journal", "files", "folds", "songs"])
def test_records_name_only_files_of_their_run(tmp_path, file, field):
    values = {"files": [file], "folds": [file], "songs": {"song": {"file": file}}}
    fusion = {"kind": "mean", field: values.get(field, file)}
    (tmp_path / "record.json").write_text(json.dumps({"fusions": {"mean": fusion}}))
    with pytest.raises(RunError, match=r"no record of a run|damaged"):
        RunRecord.read(tmp_path / "record.json")
    record = RunRecord(fusions={"mean": FusionRecord(kind="mean", file="fusions/mean..npz", folds=[])})
    (tmp_path / "record.json").write_text(record.to_json())
    assert RunRecord.read(tmp_path / "record.json") == record


def damage(folder, kind):
    if kind == "players":
        (folder / PLAYERS).write_text('{"tracks": [1]}')
    elif kind == "bounds":
        (folder / "bounds.csv").write_text("garbage")
    elif kind == "worth":
        (folder / "leave_one_out.csv").write_bytes(b"\xff\xfe")
    elif kind == "scores":
        (folder / "scores.parquet").write_bytes(b"PAR1garbagePAR1")
    elif kind == "weights":
        (folder / "fusions" / "mean.npz").write_bytes(b"PK\x03\x04")
    elif kind == "recipe":
        (folder / "config.yaml").write_bytes(b"\xff[")
    else:
        record = json.loads((folder / "record.json").read_text())
        del record["seal"]
        if kind == "endless":
            record["tracks"][0]["duration_s"] = float("inf")
        else:
            record["fusions"]["mean"]["kind"] = "nothing"
        (folder / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize("kind", ["players", "bounds", "worth", "scores", "weights", "recipe", "endless", "kind"])
def test_a_report_on_a_damaged_run_ends_in_one_line(folder, kind):
    damage(folder, kind)
    done = command("report", "run", cwd=folder.parent)
    assert done.returncode in (0, 1), done.stderr
    assert "unforeseen" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", ['{"tracks": [1]}', '{"tracks": [{"track": "x"}]}', "\x00"])
def test_a_run_writes_players_anew_where_their_list_is_damaged(folder, finished, content):
    (folder / PLAYERS).write_text(content)
    recipe = (folder / "config.yaml").read_text().replace(str(finished), str(folder))
    (folder.parent / "r.yaml").write_text(recipe)
    done = command("run", "r.yaml", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "players.json:damaged" in "".join(done.stderr.split())
    assert [entry["track"] for entry in read_players(folder)] == [entry["track"] for entry in read_players(finished)]


def test_a_report_does_not_write_into_a_run_at_work(folder):
    page = (folder / "report" / "index.html").stat().st_mtime_ns
    with run_lock(folder):
        done = command("report", "run", cwd=folder.parent)
    assert done.returncode == 1
    assert "is in use by process" in done.stderr
    assert "out=" not in done.stderr
    assert (folder / "report" / "index.html").stat().st_mtime_ns == page
    assert command("report", "run", cwd=folder.parent).returncode == 0
    assert not (folder / ".lock").exists()


CHANGES = [
    {"data": ".."},
    {"data": "/tmp"},
    {"data": "a\x1b[2J"},
    {"data": "a" * 300},
    {"key": "../../evil"},
    {"key": 5},
    {"separator": {"name": 5}},
    {"separator": {}},
    {"track": "../x"},
    {"subset": ""},
    {"sources": []},
    {"schema": 10**18},
    {"files": {"../x": {"name": "../x.wav", "bytes": 1, "sha256": ""}}, "sources": ["../x"]},
]


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_stores_with_hostile_records_end_in_one_line(tmp_path, change, older):
    store = StemStore(tmp_path / "store")
    store.put(Track.from_arrays("song", np.ones((2, 100))), "k-12345678", Stems(np.ones((4, 2, 100))))
    entry = tmp_path / "store" / "songs" / "k-12345678" / "test" / "song"
    if older:
        (tmp_path / "store" / "songs" / "k-12345678").rename(tmp_path / "store" / "k-12345678")
        entry = tmp_path / "store" / "k-12345678" / "test" / "song"
    record = json.loads((entry / "stems.json").read_text()) | change
    (entry / "stems.json").write_text(sealed(record | ({"schema": 1} if older else {}) | change))
    before = {path for path in tmp_path.rglob("*") if "store" not in path.relative_to(tmp_path).parts}
    for arguments in (("store", "verify", "store"), ("store", "move", "store"), ("store", "verify", "store")):
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr
        assert "unforeseen" not in done.stderr
        assert (done.stdout + done.stderr).replace("\n", "").isprintable()
    assert {path for path in tmp_path.rglob("*") if "store" not in path.relative_to(tmp_path).parts} == before
