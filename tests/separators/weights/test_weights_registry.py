"""Weights: which files lie on this machine, and how a file is recognised and filed."""

import hashlib
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from makers.commands import command, process
from makers.places import DATA
from makers.weights import files_in, row_of, small_tfc_tdf, small_xumx
from stemfuse.separators import (
    BaseSeparator,
    MissingWeightsError,
    SeparatorError,
    list_separators,
    load_separator,
    separator_class,
)
from stemfuse.separators.separator import REGISTRY
from stemfuse.separators.weights import (
    WeightFile,
    digests,
    download,
    find_weights,
    placing,
)
from stemfuse.separators.weights.digests import remembered_digests
from stemfuse.separators.weights.filing import add_weights
from stemfuse.separators.weights.inventory import find_stored, separator_files
from stemfuse.separators.weights.published import known_files, published_files
from stemfuse.separators.weights.tensors import save_state

TOP1 = DATA / "cac_tdc_17_vocals_top1.pt"
needs_data = pytest.mark.skipif(not TOP1.exists(), reason="needs the real weights beside the repository")


def states(name):
    return [[(file.name, file.state) for file in files] for files in separator_files(separator_class(name))]


# nobody answers there: nothing is ever downloaded
NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}


def test_every_published_file_has_a_place_where_its_separator_looks():
    looked_for = {
        (file.separator, file.name)
        for name in list_separators()
        for files in separator_files(separator_class(name))
        for file in files
    }
    ours = [row for row in published_files() if row.system != "demucs"]
    assert {(separator, row.place) for row in ours for separator in row.separators} == {
        place for place in looked_for if place[0] != "demucs"
    }


def test_addresses_are_whole_and_of_the_place_that_is_named():
    for row in known_files():
        address = urlsplit(row.url)
        if row.url:
            assert address.scheme == "https"
            assert row.origin.startswith(address.netloc)
            assert Path(address.path).name == row.name or Path(address.path).name in row.origin
    assert {row.system for row in known_files() if row.url} >= {"kuielab_mdx_a", "xumx", "resunet143_subband", "demucs"}


@needs_data
def test_real_files_are_recognised_whatever_they_are_called_and_found_by_their_separators(own, tmp_path):
    disguised = tmp_path / "some model.bin"
    shutil.copyfile(TOP1, disguised)
    (filed,) = add_weights(disguised)
    assert (filed.path, filed.is_new) == (own / "ismir2020" / TOP1.name, True)
    assert filed.path.read_bytes() == TOP1.read_bytes()
    assert load_separator("ismir2020").weights_sha256() == {TOP1.name: filed.published.sha256}
    mixers = add_weights(DATA / "kuielab_mixer.ckpt")
    assert [place.path.parent.name for place in mixers] == ["kuielab_mdx", "kuielab_mdx_demucs"]
    # the second time nothing is done
    assert not any(place.is_new for place in (*add_weights(TOP1), *add_weights(DATA / "kuielab_mixer.ckpt")))
    assert len(files_in(own)) == 3
    assert disguised.exists()


@needs_data
def test_listing_says_what_is_verified_damaged_and_missing(own):
    assert ("cac_tdc_17_vocals_top1.pt", "missing") in states("ismir2020")[0]
    add_weights(DATA)
    assert dict(states("ismir2020")[0])["cac_tdc_17_vocals_top1.pt"] == "verified"
    assert states("kuielab_mdx")[-1] == [("mixer.ckpt", "verified")]
    (own / "kuielab_mdx" / "bass.onnx").write_bytes(b"half of it")
    (own / "kuielab_mdx" / "drums.safetensors").write_bytes(b"mine")
    named = {file: state for files in states("kuielab_mdx") for file, state in files}
    assert named["bass.onnx"] == "damaged"
    assert (named["drums.safetensors"], named["drums.onnx"], named["vocals.onnx"]) == ("own", "missing", "missing")
    result = command("list", "separators", "--json")
    assert result.returncode == 0, result.stderr
    listed = json.loads(result.stdout)
    assert listed["repet_sim"]["weights"] == []
    assert {"file": "bass.onnx", "state": "damaged", "path": str(own / "kuielab_mdx" / "bass.onnx")} in listed[
        "kuielab_mdx"
    ]["weights"]
    text = " ".join(command("list", "separators").stdout.split())
    assert "bass.onnx damaged; drums.safetensors own; mixer.ckpt verified; missing other.onnx, vocals.onnx." in text


@pytest.mark.slow
def test_listing_imports_no_torch(own):
    program = "import sys; from stemfuse.experiments.cli import app; app(sys.argv[1:], standalone_mode=False)"
    for arguments in (["list", "separators"], ["weights", "list"]):
        checked = f"{program}; sys.exit('torch' in sys.modules)"
        result = subprocess.run(
            [sys.executable, "-c", checked, *arguments], capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stderr) == (0, "")
    assert not own.exists(), "a listing makes no folder"


