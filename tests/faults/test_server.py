"""The server of reports over real sockets: this machine's own pages, visible files, ranges, bounds."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from stemfuse.experiments import RunError
from stemfuse.experiments.report import server as serving

AUDIO = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "run"
    (folder / "report/audio").mkdir(parents=True)
    (folder / "report/index.html").write_text("<p>the report</p>")
    (folder / "report/audio/a.wav").write_bytes(AUDIO)
    (folder / "report/audio/häßlich 100%.wav").write_bytes(b"audio")
    (folder / "scores.csv").write_text("scores")
    (folder / ".parts").mkdir()
    (folder / ".parts/part.csv").write_text("secret")
    (folder / ".lock").write_text("secret")
    (folder.parent / "outside.txt").write_text("secret")
    (folder.parent / "run2").mkdir()
    (folder.parent / "run2/outside.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "outside.txt")
    (folder / "link").symlink_to(folder.parent)
    (folder / "hidden.csv").symlink_to(folder / ".parts/part.csv")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture(scope="module")
def port(folder):
    ready, ports = threading.Event(), []

    def show(port):
        ports.append(port)
        ready.set()

    threading.Thread(target=serving.serve_folder, args=(folder, 0, show), daemon=True).start()
    assert ready.wait(20)
    return ports[0]


def ask(port, path, method="GET", timeout=10, **headers):
    """One request as it is written; status, headers and body."""
    sent = {"Host": f"127.0.0.1:{port}", "Connection": "close"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in sent.items() if text is not None)]
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in rest}, body


def test_the_report_and_its_files_are_served(port):
    status, headers, body = ask(port, "/report/")
    assert (status, body) == (200, b"<p>the report</p>")
    assert headers["content-type"].startswith("text/html")
    assert headers["x-content-type-options"] == "nosniff"
    assert ask(port, "/")[1]["location"].endswith("/report/")
    assert ask(port, "/report")[1]["location"].endswith("/report/")
    assert ask(port, "/report/audio/h%C3%A4%C3%9Flich%20100%25.wav")[2] == b"audio"
    status, headers, body = ask(port, "/report/audio/a.wav", "HEAD")
    assert (status, int(headers["content-length"]), body) == (200, len(AUDIO), b"")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("bytes=0-99", AUDIO[:100]), ("bytes=1000000-", AUDIO[1_000_000:]), ("bytes=-7", AUDIO[-7:])],
)
def test_players_seek(port, wanted, expected):
    status, headers, body = ask(port, "/report/audio/a.wav", Range=wanted)
    assert (status, body) == (206, expected)
    assert headers["content-range"].endswith(f"/{len(AUDIO)}")
    assert headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    "wanted", ["bytes=9999999-", "bytes=a-b", "bytes=-", "bytes=5-2", "lines=1-2", "bytes=" + "0-," * 999]
)
def test_ranges_that_make_no_sense(port, wanted):
    assert ask(port, "/report/audio/a.wav", Range=wanted)[0] in (200, 400, 416)


@pytest.mark.parametrize(
    "path",
    [
        "/.lock", "/.parts/part.csv", "/.parts/", "/report/../.lock", "/%2elock", "/report/%2e%2e/.lock",
        "/../outside.txt", "/..%2foutside.txt", "/%2e%2e/outside.txt", "//etc/passwd", "/%2fetc/passwd",
        "/..%5coutside.txt", "/../run2/outside.txt", "/link.txt", "/link/outside.txt", "/link/run/.lock",
        "/hidden.csv", "/pipe",
        "/report/audio/", "/report/audio", "/missing", "/%00", "/a%00b", "/" + "a" * 3000, "/" + "a/" * 2000,
        "/report/index.html/x", "/%ff%fe", "/scores.csv/../.lock",
    ],
)  # fmt: skip
def test_nothing_else_is_there(port, path):
    status, _, body = ask(port, path)
    assert 400 <= status < 500, body
    assert b"secret" not in body
    assert b"a.wav" not in body


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": None},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    ],
)
def test_pages_of_other_sites_are_refused(port, headers):
    filled = {name: text and text.format(port=port) for name, text in headers.items()}
    status, _, body = ask(port, "/report/", **filled)
    assert status in (400, 403)
    assert b"the report" not in body


def test_own_pages_are_answered(port):
    for headers in (
        {"Origin": f"http://127.0.0.1:{port}"},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
        {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ):
        assert ask(port, "/report/", **headers)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_nothing_can_be_written(port, method):
    assert 400 <= ask(port, "/report/", method)[0] < 500


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00" * 9 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 99_999,
    ],
)
def test_what_is_no_http_is_refused_and_the_server_lives(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionError):
            assert b" 200 " not in connection.recv(4096)
    assert ask(port, "/report/")[0] == 200


def test_only_this_machine_is_answered(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no other address")
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("no other address")
    with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):  # noqa: PT011
        pass


def closed_within(connection, seconds):
    connection.settimeout(seconds)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.slow
def test_slow_requests_and_idle_connections_are_closed(folder, monkeypatch):
    monkeypatch.setattr(serving, "REQUEST_S", 1.0)
    monkeypatch.setattr(serving, "PROGRESS_S", 1.0)
    (folder / "long.wav").write_bytes(bytes(50_000_000))
    ready, ports = threading.Event(), []
    show = lambda port: (ports.append(port), ready.set())  # noqa: E731
    threading.Thread(target=serving.serve_folder, args=(folder, 0, show), daemon=True).start()
    assert ready.wait(20)
    port = ports[0]
    whole = f"GET /report/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    for sent in (b"", b"GET /report/ HTTP/1.1\r\nHost: ", whole):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent)
            assert closed_within(connection, 8), sent
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as drip, contextlib.suppress(ConnectionError):
        for byte in b"GET /report/ HTTP/1.1\r\nX: " + b"a" * 100:
            drip.sendall(bytes([byte]))
            time.sleep(0.2)
    assert time.monotonic() - began < 10
    with socket.create_connection(("127.0.0.1", port)) as stuck:
        stuck.sendall(whole.replace(b"/report/", b"/long.wav"))
        time.sleep(4)
        received = 0
        try:
            while data := stuck.recv(1 << 20):
                received += len(data)
        except ConnectionError:
            pass
        assert received < 50_000_000
    assert ask(port, "/report/")[0] == 200


def test_connections_are_bounded(port):
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(serving.CONNECTIONS + 40)]
    time.sleep(1)
    refused = 0
    for connection in opened:
        connection.settimeout(0.01)
        try:
            refused += connection.recv(1) == b""
        except TimeoutError:
            pass
        except ConnectionError:
            refused += 1
    for connection in opened:
        connection.close()
    assert 30 <= refused <= 40
    time.sleep(0.5)
    assert ask(port, "/report/")[0] == 200


def test_ports(port):
    with pytest.raises(RunError, match="--port"):
        serving.serve_folder(".", port, print)
    with pytest.raises(RunError, match="--port"):
        serving.serve_folder(".", 99_999, print)
    command = [sys.executable, "-m", "stemfuse", "serve", "run", "--port", "99999"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
