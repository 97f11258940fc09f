"""The fusion conformance kit: the rules that every fusion has to keep, third parties' as well as ours."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stemfuse.separators import RATE, ConformanceError, StemfuseError, Stems, Track, in_order

from .application import apply_weights
from .fusion import BaseFusion, LinearFusion
from .registry import load_fusion
from .weights import MixingWeights

CONTRACT = ("kind", *(name for name in dir(BaseFusion) if not name.startswith("_")))
"""What every fusion has: methods, and what it declares about itself."""


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
        length = int(seconds * RATE) + 331 * index
        envelope = 0.2 + np.abs(np.sin(np.linspace(0, 9 + index, length)))
        references = generator.normal(0, 0.1, (4, 2, length)) * envelope
        mixture = references.sum(0)
        stems = {}
        for number, separator in enumerate(separators):
            leak = 0.05 * (1 + number)
            noise = generator.normal(0, 0.02 * (1 + number), references.shape)
            stems[separator] = (1 - leak) * references + leak * mixture / 4 + noise
        tracks.append(Track.from_arrays(f"conformance {index}", mixture, references, stems, subset="train"))
    return tracks


def check_fusion(fusion: BaseFusion, tracks: list[Track] | None = None) -> None:
    """Check one fusion, not yet fitted, against the contract.

    Parameters
    ----------
    fusion : BaseFusion
        It is copied, not changed.
    tracks : list of Track
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


def _problems(fusion: BaseFusion, tracks: list[Track]) -> Iterator[str]:
    """Broken rules, the first ones being those that the later checks rest on."""
    train, test = tracks[:-1], tracks[-1]
    yield from _declaration_problems(fusion)
    if not fusion.learns:
        yield from _learning_problems(copy.deepcopy(fusion), train)
    yield from _fit_problems(fusion, train, test)
    yield from _output_problems(fusion, test)
    if fusion.is_linear:
        yield from _weights_problems(fusion, train[0], test)
    yield from _saved_problems(fusion, test)
    yield from _bare_track_problems(fusion, Track(test.name, test.mixture, test.subset))


def _declaration_problems(fusion: BaseFusion) -> Iterator[str]:
    if missing := [name for name in CONTRACT if name not in dir(fusion)]:
        yield f"does not declare {', '.join(missing)}; derive it from stemfuse.blending.BaseFusion"
    flags: dict[str, object] = {
        "learns": fusion.learns,
        "is_linear": fusion.is_linear,
        "varies_in_time": fusion.varies_in_time,
        "needs_no_stems": fusion.needs_no_stems,
    }
    for name, value in flags.items():
        if not isinstance(value, bool):
            yield f"{name} is {value!r}, expected True or False"
    if not fusion.suffix.startswith("."):
        yield f"suffix is {fusion.suffix!r}, expected an ending such as '.npz'"
    if fusion.is_linear != ("weights" in dir(fusion)):
        has = "no method weights" if fusion.is_linear else "a method weights"
        yield f"declares is_linear = {fusion.is_linear}, but has {has}"
    if fusion.varies_in_time and not fusion.is_linear:
        yield "declares varies_in_time = True, but is not linear: only weights can vary"
    for name in inspect.signature(type(fusion)).parameters:
        if name not in vars(fusion):
            yield f"argument {name} has to be stored unchanged under its own name"
    if fusion.is_fitted:
        yield "has attributes that end in _ before fit; those are for what is learnt"


def _learning_problems(fusion: BaseFusion, train: list[Track]) -> Iterator[str]:
    """What contradicts a fusion's declaration that it learns nothing from references."""
    bare = [Track(track.name, track.mixture, track.subset, stems=track.stems) for track in train]
    try:
        fusion.fit(bare)
    except Exception as error:
        yield f"declares learns = False, but cannot be fitted on tracks without references ({error})"


