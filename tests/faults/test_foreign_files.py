"""Files of others run nothing, take no more memory than they have bytes, and are read whole or refused in one line."""

import importlib
import io
import json
import random
import re
import shutil
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
import torch
from pyarrow import parquet
from safetensors.torch import save_file

import stemfuse
from makers.archives import write_tape
from makers.bundles import write_bundle
from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.museval_json import read_museval_json
from stemfuse.analysis.scores import read_scores
from stemfuse.blending import MixingWeights, load_fusion
from stemfuse.experiments import RunError
from stemfuse.experiments.record import RunRecord
from stemfuse.separators import AudioError, FileSignal, SeparatorError, StemfuseError, StoreError
from stemfuse.separators.foreign.archives import unpack_known
from stemfuse.separators.foreign.arrays import read_arrays
from stemfuse.separators.foreign.documents import parse_json, parse_yaml, read_json, read_yaml
from stemfuse.separators.foreign.table import FEWEST_ROWS, FORMATS, ForeignFileError
from stemfuse.separators.foreign.tables import read_table
from stemfuse.separators.foreign.tensor_bundles import read_tensor_bundle
from stemfuse.separators.store.entry import read_record
from stemfuse.separators.training.checkpoints import read_checkpoint, write_checkpoint
from stemfuse.separators.weights.filing import add_weights
from stemfuse.separators.weights.folder import read_notes
from stemfuse.separators.weights.tensors import read_state

pytestmark = pytest.mark.filterwarnings("ignore")
FLIPS = 100


class Part(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.constant = torch.ones(2)
        self.register_buffer("count", torch.arange(4))
        self.register_buffer("whole", torch.arange(6.0).view(2, 3).T)
        self.layers = torch.nn.ModuleList([torch.nn.Conv1d(2, 2, 3), torch.nn.GRU(2, 2)])

    def forward(self, x):
        return self.linear(x) + self.constant.sum()


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Part()
        self.norm = torch.nn.BatchNorm1d(3)
        self.lstm = torch.nn.LSTM(3, 4, 2, bidirectional=True)
        self.low = torch.nn.Linear(4, 4).half()
        self.again = self.part.linear

    def forward(self, x):
        return self.part(x)


class Evil(torch.nn.Module):
    """Its file writes to any file when TorchScript loads it."""

    def __init__(self):
        super().__init__()
        self.w = torch.zeros(2)
        self.training = True

    @torch.jit.export
    def __getstate__(self):
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        victim = torch.from_file("victim.txt", True, 4, dtype=torch.uint8)
        torch.save(victim, "created")
        self.w = victim
        self.training = state[1]

    def forward(self, x):
        return x


def same(got, expected):
    return got.keys() == expected.keys() and all(
        torch.equal(got[name], expected[name]) and got[name].dtype == expected[name].dtype for name in expected
    )


@pytest.mark.parametrize("made", [torch.jit.script, lambda network: torch.jit.trace(network, torch.zeros(1, 3))])
def test_scripts_give_their_state_without_being_loaded(tmp_path, monkeypatch, made):
    network = Network()
    path = tmp_path / "script.pt"
    torch.jit.save(made(network), path)
    expected = torch.jit.load(path).state_dict()
    monkeypatch.setattr(torch.jit, "load", None)
    assert same(read_state(path), expected)


def test_programs_in_scripts_are_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path / "weights"))
    torch.jit.save(torch.jit.script(Evil()), "evil.pt")
    Path("created").unlink(missing_ok=True)
    Path("victim.txt").write_text("mine")
    with pytest.raises(SeparatorError, match=r"__getstate__.*save its state_dict\(\) with torch\.save"):
        read_state(Path("evil.pt"))
    with pytest.raises(SeparatorError, match="__getstate__"):
        add_weights("evil.pt", "xumx")
    assert Path("victim.txt").read_text() == "mine"
    assert not Path("created").exists()


def test_every_form_of_torch_save_is_read(tmp_path):
    state = Network().state_dict()
    for archive in (True, False):
        for version in (2, 3, 4, 5):
            path = tmp_path / f"{archive}{version}.pt"
            content = {"state_dict": state, "notes": (1, -2.5, None, {3: {"set"}}, 1 << 70, b"bytes", Path("p"))}
            torch.save(content, path, _use_new_zipfile_serialization=archive, pickle_protocol=version)
            assert same(read_state(path), state)


