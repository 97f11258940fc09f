"""The training pack: inputs and references of many songs in one memory-mapped file; a segment is one read of it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemfuse.blending import FusionError
from stemfuse.separators import Samples, digest, write_whole
from stemfuse.separators.audio.whole_files import whole_file
from stemfuse.separators.store import file_stamp
from stemfuse.separators.training import audio_contents

from .segments import BLOCK, TrackBlocks

log = logging.getLogger(__name__)

Kind = Literal["float32", "float16"]


class TrainingPack:
    """Normalised inputs and references of several tracks, (time, channel), in one file that is read without copying.

    It has what `Segments` reads from `TrackBlocks`. A segment of all its channels is one contiguous piece of the file,
    so that the page cache, not the decoding of many files, sets the pace.

    Attributes
    ----------
    path : Path
        The file: inputs, then references, of every sample of every track.
    inputs, outputs : tuple of str
        Labels of channels.
    lengths : tuple of int
        Length of every track in samples.
    rate : int
        Sample rate in Hz.
    error_db : float
        Energy of the rounding to float16 relative to that of the samples; minus infinity for float32.
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self.inputs, self.outputs = tuple(record["inputs"]), tuple(record["outputs"])
        self.lengths, self.rate = tuple(record["lengths"]), int(record["rate"])
        self.error_db = float("-inf") if record["error_db"] is None else float(record["error_db"])
        self.kind: Kind = record["kind"]
        self._starts = np.cumsum([0, *self.lengths])
        self._samples: NDArray[Any] | None = None

    @classmethod
    def of(
        cls,
        blocks: TrackBlocks,
        folder: str | os.PathLike[str],
        kind: Kind = "float32",
        progress: Callable[[int, int], object] | None = None,
    ) -> Self:
        """The pack of some tracks: made when there is none of this very audio in the folder, else opened.

        Parameters
        ----------
        blocks : TrackBlocks
            Tracks, inputs, outputs and scales.
        folder : path-like
            Where packs lie, named by what they hold; trainings share them.
        kind : {"float32", "float16"}
            Half the size, at an error of about -72 dB, see `error_db`.
        progress : callable, optional
            Called with the samples that are written, and how many there are.

        Raises
        ------
        FusionError
            The kind is unknown.
        WriteError
            The pack cannot be written; nothing is left behind.

        Examples
        --------
        >>> import tempfile
        >>> from stemfuse.separators import Track
        >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 1000))
        >>> blocks = TrackBlocks([Track.from_arrays("song", audio.sum(0), audio, {"a": audio})])
        >>> pack = TrainingPack.of(blocks, tempfile.mkdtemp(), "float16")
        >>> pack.read(0, 10, 20)[0].shape, -76 < pack.error_db < -70
        ((10, 10), True)
        """
        if kind not in ("float32", "float16"):
            raise FusionError(f"got a pack of {kind!r}, expected float32 or float16")
        path = _place(blocks, folder, kind)
        record = _known(path)
        if record is None:
            record = _write(blocks, path, kind, progress)
        return cls(path, record)

    @property
    def samples(self) -> NDArray[Any]:
        """All samples, (time, channel), not read yet."""
        if self._samples is None:
            shape = int(self._starts[-1]), len(self.inputs) + len(self.outputs)
            self._samples = np.memmap(self.path, self.kind, "r", shape=shape)
        return self._samples

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return np.dtype(self.kind).itemsize * (len(self.inputs) + len(self.outputs))

    def __getstate__(self) -> dict[str, Any]:
        # another process maps the file itself
        return vars(self) | {"_samples": None}

    def read_into(self, index: int, start: int, stop: int, out: Samples) -> None:
        """Copy samples ``start`` to ``stop`` of a track, inputs then references, into (time, channel)."""
        first = int(self._starts[index])
        rows = self.samples[first + start : first + stop]
        if self.kind == "float32":
            np.copyto(out, rows)
        else:
            _widen(rows, out)

    def read(self, index: int, start: int, stop: int) -> tuple[Samples, Samples]:
        """Samples ``start`` to ``stop`` of a track: inputs (time, input) and references (time, output)."""
        both = np.empty((stop - start, len(self.inputs) + len(self.outputs)), np.float32)
        self.read_into(index, start, stop, both)
        return both[:, : len(self.inputs)], both[:, len(self.inputs) :]


