"""What a separator is, how one is found by name, and the identity that its stems are cached under."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .audio.signals import RATE, ArraySignal, Samples, Signal
from .blocks import ReadInOrder, joined, whole
from .errors import AudioError, SeparatorError
from .mixtures import check_mixture, samples_of
from .options import checked_constructor
from .registry import Registry
from .stems import SOURCES, Stems

if TYPE_CHECKING:
    from .weights.folder import WeightFile


@runtime_checkable
class Separator(Protocol):
    """Anything that turns a mixture into stems.

    A third party's class needs no base class, only these names; `check_separator` tests them, and an
    entry point in the group ``stemfuse.separators`` makes it known by name.

    Attributes
    ----------
    name : str
        Short and readable; names folders, and is part of labels such as ``"mdx.drums.right"``.
    sources : tuple of str
        What it separates, in the order of `SOURCES`; it may be fewer than all of them.
    rate : int
        The sample rate it works at, in Hz.
    """

    @property
    def name(self) -> str:
        """Short name."""
        ...

    @property
    def sources(self) -> tuple[str, ...]:
        """What it separates."""
        ...

    @property
    def rate(self) -> int:
        """Sample rate in Hz."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal digest of all that the output depends on: code version, options, weights."""
        ...

    def separate(self, mixture: NDArray[np.float32], rate: int) -> Stems:
        """Separate a mixture (channel, time), float32, full scale 1, into stems of the same length."""
        ...


@runtime_checkable
class StreamingSeparator(Separator, Protocol):
    """A separator that need not have a whole song in memory, as those with a base class; a third party's need not."""

    def stream(self, mixture: Signal) -> Stems:
        """Stems of a mixture, separated block by block while they are read."""
        ...


def separate_signal(separator: Separator, mixture: Signal) -> Stems:
    """Stems of a signal, streamed where the separator can do that: read them once, from the beginning to the end.

    Parameters
    ----------
    separator : Separator
        Any one.
    mixture : Signal
        At the separator's rate, with its channels.

    Returns
    -------
    Stems
        Errors, such as damaged samples of the mixture, may only come when they are read.

    Examples
    --------
    >>> noise = ArraySignal(np.random.default_rng(0).normal(0, 0.1, (2, 22050)))
    >>> [block.shape for _, block in separate_signal(load_separator("centre_channel"), noise).blocks(20_000)]
    [(4, 2, 20000), (4, 2, 2050)]
    """
    if isinstance(separator, StreamingSeparator):
        return separator.stream(mixture)
    return separator.separate(mixture.read(), mixture.rate)


