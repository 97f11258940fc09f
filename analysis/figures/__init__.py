"""Figures of weights, scores, searches, trainings and networks.

Each function takes tables or weights, never a fusion, and returns a matplotlib Figure with a canvas of its own, so that
``savefig`` works and pyplot's state is not touched. matplotlib is imported when the first figure is drawn.

======== ===============================================================================================
layers   layers of networks over frequency, sizes and costs of their blocks, and which block is best
matrices mixing matrices as heat maps, in the convention of the MDX-Mixer paper
scores   scores of every track, gains over a baseline with their intervals, and bounds
searches Optuna's figures of a search
folding  matrices of many rows, folded by side and source
time     weights over the time of a song, losses over the epochs of a training
style    colours, sizes and labels that all of them share; the style of papers
======== ===============================================================================================
"""

from .layers import plot_blocks, plot_frequency_maps, plot_layers, short_number
from .matrices import largest_weight, plot_difference, plot_weights, plot_weights_grid
from .scores import plot_bounds, plot_gains, plot_scores
from .searches import SEARCH_FIGURES, plot_search, search_figures
from .style import figure_style
from .time import plot_training, plot_weights_over_time

__all__ = [
    "SEARCH_FIGURES",
    "figure_style",
    "largest_weight",
    "plot_blocks",
    "plot_bounds",
    "plot_difference",
    "plot_frequency_maps",
    "plot_gains",
    "plot_layers",
    "plot_scores",
    "plot_search",
    "plot_training",
    "plot_weights",
    "plot_weights_grid",
    "plot_weights_over_time",
    "search_figures",
    "short_number",
]
