"""One training loop for everything that learns by gradient, here and in the mixers; and what separators learn from."""

from .checkpoints import read_checkpoint, write_checkpoint
from .chunks import Augmentation
from .execution import Execution, History, Recipe
from .stretching import Stretching, stretched_copies

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