def test_digests_are_remembered_until_a_file_changes(own, monkeypatch):
    folder = own / "xumx"
    folder.mkdir(parents=True)
    row = next(row for row in published_files() if row.name == "xumx_pretrained.pth")
    path = folder / row.name
    path.write_bytes(b"\0" * row.bytes)
    read = []
    digest_of = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path, kind: read.append(path) or digest_of(path, kind))
    for _ in range(2):
        with remembered_digests() as digest:
            assert find_stored("xumx", row.name, digest).state == "damaged"
    assert read == [path]
    path.write_bytes(b"\1" * row.bytes)
    with remembered_digests() as digest:
        find_stored("xumx", row.name, digest)
    assert read == [path, path]
    (own / ".digests.json").write_text("[torn")
    with remembered_digests() as digest:
        assert find_stored("xumx", row.name, digest).state == "damaged"


def test_a_file_of_unknown_digest_has_to_load(own, tmp_path):
    """``xumx_mwf.pth`` is known by its name only."""
    good, bad = tmp_path / "good" / "xumx_mwf.pth", tmp_path / "bad" / "xumx_mwf.pth"
    for path in (good, bad):
        path.parent.mkdir()
    torch.save({"conv.weight": torch.zeros(2)}, bad)
    with pytest.raises(SeparatorError, match=r"no X-UMX"):
        add_weights(bad)
    assert files_in(own) == []
    torch.save(small_xumx().state_dict(), good)
    filed = add_weights(good)
    # the network alone, and the whole system
    assert [place.path for place in filed] == [own / name / "xumx_mwf.pth" for name in ("xumx", "danna_sep")]
    assert states("xumx")[0][0] == ("xumx_mwf.pth", "present")


def test_unknown_and_damaged_files_are_refused(own, tmp_path):
    unknown = tmp_path / "model.bin"
    unknown.write_bytes(b"hello")
    digest = hashlib.sha256(b"hello").hexdigest()
    with pytest.raises(SeparatorError, match=rf"model.bin: 5 bytes with sha256 {digest} .* kuielab_mdx_a, .* --as"):
        add_weights(unknown)
    damaged = tmp_path / "vocals.onnx"
    damaged.write_bytes(b"hello")
    with pytest.raises(SeparatorError, match=r"vocals.onnx: is not the published file .* expected daba83c2"):
        add_weights(damaged)
    with pytest.raises(MissingWeightsError, match="nowhere: is missing"):
        add_weights(tmp_path / "nowhere")
    with pytest.raises(SeparatorError, match="holds no published file"):
        add_weights(tmp_path / "stemfuse_weights")
    assert files_in(own) == []


def test_folders_and_archives_are_taken_whole(own, tmp_path, table):
    contents = {f"{source}.onnx": source.encode() * 99 for source in ("bass", "drums")}
    table(*(row_of(content, name, separators=["tfc_tdf_v2", "kuielab_mdx"]) for name, content in contents.items()))
    archive = tmp_path / "onnx.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("../readme.txt", "notes")
        for name, data in contents.items():
            content.writestr(f"onnx/{name}", data)
    filed = add_weights(archive)
    expected = [f"{separator}/{name}" for separator in ("kuielab_mdx", "tfc_tdf_v2") for name in contents]
    assert files_in(own) == expected
    assert len(filed) == 4
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(archive).extractall(unpacked)
    assert not any(place.is_new for place in add_weights(unpacked))
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(SeparatorError, match="is no archive or a damaged one"):
        add_weights(archive)


def test_another_file_in_the_place_is_never_replaced(own, tmp_path, table):
    a, b = b"first edition", b"second edition"
    places = ["tfc_tdf_v2", "kuielab_mdx"]
    table(row_of(a, "bass.onnx", "a", separators=places), row_of(b, "bass.onnx", "b", separators=places))
    for name, content in {"a.onnx": a, "b.onnx": b}.items():
        (tmp_path / name).write_bytes(content)
    add_weights(tmp_path / "a.onnx", "kuielab_mdx")
    assert files_in(own) == ["kuielab_mdx/bass.onnx"]
    with pytest.raises(SeparatorError, match=r"kuielab_mdx/bass.onnx: another file is there"):
        add_weights(tmp_path / "b.onnx")
    assert files_in(own) == ["kuielab_mdx/bass.onnx"]
    assert (own / "kuielab_mdx" / "bass.onnx").read_bytes() == a
    with pytest.raises(SeparatorError, match=r"is a file of b for tfc_tdf_v2, kuielab_mdx, not for xumx"):
        add_weights(tmp_path / "b.onnx", "xumx")


