"""Published separation networks, written from their papers, trained here or with the weights of their authors."""

from stemfuse.separators.weights.folder import find_weights, weights_folder
from stemfuse.separators.weights.published import PublishedFile, check_published, find_published, published_files

from .demucs_v2_separator import DemucsDanna, DemucsV2
from .ismir2020_separator import Ismir2020
from .kuielab_mdx import KuielabMDX, KuielabMDXDemucs
from .resunet_separator import ResUNet143Subband
from .tfc_tdf_separator import TFCTDF
from .unet_danna_separator import UNetDanna
from .xumx_separator import XUMX

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
