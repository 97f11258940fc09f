"""The stages of a run, each used by the pipeline and by a command of its own; none imports the pipeline."""

from .bound import bound
from .fit import fit
from .fuse import fuse_paths
from .measure import measure
from .report import report
from .score import score, score_folders
from .separate import adopt_folder, separate, separate_paths
from .single_fit import fit_fusion
from .train import TrainConfig, train_separator

__all__ = [
    "TrainConfig",
    "adopt_folder",
    "bound",
    "fit",
    "fit_fusion",
    "fuse_paths",
    "measure",
    "report",
    "score",
    "score_folders",
    "separate",
    "separate_paths",
    "train_separator",
]