def test_file_systems_without_links_get_copies(own, tmp_path, table, monkeypatch):
    table(row_of(b"weights", "bass.onnx", separators=["tfc_tdf_v2", "kuielab_mdx"]))
    (tmp_path / "bass.onnx").write_bytes(b"weights")

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(placing.os, "link", refuse)
    assert [place.path.read_bytes() for place in add_weights(tmp_path / "bass.onnx")] == [b"weights"] * 2


@needs_data
def test_a_full_disk_leaves_nothing(own):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(SeparatorError, match=r"cannot be written \(File too large\): free some space"):
            add_weights(TOP1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(own.rglob("*")) == []


@pytest.fixture
def song():
    return np.random.default_rng(0).normal(0, 0.1, (2, 20_000)).astype(np.float32)


def test_own_weights_are_loaded_once_and_kept_as_safetensors(own, tmp_path, song):
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": small_xumx().state_dict(), "epoch": 3}, path)
    expected = load_separator("xumx", weights=path).separate(song, 44_100).audio
    (filed,) = add_weights(path, "xumx")
    assert filed.path == own / "xumx" / "xumx.safetensors"
    assert filed.published is None
    assert np.array_equal(load_separator("xumx").separate(song, 44_100).audio, expected)
    with pytest.raises(SeparatorError, match=r"best.ckpt: no Demucs v2"):
        add_weights(path, "demucs_v2")
    assert files_in(own) == ["xumx/xumx.safetensors"]


@pytest.mark.parametrize(
    ("name", "notes", "given"),
    [("vocals", {}, ""), ("best", {"source": "vocals"}, ""), ("bass", {"source": "bass"}, "/vocals")],
)
def test_what_own_weights_separate_is_given_by_option_file_or_name(own, tmp_path, name, notes, given):
    save_state(small_tfc_tdf(), tmp_path / f"{name}.safetensors", n_fft=256, hop=64, frames=16, **notes)
    (filed,) = add_weights(tmp_path / f"{name}.safetensors", f"tfc_tdf_v2{given}")
    assert filed.path == own / "tfc_tdf_v2" / "vocals.safetensors"
    assert [("vocals.safetensors", "own"), ("vocals.onnx", "missing")] in states("tfc_tdf_v2")


class Gain(BaseSeparator):
    """A third party's separator with a small file of weights of its own form."""

    name = "gain"

    def __init__(self, weights=None):
        self.weights = weights

    def weight_files(self):
        return (WeightFile(("gain.json",)),)

    def weights_sha256(self):
        self.load()
        return {self.path.name: digests.verified_sha256(self.path)}

    @property
    def path(self):
        if self.weights is not None:
            return Path(self.weights)
        return find_weights(self.name, self.weight_files(), self.weight_folders(), "example.org")[0]

    def load(self):
        try:
            return float(json.loads(self.path.read_text())["gain"])
        except (ValueError, TypeError) as error:
            raise SeparatorError(f"{self.path}: no gain") from error

    def _separate(self, mixture):
        return np.stack([mixture * self.load()] * 4)


@pytest.fixture
def third_party(monkeypatch):
    """Makes `Gain` known by name."""
    monkeypatch.setitem(REGISTRY.built_in, "gain", f"{__name__}:Gain")


def test_weights_of_third_parties_are_listed_found_and_filed(own, tmp_path, third_party, song):
    assert states("gain") == [[("gain.json", "missing")]]
    with pytest.raises(MissingWeightsError, match=r"gain: .* put gain.json \(example.org\) into .*/gain "):
        load_separator("gain").fingerprint()
    with pytest.raises(SeparatorError, match="gain: needs no published weights"):
        download.find_rows("gain")
    (tmp_path / "bad.json").write_text("[]")
    (tmp_path / "best.json").write_text('{"gain": 0.25}')
    (tmp_path / "best.pt").write_bytes(b"tensors")
    for name, message in {
        "bad.json": "bad.json: no gain",
        "best.pt": r"best.pt: got a file .pt, expected .json",
    }.items():
        with pytest.raises(SeparatorError, match=message):
            add_weights(tmp_path / name, "gain")
    (filed,) = add_weights(tmp_path / "best.json", "gain")
    assert (filed.path, filed.is_new, filed.published) == (own / "gain" / "gain.json", True, None)
    assert states("gain") == [[("gain.json", "own")]]
    separator = load_separator("gain")
    assert np.array_equal(separator.separate(song, 44_100)["bass"].read(), song / 4)
    assert separator.describe()["weights"].keys() == {"gain.json"}
    assert files_in(own) == ["gain/gain.json"]


def test_published_weights_of_third_parties_are_filed_for_them(own, tmp_path, third_party, table):
    content = b'{"gain": 0.5}'
    table(row_of(content, "gain.json", "gain"))
    (tmp_path / "some.bin").write_bytes(content)
    assert states("gain") == [[("gain.json", "missing")]]
    (filed,) = add_weights(tmp_path / "some.bin")
    assert filed.path == own / "gain" / "gain.json"
    assert states("gain") == [[("gain.json", "verified")]]


def test_own_weights_need_a_separator_and_a_source(own, tmp_path):
    path = tmp_path / "best.pt"
    torch.save(small_xumx().state_dict(), path)
    for separator, message in {
        "tfc_tdf_v2": r"best.pt: name the source that it separates, --as tfc_tdf_v2/vocals",
        "xumx/vocals": r"xumx separates all: leave out /vocals",
        "kuielab_mdx": r"kuielab_mdx: takes no single file",
        "repet_sim": r"repet_sim: takes no single file",
        "centaur": r"separator 'centaur' is unknown",
    }.items():
        with pytest.raises(SeparatorError, match=message):
            add_weights(path, separator)
    assert files_in(own) == []


class Notes:
    """A class of a training program that an old checkpoint names."""


@pytest.mark.parametrize("archive", [True, False])
def test_classes_of_a_training_program_are_passed_over(own, tmp_path, table, song, archive):
    path = tmp_path / "old.ckpt"
    state = small_xumx().state_dict()
    torch.save({"state_dict": state, "notes": Notes()}, path, _use_new_zipfile_serialization=archive)
    table(row_of(path.read_bytes(), "old.ckpt", trained_on=["musdb18hq/train"]))
    (filed,) = add_weights(path, "xumx")
    separator = load_separator("xumx", weights=filed.path)
    torch.save(state, tmp_path / "plain.pt")
    expected = load_separator("xumx", weights=tmp_path / "plain.pt").separate(song, 44_100).audio
    assert np.array_equal(separator.separate(song, 44_100).audio, expected)


class Fuse:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_code_in_a_file_is_never_run(own, tmp_path):
    path, trace = tmp_path / "model.ckpt", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"state_dict": Fuse(trace)}, 2))
    for separator in ("", "xumx"):
        with pytest.raises(SeparatorError):
            add_weights(path, separator)
    path = path.rename(tmp_path / "xumx_mwf.pth")
    with pytest.raises(SeparatorError):
        add_weights(path)
    assert not trace.exists()


