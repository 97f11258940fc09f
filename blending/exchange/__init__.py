"""Constant blends in the files of other programs: exported for them, imported from them.

A program that computes weighted averages of each source's own stems takes only such blends: see
`stemfuse.blending.weighted_average`. KUIELab's mixer takes any weights of one separator and the mixture; its
whole chain, which is a separator here, those of four networks of one source each.
"""

from .exports import (
    EXPORTS,
    FOLDERS,
    export_audio_separator_presets,
    export_demucs_bag,
    export_msst_commands,
)
from .kuielab import export_kuielab_mixer, import_kuielab_mixer
from .kuielab_chain import export_kuielab_mdx

__all__ = [
    "EXPORTS",
    "FOLDERS",
    "export_audio_separator_presets",
    "export_demucs_bag",
    "export_kuielab_mdx",
    "export_kuielab_mixer",
    "export_msst_commands",
    "import_kuielab_mixer",
]
