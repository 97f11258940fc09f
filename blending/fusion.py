"""What a fusion is, how one is made by name, saved and loaded."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from stemfuse.separators import Registry, Stems, Track, write_whole

from .application import apply_weights
from .errors import FusionError
from .weights import MixingWeights, load_arrays


@runtime_checkable
class Fusion(Protocol):
    """Anything that turns a track with stems into fused stems.

    As in scikit-learn: arguments are stored unchanged, `fit` returns the fusion itself, and what it has learnt ends
    in ``_``. `check_fusion` tests all this; an entry point in the group ``stemfuse.fusions`` makes one known by name.
    """

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Learn from tracks with references and stems; ``valid`` chooses among what was learnt."""
        ...

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, as long as its mixture."""
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that `load_fusion` needs."""
        ...


class LinearFusion:
    """Base of fusions that are a matrix: a subclass implements `fit` and sets ``weights_``.

    Attributes
    ----------
    kind : str
        The name it is registered under.
    learns : bool
        Whether `fit` needs to hear tracks with references; otherwise it only looks at which stems there are.
    weights_ : MixingWeights
        What `fit` has learnt.
    separators_ : mapping of str to mapping
        By label, how each separator describes itself, where whoever fitted has said so: what `save` keeps, so that
        missing stems can be made by the same ones.
    """

    kind: ClassVar[str]
    learns: ClassVar[bool] = True
    suffix: ClassVar[str] = ".npz"
    weights_: MixingWeights
    separators_: Mapping[str, Any]

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Learn the weights from tracks with stems; see the subclass."""
        raise FusionError(f"{type(self).__name__} cannot be fitted")

    def weights(self, track: Track) -> MixingWeights:
        """Weights for a track; the same for all tracks unless the fusion says otherwise.

        Raises
        ------
        FusionError
            The fusion is not fitted.
        """
        if not hasattr(self, "weights_"):
            raise FusionError(f"{self.kind}: not fitted; call fit(tracks) first, or load a fitted one")
        return self.weights_

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, computed range by range; see `apply_weights`."""
        return apply_weights(self.weights(track), track)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted weights and the fusion's kind and arguments into one ``.npz`` without pickle."""
        if not hasattr(self, "weights_"):
            raise FusionError(f"{self.kind}: not fitted; there is nothing to save")
        self.weights_.save(path, fusion=describe_fusion(self))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{type(self).__name__}({arguments})"


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
        "fixed": "stemfuse.blending.constant:Fixed",
        "gram_mixer": "stemfuse.mixers.gram_mixer:GramMixer",
        "least_squares": "stemfuse.blending.least_squares:LeastSquares",
        "mean": "stemfuse.blending.constant:Mean",
        "mlp_mixer": "stemfuse.mixers.mlp_mixer:MLPMixer",
        "mixture_consistency": "stemfuse.blending.classical.residual:MixtureConsistency",
        "residual": "stemfuse.blending.classical.residual:Residual",
        "search": "stemfuse.blending.search:Search",
        "wiener": "stemfuse.blending.classical.wiener:Wiener",
    },
    FusionError,
)


def list_fusions() -> list[str]:
    """Names that `make_fusion` knows, sorted.

    Examples
    --------
    >>> "mean" in list_fusions()
    True
    """
    return REGISTRY.names()


def fusion_class(kind: str) -> Any:
    """Class of a registered fusion.

    Raises
    ------
    FusionError
        Unknown kind; the message lists the known ones.
    """
    return REGISTRY.find(kind)


def file_suffix(fusion: Any) -> str:
    """What the name of a fusion's file has to end in: ``.npz`` unless its class says otherwise in ``suffix``."""
    return str(getattr(fusion, "suffix", ".npz" if hasattr(fusion, "weights") else ".json"))


def make_fusion(name: str, **arguments: Any) -> Fusion:
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
    fusion: Fusion = REGISTRY.make(name, arguments)
    return fusion


def load_fusion(path: str | os.PathLike[str]) -> Fusion:
    """Read a fusion that was saved, or bare mixing weights, which become a ``fixed`` fusion.

    Parameters
    ----------
    path : path-like
        What ``save`` wrote: ``.npz`` for constant weights, ``.safetensors`` with a ``.json`` beside it for a
        network that says them, ``.json`` alone for a fusion without weights.

    Raises
    ------
    FusionError
        The file is missing, damaged, or holds a kind that is not installed.
    """
    path = Path(path)
    if path.suffix in (".json", ".safetensors"):
        described = path.with_suffix(".json")
        fusion: Any = _described(described, _read_text(described))
        made: Fusion = fusion.restore(path) if hasattr(fusion, "restore") else fusion
        return made
    arrays = load_arrays(path)
    weights = MixingWeights.from_arrays(arrays, path)
    if "fusion" not in arrays:
        return make_fusion("fixed", blend=weights).fit([])
    linear: LinearFusion = _described(path, str(arrays["fusion"]))
    linear.weights_ = weights
    return linear


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FusionError(f"{path}: no fusion can be read ({error}); stemfuse fit makes one") from error


def _described(path: Path, text: str) -> Any:
    try:
        described = json.loads(text)
        kind, arguments = described["kind"], described["arguments"]
    except (ValueError, KeyError, TypeError) as error:
        raise FusionError(f"{path}: does not say which fusion it holds ({error!r}); fit again") from error
    fusion: Any = make_fusion(kind, **arguments)
    if described.get("separators"):
        fusion.separators_ = described["separators"]
    return fusion


def describe_fusion(fusion: Any) -> str:
    """Kind, arguments and, when known, separators of a fusion, as JSON."""
    described = {"kind": fusion.kind, "arguments": fusion.arguments()}
    if getattr(fusion, "separators_", None):
        described["separators"] = fusion.separators_
    return json.dumps(described, ensure_ascii=False, indent=1, default=list)


def save_description(path: str | os.PathLike[str], fusion: Any) -> None:
    """Write a fusion without weights as JSON: its description is all of it."""
    text = describe_fusion(fusion)
    write_whole(Path(path), lambda file: file.write(text.encode()))


class WeightlessFusion:
    """Base of fusions that are no matrix and learn nothing: a subclass implements `fuse` and is its arguments.

    Attributes
    ----------
    kind : str
        The name it is registered under.
    """

    kind: ClassVar[str]
    learns: ClassVar[bool] = False
    suffix: ClassVar[str] = ".json"

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Check that the first of the tracks, and so all, has the stems that `fuse` needs; no audio is read."""
        self.fuse(first_of(train))
        return self

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, computed range by range; see the subclass."""
        raise FusionError(f"{type(self).__name__} cannot fuse")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write kind and arguments as JSON."""
        save_description(path, self)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{type(self).__name__}({arguments})"


def first_of(train: Sequence[Track]) -> Track:
    """The first track; its separators and sources have to be those of all."""
    if not train:
        raise FusionError("no track came, expected at least one with stems")
    first = train[0]
    if not first.stems:
        raise FusionError(f"track {first.name!r} has no stems; attach some with StemStore.attach")
    for track in train[1:]:
        if {name: stems.sources for name, stems in track.stems.items()} != {
            name: stems.sources for name, stems in first.stems.items()
        }:
            raise FusionError(
                f"track {track.name!r} has stems by {', '.join(track.stems) or 'nobody'}, track {first.name!r} by "
                f"{', '.join(first.stems)}; all tracks need the same separators and sources"
            )
    return first
