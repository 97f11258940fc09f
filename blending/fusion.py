"""What a fusion is, how one is made by name, saved and loaded."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from stemfuse.separators import Registry, Stems, Track, write_whole

from .application import apply_weights
from .errors import FusionError
from .weights import MixingWeights, load_arrays

if TYPE_CHECKING:
    from stemfuse.separators.training import Execution


@runtime_checkable
class Fusion(Protocol):
    """Anything that turns a track with stems into fused stems, and declares what it is.

    As in scikit-learn: arguments are stored unchanged, `fit` returns the fusion itself, and what it has learnt ends
    in ``_``. `BaseFusion` has all of this; `check_fusion` tests it; an entry point in the group ``stemfuse.fusions``
    makes one known by name.

    Attributes
    ----------
    kind : str
        The name it is registered under.
    learns : bool
        Whether `fit` needs tracks with references; otherwise it only looks at which stems there are.
    is_linear : bool
        Whether it has weights: a method ``weights(track) -> MixingWeights``.
    varies_in_time : bool
        Whether its weights are predicted for each song, segment by segment.
    suffix : str
        What the name of its file ends in.
    separators : sequence of str, optional
        Labels of the separators that it mixes; None for all that the track has.
    """

    kind: ClassVar[str]
    learns: ClassVar[bool]
    is_linear: ClassVar[bool]
    varies_in_time: ClassVar[bool]
    suffix: ClassVar[str]
    separators: Sequence[str] | None

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Learn from tracks with references and stems; ``valid`` chooses among what was learnt."""
        ...

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, as long as its mixture."""
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that `load_fusion` needs."""
        ...


class BaseFusion:
    """Base of all fusions, linear or not: a subclass implements `fit` and `fuse`, and declares what it is.

    Attributes
    ----------
    kind, learns, is_linear, varies_in_time, suffix, separators
        See `Fusion`.
    needs_no_stems : bool
        Whether it fuses tracks without stems too, from the mixture alone.
    separators_ : mapping of str to mapping
        By label, how each separator describes itself: what `save` keeps, so that missing stems can be made by the
        same ones. Set by whoever fits; empty when not known.
    execution : Execution, optional
        Where a training runs, checkpoints, progress; None where nothing is trained by gradient.
    progress : callable, optional
        Called as ``progress(source, done, total)`` while `fit` searches; set it before.
    history_ : sequence of dict
        One row per epoch of a training; not saved.
    studies_ : mapping of str to optuna.Study
        A search's trials by source.
    """

    kind: ClassVar[str]
    learns: ClassVar[bool] = True
    is_linear: ClassVar[bool] = False
    varies_in_time: ClassVar[bool] = False
    needs_no_stems: ClassVar[bool] = False
    suffix: ClassVar[str] = ".json"
    separators: Sequence[str] | None = None
    separators_: Mapping[str, Any] = MappingProxyType({})
    execution: Execution | None = None
    progress: Callable[[str, int, int], None] | None = None
    history_: Sequence[Mapping[str, float]] = ()
    studies_: Mapping[str, Any] = MappingProxyType({})

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has learnt something that the fusion keeps."""
        return any(name.endswith("_") and not name.startswith("_") for name in vars(self))

    @property
    def constant_weights(self) -> MixingWeights | None:
        """The fitted weights that hold for all tracks; None where there are none."""
        return None

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Learn from tracks with references and stems; see the subclass."""
        raise FusionError(f"{type(self).__name__} cannot be fitted")

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, computed range by range; see the subclass."""
        raise FusionError(f"{type(self).__name__} cannot fuse")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write kind, arguments and separators as JSON."""
        save_description(path, self)

    def restore(self, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote beside the description; the arguments are those that it was saved with."""
        return self

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{type(self).__name__}({arguments})"


class LinearFusion(BaseFusion):
    """Base of fusions that are a matrix: a subclass implements `fit` and sets ``weights_``.

    Attributes
    ----------
    weights_ : MixingWeights
        What `fit` has learnt.
    """

    is_linear: ClassVar[bool] = True
    suffix: ClassVar[str] = ".npz"
    weights_: MixingWeights

    @property
    def constant_weights(self) -> MixingWeights | None:
        """The fitted weights that hold for all tracks; None where there are none."""
        return vars(self).get("weights_")

    def weights(self, track: Track) -> MixingWeights:
        """Weights for a track; the same for all tracks unless the fusion varies in time.

        Raises
        ------
        FusionError
            The fusion is not fitted.
        """
        if self.constant_weights is None:
            raise FusionError(f"{self.kind}: not fitted; call fit(tracks) first, or load a fitted one")
        return self.constant_weights

    def fuse(self, track: Track) -> Stems:
        """Fused stems of one track, computed range by range; see `apply_weights`."""
        return apply_weights(self.weights(track), track)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted weights and the fusion's kind and arguments into one ``.npz`` without pickle."""
        if self.constant_weights is None:
            raise FusionError(f"{self.kind}: not fitted; there is nothing to save")
        self.constant_weights.save(path, fusion=describe_fusion(self))


class WeightlessFusion(BaseFusion):
    """Base of fusions that are no matrix and learn nothing: a subclass implements `fuse` and is its arguments."""

    learns: ClassVar[bool] = False

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Check that the first of the tracks, and so all, has the stems that `fuse` needs; no audio is read."""
        self.fuse(first_of(train))
        return self


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
    return str(fusion.suffix)


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
        made: Fusion = fusion.restore(path)
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
    if fusion.separators_:
        described["separators"] = dict(fusion.separators_)
    return json.dumps(described, ensure_ascii=False, indent=1, default=list)


def save_description(path: str | os.PathLike[str], fusion: Any) -> None:
    """Write a fusion without weights as JSON: its description is all of it."""
    text = describe_fusion(fusion)
    write_whole(Path(path), lambda file: file.write(text.encode()))


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