class TrackPacks:
    """A pack of each of several tracks, read as one: trainings that have only some songs in common share those.

    Parameters
    ----------
    blocks : TrackBlocks
        Tracks, inputs, outputs and scales.
    folder : path-like
        Where packs lie; see `TrainingPack.of`.
    kind : {"float32", "float16"}
        Of the samples.

    Examples
    --------
    >>> import tempfile
    >>> from stemfuse.separators import Track
    >>> audio = np.random.default_rng(0).normal(0, 0.1, (4, 2, 1000))
    >>> songs = [Track.from_arrays(name, audio.sum(0), audio, {"a": audio}) for name in ("one", "two")]
    >>> packs = TrackPacks(TrackBlocks(songs), tempfile.mkdtemp())
    >>> packs.lengths, packs.sample_bytes
    ((1000, 1000), 72)
    """

    def __init__(self, blocks: TrackBlocks, folder: str | os.PathLike[str], kind: Kind = "float32") -> None:
        self.inputs, self.outputs = blocks.inputs, blocks.outputs
        self.packs = [TrainingPack.of(blocks.only(index), folder, kind) for index in range(len(blocks.tracks))]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length of every track in samples."""
        return tuple(pack.lengths[0] for pack in self.packs)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.packs[0].sample_bytes

    def read_into(self, index: int, start: int, stop: int, out: Samples) -> None:
        """Copy samples ``start`` to ``stop`` of a track, inputs then references, into (time, channel)."""
        self.packs[index].read_into(0, start, stop, out)


def packed(blocks: TrackBlocks, folder: str | os.PathLike[str], kind: Kind = "float32") -> TrackPacks | TrackBlocks:
    """Packs of tracks; the tracks themselves, with a warning, where the disk has no room for float32 packs.

    Raises
    ------
    FusionError
        There is no room for float16 packs, which are not the same samples.
    """
    needed, free = _missing_bytes(blocks, folder, kind), free_bytes(folder)
    if needed <= free:
        return TrackPacks(blocks, folder, kind)
    lack = f"{folder}: training packs need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    if kind != "float32":
        raise FusionError(f"{lack}; make room, or train without packs (packs=false)")
    log.warning("%s: the stems are read from their own files, which is slower", lack)
    return blocks


def _missing_bytes(blocks: TrackBlocks, folder: str | os.PathLike[str], kind: Kind) -> int:
    """Bytes of the packs of some tracks that are not in the folder yet."""
    sample = np.dtype(kind).itemsize * (len(blocks.inputs) + len(blocks.outputs))
    singles = [blocks.only(index) for index in range(len(blocks.tracks))]
    missing = [one.length for one in singles if not _place(one, folder, kind).is_file()]
    return sample * sum(missing)


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes that are free where a folder lies, or will lie."""
    place = Path(folder).resolve()
    return shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free


def _place(blocks: TrackBlocks, folder: str | os.PathLike[str], kind: Kind) -> Path:
    """The file of a pack, named by the audio that it holds."""
    about = {
        "schema": 2,
        "kind": kind,
        "inputs": blocks.inputs,
        "outputs": blocks.outputs,
        "scales": [[scale.mean, scale.deviation] for scale in blocks.scales],
        "audio": audio_contents(blocks.tracks, folder),
    }
    return Path(folder) / f"{digest(about)[:24]}.pack"


def _widen(rows: NDArray[Any], out: Samples) -> None:
    """Float16 to float32; torch has vector instructions for it."""
    import warnings

    import torch

    with warnings.catch_warnings():
        # nothing is written into the file
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        torch.from_numpy(out).copy_(torch.from_numpy(rows))


def _known(path: Path) -> dict[str, Any] | None:
    """The record of a pack that is there and whole; None where there is none. A damaged one is named."""
    try:
        record = json.loads(path.with_suffix(".json").read_bytes())
        stamp = file_stamp(path)
        seal = record.pop("seal")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if seal != digest(record):
        return None
    if record["stamp"] != stamp and _sha256(path) != record["sha256"]:
        log.warning("%s: damaged, its samples have changed since it was written; made again", path)
        return None
    return dict(record)


def _write(
    blocks: TrackBlocks, path: Path, kind: Kind, progress: Callable[[int, int], object] | None
) -> dict[str, Any]:
    """Write a pack and its record."""
    hasher, error, energy, done, total = hashlib.sha256(), 0.0, 0.0, 0, blocks.length
    with whole_file(path) as temporary, temporary.open("wb") as file:
        for inputs, references in blocks.blocks(BLOCK):
            samples = np.concatenate([inputs, references], axis=1)
            rounded = samples.astype(kind)
            if kind == "float16":
                energy += float(np.square(samples, dtype=np.float64).sum())
                error += float(np.square(samples - rounded.astype(np.float32), dtype=np.float64).sum())
            content = rounded.tobytes()
            hasher.update(content)
            file.write(content)
            done += len(samples)
            if progress is not None:
                progress(done, total)
    record: dict[str, Any] = {
        "kind": kind,
        "inputs": list(blocks.inputs),
        "outputs": list(blocks.outputs),
        "lengths": list(blocks.lengths),
        "rate": blocks.rate,
        "error_db": 10 * float(np.log10(error / energy)) if error > 0 else None,
        "sha256": hasher.hexdigest(),
        "stamp": file_stamp(path),
    }
    text = json.dumps({**record, "seal": digest(record)}, indent=1)
    write_whole(path.with_suffix(".json"), lambda file: file.write(text.encode()))
    return record


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
