"""Small files that would take much time, memory or space are refused before they do."""

import os
import re
import struct
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from makers.archives import write_tape
from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.scores import read_scores
from stemfuse.separators import SeparatorError, demucs_files
from stemfuse.separators.audio.whole_files import HOST, PREFIX
from stemfuse.separators.foreign import tables
from stemfuse.separators.foreign.archives import open_archive, unpack_known
from stemfuse.separators.foreign.documents import parse_json
from stemfuse.separators.foreign.onnx_files import read_onnx
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.foreign.tables import read_table
from stemfuse.separators.weights.placing import workplace
from stemfuse.separators.weights.published import known_files
from stemfuse.separators.weights.tensors import read_state

PRIME = (1 << 61) - 1
"""Integers that differ by this have the same hash."""


def number(value):
    """The instruction that makes an integer."""
    content = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def torch_archive(path, instructions, **code):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", instructions)
        for name, text in code.items():
            archive.writestr(f"archive/code/__torch__/{name}.py", text)
    return path


KEYS = {
    "integers of one hash": [number(index * PRIME) for index in range(1, 20_000)],
    "negative integers of one hash": [number(-index * PRIME) for index in range(1, 20_000)],
    "tuples of integers of one hash": [number(index * PRIME) + b"\x85" for index in range(1, 20_000)],
    "long tuples": [b"(" + b"N" * 100_000 + b"tq\x00", *[b"h\x00"] * 20_000],
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_that_would_fill_a_dictionary_for_hours_are_refused(tmp_path, kind):
    path = torch_archive(tmp_path / "a.pt", b"\x80\x02}(" + b"N".join([*KEYS[kind], b"u."]))
    begun = time.monotonic()
    with pytest.raises(SeparatorError, match=r"a key is"):
        read_state(path)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("key", [3, -7, 2.5, 1e300, True, None, b"a", ("a", 1), (1, 2, "b")])
def test_keys_of_honest_files_are_read(tmp_path, key):
    torch.save({"state_dict": {"a": torch.ones(2)}, "notes": {key: 1, "b": 2}}, tmp_path / "a.pt")
    assert read_state(tmp_path / "a.pt")["a"].tolist() == [1, 1]


def script(path, count, text):
    """A TorchScript file of one module with many others in it."""
    parts = [b"\x80\x02c__torch__.m\nRoot\n)\x81}("]
    for index in range(count):
        name = b"k%d" % index
        parts.append(b"X" + struct.pack("<I", len(name)) + name + b"c__torch__.m\nC%d\n)\x81}b" % index)
    return torch_archive(path, b"".join([*parts, b"ub."]), m=text)


@pytest.mark.parametrize("count", [10, 1000, 20_000])
def test_scripts_of_many_modules_are_read_in_one_pass(tmp_path, count):
    text = "class Root(Module):\n" + "".join(f"class C{index}(Module):\n" for index in range(count)) + "  x" * 1_000_000
    path = script(tmp_path / "a.pt", count, text)
    begun = time.monotonic()
    with pytest.raises(SeparatorError, match=r"a\.pt: holds no named tensors"):
        read_state(path)
    assert time.monotonic() - begun < 3


def test_modules_that_hold_each_other_many_times_are_refused(tmp_path):
    layer = b"\x80\x02c__torch__.m\nC\n)\x81}bq\x00"
    for _ in range(30):
        layer += b"0c__torch__.m\nC\n)\x81}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ubq\x00"
    path = torch_archive(tmp_path / "a.pt", layer + b".", m="class C(Module):\n  x\n")
    with pytest.raises(SeparatorError, match="modules and values"):
        read_state(path)


def known_row():
    return next(row for row in known_files() if row.name == "cac_tdc_17_vocals_top1.pt")


@pytest.mark.parametrize("what", ["known", "passed over", "a header"])
def test_a_tape_that_unpacks_to_far_more_than_its_file_is_refused(tmp_path, what):
    path = tmp_path / "a.tar.gz"
    zeros = bytes(8 << 20)
    if what == "a header":
        entry = tarfile.TarInfo("known.pt")
        entry.pax_headers = {"comment": "0" * (8 << 20)}
        with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tape:
            tape.addfile(entry)
    else:
        write_tape(path, {"known.pt" if what == "known" else "other": zeros})
    with pytest.raises(ForeignFileError, match="is unpacked to more than 4 times its size"):
        unpack_known(path, {"known.pt": ()}, tmp_path)


@pytest.mark.parametrize("copies", [2, 5, 40])
def test_an_archive_gives_each_published_file_once(tmp_path, copies):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(copies):
            archive.writestr(f"{index}/known.pt", bytes(100_000))
    with pytest.raises(ForeignFileError, match="more often than it is published"):
        unpack_known(tmp_path / "a.zip", {"known.pt": [100_000, 5]}, tmp_path / "a")
    assert len(list((tmp_path / "a").rglob("*.pt"))) <= 1
    found = unpack_known(tmp_path / "a.zip", {"known.pt": [100_000] * copies}, tmp_path / "b")
    assert len(found) == copies


@pytest.mark.parametrize(
    ("length", "rows", "column"), [(200_000, 2000, "track"), (4000, 100_000, "fusion"), (900, 400_000, "a")]
)
def test_a_table_whose_text_is_far_longer_than_its_file_is_refused(tmp_path, length, rows, column):
    path = tmp_path / "a.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["a" * length]))
    parquet.write_table(pa.table({column: text.cast(pa.string()), "value": np.zeros(rows)}), path, compression="zstd")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ForeignFileError, match=f"has {length * rows} bytes of text"):
        read_table(path)
    with pytest.raises(ScoreError, match="bytes of text"):
        read_scores(path)


