"""BSS Eval v4 and v3: how well a separator's estimates match the true sources, with museval's values.

Conventions
-----------
* Arrays have museval's axes, (source, time, channel), and any real number format; `Stems` are read by time range.
  References and estimates have the same sources in the same order, the same length and the same channels. A mismatch
  or a sample that is not finite is an `AudioError`: nothing is padded, cut or resampled.
* ``window`` and ``hop`` are in samples; 44 100 each when not given, one second at 44.1 kHz.
* A frame is a scoring window. The frames of a signal are those that fit into it; a signal shorter than the window is
  one frame, and so is the whole signal with ``window=np.inf``.
* A source is silent in a frame when its sum over channels is zero at every sample. In a frame in which any reference or
  estimate is silent, all metrics of all sources are NaN. A metric whose denominator is zero is infinite.
* Results are in dB, float64, (source, frame); higher is better.

Metrics
-------
s is the reference of a source, y its estimate, both images: all channels, as the source is in the mixture. Sums of
squares are over time and channels of a frame. P_j y is the projection of y on the source's own reference channels, each
at delays of 0 to 511 samples; P y is the projection on the channels of all references at these delays. In other words,
filters of 512 taps bring the references as close to y as least squares can.

======= =================================== ============================================================================
metric  10 log10 of                         low when the estimate has
======= =================================== ============================================================================
``SDR`` sum s^2 / sum (s - y)^2             any error (source to distortion ratio)
``ISR`` sum s^2 / sum (P_j y - s)^2         its source at another place, level or colour (image to spatial distortion)
``SIR`` sum (P_j y)^2 / sum (P y - P_j y)^2 other sources (source to interference)
``SAR`` sum (P y)^2 / sum (y - P y)^2       something that is in no source (sources to artifacts)
======= =================================== ============================================================================

v4 finds the filters once on the whole signal, v3 again in every frame. SDR needs no filters: its denominator is a
quadratic form in the estimate, which `stemfuse.analysis.GramStatistics` uses. `song_sdr` is the SDR of a whole song of
the Music Demixing Challenge 2021: 10 log10 of (sum s^2 + 1e-7) / (sum (s - y)^2 + 1e-7).

Files
-----
============= ==========================================================================================================
evaluation    from audio to metrics: `bss_eval`, `ReferenceProjection`
sdr           SDR alone, by one pass without projections: `frame_sdr`, `song_sdr`
framing       arrays and stems, read by time range and checked; frames; which sources are silent
rounding      `project` chooses how filters are found; museval's order of operations for references that are singular
projection    correlations of references and estimates, and the filters by Cholesky factorisation
decomposition energies of s, P_j y, P y, y and their differences in every frame
arithmetic    transforms and factorisations in float64, by scipy or by torch on a GPU
museval       the reference package, importable without an ffmpeg program; for ``backend="museval"`` and for tests
============= ==========================================================================================================

``evaluation`` reads both signals through ``framing`` and gets a projection of the references from
``rounding.project``. For each estimate the projection finds the filters, ``decomposition.frame_energies`` computes the
energies, and ``evaluation`` divides them. The work on the references is done once for any number of estimates.

Papers
------
* E. Vincent, R. Gribonval, C. Fevotte, "Performance measurement in blind audio source separation", IEEE Trans. Audio,
  Speech, Language Process. 14(4), 2006: the decomposition by projections.
* E. Vincent et al., "First stereo audio source separation evaluation campaign", ICA 2007, eq. 3-6: images and ISR.
* F.-R. Stoeter, A. Liutkus, N. Ito, "The 2018 signal separation evaluation campaign", LVA/ICA 2018: v4 and museval.
* Y. Mitsufuji et al., "Music demixing challenge 2021", Frontiers in Signal Processing 1:808395, 2022: the SDR of songs.

Examples
--------
>>> import numpy as np
>>> generator = np.random.default_rng(0)
>>> references = generator.normal(0, 0.1, (2, 88200, 2))
>>> estimates = references + 0.1 * references[::-1]
>>> sdr, isr, sir, sar = bss_eval(references, estimates)
>>> sdr.shape, sdr.round()
((2, 2), array([[20., 20.], [20., 20.]]))
"""

from .evaluation import Backend, Mode, ReferenceProjection, Scores, bss_eval
from .framing import Audio, SourceAudio, check_pair, frame_slices, readable
from .sdr import SdrScores, frame_sdr, song_sdr

__all__ = [
    "Audio",
    "Backend",
    "Mode",
    "ReferenceProjection",
    "Scores",
    "SdrScores",
    "SourceAudio",
    "bss_eval",
    "check_pair",
    "frame_sdr",
    "frame_slices",
    "readable",
    "song_sdr",
]
