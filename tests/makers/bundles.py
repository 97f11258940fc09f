"""Checkpoints of TensorFlow, written byte by byte, and Spleeters in them."""

import struct
from dataclasses import replace

import google_crc32c
import numpy as np
import torch

from makers.golden import settle
from stemfuse.separators.networks.spleeter import EDITIONS, SpleeterNetwork, _names

TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def varint(number):
    """Seven bits in a byte, the lowest first."""
    content = b""
    while number > 0x7F:
        content += bytes([number & 0x7F | 0x80])
        number >>= 7
    return content + bytes([number])


def field(key, value):
    """A field of a message: a number, or bytes."""
    if isinstance(value, bytes):
        return varint(key << 3 | 2) + varint(len(value)) + value
    return varint(key << 3) + varint(value)


def masked(content):
    """The checksum as it is stored."""
    checksum = google_crc32c.value(content)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def entry_of(values, offset, **more):
    """What a table says of a tensor."""
    sizes = b"".join(field(2, field(1, size)) for size in values.shape)
    content = values.tobytes()
    parts = {1: TYPES[str(values.dtype)], 2: sizes, 4: offset, 5: len(content)} | more.get("parts", {})
    return b"".join(field(key, value) for key, value in parts.items()) + varint(6 << 3 | 5) + masked(content)


def block_of(entries):
    """Entries in order, whose names leave out what they share with the one before, but for every sixteenth."""
    content, before, restarts = b"", b"", []
    for number, (name, value) in enumerate(entries):
        shared = 0
        if number % 16:
            while shared < min(len(name), len(before)) and name[shared] == before[shared]:
                shared += 1
        else:
            restarts.append(len(content))
        content += varint(shared) + varint(len(name) - shared) + varint(len(value)) + name[shared:] + value
        before = name
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table_of(entries, per_block=1000, compression=0):
    """A sorted table of names and values."""
    content, index = b"", []

    def add(block):
        nonlocal content
        place = varint(len(content)) + varint(len(block))
        content += block + bytes([compression]) + masked(block + bytes([compression]))
        return place

    rows = sorted(entries.items())
    for start in range(0, len(rows), per_block):
        part = rows[start : start + per_block]
        index.append((part[-1][0], add(block_of(part))))
    places = add(block_of([])) + add(block_of(index))
    return content + places.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_bundle(path, tensors, header=None, per_block=1000, compression=0, **more):
    """Write ``path`` (``.index``) and the file with the bytes beside it."""
    entries = {b"": field(1, 1) + field(3, field(1, 1)) if header is None else header}
    offset = 0
    for name in sorted(tensors):
        entries[name.encode()] = entry_of(tensors[name], offset, **more)
        offset += tensors[name].nbytes
    path.write_bytes(table_of(entries, per_block, compression))
    path.with_suffix(".data-00000-of-00001").write_bytes(b"".join(tensors[name].tobytes() for name in sorted(tensors)))


def spleeter_tensors(network):
    """The tensors of a network under TensorFlow's names, in its axes."""
    state = network.state_dict()
    tensors = {"global_step": np.int64(7)[None].reshape(())}
    for index in range(len(network.shape.instruments)):
        for ours, theirs in _names(index, len(network.shape.widths)).items():
            values = state[ours].numpy()
            tensors[theirs] = np.ascontiguousarray(values.transpose(2, 3, 1, 0) if values.ndim == 4 else values)
    return tensors


def small_spleeter(stems, widths=(4, 6, 8)):
    """A Spleeter of few channels and levels, with the same random weights each time."""
    torch.manual_seed(stems)
    return settle(SpleeterNetwork(replace(EDITIONS[stems], widths=widths)), bias=0.3)


def write_spleeter(folder, stems=2, **more):
    """A folder with a small Spleeter, as the published ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    network = small_spleeter(stems, **more)
    write_bundle(folder / "model.index", spleeter_tensors(network))
    return network