def _fit_problems(fusion: BaseFusion, train: list[Track], valid: Track) -> Iterator[str]:
    before = dict(vars(fusion))
    arguments = inspect.signature(type(fusion)).parameters
    if fusion.fit(train, [valid]) is not fusion:
        yield "fit has to return the fusion itself"
    if any(vars(fusion)[name] is not before[name] for name in arguments):
        yield "fit has changed an argument"
    for name in sorted(set(vars(fusion)) - set(before)):
        if not (name.endswith("_") or name.startswith("_")):
            yield f"fit has set {name}; what is learnt ends in _"


def _output_problems(fusion: BaseFusion, track: Track) -> Iterator[str]:
    fused: object = fusion.fuse(track)
    if not isinstance(fused, Stems):
        yield f"fuse has to return Stems, got {type(fused).__name__}"
        return
    if fused.sources != in_order(fused.sources):
        yield f"sources {fused.sources} have to be {in_order(fused.sources)}, in this order"
    given = (fused.channels, fused.length, fused.rate)
    expected = (track.channels, track.length, track.rate)
    if given != expected:
        yield f"got an output of (channels, length, rate) {given}, expected the mixture's {expected}"
        return
    audio = fused.audio
    if audio.shape != (len(fused.sources), fused.channels, fused.length) or audio.dtype != np.float32:
        yield f"got an output of {audio.dtype} {audio.shape}, expected float32 (source, channel, time)"
    if not np.isfinite(audio).all():
        yield "the output has NaN or infinite samples"
    if not np.array_equal(audio, fusion.fuse(track).audio):
        yield "two calls of fuse differ; the same input has to give the same output"
    middle = fused.read(track.length // 3, track.length // 2)
    if not np.allclose(middle, audio[:, :, track.length // 3 : track.length // 2], atol=1e-6):
        yield "a part that is read alone differs from the same part of the whole"


def _weights_problems(fusion: BaseFusion, other: Track, track: Track) -> Iterator[str]:
    if not isinstance(fusion, LinearFusion):
        yield "declares is_linear = True; derive it from stemfuse.blending.LinearFusion"
        return
    weights: object = fusion.weights(track)
    constant = fusion.constant_weights
    if not isinstance(weights, MixingWeights):
        yield f"weights has to return MixingWeights, got {type(weights).__name__}"
        return
    if not np.allclose(apply_weights(weights, track).audio, fusion.fuse(track).audio, atol=1e-6):
        yield "fuse differs from apply_weights with the fusion's own weights"
    if fusion.varies_in_time:
        if constant is not None:
            yield "declares varies_in_time = True, but has constant_weights"
    elif constant is None:
        yield "declares varies_in_time = False, but has no constant_weights after fit"
    elif not all(np.array_equal(constant.matrix, each.matrix) for each in (weights, fusion.weights(other))):
        yield "declares varies_in_time = False, but the weights of a track differ from constant_weights"


def _saved_problems(fusion: BaseFusion, track: Track) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fusion{fusion.suffix}"
        fusion.save(path)
        if not path.is_file():
            yield f"save has to write {path.name}"
            return
        written, named = set(path.parent.iterdir()), set(fusion.saved_files(path))
        if written != named:
            differing = ", ".join(sorted(file.name for file in written ^ named))
            yield f"save writes other files than saved_files names: {differing}"
        try:
            loaded = load_fusion(path)
        except StemfuseError as error:
            yield f"the saved file cannot be loaded ({error}); register its kind"
            return
        if type(loaded) is not type(fusion):
            yield f"load_fusion gave {type(loaded).__name__}, expected {type(fusion).__name__}: register its kind"
        elif not np.array_equal(loaded.fuse(track).audio, fusion.fuse(track).audio):
            yield "the fusion that was saved and loaded fuses differently"


def _bare_track_problems(fusion: BaseFusion, bare: Track) -> Iterator[str]:
    try:
        fusion.fuse(bare).read(0, 1)
    except StemfuseError:
        return
    except Exception as error:
        yield f"a track without stems raised {type(error).__name__} ({error}), expected a StemfuseError"
    else:
        if not fusion.needs_no_stems:
            yield "a track without stems was fused all the same; expected a StemfuseError"
