"""Constant blends in the files of other programs: exported for them, imported from them.

A program that computes weighted averages of each source's own stems takes only such blends: see
`stemfuse.blending.weighted_average`. KUIELab's mixer takes any weights of one separator and the mixture.
"""

from .exports import (
    EXPORTS,
    export_audio_separator_presets,
    export_demucs_bag,
    export_msst_commands,
)
from .kuielab import export_kuielab_mixer, import_kuielab_mixer

__all__ = [
    "EXPORTS",
    "export_audio_separator_presets",
    "export_demucs_bag",
    "export_kuielab_mixer",
    "export_msst_commands",
    "import_kuielab_mixer",
]
