"""One training loop for everything that learns by gradient: separators' networks, and mixers.

``execution``        `Recipe`, which decides the result, and `Execution`, where and how it is computed
``schedule``         which items each step and each process takes; imports PyTorch
``loop``             `run_training`, from an objective and data to the best epoch; imports PyTorch
``pace``             its rate on the first steps, and coarser products on a GPU
``logs``             TensorBoard's curves
``checkpoints``      tensors and a description in one file
``standardisation``  mean and deviation of a song
``audio_contents``   digests of the audio that a checkpoint has seen

What separators learn from, chunks of songs and losses, is in `stemfuse.separators.networks.training`.
"""

from .audio_contents import audio_contents
from .checkpoints import read_checkpoint, write_checkpoint
from .execution import OPTIMISER_NAMES, Execution, History, Recipe
from .standardisation import mean_and_deviation

__all__ = [
    "OPTIMISER_NAMES",
    "Execution",
    "History",
    "Recipe",
    "audio_contents",
    "mean_and_deviation",
    "read_checkpoint",
    "write_checkpoint",
]