def test_shared_and_other_byte_orders_are_read(tmp_path):
    whole = torch.arange(12.0)
    torch.save({"a": whole[2:8], "b": whole.view(3, 4).T}, tmp_path / "shared.pt")
    found = read_state(tmp_path / "shared.pt")
    assert torch.equal(found["a"], whole[2:8])
    assert torch.equal(found["b"], whole.view(3, 4).T)

    def swap(name, content):
        if name.endswith("byteorder"):
            return b"big"
        return content.reshape(-1, 4)[:, ::-1].tobytes() if "/data/" in name else content

    with zipfile.ZipFile(tmp_path / "shared.pt") as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, swap(name, np.frombuffer(content, np.uint8) if "/data/" in name else content))
    assert same(read_state(tmp_path / "big.pt"), found)


TENSOR = (
    b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQK\x00%s%s"
    b"\x89}tRs."
)
"""A dictionary of one tensor: number of values, size, stride."""

HOSTILE = {
    "memo of 4 G": b"\x80\x02Nr\xff\xff\xff\xff0" + b"j\xff\xff\xff\xff" * 3 + b"}.",
    "tuples as keys": b"\x80\x02}" + b")" + b"\x85" * 50_000 + b"Ns.",
    "tuples that double": b"\x80\x02})q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Ns.",
    "text of 4 G": b"\x80\x02}X\xff\xff\xff\xffaNs.",
    "bytes of 16 E": b"\x80\x04}\x8e" + b"\xff" * 8 + b".",
    "calls": b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00exittR.",
    "calls a value": b"\x80\x02K\x01)R.",
    "calls of long lists": b"\x80\x02]q\x00(" + b"K\x01" * 50_000 + b"e0" + b"cx\ny\nh\x00\x85R0" * 2000 + b"}.",
    "stack underrun": b"\x80\x020000.",
    "no end": b"\x80\x02" + b"N" * 100,
    "fraction": b"\x80\x02cfractions\nFraction\nX\x0b\x00\x00\x001e999999999\x85R.",
    "size above its storage": TENSOR % (b"K\x02", b"K\x03\x85", b"K\x01\x85"),
    "size of 10^12 with stride 0": TENSOR % (b"K\x02", b"\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85", b"K\x00\x85"),
    "negative stride": TENSOR % (b"K\x02", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
    "storage above its entry": TENSOR % (b"J\xff\xff\xff\x7f", b"K\x02\x85", b"K\x01\x85"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_instructions_are_refused(tmp_path, name):
    path = tmp_path / "hostile.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", HOSTILE[name])
        archive.writestr("archive/data/0", bytes(8))
    with pytest.raises(SeparatorError, match=r"hostile\.pt: "):
        read_state(path)


def test_the_same_instructions_without_harm_are_read(tmp_path):
    path = tmp_path / "fine.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", TENSOR % (b"K\x02", b"K\x02\x85", b"K\x01\x85"))
        archive.writestr("archive/data/0", bytes(8))
    assert read_state(path)["a"].tolist() == [0, 0]


def test_compressed_storages_are_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", TENSOR % (b"J\x00\x00\x00\x01", b"J\x00\x00\x00\x01\x85", b"K\x01\x85"))
        archive.writestr("archive/data/0", bytes(1 << 26))
    with pytest.raises(SeparatorError, match="compressed"):
        read_state(path)


def header(shape, kind="<f4"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header((1, 8, 10**12)) + b"1234", "has 4 bytes"),
        (header((-1,)) + b"1234", "has 4 bytes"),
        (header((1,), "|O") + b"12345678", "expected numbers or text"),
        (header((10**30,), "<U0"), "expected numbers or text"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "version"),
        (b"no array", "damaged"),
    ],
)
def test_arrays_are_compared_with_their_entries(tmp_path, content, words):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("matrix.npy", content)
    with pytest.raises(ForeignFileError, match=words):
        read_arrays(path)
    with pytest.raises(StemfuseError, match=r"a\.npz: no weights can be read"):
        load_fusion(path)


def test_compressed_arrays_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", matrix=np.zeros(1_000_000))
    with pytest.raises(ForeignFileError, match="compressed"):
        read_arrays(tmp_path / "a.npz")


