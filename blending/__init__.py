"""Fusions whose weights are found without back-propagation, and the one form that every linear fusion takes."""

from stemfuse.separators.labels import channel_names, input_labels, output_labels

from .application import apply_weights, check_inputs, read_inputs
from .bounds import BAND_EDGES_HZ, bounds, leave_one_out
from .classical import (
    AVERAGES,
    RULES,
    Average,
    Combine,
    Crossover,
    EnergyConsistency,
    FittedWiener,
    MixtureConsistency,
    Residual,
    Wiener,
    combine_files,
    fit_gains,
    redistribute,
)
from .conformance import check_fusion
from .constant import PRESETS, Fixed, Mean, Preset, list_presets
from .errors import FusionError, LeakWarning
from .exchange import (
    EXPORTS,
    FOLDERS,
    export_audio_separator_presets,
    export_demucs_bag,
    export_kuielab_mdx,
    export_kuielab_mixer,
    export_msst_commands,
    import_kuielab_mixer,
)
from .explanation import Decomposition, decompose, weighted_average
from .fusion import BaseFusion, Fusion, LinearFusion, WeightlessFusion, save_description
from .guards import cross_validate, leaks
from .least_squares import LeastSquares, minimise
from .minimum_variance import MinimumVariance
from .registry import fusion_class, list_fusions, load_fusion, make_fusion
from .search import Search
from .space import BlendSpace
from .studies import open_studies
from .transductive import Transductive
from .uhlich import Uhlich2017
from .weights import MixingWeights

__all__ = [
    "AVERAGES",
    "BAND_EDGES_HZ",
    "EXPORTS",
    "FOLDERS",
    "PRESETS",
    "RULES",
    "Average",
    "BaseFusion",
    "BlendSpace",
    "Combine",
    "Crossover",
    "Decomposition",
    "EnergyConsistency",
    "FittedWiener",
    "Fixed",
    "Fusion",
    "FusionError",
    "LeakWarning",
    "LeastSquares",
    "LinearFusion",
    "Mean",
    "MinimumVariance",
    "MixingWeights",
    "MixtureConsistency",
    "Preset",
    "Residual",
    "Search",
    "Transductive",
    "Uhlich2017",
    "WeightlessFusion",
    "Wiener",
    "apply_weights",
    "bounds",
    "channel_names",
    "check_fusion",
    "check_inputs",
    "combine_files",
    "cross_validate",
    "decompose",
    "export_audio_separator_presets",
    "export_demucs_bag",
    "export_kuielab_mdx",
    "export_kuielab_mixer",
    "export_msst_commands",
    "fit_gains",
    "fusion_class",
    "import_kuielab_mixer",
    "input_labels",
    "leaks",
    "leave_one_out",
    "list_fusions",
    "list_presets",
    "load_fusion",
    "make_fusion",
    "minimise",
    "open_studies",
    "output_labels",
    "read_inputs",
    "redistribute",
    "save_description",
    "weighted_average",
]
