"""One training loop for everything that learns by gradient, here and in the mixers; and what separators learn from."""

from stemfuse.separators.networks.training.chunks import Augmentation
from stemfuse.separators.networks.training.stretching import Stretching, stretched_copies

from .checkpoints import read_checkpoint, write_checkpoint
from .execution import Execution, History, Recipe

__all__ = [
    "Augmentation",
    "Execution",
    "History",
    "Recipe",
    "Stretching",
    "read_checkpoint",
    "stretched_copies",
    "write_checkpoint",
]
