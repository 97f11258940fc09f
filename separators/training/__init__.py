"""One training loop for everything that learns by gradient, here and in the mixers."""

from .checkpoints import read_checkpoint, write_checkpoint
from .execution import Execution, History, Recipe

__all__ = ["Execution", "History", "Recipe", "read_checkpoint", "write_checkpoint"]
