"""What a file of somebody's network takes and gives, described in YAML: transform, chunks, axes, sources."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stemfuse.separators.audio.signals import RATE
from stemfuse.separators.errors import MissingWeightsError, SeparatorError, wrong_usage
from stemfuse.separators.foreign.documents import read_yaml
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.source_names import check_source
from stemfuse.separators.sources import in_order

AXES = ("source", "channel", "part", "bin", "frame", "time")
"""Axes that a pattern can name; ``part`` is real and imaginary part."""

Kind = Literal["waveform", "spectrogram", "magnitude"]
"""What a tensor holds: samples over time, complex values in two parts, or absolute values."""


def _checked_pattern(pattern: str) -> str:
    words = re.findall(r"\w+", pattern)
    if not re.fullmatch(r"(?:\s*(?:\w+|\((?:\s*\w+)+\s*\)))+\s*", pattern):
        raise ValueError(f"got {pattern!r}, expected axes such as '1 (channel part) bin frame'")
    for word in words:
        if word not in (*AXES, "1"):
            raise ValueError(f"axis {word!r} is unknown, there are {', '.join(AXES)} and 1{did_you_mean(word, AXES)}")
    named = [word for word in words if word != "1"]
    if len(set(named)) < len(named):
        raise ValueError(f"got {pattern!r}, expected every axis once")
    if {*named} - {"source", "channel"} not in ({"time"}, {"bin", "frame"}, {"part", "bin", "frame"}):
        raise ValueError(f"got {pattern!r}, expected time, or bin and frame (and part, where values are complex)")
    return pattern


Pattern = Annotated[str, AfterValidator(_checked_pattern)]
"""Axes in their order as einops writes them; those in parentheses are one, the last of them varies fastest."""


def axes_of(pattern: str) -> tuple[str, ...]:
    """Axes that a pattern names, in its order.

    Examples
    --------
    >>> axes_of("1 (channel part) bin frame")
    ('channel', 'part', 'bin', 'frame')
    """
    return tuple(word for word in re.findall(r"\w+", pattern) if word != "1")


def kind_of(pattern: str) -> Kind:
    """What a tensor of these axes holds.

    Examples
    --------
    >>> kind_of("1 channel time"), kind_of("part bin frame"), kind_of("channel bin frame")
    ('waveform', 'spectrogram', 'magnitude')
    """
    axes = axes_of(pattern)
    return "waveform" if "time" in axes else "spectrogram" if "part" in axes else "magnitude"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StftDescription(_Part):
    """The short-time Fourier transform between waveforms and the network; the window is Hann's, periodic."""

    n_fft: int = Field(ge=4, multiple_of=2, description="window in samples")
    hop: int = Field(ge=1, description="distance of windows in samples")
    bins: int | None = Field(None, ge=1, description="how many bins are kept, from the lowest; all when not given")
    centred: bool = Field(True, description="windows are centred on multiples of the hop, and the ends are mirrored")
    normalised: bool = Field(False, description="divided by the root of n_fft")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hop > self.n_fft // 2 or self.kept > self.n_fft // 2 + 1:
            raise ValueError("expected a hop of at most n_fft / 2, and at most n_fft / 2 + 1 bins")
        return self

    @property
    def kept(self) -> int:
        """Bins that the network is given."""
        return self.n_fft // 2 + 1 if self.bins is None else self.bins


class OutputDescription(_Part):
    """One output of the network."""

    sources: tuple[str, ...] = Field(min_length=1, description="along the axis source, or the one source")
    axes: Pattern = Field(description="its axes in their order, see the input's")
    name: str | None = Field(None, description="in the file; needed where there are several")
    mask: bool = Field(False, description="what the mixture's spectrogram is multiplied by")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if "source" not in axes_of(self.axes) and len(self.sources) > 1:
            raise ValueError(f"got {len(self.sources)} sources for axes {self.axes!r}, expected an axis source in them")
        if self.mask and kind_of(self.axes) == "waveform":
            raise ValueError("a waveform is no mask; expected axes of bin and frame")
        return self


