"""Measuring and looking: BSS Eval, Gram statistics, aggregates, significance, figures."""

from .aggregates import MEAN, SUMS, aggregate, by_source, source_order, track_scores
from .bands import band_statistics
from .bss_eval import ReferenceProjection, Scores, bss_eval, song_sdr
from .candidates import CandidateScorer, blend_terms, quadratic_form
from .evaluation import score_track, summarise
from .figures import plot_weights, plot_weights_grid
from .framing import frame_slices
from .gram import GramError, GramStatistics
from .projected import ProjectionStatistics
from .score_figures import plot_gains, plot_scores
from .scores import (
    METRICS,
    SONG_SDR,
    WHOLE_SONG,
    ScoreError,
    check_scores,
    common_mask,
    read_museval_json,
    read_scores,
    scores_table,
    write_museval_json,
    write_scores,
)
from .search_figures import search_figures
from .significance import BEST_PER_SOURCE, FEWEST_TRACKS, TIE_DB, best_single, compare, with_best_per_source
from .song_metrics import SONG_METRICS, bleedless_fullness, l1_frequency, si_sdr, song_metrics
from .time_figures import plot_training, plot_weights_over_time

__all__ = [
    "BEST_PER_SOURCE",
    "FEWEST_TRACKS",
    "MEAN",
    "METRICS",
    "SONG_METRICS",
    "SONG_SDR",
    "SUMS",
    "TIE_DB",
    "WHOLE_SONG",
    "CandidateScorer",
    "GramError",
    "GramStatistics",
    "ProjectionStatistics",
    "ReferenceProjection",
    "ScoreError",
    "Scores",
    "aggregate",
    "band_statistics",
    "best_single",
    "bleedless_fullness",
    "blend_terms",
    "bss_eval",
    "by_source",
    "check_scores",
    "common_mask",
    "compare",
    "frame_slices",
    "l1_frequency",
    "plot_gains",
    "plot_scores",
    "plot_training",
    "plot_weights",
    "plot_weights_grid",
    "plot_weights_over_time",
    "quadratic_form",
    "read_museval_json",
    "read_scores",
    "score_track",
    "scores_table",
    "search_figures",
    "si_sdr",
    "song_metrics",
    "song_sdr",
    "source_order",
    "summarise",
    "track_scores",
    "with_best_per_source",
    "write_museval_json",
    "write_scores",
]