def test_archives_give_files_of_their_published_size_alone(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../known.pt", b"12345")
        archive.writestr("bomb.th", bytes(10_000_000))
        archive.writestr("other", b"1")
    (found,) = unpack_known(tmp_path / "a.zip", {"known.pt": {5}}, tmp_path / "a")
    assert found == tmp_path / "a" / "0" / "known.pt"
    with pytest.raises(ForeignFileError, match="has 5 bytes, the published file has 6"):
        unpack_known(tmp_path / "a.zip", {"known.pt": {6}}, tmp_path / "b")
    with pytest.raises(ForeignFileError, match="4 times its size"):
        unpack_known(tmp_path / "a.zip", {"bomb.th": ()}, tmp_path / "c")


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_json, "[" * 100_000),
        (parse_json, "[" * 100 + "]" * 100),
        (parse_json, "9" * 5000),
        (parse_json, "9" * 30),
        (parse_json, '"\\ud800"'),
        (parse_json, "{"),
        (parse_json, " " * (17 << 20)),
        (parse_yaml, "[" * 3000 + "]" * 3000),
        (parse_yaml, "- " * 3000),
        (parse_yaml, "9" * 5000),
        (parse_yaml, "1:" * 3000 + "1"),
        (
            parse_yaml,
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 8)}]\n" for i in range(12)),
        ),
        (parse_yaml, "&a [*a]"),
        (parse_yaml, "!!python/object/apply:os.system [exit]"),
        (parse_yaml, "2001-99-99"),
        (parse_yaml, "2001-01-01"),
        (parse_yaml, "!!binary aGVsbG8="),
        (parse_yaml, "!!set {a, b}"),
        (parse_yaml, "0x" + "f" * 100),
        (parse_yaml, "{"),
        (parse_yaml, "\x00"),
        (parse_yaml, "? [a]\n: b"),
        (parse_yaml, "="),
        (parse_yaml, "a" * (2 << 20)),
    ],
)
def test_documents_out_of_bounds_are_refused(parse, text):
    with pytest.raises(ForeignFileError):
        parse(text)


def test_documents_that_are_no_text_or_no_file_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "a", tmp_path, Path("/dev/zero")):
        for read in (read_json, read_yaml):
            with pytest.raises(ForeignFileError):
                read(path)


def test_notes_out_of_bounds_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    for notes in ("[" * 20_000, "[]", "{" * 3):
        save_file({"a": torch.zeros(1)}, path, {"stemfuse": notes})
        for read in (read_notes, read_checkpoint):
            with pytest.raises(StemfuseError, match=r"a\.safetensors: "):
                read(path)


def make_files(folder):
    """One file of every kind, with what reads it; whether its bytes have checksums."""
    state = OrderedDict(torch.nn.Linear(20, 5).state_dict())
    torch.save({"state_dict": state, "epoch": 3}, folder / "archive.pt")
    torch.save({"state_dict": state}, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.Linear(20, 5)), folder / "script.pt")
    save_file(dict(state), folder / "state.safetensors", {"stemfuse": "{}"})
    write_checkpoint(folder / "check.safetensors", {"module": state}, {"epoch": 3})
    blend = MixingWeights.same_source({source: {"a": 0.5} for source in ("drums", "bass", "other", "vocals")})
    blend.save(folder / "blend.npz")
    (folder / "a.json").write_text(json.dumps({"a": [1, 2.5, "text", None, True] * 20}))
    (folder / "a.yaml").write_text("a: [1, 2.5, text]\nb: {c: d}\n" * 1 + "x: |\n  text\n")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("known.pt", bytes(range(256)) * 4)
    write_tape(folder / "a.tar.gz", {"known.pt": bytes(range(256)) * 4})
    write_bundle(folder / "a.index", {"a/kernel": np.arange(30, dtype=np.float32).reshape(5, 6)})

    def unpacked(path):
        place = folder / "unpacked"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (file,) = unpack_known(path, {"known.pt": ()}, place) or [path.parent / "none is known"]
        return file.read_bytes() if file.exists() else b""

    def bundle(path):
        # the tensors lie beside the table, under its name
        tensors = (folder / "a.data-00000-of-00001").read_bytes()
        path.with_suffix(".data-00000-of-00001").write_bytes(tensors)
        return {name: torch.from_numpy(values) for name, values in read_tensor_bundle(path).items()}

    return {
        "archive.pt": (read_state, True),
        "old.pt": (read_state, False),
        "script.pt": (read_state, True),
        "state.safetensors": (read_state, False),
        "check.safetensors": (read_checkpoint, True),
        "blend.npz": (lambda path: MixingWeights.load(path).matrix.tobytes(), True),
        "a.json": (read_json, False),
        "a.yaml": (read_yaml, False),
        "a.zip": (unpacked, True),
        "a.tar.gz": (unpacked, True),
        "a.index": (bundle, True),
    }


