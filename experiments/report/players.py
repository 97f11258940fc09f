"""Excerpts that the report plays: mixture, references and every method of a song, cut alike and equally loud."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, FiniteFloat, ValidationError, field_validator

from stemfuse.experiments.run import Run
from stemfuse.separators import AudioError, Stems, Track
from stemfuse.separators.foreign.documents import read_object

from .excerpts import add_seek_table

FULL_SCALE = 0.999
"""What the loudest sample of a song becomes when any file would clip: 16-bit audio ends just below 1."""

WAVEFORM_POINTS = 240

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
"""Names that Windows keeps for devices."""


class _File(BaseModel):
    kind: str
    method: str
    source: str
    path: str
    waveform: str

    @field_validator("path")
    @classmethod
    def _lies_beside_the_list(cls, path: str) -> str:
        if not path.startswith("audio/") or ".." in path.split("/"):
            raise ValueError("expected a file below audio/")
        return path


class _Entry(BaseModel):
    """What `write_players` writes of a song, as far as it is read."""

    track: str
    start_s: FiniteFloat
    duration_s: FiniteFloat
    song_s: FiniteFloat
    gain_db: FiniteFloat
    identity: str = ""
    files: list[_File]


class _Players(BaseModel):
    tracks: list[_Entry]


class _Part(NamedTuple):
    kind: str  # mixture, reference or method
    name: str
    folder: str
    stems: Stems


def write_players(
    run_folder: str | os.PathLike[str],
    track: Track,
    methods: Mapping[str, Stems],
    duration_s: float = 30.0,
    start_s: float | None = None,
    identity: str = "",
    form: Literal["flac", "wav"] = "flac",
) -> dict[str, Any]:
    """Write a song's excerpts of 16 bits into ``report/audio``, and list them in its ``players.json``.

    All files of a song are made quieter by one common gain when any of them would clip, so that comparing them
    stays fair.

    Parameters
    ----------
    run_folder : path-like
        The run's folder; missing folders in it are made.
    track : Track
        Its mixture and, when known, its references are written beside the methods.
    methods : mapping of str to Stems
        Single separators and fusions by name, in the order of the page.
    duration_s : float
        Length of the excerpt; a shorter song is taken whole.
    start_s : float, optional
        Where the excerpt starts; when not given, where the most sources sound, see `busiest_start_s`.

    identity : str
        Of all that the excerpts are made of; see `is_written`.
    form : {"flac", "wav"}
        FLAC loses nothing and takes a third to a half of the room; it has a seek table.

    Returns
    -------
    dict
        The song's entry in ``players.json``: track, start_s, duration_s, song_s, gain_db, identity, files. It takes
        the place of an older entry of the same track.

    Raises
    ------
    AudioError
        Stems are not as long as the mixture or hold NaN, or the files cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44100))
    >>> track = Track.from_arrays("a song", noise.sum(0), noise)
    >>> entry = write_players(tempfile.mkdtemp(), track, {"mean": Stems(noise)})
    >>> entry["files"][0]["path"], entry["files"][-1]["path"]
    ('audio/a-song-0212f0/mixture.flac', 'audio/a-song-0212f0/mean/vocals.flac')
    """
    entry = make_excerpts(run_folder, track, methods, duration_s, start_s, identity, form)
    list_excerpts(run_folder, entry)
    return entry


def make_excerpts(
    run_folder: str | os.PathLike[str],
    track: Track,
    methods: Mapping[str, Stems],
    duration_s: float = 30.0,
    start_s: float | None = None,
    identity: str = "",
    form: Literal["flac", "wav"] = "flac",
) -> dict[str, Any]:
    """Write a song's excerpts as `write_players` does, but list them nowhere: several processes may do so at once."""
    folder, song = Path(run_folder) / "report", f"audio/{safe_name(track.name)}"
    start_s = busiest_start_s(track, duration_s) if start_s is None else start_s
    start = min(max(round(start_s * track.rate), 0), track.length - 1)
    stop = min(start + max(round(duration_s * track.rate), 1), track.length)
    parts = [_Part("mixture", "mixture", song, Stems.from_signals({"mixture": track.mixture}))]
    if track.references is not None:
        parts.append(_Part("reference", "reference", f"{song}/_reference", track.references))
    parts += [_Part("method", name, f"{song}/{safe_name(name)}", stems) for name, stems in methods.items()]

    # once, as fused stems are computed when they are read; an excerpt of all methods is some hundred megabytes at most
    audio = [np.concatenate(list(_blocks(part, track, start, stop)), axis=-1) for part in parts]
    peak = max(float(np.abs(samples).max()) for samples in audio)
    gain = FULL_SCALE / peak if peak > FULL_SCALE else 1.0
    return {
        "track": track.name,
        "start_s": start / track.rate,
        "duration_s": (stop - start) / track.rate,
        "song_s": track.duration_s,
        "gain_db": 20 * float(np.log10(gain)),
        "identity": identity,
        "files": [
            file
            for part, samples in zip(parts, audio, strict=True)
            for file in _write_part(folder, part, np.float32(gain) * samples, track.rate, form)
        ],
    }


def list_excerpts(run_folder: str | os.PathLike[str], entry: Mapping[str, Any]) -> None:
    """List a song's excerpts in ``players.json``, in the place of an older entry of the same track."""
    others = [other for other in read_players(run_folder) if other["track"] != entry["track"]]
    _write_entries(run_folder, [*others, entry])


