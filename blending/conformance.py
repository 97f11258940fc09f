"""The fusion conformance kit: what every fusion has to keep to, for third parties as for ours."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stemfuse.separators import RATE, SOURCES, ConformanceError, StemfuseError, Stems, Track

from .application import apply_weights
from .fusion import Fusion, file_suffix, load_fusion


def conformance_tracks(separators: tuple[str, ...] = ("a", "b", "c"), seconds: float = 1.0) -> list[Track]:
    """Three small tracks with references and stems that err differently, the same each time.

    Parameters
    ----------
    separators : tuple of str
        Names of the separators; each leaks another share of the other sources and adds noise of its own.
    seconds : float
        Length of the first track; the others are longer by odd numbers of samples.

    Returns
    -------
    list of Track
        Stereo, 44 100 Hz.
    """
    generator = np.random.default_rng(2024)
    tracks = []
    for index in range(3):
        frames = int(seconds * RATE) + 331 * index
        envelope = 0.2 + np.abs(np.sin(np.linspace(0, 9 + index, frames)))
        references = generator.normal(0, 0.1, (4, 2, frames)) * envelope
        mixture = references.sum(0)
        stems = {}
        for number, separator in enumerate(separators):
            leak = 0.05 * (1 + number)
            noise = generator.normal(0, 0.02 * (1 + number), references.shape)
            stems[separator] = (1 - leak) * references + leak * mixture / 4 + noise
        tracks.append(Track.from_arrays(f"conformance {index}", mixture, references, stems, subset="train"))
    return tracks


def check_fusion(fusion: Fusion, tracks: list[Track] | None = None) -> None:
    """Check one fusion, not yet fitted, against the contract.

    Parameters
    ----------
    fusion : Fusion
        Any object with ``fit``, ``fuse`` and ``save``; it is copied, not changed.
    tracks : list of Track, optional
        At least two with references and stems; `conformance_tracks` when not given.

    Raises
    ------
    ConformanceError
        Names the broken rule.

    Examples
    --------
    >>> from stemfuse.blending import Mean
    >>> check_fusion(Mean())
    """
    for problem in _problems(copy.deepcopy(fusion), conformance_tracks() if tracks is None else tracks):
        raise ConformanceError(f"{fusion!r}: {problem}")


def _arguments(fusion: Any) -> dict[str, Any]:
    return {name: getattr(fusion, name, "not stored") for name in inspect.signature(type(fusion)).parameters}


def _problems(fusion: Any, tracks: list[Track]) -> Iterator[str]:
    """Broken rules, the first ones being those that the later checks rest on."""
    if not isinstance(fusion, Fusion):
        yield "has to have the methods fit, fuse and save"
    before, attributes = _arguments(fusion), set(vars(fusion))
    for name, value in before.items():
        if isinstance(value, str) and value == "not stored":
            yield f"argument {name} has to be stored unchanged under its own name"
    if any(name.endswith("_") for name in attributes):
        yield "has attributes that end in _ before fit; those are for what is learnt"
    train, test = tracks[:-1], tracks[-1]
    if fusion.fit(train, [test]) is not fusion:
        yield "fit has to return the fusion itself"
    if any(_arguments(fusion)[name] is not value for name, value in before.items()):
        yield "fit has changed an argument"
    for name in sorted(set(vars(fusion)) - attributes):
        if not (name.endswith("_") or name.startswith("_")):
            yield f"fit has set {name}; what is learnt ends in _"
    yield from _output_problems(fusion, test)
    yield from _saved_problems(fusion, test)
    yield from _linear_problems(fusion, test)
    bare = Track(test.name, test.mixture, test.subset)
    try:
        fusion.fuse(bare).read(0, 1)
    except StemfuseError:
        return
    except Exception as error:
        yield f"a track without stems raised {type(error).__name__} ({error}), expected a StemfuseError in words"
    else:
        if fusion.fit(train).fuse(test).sources and not getattr(fusion, "needs_no_stems", False):
            yield "a track without stems was fused all the same; expected a StemfuseError"


def _output_problems(fusion: Any, track: Track) -> Iterator[str]:
    fused = fusion.fuse(track)
    if not isinstance(fused, Stems):
        yield f"fuse has to return Stems, it gave {type(fused).__name__}"
        return
    if fused.sources != tuple(source for source in SOURCES if source in fused.sources):
        yield f"sources {fused.sources} have to be of {SOURCES}, in this order"
    came = (fused.channels, fused.length, fused.rate)
    expected = (track.channels, track.length, track.rate)
    if came != expected:
        yield f"(channels, samples, rate) of the output are {came}, expected the mixture's {expected}"
        return
    audio = fused.audio
    if audio.shape != (len(fused.sources), fused.channels, fused.length) or audio.dtype != np.float32:
        yield f"the output is {audio.dtype} {audio.shape}, expected float32 (source, channel, time)"
    if not np.isfinite(audio).all():
        yield "the output has NaN or infinite samples"
    if not np.array_equal(audio, fusion.fuse(track).audio):
        yield "two calls of fuse differ; the same input has to give the same output"
    middle = fused.read(track.length // 3, track.length // 2)
    if not np.allclose(middle, audio[:, :, track.length // 3 : track.length // 2], atol=1e-6):
        yield "a part that is read alone differs from the same part of the whole"


def _saved_problems(fusion: Fusion, track: Track) -> Iterator[str]:
    suffix = file_suffix(fusion)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fusion{suffix}"
        fusion.save(path)
        if not path.is_file():
            yield f"save has to write {path.name}"
            return
        try:
            loaded = load_fusion(path)
        except StemfuseError as error:
            yield f"what was saved cannot be loaded ({error}); register its kind"
            return
        if type(loaded) is not type(fusion):
            yield f"load_fusion gave {type(loaded).__name__}, expected {type(fusion).__name__}: register its kind"
        elif not np.array_equal(loaded.fuse(track).audio, fusion.fuse(track).audio):
            yield "the fusion that was saved and loaded fuses differently"


def _linear_problems(fusion: Any, track: Track) -> Iterator[str]:
    if not hasattr(fusion, "weights"):
        return
    applied = apply_weights(fusion.weights(track), track).audio
    if not np.allclose(applied, fusion.fuse(track).audio, atol=1e-6):
        yield "fuse differs from apply_weights with the fusion's own weights"
