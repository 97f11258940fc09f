"""A run of every kind of fusion on two songs of a second, and all that it finds: what must not differ by a bit."""

import contextlib
import csv
import hashlib
import re

from makers.audio import noise32, write_track
from stemfuse.analysis import GramError, GramStatistics
from stemfuse.experiments import Run


def write_songs(folder):
    """Two songs of a second of noise, one to fit on and one to test on."""
    for seed, subset in enumerate(("train", "test")):
        audio = noise32(4, 2, 44_100, seed=seed)
        write_track(folder / subset / f"song {seed}", audio, subtype="FLOAT")


def recipe(folder):
    return {
        "out": "run",
        "store": "store",
        "data": [{"path": str(folder / "songs"), "label": "songs", "real": False}],
        "separators": ["centre_channel", "harmonic_percussive"],
        "fit": {"train": ["train"], "valid": []},
        "fusions": [
            "mean",
            # two objectives have one figure for each source, one has three
            {"name": "search", "options": {"trials": 40, "objectives": ["SDR", "ISR"]}},
            {"name": "gram_mixer", "options": {"epochs": 60}},
        ],
        "estimates": True,
        "players": {"tracks": 1, "duration_s": 1},
        "workers": 2,
    }


TIMED = [r"(record|checksums|stems|\.fused)\.json$", r"config\.yaml$", r"\.html$", r"\.journal$", r"\.log$"]
TIMED += [
    r"\.packs/.*\.json$",
    r"history\.csv$",
    r"training\.safetensors$",
    r"training.*\.(png|svg)$",
    r"\.contents/",
    r"\.parts/.*\.json$",
    # notes of the store that spare searching, and what is put aside
    r"\.places/",
    r"\.damaged$",
]
"""Files that hold times, or are there only where something was searched or damaged."""


def digests(folder, left_out=()):
    """Digest of every file below a folder, but for some."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(re.search(pattern, name) for pattern in left_out):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def statistics(store):
    """Moments of every track in a store; a damaged file that nothing needs any more may lie there."""
    found = set()
    for path in store.glob(".gram/*/*/*.npz"):
        with contextlib.suppress(GramError):
            found.add((path.parent.name, hashlib.sha256(GramStatistics.load(path).moments.tobytes()).hexdigest()))
    return found


def rows_of(path):
    """The rows of a table, but for the seconds that they took."""
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def results(place):
    """All that a run has found: its files but for times, tables, histories, and what is on record."""
    run = Run.open(place / "run")
    record = run.record()
    return {
        "files": digests(run.path, TIMED),
        "tables": re.findall("<table.*?</table>", run.report_path.read_text("utf-8"), re.DOTALL),
        "history": rows_of(run.path / "fusions" / "gram_mixer-history.csv"),
        "fusions": {label: part.model_dump(exclude={"seconds", "digest"}) for label, part in record.fusions.items()},
        "tracks": [track.model_dump(exclude={"stems"}) for track in record.tracks],
        "store": digests(place / "store", TIMED),
        "statistics": statistics(place / "store"),
    }
