"""Songs and runs for the mixing desk, a server for them, and requests as they are written."""

import contextlib
import socket
import threading

import numpy as np
import soundfile

from stemfuse.blending import MixingWeights
from stemfuse.experiments import Run, parse_config
from stemfuse.experiments.cli import app
from stemfuse.experiments.desk import DeskSong, desk_routes
from stemfuse.experiments.desk.blends import Blend, separator_blends
from stemfuse.experiments.desk.song import song_labels
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.report import server as serving
from stemfuse.experiments.stages import fit, separate
from stemfuse.experiments.workers import silent
from stemfuse.separators import SOURCES, Stems, Track

HOSTILE = "<img src=x onerror=alert(1)>"
RATE = 16_000


def noisy_song(seed=0, seconds=6, rate=RATE):
    """References, and stems of two poor separators, whose levels change from second to second."""
    chance = np.random.default_rng(seed)
    level = np.repeat(10 ** chance.uniform(-1, 0, (4, 1, seconds)), rate, axis=2)
    references = (0.2 * level * chance.normal(0, 1, (4, 2, seconds * rate))).astype(np.float32)
    stems = {
        "a": references + 0.02 * chance.normal(0, 1, references.shape) + 0.05 * references.sum(0),
        "b": 0.8 * references + 0.03 * chance.normal(0, 1, references.shape),
    }
    return references, {name: audio.astype(np.float32) for name, audio in stems.items()}


def desk_song(name=HOSTILE, references=True, seconds=6):
    """A song with a blend of every kind: both separators, a full matrix, and one that changes every second."""
    audio, stems = noisy_song(seconds=seconds)
    track = Track.from_arrays(name, audio.sum(0), audio if references else None, stems, rate=RATE)
    inputs, outputs = song_labels(track)
    chance = np.random.default_rng(7)
    own = MixingWeights.same_source({source: {"a": 0.4, "b": 0.55} for source in SOURCES}).to_frame()
    matrix = np.zeros((1, len(outputs), len(inputs)), np.float32)
    for row in own.itertuples():
        matrix[0, outputs.index(row.output), inputs.index(row.input)] = row.weight
    full = matrix + chance.normal(0, 0.03, matrix.shape)
    varying = matrix + chance.normal(0, 0.1, (seconds, *matrix.shape[1:]))
    late = 0.9 * np.arange(seconds)
    blends = [
        *separator_blends(track, inputs, outputs),
        Blend("equal", "fusion", "fixed", MixingWeights(matrix, inputs, outputs)),
        Blend("full", "fusion", "least_squares", MixingWeights(full, inputs, outputs)),
        Blend("varying", "fusion", "gram_mixer", MixingWeights(varying, inputs, outputs, np.arange(seconds))),
        Blend("overlapping", "fusion", "mlp_mixer", MixingWeights(varying, inputs, outputs, late, 1.8)),
    ]
    heard = {} if not references else {"median": Stems(0.5 * (stems["a"] + stems["b"]), SOURCES, RATE)}
    return DeskSong(track, name, "band", blends, {"wiener": f"not fitted {HOSTILE}"}, heard)


def desk_run(root):
    """A run with two songs to test, one of them hostile by name, whose stems were adopted; its folder."""
    from typer.testing import CliRunner

    for number, (subset, name) in enumerate((("train", "one"), ("test", HOSTILE), ("test", "two"))):
        references, stems = noisy_song(number)
        for folder, audio in (("songs", references), *stems.items()):
            place = root / folder / subset / name
            place.mkdir(parents=True)
            for source, samples in zip(SOURCES, audio, strict=True):
                soundfile.write(place / f"{source}.wav", samples.T, RATE, subtype="FLOAT")
            if folder == "songs":
                soundfile.write(place / "mixture.wav", audio.sum(0).T, RATE, subtype="FLOAT")
    for name in "ab":
        given = [str(root / name), "--as", name, "--data", str(root / "songs"), "--store", str(root / "store")]
        adopted = CliRunner().invoke(app, ["adopt", *given], catch_exceptions=False)
        assert adopted.exit_code == 0, adopted.output
    config = parse_config(
        {
            "out": str(root / "run"),
            "store": str(root / "store"),
            "data": [{"path": str(root / "songs"), "label": "songs"}],
            "separators": [{"name": name, "stored": True} for name in "ab"],
            "fusions": ["mean", {"name": "least_squares", "options": {"stems": "all", "mixture": True}}, "wiener"],
            "workers": 1,
        }
    )
    plan, run = plan_run(config), Run(root / "run")
    run.write_config(config)
    for stage in (separate, fit):
        stage(plan, run, silent)
    return run.path


def serve(run_folder):
    """Serve a run with its desk from a thread; the port."""
    ready, ports = threading.Event(), []

    def show(port):
        ports.append(port)
        ready.set()

    arguments = (run_folder, 0, show, desk_routes(run_folder))
    threading.Thread(target=serving.serve_folder, args=arguments, daemon=True).start()
    assert ready.wait(60)
    return ports[0]


def ask(port, path, method="GET", body=(), **headers):
    """One request as it is written, its body in parts; status, headers and body of the answer."""
    sent = {"Host": f"127.0.0.1:{port}", "Connection": "close"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in sent.items() if text is not None)]
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        # the server may have refused and gone before all is sent
        with contextlib.suppress(ConnectionError):
            for part in body:
                connection.sendall(part)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(1 << 16):
                received += data
    head, _, content = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    found = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in rest}
    return int(first.split()[1]) if first else 0, found, content
