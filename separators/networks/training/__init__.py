"""What separators are trained by: networks and their sizes, chunks of songs, losses.

``trainable``         `TrainableNetwork`, base of each family's options, which lie beside its separator
``chunks``            random chunks of songs to train on, fixed ones to validate by
``stretching``        copies of songs at other pitches and tempos
``objectives``        from a batch of chunks to losses; imports PyTorch
``combination_loss``  the loss of X-UMX; imports PyTorch
``fit``               `fit_network`, from tracks to a file of weights; imports PyTorch

The loop itself is shared with mixers: `stemfuse.separators.training`.
"""

from .chunks import Augmentation
from .stretching import Stretching, stretched_copies
from .trainable import TrainableNetwork, list_trainable, trainable_class

__all__ = [
    "Augmentation",
    "Stretching",
    "TrainableNetwork",
    "list_trainable",
    "stretched_copies",
    "trainable_class",
]
