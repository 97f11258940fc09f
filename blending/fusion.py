"""What a fusion is: the contract, and the bases that fusions derive from."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from stemfuse.separators import SOURCES, Stems, Track, checked_constructor, in_order, write_whole
from stemfuse.separators.optional import require_packages

from .application import apply_weights
from .errors import FusionError
from .weights import MixingWeights

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
    needs : mapping of str to str
        Packages that fitting needs and that are not always installed; by each, the extra that installs it.
    separators_ : mapping of str to mapping
        By label, how each separator describes itself: what `save` keeps, so that missing stems can be made by the
        same ones. Set by the caller of `fit`; empty when not known.
    songs_ : sequence of str
        Of the songs that it was fitted to or validated on, the beginnings of their mixtures' digests: scores on them
        are too good. `save` keeps them. Set by the caller of `fit`; empty when not known.
    execution : Execution, optional
        Where a training runs, checkpoints, progress; None where nothing is trained by gradient.
    inner_execution : Execution, optional
        Of the fusions that it is built on, where they are trained by gradient; set it before `fit`.
    progress : callable, optional
        Called as ``progress(source, done, total)`` while `fit` searches; set it before.
    history_ : sequence of dict
        One row per epoch of a training; not saved.
    kept_equal_ : tuple of str
        Sources of which a search kept equal weights, see `stemfuse.blending.Search`.
    studies_ : mapping of str to optuna.Study
        A search's trials by source.
    """

    kind: ClassVar[str]
    learns: ClassVar[bool] = True
    is_linear: ClassVar[bool] = False
    varies_in_time: ClassVar[bool] = False
    needs_no_stems: ClassVar[bool] = False
    needs: ClassVar[Mapping[str, str]] = MappingProxyType({})
    suffix: ClassVar[str] = ".json"
    separators: Sequence[str] | None = None
    separators_: Mapping[str, Any] = MappingProxyType({})
    songs_: Sequence[str] = ()
    execution: Execution | None = None
    inner_execution: Execution | None = None
    progress: Callable[[str, int, int], None] | None = None
    history_: Sequence[Mapping[str, float]] = ()
    studies_: Mapping[str, Any] = MappingProxyType({})
    kept_equal_: tuple[str, ...] = ()

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "__init__" in vars(cls):
            cls.__init__ = checked_constructor(cls.__init__, FusionError)  # type: ignore[method-assign]

    def check(self) -> None:
        """Raise unless the arguments make sense and the packages that fitting needs are installed.

        `fit` does so too, when stems have been made and read; this needs no tracks. A subclass adds checks of its own.

        Raises
        ------
        FusionError
            The message says what is wrong.
        """
        require_packages(self.needs, f"fusion {self.kind}", FusionError)

    def check_inputs(self, given: Mapping[str, Sequence[str] | None]) -> None:
        """Raise where it is known before stems are made that it cannot be fitted to those of these separators.

        Parameters
        ----------
        given : mapping of str to sequence of str or None
            By label, in the tracks' order, the sources that a separator gives; None where that is not known yet.

        Raises
        ------
        FusionError
            The message says what is missing, as that of `fit` would.
        """
        for part in self.parts():
            part.check_inputs(given)

    def parts(self) -> tuple[BaseFusion, ...]:
        """Fusions that this one is built on, as its arguments make them."""
        return ()

    def trained_by(self, execution: Execution | None) -> Self:
        """Let it, and the fusions that it is built on, be trained so, where anything is trained by gradient.

        Parameters
        ----------
        execution : Execution, optional
            None leaves all as it is.
        """
        if execution is not None:
            self.execution = self.execution and execution
            self.inner_execution = execution
        return self

    def files(self) -> tuple[Path, ...]:
        """Files that the arguments name and whose content decides the result."""
        return tuple(file for part in self.parts() for file in part.files())

    def packages(self) -> tuple[str, ...]:
        """Packages beside numpy and scipy whose versions decide what `fit` learns."""
        return tuple(self.needs)

    def saved_files(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """All files that ``save(path)`` writes, ``path`` first; a subclass whose `save` writes more names them."""
        return (Path(path),)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has learnt something that the fusion keeps."""
        kept = vars(self).keys() - {"separators_", "songs_"}
        return any(name.endswith("_") and not name.startswith("_") for name in kept)

    @property
    def constant_weights(self) -> MixingWeights | None:
        """The fitted weights that hold for all tracks; None where there are none."""
        return None

    @property
    def needs_one_rate(self) -> bool:
        """Whether all tracks that it is fitted to must have one sample rate."""
        return False

    @property
    def fitted_rate(self) -> int | None:
        """Sample rate in Hz of the tracks that it fuses; None where any will do."""
        return None

    @property
    def fitted_channels(self) -> int | None:
        """Number of channels of the tracks that it fuses; None where any will do."""
        weights = self.constant_weights
        return None if weights is None else len(weights.outputs) // len(weights.sources)

    @property
    def fitted_sources(self) -> tuple[str, ...] | None:
        """Sources that it gives; None where that depends on the stems that it is given."""
        weights = self.constant_weights
        return None if weights is None else weights.sources

    @property
    def chosen_by_valid(self) -> str:
        """What validation tracks choose in `fit`, in a word or two; empty where they choose nothing."""
        if self.execution is not None:
            return "its epoch"
        return next((part.chosen_by_valid for part in self.parts() if not part.is_fitted and part.chosen_by_valid), "")

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
        """Write the fitted weights and the fusion's kind and arguments into one ``.npz``."""
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


def describe_fusion(fusion: BaseFusion) -> str:
    """Kind, arguments and, when known, separators of a fusion, as JSON."""
    described: dict[str, Any] = {"kind": fusion.kind, "arguments": fusion.arguments()}
    if fusion.separators_:
        described["separators"] = dict(fusion.separators_)
    if fusion.songs_:
        described["songs"] = list(fusion.songs_)
    return json.dumps(described, ensure_ascii=False, indent=1, default=list)


def save_description(path: str | os.PathLike[str], fusion: BaseFusion) -> None:
    """Write kind, arguments and separators of a fusion as JSON: all of a fusion that has learnt nothing."""
    text = describe_fusion(fusion)
    write_whole(Path(path), lambda file: file.write(text.encode()))


def first_of(train: Sequence[Track]) -> Track:
    """The first track; all others need the same separators, each with the sources that it gives for other songs.

    A separator may lack a stem where a song has no reference of this source: the source does not sound there.
    """
    if not train:
        raise FusionError("got no tracks, expected at least one with stems")
    first = train[0]
    if not first.stems:
        raise FusionError(f"track {first.name!r} has no stems; attach some with StemStore.attach")
    for track in train[1:]:
        if set(track.stems) != set(first.stems):
            raise FusionError(
                f"track {track.name!r} has stems by {', '.join(track.stems) or 'no separator'}, "
                f"track {first.name!r} by {', '.join(first.stems)}; all tracks need the same separators and sources"
            )
    given = given_sources(train)
    for track in train:
        needed = SOURCES if track.references is None else track.references.sources
        for label, sources in given.items():
            missing = [name for name in sources if name in needed and name not in track.stems[label].sources]
            if missing:
                raise FusionError(
                    f"track {track.name!r} has no stem of {', '.join(missing)} by {label}, other tracks have; "
                    "all tracks need the same separators and sources"
                )
    return first


def given_sources(train: Sequence[Track]) -> dict[str, tuple[str, ...]]:
    """By separator, the sources that it gives for any of the tracks.

    Examples
    --------
    >>> from stemfuse.blending.conformance import conformance_tracks
    >>> given_sources(conformance_tracks(("a",)))
    {'a': ('drums', 'bass', 'other', 'vocals')}
    """
    found: dict[str, list[str]] = {}
    for track in train:
        for label, stems in track.stems.items():
            found.setdefault(label, []).extend(stems.sources)
    return {label: in_order(sources) for label, sources in found.items()}