@pytest.mark.slow
@needs_data
def test_the_command_line_adds_lists_and_says_what_is_wrong(own):
    added = command("weights", "add", TOP1, "--json")
    assert added.returncode == 0, added.stderr
    (entry,) = json.loads(added.stdout)
    assert (entry["path"], entry["is_new"]) == (str(own / "ismir2020" / TOP1.name), True)
    assert entry["published"]["licence"] == "MIT"
    again = command("weights", "add", TOP1)
    assert (again.returncode, again.stdout.strip()) == (0, entry["path"])
    assert "was there already: ismir2020/cac_tdc_17_vocals_top1.pt" in again.stderr
    rows = json.loads(command("weights", "list", "--json").stdout)
    assert len(rows) == len(known_files())
    here = {f"{row['system']}/{row['name']}": row["here"] for row in rows}
    assert here[f"ismir2020/{TOP1.name}"] == {"ismir2020": "verified"}
    assert here["kuielab_mdx_a/mixer.ckpt"] == {"kuielab_mdx": "missing", "kuielab_mdx_demucs": "missing"}
    text = command("weights", "list", "ismir2020").stdout
    assert [word in text for word in (TOP1.name, "2.3 MB", "v 4.86", "verified", "MIT", "no direct address")] == [
        True
    ] * 6
    for arguments, message in {
        ("add", "nowhere"): "nowhere: is missing",
        ("get", "pretrained_xumx.pth"): "pretrained_xumx.pth: cannot be downloaded: there is no connection",
        ("list", "dragon"): "weights of 'dragon' are not known",
    }.items():
        # urllib keeps the proxies that it saw first: only a new process is sure to be offline
        get = arguments[0] == "get"
        refused = process("weights", *arguments, env=os.environ | NOWHERE) if get else command("weights", *arguments)
        assert (refused.returncode, refused.stdout) == (2 if arguments[0] == "list" else 1, "")
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
    assert files_in(own) == [".digests.json", f"ismir2020/{TOP1.name}"]


def test_two_processes_may_add_at_the_same_time(own, tmp_path, table):
    content = np.random.default_rng(0).bytes(1_000_000)
    table(row_of(content, "net.onnx"))
    (tmp_path / "net.onnx").write_bytes(content)
    filed = []

    def add():
        time.sleep(0.01)
        filed.extend(add_weights(tmp_path / "net.onnx"))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(filed) == 8
    assert sum(place.is_new for place in filed) == 1
    assert files_in(own) == ["xumx/net.onnx"]