class BaseSeparator:
    """Base of the separators in this package: options kept unchanged, identity, checks at the border.

    A subclass sets `name`, `version` (raised whenever its output changes) and `sources`, stores its
    constructor's arguments unchanged under their names, and implements `_separate` for whole songs, or `_blocks` so
    that memory does not grow with them. One that needs files of weights
    declares them in `weight_files` and takes one of one's own as its argument ``weights``: then ``stemfuse list``,
    ``stemfuse weights add`` and ``stemfuse weights get`` work for it, too, a third party's included.

    Attributes
    ----------
    name, version : str
        Its identity, beside options and weights.
    channels, rate : int
        Of the mixtures that it takes; the rate is in Hz.
    sources : tuple of str
        What it separates.
    trained_on : tuple of str or None
        Data that its weights were trained on, such as ``"musdb18hq/train"``; None when that is not known.
    needs : mapping of str to str
        Packages that separating needs and that are not always installed; by each, the extra that installs it.
    not_in_identity : frozenset of str
        Options that do not change the output, such as a device or a folder of weights.
    opaque : str
        Why `stemfuse inspect` cannot look into it: who computes in its place; empty where it can.
    runs_code, is_trusted : bool
        Whether separating runs a program, or code in a file, of others; whether the user said that it may, see
        `stemfuse.separators.trust`.
    editions : sequence of mappings
        Options that stand for other files of weights, such as ``{"stems": 4}``; its `weight_files` are asked of each.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    channels: int = 2
    not_in_identity: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[Mapping[str, str]] = MappingProxyType({})
    editions: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    sources: tuple[str, ...] = SOURCES
    rate: int = RATE
    trained_on: tuple[str, ...] | None = ()
    opaque: ClassVar[str] = ""
    runs_code: ClassVar[bool] = False
    is_trusted: bool = False

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "__init__" in vars(cls):
            cls.__init__ = checked_constructor(cls.__init__, SeparatorError)  # type: ignore[method-assign]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def weight_files(self) -> tuple[WeightFile, ...]:
        """The files of weights that this separator looks for; a method without weights has none.

        Files that come with a package, so that nobody has to get them, are not among them.
        """
        return ()

    def weight_folders(self) -> tuple[Path, ...]:
        """Folders where `weight_files` are looked for, one after the other; the first is where new ones are put."""
        from .weights.folder import weights_folder

        return (weights_folder() / self.name,)

    def load(self) -> None:
        """Read the weights now, which `separate` does otherwise; a method without weights does nothing.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        SeparatorError
            A file cannot be read, or has the weights of another network.
        """

    def networks(self) -> Mapping[str, Any]:
        """Its networks, torch's modules, by source or name; a method without networks has none."""
        return {}

    def members(self) -> Mapping[str, Separator]:
        """Other separators that it runs, by a label of each."""
        return {}

    def song_to_inspect(self) -> tuple[float, float]:
        """Seconds of a song that its cost is measured on, and how many times more a second of a long song costs."""
        return 3.0, 1.0

    def highest_hz(self) -> float | None:
        """Where the band ends that its networks hear; None where they do not work on spectra of one band."""
        return None

    def weights_sha256(self) -> dict[str, str]:
        """File name and sha256 of every file of weights; a method without weights has none."""
        return {}

    def describe(self) -> dict[str, Any]:
        """All that the output depends on, as it is written into ``stems.json``."""
        return {
            "name": self.name,
            "version": self.version,
            "options": {
                name: str(value) if isinstance(value, os.PathLike) else value
                for name, value in self.options().items()
                if name not in self.not_in_identity
            },
            "weights": self.weights_sha256(),
        }

    def fingerprint(self) -> str:
        """Hexadecimal sha256 of `describe`."""
        return digest(self.describe())

    def separate(self, mixture: Any, rate: int | None = None) -> Stems:
        """Separate a mixture.

        Parameters
        ----------
        mixture : ndarray, shape (channel, time), float32; or Signal, Track or musdb.MultiTrack
            Full scale is 1; integers are scaled by their type, see `as_samples`.
        rate : int, optional
            Sample rate of an array in Hz; has to be the separator's. All others have their own.

        Returns
        -------
        Stems
            In the order of `SOURCES`, as long as the mixture.

        Raises
        ------
        AudioError
            Wrong rate, channels or shape, no samples, NaN or infinite samples.
        """
        mixture, rate = samples_of(mixture, rate)
        check_mixture(self.name, mixture.shape, rate, self.channels, self.rate)
        if not np.isfinite(mixture).all():
            raise AudioError(f"{self.name}: the mixture has NaN or infinite samples; export it again or repair it")
        return Stems(self._separate(mixture), self.sources, self.rate)

    def stream(self, mixture: Signal) -> Stems:
        """Separate a mixture block by block while its stems are read, with the samples that `separate` gives.

        Parameters
        ----------
        mixture : Signal
            At the separator's rate.

        Returns
        -------
        Stems
            To be read once from the beginning to the end, all sources together, as writing does: an earlier range is
            separated again from the beginning.

        Raises
        ------
        AudioError
            Wrong rate, channels, or no samples; damaged, NaN or infinite samples, when they are read.
        """
        shape = mixture.channels, mixture.length
        check_mixture(self.name, shape, mixture.rate, self.channels, self.rate)
        read = ReadInOrder(partial(self._blocks, mixture))
        return Stems.lazy(read, self.sources, mixture.channels, mixture.length, self.rate)

    def _separate(self, mixture: Samples) -> NDArray[np.floating]:
        """Separate a checked mixture into (source, channel, time)."""
        if type(self)._blocks is BaseSeparator._blocks:
            raise SeparatorError(f"{type(self).__name__} has neither _separate nor _blocks")
        return joined(self._blocks(ArraySignal(mixture, self.rate)), mixture.shape[1])

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        """Separate a mixture into blocks (source, channel, time) in order; reading it checks its samples."""
        yield np.asarray(self._separate(whole(mixture)), dtype=np.float32)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({options})"


