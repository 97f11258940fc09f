from .aggregates import MEAN, SUMS, aggregate, by_source, source_order, track_scores
from .bands import band_statistics
from .bss_eval import ReferenceProjection, Scores, SdrScores, bss_eval, frame_sdr, frame_slices, song_sdr
from .errors import GramError, ScoreError
from .figures import (
    SEARCH_FIGURES,
    figure_style,
    plot_bounds,
    plot_difference,
    plot_gains,
    plot_scores,
    plot_search,
    plot_training,
    plot_weights,
    plot_weights_grid,
    plot_weights_over_time,
    search_figures,
)
from .gram import GramStatistics
from .museval_json import read_museval_json, write_museval_json
from .picks import BEST_PER_SOURCE, LEFT_OUT_PICK, best_single, with_best_per_source, with_left_out_pick
from .projection_statistics import ProjectionStatistics
from .scores import (
    METRICS,
    SONG_SDR,
    WHOLE_SONG,
    check_scores,
    common_mask,
    read_scores,
    scores_table,
    write_scores,
)
from .significance import FEWEST_TRACKS, TIE_DB, compare, fewest_tracks_to_prove
from .song_metrics import SONG_METRICS, bleedless_fullness, l1_frequency, si_sdr, song_metrics
from .tracks import score_track, summarise

__all__ = [
    "BEST_PER_SOURCE",
    "FEWEST_TRACKS",
    "LEFT_OUT_PICK",
    "MEAN",
    "METRICS",
    "SEARCH_FIGURES",
    "SONG_METRICS",
    "SONG_SDR",
    "SUMS",
    "TIE_DB",
    "WHOLE_SONG",
    "GramError",
    "GramStatistics",
    "ProjectionStatistics",
    "ReferenceProjection",
    "ScoreError",
    "Scores",
    "SdrScores",
    "aggregate",
    "band_statistics",
    "best_single",
    "bleedless_fullness",
    "bss_eval",
    "by_source",
    "check_scores",
    "common_mask",
    "compare",
    "fewest_tracks_to_prove",
    "figure_style",
    "frame_sdr",
    "frame_slices",
    "l1_frequency",
    "plot_bounds",
    "plot_difference",
    "plot_gains",
    "plot_scores",
    "plot_search",
    "plot_training",
    "plot_weights",
    "plot_weights_grid",
    "plot_weights_over_time",
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
    "with_left_out_pick",
    "write_museval_json",
    "write_scores",
]
