"""Sample formats of audio that is written, and its levels: samples beyond full scale, which integers clip."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from stemfuse.separators.errors import AudioError, wrong_usage
from stemfuse.separators.names import did_you_mean, shown

log = logging.getLogger(__name__)

FLOATS = frozenset({"FLOAT", "DOUBLE"})
"""libsndfile's sample formats that hold any level."""


SUBTYPES = ("FLOAT", "DOUBLE", "PCM_16", "PCM_24", "PCM_32", "PCM_U8", "PCM_S8")
"""libsndfile's sample formats that hold any rate and any number of channels."""


def check_subtype(path: Path, subtype: str | None = None) -> str:
    """A sample format as libsndfile names it, in any case, if a file of this name can have it.

    Parameters
    ----------
    path : Path
        Its suffix is that of the file.
    subtype : str, optional
        ``"FLOAT"`` when not given, or ``"PCM_24"`` where the file cannot have it.

    Raises
    ------
    AudioError
        The file cannot be written so.

    Examples
    --------
    >>> check_subtype(Path("song.wav"), "pcm_24"), check_subtype(Path("song.flac"))
    ('PCM_24', 'PCM_24')
    """
    container = path.suffix[1:].upper()
    known = [name for name in SUBTYPES if sf.check_format(container, name)]
    if not known:
        raise wrong_usage(
            AudioError(f"{path}: got {path.suffix or 'no suffix'}, expected a name that ends in .wav or .flac")
        )
    if subtype is None:
        return "FLOAT" if "FLOAT" in known else "PCM_24"
    if subtype.upper() not in known:
        near = did_you_mean(subtype, known)
        raise wrong_usage(
            AudioError(
                f"got sample format {shown(subtype)!r}, expected one of {', '.join(known)} in {path.suffix}{near}"
            )
        )
    return subtype.upper()


class Levels:
    """Peak and clipped samples of one file while it is written.

    Parameters
    ----------
    path : Path
        The file.
    subtype : str
        libsndfile's sample format.

    Examples
    --------
    >>> levels = Levels(Path("song.wav"), "PCM_16")
    >>> levels.add(np.array([[0.5, -1.5, 2.0]]))
    >>> levels.text()
    'song.wav: 2 of 3 samples are clipped to PCM_16, the peak is 2.000 (+6.0 dB); write --subtype FLOAT, ...'
    """

    def __init__(self, path: Path, subtype: str) -> None:
        self.path, self.subtype = path, subtype
        self.clipped, self.count, self.peak = 0, 0, 0.0

    def add(self, samples: NDArray[np.floating]) -> None:
        """Look at a block that is written."""
        if self.subtype in FLOATS or not samples.size:
            return
        size = np.abs(samples)
        self.peak = max(self.peak, float(size.max()))
        self.count += size.size
        self.clipped += int((size > 1).sum())

    def text(self) -> str:
        """What was clipped and how not to; empty when nothing was."""
        if not self.clipped:
            return ""
        decibels = 20 * np.log10(self.peak)
        can_float = self.path.suffix.lower() in (".wav", ".wave", ".rf64", ".aif", ".aiff", ".caf")
        advice = "write --subtype FLOAT" if can_float else "write a .wav, which holds floats"
        return (
            f"{self.path}: {self.clipped} of {self.count} samples are clipped to {self.subtype}, the peak is "
            f"{self.peak:.3f} ({decibels:+.1f} dB); {advice}, or turn the inputs down"
        )

    def report(self) -> None:
        """Log a warning where samples were clipped."""
        if text := self.text():
            log.warning("%s", text)
