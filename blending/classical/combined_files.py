"""Files of one stem combined into one, by the classical rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from stemfuse.blending.errors import FusionError
from stemfuse.blending.fusion import BaseFusion
from stemfuse.blending.registry import make_fusion
from stemfuse.separators import SOURCES, AudioError, Stems, Track, fit_length, open_signal, write_audio
from stemfuse.separators.audio.levels import check_subtype
from stemfuse.separators.errors import usage_errors, wrong_usage
from stemfuse.separators.names import did_you_mean

from .combiners import AVERAGES, RULES, Average, Combine, Crossover

STEM = SOURCES[0]
"""The source that the files stand for; no fusion treats it in a way of its own."""


def combine_files(
    files: Sequence[str | os.PathLike[str]],
    how: str,
    out: str | os.PathLike[str],
    weights: Sequence[float] | None = None,
    subtype: str | None = None,
    shown: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Path:
    """Combine files of one stem into one, streaming from file to file.

    Parameters
    ----------
    files : sequence of path-like
        The same stem by several separators, in any audio format. All need the rate and the channels of the first one;
        their lengths may differ from its length as far as `fit_length` allows.
    how : str
        ``"avg_wave"`` or ``"avg_fft"`` (the same), a rule of `Combine`, or ``"crossover"``, by which each file is
        one band from the lowest up.
    out : path-like
        The new file, ``.wav`` or ``.flac``; it appears whole or not at all, and may be one of ``files``.
    weights : sequence of float, optional
        One per file, for the averages; they are divided by their sum.
    subtype : str, optional
        libsndfile's sample format; ``"FLOAT"`` where the format has it, else ``"PCM_24"``.
    shown : path-like, optional
        What warnings call the new file, where it is renamed later.
    **options
        ``n_fft`` and ``hop`` of the rules on spectra; ``edges_hz`` and ``width_hz`` of a crossover.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    AudioError
        A file cannot be read, does not fit the first, or the new one cannot be written.
    FusionError
        ``how``, a weight or an option is not valid.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import soundfile as sf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, level in (("a", 0.1), ("b", 0.4)):
    ...         sf.write(f"{folder}/{name}.wav", np.full((1000, 2), level), 44100, subtype="FLOAT")
    ...     made = combine_files([f"{folder}/a.wav", f"{folder}/b.wav"], "avg_wave", f"{folder}/c.wav", weights=[2, 1])
    ...     sf.read(made)[0][0].round(6).tolist()
    [0.2, 0.2]
    """
    out = Path(out)
    subtype = check_subtype(out, subtype)
    with usage_errors():
        fusion = _fusion_of_files(how, [str(number) for number, _ in enumerate(files, 1)], weights, options)
        fusion.check()
    track = _track_of_files(files)
    stem = fusion.fit([track]).fuse(track)[STEM]
    # reading and writing take the time; threads that wait for the next small product would only burn processors
    with threadpool_limits(1, user_api="blas"):
        write_audio(
            [out], (block[None] for _, block in stem.blocks()), track.rate, track.channels, subtype, [shown or out]
        )
    return out


def _track_of_files(files: Sequence[str | os.PathLike[str]]) -> Track:
    """A track to which each file is a separator's only stem; the first stands for the mixture."""
    if not files:
        raise FusionError("got no files, expected the files of one stem")
    first, *others = (open_signal(file) for file in files)
    signals = [first]
    for signal in others:
        if (signal.rate, signal.channels) != (first.rate, first.channels):
            raise AudioError(
                f"{signal}: got {signal.channels} channels at {signal.rate} Hz, expected {first.channels} at "
                f"{first.rate} Hz as in {first}; convert one to the other"
            )
        signals.append(fit_length(signal, first.length)[0])
    stems = {str(number): Stems.from_signals({STEM: signal}) for number, signal in enumerate(signals, 1)}
    return Track(str(first), first, stems=stems)


def _fusion_of_files(
    how: str, names: list[str], weights: Sequence[float] | None, options: dict[str, Any]
) -> BaseFusion:
    """The fusion of one stem that a name means."""
    if how not in (*AVERAGES, *RULES, Crossover.kind):
        known = (*AVERAGES, *RULES, Crossover.kind)
        raise wrong_usage(
            FusionError(f"how={how!r} is unknown, there are {', '.join(known)}{did_you_mean(how, known)}")
        )
    if how in AVERAGES:
        if weights is not None and (len(weights) != len(names) or not sum(weights)):
            raise wrong_usage(
                FusionError(
                    f"got weights {weights} for {len(names)} files, expected one for each, with a sum other than zero"
                )
            )
        return make_fusion(Average.kind, blend=weights, **options)
    if weights is not None:
        raise wrong_usage(FusionError(f"got weights for {how}; only {' and '.join(AVERAGES)} take them"))
    if how == Crossover.kind:
        return make_fusion(how, **{"edges_hz": (), "bands": names, **options})
    return make_fusion(Combine.kind, how=how, **options)