class NetworkDescription(_Part):
    """All that has to be known of a network to separate songs with it.

    Examples
    --------
    >>> described = NetworkDescription.model_validate(
    ...     {
    ...         "file": "vocals.onnx",
    ...         "stft": {"n_fft": 6144, "hop": 1024, "bins": 2048},
    ...         "chunk": 256,
    ...         "trim": 3072,
    ...         "input": "1 (channel part) bin frame",
    ...         "outputs": [{"sources": ["vocals"], "axes": "1 (channel part) bin frame"}],
    ...         "rest": "accompaniment",
    ...     }
    ... )
    >>> described.samples, described.sources
    (261120, ('vocals', 'accompaniment'))
    """

    file: str = Field(min_length=1, description="the network, beside the description")
    rate: int = Field(RATE, ge=1, description="sample rate in Hz")
    channels: int = Field(2, ge=1, description="of the mixture")
    stft: StftDescription | None = Field(None, description="where input or outputs are spectrograms")
    chunk: int = Field(ge=1, description="what the network is given at a time: STFT frames, or samples without stft")
    trim: int = Field(
        0, ge=0, description="samples that are cut off both ends of a chunk; the music around it is there"
    )
    overlap: float | None = Field(None, ge=0, lt=1, description="of neighbouring chunks, which fade; in place of trim")
    input: Pattern = Field(description="its axes in their order: 1, channel, time; or part, bin, frame; (a b) is one")
    input_name: str | None = Field(None, description="in the file; needed where there are several")
    outputs: tuple[OutputDescription, ...] = Field(min_length=1)
    rest: str | None = Field(None, description="the source that is the mixture without all others")
    trained_on: tuple[str, ...] | None = Field(None, description="data that it was trained on; null: not known")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kinds = {kind_of(self.input), *(kind_of(output.axes) for output in self.outputs)}
        if kinds - {"waveform"} and self.stft is None:
            raise ValueError("stft is missing: axes of bin and frame need it")
        if kinds == {"waveform"} and self.stft is not None:
            raise ValueError("got stft, but input and outputs are waveforms; leave it out")
        if "source" in axes_of(self.input):
            raise ValueError("input: a mixture has no axis source")
        if self.channels > 1 and "channel" not in axes_of(self.input):
            raise ValueError(f"input: got no axis channel for {self.channels} channels")
        for output in self.outputs:
            if self.channels > 1 and "channel" not in axes_of(output.axes):
                raise ValueError(f"outputs: got no axis channel for {self.channels} channels in {output.axes!r}")
        if len(set(self.given)) < len(self.given):
            raise ValueError(f"got sources {', '.join(self.given)}, expected every one once")
        for source in self.given:
            check_source(source, SeparatorError)
        if self.overlap is not None and self.trim:
            raise ValueError("got overlap and trim, expected one of them")
        if self.samples <= 2 * self.trim:
            raise ValueError(
                f"a chunk of {self.samples} samples is not longer than the {2 * self.trim} that are cut off"
            )
        if self.stft is not None and self.samples <= self.stft.n_fft // 2:
            raise ValueError(f"a chunk of {self.samples} samples is not longer than half a window")
        return self

    @property
    def samples(self) -> int:
        """Samples in a chunk."""
        if self.stft is None:
            return self.chunk
        between = self.stft.hop * (self.chunk - 1)
        return between if self.stft.centred else between + self.stft.n_fft

    @property
    def given(self) -> tuple[str, ...]:
        """Sources in the order of the outputs, then the rest."""
        named = tuple(source for output in self.outputs for source in output.sources)
        return named if self.rest is None else (*named, self.rest)

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources in the papers' order."""
        return in_order(self.given)


def read_description(path: str | os.PathLike[str], separator: str) -> NetworkDescription:
    """Read a description.

    Parameters
    ----------
    path : path-like
        A YAML file.
    separator : str
        Whose it is, for messages.

    Raises
    ------
    MissingWeightsError
        There is no such file.
    SeparatorError
        It is not YAML, has an unknown or missing key, or a value that does not fit.
    """
    path = Path(path).expanduser()
    try:
        given = read_yaml(path)
    except FileNotFoundError as error:
        raise MissingWeightsError(f"{separator}: {path} is missing, expected a description in YAML") from error
    except (OSError, ForeignFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise wrong_usage(SeparatorError(f"{separator}: {path}: {reason}")) from error
    try:
        return NetworkDescription.model_validate(given)
    except ValidationError as error:
        raise wrong_usage(SeparatorError(f"{separator}: {path}: {_explained(error)}")) from error


def _explained(error: ValidationError) -> str:
    """The first thing that is wrong, in a line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = _keys(first["loc"][:-1])
        return f"key {where} is unknown, allowed are {', '.join(known)}{did_you_mean(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"key {where} is missing"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _keys(place: Sequence[Any]) -> list[str]:
    """Keys that are allowed at a place."""
    parts: dict[Any, type[BaseModel]] = {"stft": StftDescription, "outputs": OutputDescription}
    return list(parts.get(place[0] if place else "", NetworkDescription).model_fields)
