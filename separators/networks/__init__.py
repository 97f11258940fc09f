"""Published separation networks, written from their papers, trained here or with the weights of their authors."""

from .kuielab_mdx import KuielabMDX, KuielabMDXDemucs
from .mask_adapters import XUMX, UNetDanna
from .published import PublishedFile, check_published, find_published, published_files
from .spectrogram_adapters import TFCTDF, Ismir2020
from .waveform_adapters import DemucsDanna, DemucsV2, ResUNet143Subband
from .weights import find_weights, weights_folder

__all__ = [
    "TFCTDF",
    "XUMX",
    "DemucsDanna",
    "DemucsV2",
    "Ismir2020",
    "KuielabMDX",
    "KuielabMDXDemucs",
    "PublishedFile",
    "ResUNet143Subband",
    "UNetDanna",
    "check_published",
    "find_published",
    "find_weights",
    "published_files",
    "weights_folder",
]