def flipped(content, draw):
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]


def cut(content, draw):
    return content[: draw.randrange(len(content))]


def test_flipped_and_cut_files_are_read_or_refused(tmp_path):
    """No flip ends in another error than ours; where the format has checksums, none gives other values."""
    draw = random.Random(11)
    counts = {}
    for name, (read, has_checksums) in make_files(tmp_path).items():
        content = (tmp_path / name).read_bytes()
        whole = text_of(read(tmp_path / name))
        refused = changed = 0
        for damage in [flipped] * FLIPS + [cut] * (FLIPS // 5):
            path = tmp_path / f"damaged{name[name.index('.') :]}"
            path.write_bytes(damage(content, draw))
            message = ""
            try:
                # a flip in a name of an archive makes it a file that is not known
                changed += text_of(read(path)) not in (whole, b"")
            except StemfuseError as error:
                message = str(error)
                refused += 1
            assert "\n" not in message
        counts[name] = (refused, changed)
        assert not has_checksums or changed == 0, counts
    assert sum(refused for refused, _ in counts.values()) > 200


def text_of(value):
    if isinstance(value, torch.Tensor):
        buffer = io.BytesIO()
        np.save(buffer, value.numpy())
        return buffer.getvalue()
    if isinstance(value, dict):
        return {str(key): text_of(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [text_of(part) for part in value]
    return value


def test_every_format_has_one_reader():
    for row in FORMATS:
        module, _, function = row.reader.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), row
    assert len({row.name for row in FORMATS}) == len(FORMATS)


def test_no_other_module_reads_what_could_run():
    """The words that stand for reading code stand in a docstring of one module, and where it takes the user's trust."""
    words = re.compile(r"torch\.jit\.load|torch\.load\(|pickle|allow_pickle=True|yaml\.load\(|\bmarshal\b|\bshelve\b")
    top = (Path(stemfuse.__file__).parent / "separators").resolve().parent
    found = {
        str(path.relative_to(top)): sorted(set(words.findall(text)))
        for package in ("separators", "analysis", "blending", "mixers", "experiments")
        for path in (top / package).rglob("*.py")
        if words.search(text := path.read_text(encoding="utf-8").replace("allow_pickle=False", ""))
    }
    assert found == {
        "separators/foreign/instructions.py": ["pickle"],
        "separators/adapters/torchscript.py": ["torch.jit.load"],
    }


def test_a_table_that_claims_more_than_its_file_can_hold_is_refused(tmp_path):
    path = tmp_path / "scores.parquet"
    rows = FEWEST_ROWS + 1
    parquet.write_table(pa.table({"value": pa.array(np.zeros(rows))}), path, compression="zstd")
    assert path.stat().st_size * 64 < rows
    with pytest.raises(ForeignFileError, match=f"claims {rows} rows"):
        read_table(path)
    with pytest.raises(ScoreError, match=f"claims {rows} rows"):
        read_scores(path)
    parquet.write_table(pa.table({"value": pa.array([[1, 2], [3]])}), path)
    with pytest.raises(ForeignFileError, match="has type list"):
        read_table(path)
    parquet.write_table(pa.table({f"{index}": pa.array([1]) for index in range(65)}), path)
    with pytest.raises(ForeignFileError, match="65 columns"):
        read_table(path)


def test_audio_that_claims_more_than_its_file_can_hold_is_refused(tmp_path):
    path = tmp_path / "song.flac"
    sf.write(path, np.random.default_rng(0).normal(0, 0.1, (40_000, 2)), 44_100)
    content = bytearray(path.read_bytes())
    content[21] |= 15  # the 36 bits of a FLAC header that say how many samples follow
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(AudioError, match="claims 68719476735 samples"):
        FileSignal(path)


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 10_000, "[]", '{"a": ' * 100 + "1" + "}" * 100, "\xff"])
def test_records_of_runs_stores_and_scores_are_read_within_bounds(tmp_path, content):
    path = tmp_path / "test" / "song.json"
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"record of a run|damaged"):
        RunRecord.read(path)
    with pytest.raises(ScoreError, match="museval's schema"):
        read_museval_json(path)
    (tmp_path / "stems.json").write_bytes(path.read_bytes())
    with pytest.raises(StoreError, match="damaged"):
        read_record(tmp_path)