def test_a_table_that_unpacks_to_far_more_than_its_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"a": np.zeros(1_000_000)}), path, compression="zstd", use_dictionary=False)
    assert len(read_table(path)) == 1_000_000
    monkeypatch.setattr(tables, "FEWEST_TABLE_BYTES", 1 << 20)
    with pytest.raises(ForeignFileError, match="bytes unpacked"):
        read_table(path)


@pytest.mark.parametrize("error", [SeparatorError("holds no named tensors"), ScoreError("x"), ForeignFileError("y")])
def test_what_is_wrong_within_an_archive_is_said_as_it_is(tmp_path, error):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"")
    with pytest.raises(type(error), match=f"^{re.escape(str(error))}$"), open_archive(tmp_path / "a.zip"):
        raise error


def test_a_file_of_pytorch_without_tensors_is_no_damaged_archive(tmp_path):
    for content in ({}, {"a": 1}, [torch.ones(2)]):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(SeparatorError) as found:
            read_state(tmp_path / "a.pt")
        assert "damaged" not in str(found.value)
        assert str(found.value).startswith(f"{tmp_path / 'a.pt'}: holds no named tensors")


@pytest.mark.parametrize("arguments", [{"depth": 1_000_000}, {"t_layers": 100_000}, {"dconv_depth": 65.0}])
def test_networks_of_more_layers_than_any_has_are_not_made(tmp_path, arguments):
    demucs = pytest.importorskip("demucs.htdemucs")
    begun = time.monotonic()
    with pytest.raises(SeparatorError, match="expected at most 64"):
        demucs_files._check_size(tmp_path / "a.th", demucs.HTDemucs, [["a", "b"]], arguments, {})
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    "text", ["[" + "[]," * 5_000_000 + "0]", "[" + "[" * 40 + "0" + "]" * 40 + ",[]" * 1_200_000 + "]"]
)
def test_a_document_of_too_many_values_is_refused_before_it_is_read(monkeypatch, text):
    monkeypatch.setattr("json.loads", None)
    with pytest.raises(ForeignFileError, match="more than 1000000 values"):
        parse_json(text)


@pytest.mark.parametrize("text", [",[:{" * 300_000, '\\"' + "[]," * 400_000, "\\\\"])
def test_text_within_a_document_does_not_count_as_values(text):
    assert len(parse_json('["' + text.replace('\\"', '\\"') + '", 1]')) == 2


def onnx_files():
    """By name, models that keep values elsewhere or claim more of them than they have."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    outside = make.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    outside.ClearField("float_data")
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../etc/passwd")
    huge = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1 << 40], float_data=[1.0])
    sparse = onnx.SparseTensorProto(dims=[1 << 40])

    def graph(tensors=(), nodes=(), **more):
        return make.make_graph(nodes, "g", [], [], list(tensors), **more)

    def constant(tensor):
        return make.make_node("Constant", [], ["y"], value=tensor)

    branch = make.make_node("If", ["x"], ["y"], then_branch=graph([outside]), else_branch=graph())
    deep = make.make_node("Loop", ["x"], ["y"], body=graph(nodes=[branch]))
    function = make.make_function("d", "f", [], ["y"], [constant(outside)], [make.make_opsetid("", 13)])
    training = make.make_model(graph())
    training.training_info.add().algorithm.initializer.append(outside)
    return {
        "initializer": make.make_model(graph([outside])),
        "constant": make.make_model(graph(nodes=[constant(outside)])),
        "branch": make.make_model(graph(nodes=[branch])),
        "branch in a loop": make.make_model(graph(nodes=[deep])),
        "function": make.make_model(graph(), functions=[function]),
        "training": training,
        "huge": make.make_model(graph([huge])),
        "sparse": make.make_model(graph(sparse_initializer=[sparse])),
        "sparse constant": make.make_model(graph(nodes=[make.make_node("C", [], ["y"], sparse_value=sparse)])),
    }


ONNX = ["initializer", "constant", "branch", "function", "training", "huge", "sparse"]


@pytest.mark.parametrize("name", [*ONNX, "branch in a loop", "sparse constant"])
def test_tensors_of_an_onnx_file_are_checked_wherever_they_are(tmp_path, name):
    (tmp_path / "a.onnx").write_bytes(onnx_files()[name].SerializeToString())
    with pytest.raises(ForeignFileError, match=r"in another file|sparse tensors|with 1 values"):
        read_onnx(tmp_path / "a.onnx")


def test_what_a_killed_command_left_in_the_weights_folder_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (ended.pid, 2**30, os.getpid()):
        (tmp_path / f"{PREFIX}{HOST}-{pid}-0a").mkdir()
    with workplace() as folder:
        assert folder.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}{HOST}-{os.getpid()}-0a"]