def digest(description: Mapping[str, Any]) -> str:
    """Hexadecimal sha256 of a description, whatever the order of its keys."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


REGISTRY = Registry(
    "separator",
    "stemfuse.separators",
    {
        "audio_separator": "stemfuse.separators.adapters.audio_separator:AudioSeparator",
        "centre_channel": "stemfuse.separators.classical.centre_channel:CentreChannel",
        "command": "stemfuse.separators.adapters.command:Command",
        "d3net": "stemfuse.separators.networks.d3net_separator:D3Net",
        "danna_sep": "stemfuse.blending.danna_sep:DannaSep",
        "demucs": "stemfuse.separators.demucs:Demucs",
        "demucs_danna": "stemfuse.separators.networks.demucs_v2_separator:DemucsDanna",
        "demucs_small": "stemfuse.separators.networks.trained:DemucsSmall",
        "demucs_v2": "stemfuse.separators.networks.demucs_v2_separator:DemucsV2",
        "fusion": "stemfuse.blending.fused_separator:SavedFusion",
        "harmonic_percussive": "stemfuse.separators.classical.harmonic_percussive:HarmonicPercussive",
        "ismir2020": "stemfuse.separators.networks.ismir2020_separator:Ismir2020",
        "kuielab_mdx": "stemfuse.separators.networks.kuielab_mdx_separator:KuielabMDX",
        "kuielab_mdx_demucs": "stemfuse.separators.networks.kuielab_mdx_separator:KuielabMDXDemucs",
        "onnx": "stemfuse.separators.adapters.onnx:Onnx",
        "repet_sim": "stemfuse.separators.classical.repet_sim:RepetSim",
        "resunet143_subband": "stemfuse.separators.networks.resunet_separator:ResUNet143Subband",
        "spleeter": "stemfuse.separators.networks.spleeter_separator:Spleeter",
        "tfc_tdf_small": "stemfuse.separators.networks.trained:TFCTDFSmall",
        "tfc_tdf_v2": "stemfuse.separators.networks.tfc_tdf_separator:TFCTDF",
        "torchscript": "stemfuse.separators.adapters.torchscript:TorchScript",
        "unet_danna": "stemfuse.separators.networks.unet_danna_separator:UNetDanna",
        "xumx": "stemfuse.separators.networks.xumx_separator:XUMX",
        "xumx_small": "stemfuse.separators.networks.trained:XUMXSmall",
    },
    SeparatorError,
)

FILES = dict.fromkeys((".npz", ".json", ".safetensors"), ("fusion", "file"))
"""By suffix of a file that stands for a separator, what is made of it: a registered name, and the option for the file.
"""


def named_separator(name: str) -> tuple[str, dict[str, Any]]:
    """The registered name and the options that a name stands for: a saved fusion's file is a separator, too.

    Examples
    --------
    >>> named_separator("fitted/blend.npz"), named_separator("repet_sim")
    (('fusion', {'file': 'fitted/blend.npz'}), ('repet_sim', {}))
    """
    made = FILES.get(Path(name).suffix)
    return (name, {}) if made is None else (made[0], {made[1]: name})


def list_separators() -> list[str]:
    """Names that `load_separator` knows: the package's own and those of entry points, sorted.

    Examples
    --------
    >>> "repet_sim" in list_separators()
    True
    """
    return REGISTRY.names()


def separator_class(name: str) -> Any:
    """Class, or other maker, of a registered separator.

    Raises
    ------
    SeparatorError
        Unknown name; the message lists the known ones.
    """
    return REGISTRY.find(named_separator(name)[0])


def needed_packages(name: str) -> Mapping[str, str]:
    """Packages that a registered separator needs, by each the extra that installs it; see `BaseSeparator`.

    Examples
    --------
    >>> dict(needed_packages("repet_sim")), dict(needed_packages("xumx"))
    ({}, {'torch': 'networks', 'safetensors': 'networks'})
    """
    made = separator_class(name)
    return made.needs if inspect.isclass(made) and issubclass(made, BaseSeparator) else {}


def load_separator(name: str, **options: Any) -> Separator:
    """Make a separator by name.

    Parameters
    ----------
    name : str
        One of `list_separators`, or the file of a saved fusion, which is a separator, too: ``"blend.npz"``.
    **options
        The separator's own arguments.

    Raises
    ------
    SeparatorError
        The name or an option is unknown; the message lists the known ones.
    MissingWeightsError
        Weights are not on this machine.

    Examples
    --------
    >>> load_separator("harmonic_percussive").sources
    ('drums', 'bass', 'other', 'vocals')
    """
    registered, given = named_separator(name)
    separator: Separator = REGISTRY.make(registered, {**given, **options})
    return separator
