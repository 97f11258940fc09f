"""Published separation networks, written from their papers, trained here or with the weights of their authors.

One family is two files. ``<family>.py`` has the network in PyTorch, and how the tensors of published files become its
own. ``<family>_separator.py`` has the separator, which imports PyTorch only when it separates. For a family that can be
trained here it also has the `TrainableNetwork`: sizes, loss, and notes in the file of weights.

``network_separator``   base of all separators: files of weights, device, options that the file's notes decide
``chunking``            songs of any length through a network, chunk by chunk
``spectrogram``         Fourier transforms, and the way back for whole songs
``wiener``              the multichannel Wiener filter that follows masks
``trained``             three small separators whose weights come with the package
``training``            what separators are trained by; the loop itself is `stemfuse.separators.training`

Where files of weights are found, checked and read: `stemfuse.separators.weights`.
"""

from .d3net_separator import D3Net
from .demucs_v2_separator import DemucsDanna, DemucsV2
from .ismir2020_separator import Ismir2020
from .kuielab_mdx_separator import KuielabMDX, KuielabMDXDemucs
from .network_separator import NetworkSeparator
from .resunet_separator import ResUNet143Subband
from .spleeter_separator import Spleeter
from .tfc_tdf_separator import TFCTDF
from .unet_danna_separator import UNetDanna
from .xumx_separator import XUMX

__all__ = [
    "TFCTDF",
    "XUMX",
    "D3Net",
    "DemucsDanna",
    "DemucsV2",
    "Ismir2020",
    "KuielabMDX",
    "KuielabMDXDemucs",
    "NetworkSeparator",
    "ResUNet143Subband",
    "Spleeter",
    "UNetDanna",
]
