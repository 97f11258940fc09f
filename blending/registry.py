"""Fusions by name, and from their files."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from stemfuse.separators import Registry
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.foreign.documents import parse_object, read_text
from stemfuse.separators.foreign.table import DOCUMENT_BYTES, ForeignFileError

from .errors import FusionError
from .fusion import BaseFusion, LinearFusion
from .weights import MixingWeights, load_arrays

REGISTRY = Registry(
    "fusion",
    "stemfuse.fusions",
    {
        "average": "stemfuse.blending.classical.combiners:Average",
        "bandwise": "stemfuse.blending.bandwise:Bandwise",
        "combine": "stemfuse.blending.classical.combiners:Combine",
        "conv1x1": "stemfuse.mixers.conv1x1:Conv1x1Mixer",
        "crossover": "stemfuse.blending.classical.combiners:Crossover",
        "energy_consistency": "stemfuse.blending.classical.wiener:EnergyConsistency",
        "fitted_wiener": "stemfuse.blending.classical.fitted_wiener:FittedWiener",
        "fixed": "stemfuse.blending.constant:Fixed",
        "gram_mixer": "stemfuse.mixers.gram_mixer:GramMixer",
        "jaureguiberry2016": "stemfuse.mixers.jaureguiberry:Jaureguiberry2016",
        "least_squares": "stemfuse.blending.least_squares:LeastSquares",
        "manilow2017": "stemfuse.mixers.manilow:Manilow2017",
        "mean": "stemfuse.blending.constant:Mean",
        "mlp_mixer": "stemfuse.mixers.mlp_mixer:MLPMixer",
        "minimum_variance": "stemfuse.blending.minimum_variance:MinimumVariance",
        "mixture_consistency": "stemfuse.blending.classical.residual:MixtureConsistency",
        "residual": "stemfuse.blending.classical.residual:Residual",
        "search": "stemfuse.blending.search:Search",
        "transductive": "stemfuse.blending.transductive:Transductive",
        "uhlich2017": "stemfuse.blending.uhlich:Uhlich2017",
        "wiener": "stemfuse.blending.classical.wiener:Wiener",
    },
    FusionError,
)


RENAMED = {"search": {"frames": "over_frames", "tracks": "over_tracks"}}
"""Arguments that files of version 0.1 have under older names."""


def list_fusions() -> list[str]:
    """Names that `make_fusion` knows, sorted.

    Examples
    --------
    >>> "mean" in list_fusions()
    True
    """
    return REGISTRY.names()


def fusion_class(kind: str) -> type[BaseFusion]:
    """Class of a registered fusion.

    Raises
    ------
    FusionError
        Unknown kind, and the message lists the known ones; or a class that does not extend `BaseFusion`.
    """
    found = REGISTRY.find(kind)
    if not (inspect.isclass(found) and issubclass(found, BaseFusion)):
        raise FusionError(f"fusion {kind!r}: got {found!r}, expected a class that extends BaseFusion")
    return found


def make_fusion(name: str, **arguments: Any) -> BaseFusion:
    """Make a fusion by name.

    Parameters
    ----------
    name : str
        One of `list_fusions`.
    **arguments
        The fusion's own arguments.

    Raises
    ------
    FusionError
        The name or an argument is unknown; the message lists the known ones.

    Examples
    --------
    >>> make_fusion("mean")
    Mean()
    """
    fusion_class(name)
    fusion: BaseFusion = REGISTRY.make(name, arguments)
    return fusion


def load_fusion(path: str | os.PathLike[str]) -> BaseFusion:
    """Read a fusion that was saved, or bare mixing weights, which become a ``fixed`` fusion.

    Parameters
    ----------
    path : path-like
        What ``save`` wrote: ``.npz`` for constant weights, ``.safetensors`` with a ``.json`` beside it for a
        network that predicts them, ``.json`` alone for a fusion without weights.

    Raises
    ------
    FusionError
        The file is missing or damaged, or holds a kind that is not installed.
    """
    fusion = described_fusion(path)
    return fusion.restore(path) if Path(path).suffix in (".json", ".safetensors") else fusion


def described_fusion(path: str | os.PathLike[str]) -> BaseFusion:
    """What `load_fusion` reads without networks, which take time: arguments, separators, constant weights.

    Parameters
    ----------
    path : path-like
        As for `load_fusion`.

    Raises
    ------
    FusionError
        As for `load_fusion`.
    """
    path = Path(path)
    if path.is_dir():
        raise wrong_usage(
            FusionError(
                f"{path}: got a folder, expected a file that stemfuse fit saved, such as {path / 'blend.npz'}; those "
                "of a run lie in its folder fusions"
            )
        )
    if path.suffix == ".safetensors" and not path.exists():
        raise wrong_usage(FusionError(f"{path}: no such file; stemfuse fit makes one"))
    if path.suffix in (".json", ".safetensors"):
        description = path.with_suffix(".json")
        return _from_description(description, _read_text(description))
    arrays = load_arrays(path)
    weights = MixingWeights.from_arrays(arrays, path)
    if "fusion" not in arrays:
        return make_fusion("fixed", blend=weights).fit([])
    fusion = _from_description(path, str(arrays["fusion"]))
    if not isinstance(fusion, LinearFusion):
        raise FusionError(f"{path}: got weights of a {fusion.kind}, which has none; fit again")
    fusion.weights_ = weights
    return fusion


def _read_text(path: Path) -> str:
    try:
        return read_text(path, DOCUMENT_BYTES)
    except FileNotFoundError as error:
        raise wrong_usage(FusionError(f"{path}: no such file; stemfuse fit makes one")) from error
    except (OSError, ForeignFileError) as error:
        raise FusionError(f"{path}: no fusion can be read ({error}); stemfuse fit makes one") from error


def _from_description(path: Path, text: str) -> BaseFusion:
    """A fusion of the kind and arguments that `describe_fusion` wrote; what it has learnt is not in there."""
    try:
        described = parse_object(text)
        kind, arguments = described["kind"], described["arguments"]
        separators, songs = described.get("separators") or {}, described.get("songs") or []
    except (ForeignFileError, KeyError) as error:
        raise FusionError(f"{path}: the fusion's kind and arguments are missing ({error}); fit again") from error
    is_named = isinstance(kind, str) and isinstance(arguments, dict) and isinstance(separators, dict)
    is_known = isinstance(songs, list) and all(isinstance(song, str) for song in songs)
    if not (is_named and is_known) or not all(isinstance(separator, dict) for separator in separators.values()):
        raise FusionError(f"{path}: no kind, arguments and separators of a fusion; fit again")
    names = RENAMED.get(kind, {})
    fusion = make_fusion(kind, **{names.get(name, name): value for name, value in arguments.items()})
    if separators:
        fusion.separators_ = separators
    if songs:
        fusion.songs_ = tuple(songs)
    return fusion
