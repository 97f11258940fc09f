"""Fusions whose weights are found without back-propagation, and the one form that every linear fusion takes."""

from .application import apply_weights, check_inputs, read_inputs
from .conformance import check_fusion
from .constant import PRESETS, Fixed, Mean, Preset, list_presets
from .fusion import Fusion, LinearFusion, fusion_class, list_fusions, load_fusion, make_fusion, save_description
from .weights import FusionError, MixingWeights, channel_names, input_labels, output_labels

__all__ = [
    "PRESETS",
    "Fixed",
    "Fusion",
    "FusionError",
    "LinearFusion",
    "Mean",
    "MixingWeights",
    "Preset",
    "apply_weights",
    "channel_names",
    "check_fusion",
    "check_inputs",
    "fusion_class",
    "input_labels",
    "list_fusions",
    "list_presets",
    "load_fusion",
    "make_fusion",
    "output_labels",
    "read_inputs",
    "save_description",
]