def _write_entries(run_folder: str | os.PathLike[str], entries: Sequence[Mapping[str, Any]]) -> None:
    described = json.dumps({"tracks": entries}, indent=1, ensure_ascii=False)
    Run(run_folder).write_text("report/audio/players.json", described)


def sort_players(run_folder: str | os.PathLike[str], names: Sequence[str]) -> bool:
    """List these songs' excerpts in this order, and no others'; whether the list has changed."""
    listed = read_players(run_folder)
    wanted = sorted((entry for entry in listed if entry["track"] in names), key=lambda each: names.index(each["track"]))
    if wanted != listed:
        _write_entries(run_folder, wanted)
    return wanted != listed


def is_written(run_folder: str | os.PathLike[str], track: Track, identity: str) -> bool:
    """Whether a song's excerpts have all been written, of what this identity names."""
    found = [entry for entry in read_players(run_folder) if entry["track"] == track.name]
    folder = Path(run_folder, "report")
    return any(
        entry.get("identity") == identity and all((folder / file["path"]).is_file() for file in entry["files"])
        for entry in found
    )


def _write_part(
    folder: Path, part: _Part, audio: NDArray[np.float32], rate: int, form: Literal["flac", "wav"]
) -> list[dict[str, Any]]:
    """Write the excerpts of all sources of a part; their entries in ``players.json``."""
    names = [safe_name(source) for source in part.stems.sources]
    Stems(audio, names, rate).write(folder / part.folder, "PCM_16", f".{form}")
    for name in names:
        # one of a song that had the other form before
        (folder / part.folder / f"{name}.{'wav' if form == 'flac' else 'flac'}").unlink(missing_ok=True)
        if form == "flac":
            add_seek_table(folder / part.folder / f"{name}.flac")
    return [
        {
            "kind": part.kind,
            "method": part.name,
            "source": source,
            "path": f"{part.folder}/{name}.{form}",
            "waveform": _waveform(samples),
        }
        for source, name, samples in zip(part.stems.sources, names, audio, strict=True)
    ]


def read_players(run_folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Entries that `write_players` has written; their paths are relative to the ``report`` folder.

    Raises
    ------
    AudioError
        The file is damaged.
    """
    path = Path(run_folder) / "report" / "audio" / "players.json"
    try:
        content = read_object(path)
        _Players.model_validate(content)
    except FileNotFoundError:
        return []
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise AudioError(f"{path}: damaged ({reason}); delete its folder and run again") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{path}: damaged ({error}); delete its folder and run again") from error
    entries: list[dict[str, Any]] = content["tracks"]
    return entries


def busiest_start_s(track: Track, duration_s: float) -> float:
    """Start of the excerpt in which most sources sound, in whole seconds.

    Every second of a source counts by its power, up to the source's own mean, so that a loud source counts no more than
    the others. Without references the mixture alone decides; a silent song gives its middle.
    """
    stems = track.references or Stems.from_signals({"mixture": track.mixture})
    seconds = track.length // track.rate
    length = min(round(duration_s), seconds)
    if length == 0 or seconds == length:
        return 0.0
    blocks = (samples for _, samples in stems.blocks(track.rate) if samples.shape[-1] == track.rate)
    power = np.array([np.mean(np.square(samples), axis=(1, 2)) for samples in blocks])
    mean = power.mean(axis=0)
    if not mean.any():
        return float((seconds - length) // 2)
    activity = np.minimum(power[:, mean > 0] / mean[mean > 0], 1).sum(axis=1)
    return float(np.argmax(np.convolve(activity, np.ones(length), "valid").round(6)))


def safe_name(name: str) -> str:
    """Name of a file or folder on any file system: itself when it is plain, else made plain with a checksum.

    Examples
    --------
    >>> safe_name("repet_sim"), safe_name("AC/DC – 100 % 'live'")
    ('repet_sim', 'ac-dc-100-live-...')
    """
    if re.fullmatch("[a-z0-9][a-z0-9_-]{0,39}", name) and name not in RESERVED:
        return name
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:32]
    return f"{plain or 'name'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def _blocks(part: _Part, track: Track, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
    """The excerpt of all sources, some seconds at a time."""
    if part.stems.length != track.length:
        raise AudioError(
            f"track {track.name!r}: {part.name} has {part.stems.length} samples, the mixture has {track.length}; "
            "fuse or separate it again"
        )
    for at in range(start, stop, 10 * track.rate):
        samples = part.stems.read(at, min(at + 10 * track.rate, stop))
        if not np.isfinite(samples).all():
            raise AudioError(
                f"track {track.name!r}: {part.name} has NaN or infinite samples; fuse or separate it again"
            )
        yield samples


def _waveform(samples: NDArray[np.float32]) -> str:
    """Peaks of the channels as two hexadecimal digits each, 0 to ff."""
    loudest = np.abs(samples).max(axis=0)
    edges = np.linspace(0, len(loudest), min(WAVEFORM_POINTS, len(loudest)) + 1).astype(int)[:-1]
    return (np.maximum.reduceat(loudest, edges).clip(0, 1) * 255).astype(np.uint8).tobytes().hex()
