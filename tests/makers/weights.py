"""Small files of weights and rows of the table of published files."""

import hashlib

import torch

from stemfuse.separators.networks.tfc_tdf import TFCTDFShape, TFCTDFUNet
from stemfuse.separators.networks.xumx import XUMXNetwork, XUMXShape
from stemfuse.separators.weights.published import PublishedFile


def row_of(content, name="net.pth", system="xumx", **more):
    """A row of the table for a file of this content."""
    known = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} | more
    options = {"separators": [system], "origin": "a server", "licence": "as stated"} | known
    return PublishedFile(system=system, name=name, **options)


def files_in(folder):
    """All files below a folder, as sorted relative names."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def make_xumx():
    """A small X-UMX for inference."""
    return XUMXNetwork(XUMXShape(bins=129, used_bins=93, hidden=8, layers=2)).eval()


def make_tfc_tdf():
    """A small TFC-TDF U-Net."""
    return TFCTDFUNet(TFCTDFShape(levels=2, layers=2, growth=4, bins=64))


def small_xumx():
    """The small X-UMX with the same random weights each time."""
    torch.manual_seed(0)
    return make_xumx()


def small_tfc_tdf():
    """The small TFC-TDF U-Net with the same random weights each time."""
    torch.manual_seed(0)
    return make_tfc_tdf()
