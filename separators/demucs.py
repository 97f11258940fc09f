"""Demucs: the networks and bags of the demucs package as a separator."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .audio.signals import RATE, Samples
from .demucs_files import Bag, default_folders, file_names, find_bag, find_file, find_files, load_bag
from .errors import SeparatorError
from .optional import import_optional
from .separator import BaseSeparator
from .stems import SOURCES
from .weights.digests import verified_sha256
from .weights.folder import WeightFile

TRAINED_ON = {
    signature: data
    for signatures, data in {
        # mdx, repro_mdx_a, mdx_q
        "0d19c1c6 7ecf8ec1 c511e2ab 7d865c68 9a6b4851 1ef250f1 fa0cb7f9 902315c2 6b9c2ca1 b72baf4e 42e558d4 305bc58f": (
            "musdb18hq/train",
        ),
        # mdx_extra, mdx_extra_q
        "e51eebcc a1d90b5c 5d2d6c55 cfa93e08 83fc094f 464b36d7 14fc6a69 7fd6ef75": (
            "musdb18hq/train",
            "musdb18hq/test",
            "150 songs of Meta",
        ),
        # htdemucs, htdemucs_ft, hdemucs_mmi, htdemucs_6s
        "955717e8 f7e0c4bc d12395a8 92cfc3b6 04573f0d 75fc33f5 5c90dfd2": ("musdb18hq/train", "800 songs of Meta"),
    }.items()
    for signature in signatures.split()
}
"""What the published networks were trained on, by signature, according to their authors."""

_SIX_SOURCES = "5c90dfd2"
"""The published network that has a guitar and a piano besides the usual sources."""

_RANDOM = Lock()
"""Held while Python's own random generator, one for all threads, is seeded."""


class Demucs(BaseSeparator):
    """A network or a bag of networks of the demucs package (4.1.0), Demucs v3 and v4.

    Making one is cheap and touches no file: weights are looked for when `fingerprint` or `separate` first need them,
    and networks are built by the first `separate`, so that a warm cache loads none. When the package or weights are
    missing, the error message names them and where they belong.

    Parameters
    ----------
    model : str or path-like
        ``"htdemucs"``, ``"htdemucs_ft"``, ``"hdemucs_mmi"``, ``"mdx"``, ``"mdx_extra"`` or another bag of the package,
        a signature such as ``"955717e8"``, or a bag's ``.yaml`` file (keys ``models``, ``weights``, ``segment``).
    repo : path-like, optional
        Folder of bags and of weights: ``<signature>-<beginning of the sha256>.th`` as published, or
        ``<signature>.safetensors`` as on Hugging Face; published bags need no file. If not given:
        ``$STEMFUSE_WEIGHTS/demucs``, or else ``weights/demucs`` in the user's cache folder of stemfuse, then
        torch.hub's and Hugging Face's caches.
    download : bool
        Fetch published files that are missing. The network is never touched otherwise.
    shifts : int
        Number of random shifts by at most 0.5 s that are averaged, each at full cost [1]_; 0 for none.
    overlap : float
        Of neighbouring chunks, as a part of their length: at least 0, less than 1.
    segment : float, optional
        Length of the chunks in seconds; the model's own when not given. HTDemucs takes at most its own (7.8 s).
    extra : str, optional
        The source of `SOURCES` to which others that a model has are added: ``extra="other"`` adds guitar and piano of
        ``"htdemucs_6s"`` to the other instruments, where MUSDB18 has them. Such a model is refused when not given.
    seed : int
        For the random shifts: equal seeds give equal stems.
    device : str
        Torch device that the networks run on, chunk by chunk; songs stay in main memory.
    jobs : int
        Chunks that are separated at the same time on a CPU; memory grows with them.

    Notes
    -----
    The mixture is standardised by mean and standard deviation of its mono downmix, and the stems are scaled back, as
    the package's own command does. Stems are matched to `SOURCES` by name; a model of fewer sources gives fewer stems.

    Package files are read without running anything in them, see `stemfuse.separators.foreign`: nothing is made but
    tensors, the package's networks and numbers, after their sha256 was checked against the file's name.

    The code of the package is MIT. According to their author the weights are for scientific purposes only
    (facebookresearch/demucs, threads 327 and 508), according to their cards on Hugging Face they are MIT.

    References
    ----------
    .. [1] A. Défossez, N. Usunier, L. Bottou, F. Bach, "Music source separation in the waveform domain", 2019,
       section 4.4.
    .. [2] A. Défossez, "Hybrid spectrogram and waveform source separation", MDX workshop at ISMIR 2021.
    .. [3] S. Rouard, F. Massa, A. Défossez, "Hybrid transformers for music source separation", ICASSP 2023.

    Examples
    --------
    >>> mdx = Demucs(model="mdx", overlap=0.1)
    >>> mdx.sources
    ('drums', 'bass', 'other', 'vocals')
    >>> mdx.trained_on
    ('musdb18hq/train',)
    """

    name: ClassVar[str] = "demucs"
    not_in_identity = frozenset({"repo", "download", "device", "jobs"})
    needs: ClassVar[Mapping[str, str]] = {"demucs": "demucs", "torch": "demucs"}

    def __init__(
        self,
        model: str | os.PathLike[str] = "htdemucs",
        repo: str | os.PathLike[str] | None = None,
        download: bool = False,
        shifts: int = 0,
        overlap: float = 0.25,
        segment: float | None = None,
        extra: str | None = None,
        seed: int = 0,
        device: str = "cpu",
        jobs: int = 0,
    ) -> None:
        counts = {"shifts": shifts, "seed": seed, "jobs": jobs}
        if any(not isinstance(count, int) or count < 0 for count in counts.values()):
            raise SeparatorError(f"demucs: got {counts}, expected whole numbers, 0 or more")
        if not isinstance(overlap, (int, float)) or not 0 <= overlap < 1:
            raise SeparatorError(f"demucs: got overlap={overlap!r}, expected a number from 0 to less than 1")
        if segment is not None and (
            not isinstance(segment, (int, float)) or not segment * RATE * (1 - overlap) >= 1 or segment == np.inf
        ):
            raise SeparatorError(f"demucs: got segment={segment!r}, expected seconds, longer than their overlap")
        if extra is not None and extra not in SOURCES:
            raise SeparatorError(f"demucs: got extra={extra!r}, expected one of {', '.join(SOURCES)}")
        self.model, self.repo, self.download = model, repo, download
        self.shifts, self.overlap, self.segment = shifts, overlap, segment
        self.extra, self.seed, self.device, self.jobs = extra, seed, device, jobs

    def __getstate__(self) -> dict[str, Any]:
        # other processes get the options, not the networks
        return self.options()

    @property
    def _folders(self) -> list[Path]:
        folders = default_folders() if self.repo is None else [Path(self.repo).expanduser()]
        bag = Path(self.model).expanduser()
        return [bag.parent, *folders] if bag.suffix == ".yaml" else folders

    @cached_property
    def _bag(self) -> Bag:
        return find_bag(str(self.model), self._folders)

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        return find_files(self._bag, self._folders, self.download)

    @cached_property
    def _networks(self) -> Any:
        """The networks on the CPU, after checks of everything that the package would fail on later."""
        # missing files are reported before torch is imported
        files = self._files
        torch = import_optional("torch", "demucs", "demucs")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise SeparatorError(f"demucs: device {self.device!r} cannot be used here ({reason})") from error
        networks = load_bag(self._bag, files)
        if networks.audio_channels != self.channels:
            raise SeparatorError(f"demucs: {self._bag.name} takes {networks.audio_channels} channel, expected stereo")
        given = (tuple(networks.sources), networks.samplerate)
        if self._published not in (None, given):
            raise SeparatorError(
                f"demucs: {', '.join(path.name for path in files)} give {given}, expected {self._published} as "
                "published under these signatures; give other networks other names"
            )
        if self.segment is not None and self.segment > networks.max_allowed_segment:
            raise SeparatorError(
                f"demucs: got segment={self.segment}, {self._bag.name} takes at most "
                f"{networks.max_allowed_segment:g} seconds"
            )
        return networks

    @property
    def _published(self) -> tuple[tuple[str, ...], int] | None:
        """Outputs and rate of published networks, which are known without building them."""
        members = set(self._bag.models)
        if not members <= TRAINED_ON.keys():
            return None
        return (*SOURCES, "guitar", "piano") if _SIX_SOURCES in members else SOURCES, RATE

    @property
    def _outputs(self) -> tuple[tuple[str, ...], int]:
        return self._published or (tuple(self._networks.sources), int(self._networks.samplerate))

    def _source(self, output: str) -> str:
        """The source that one of the networks' outputs belongs to."""
        if output in SOURCES:
            return output
        if self.extra is None:
            raise SeparatorError(
                f"demucs: {self._bag.name} gives {output}, which is none of {', '.join(SOURCES)}: "
                "--option extra=other adds it to the other instruments"
            )
        return self.extra

    @cached_property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]  # the model decides
        """What the model separates, in the order of `SOURCES`."""
        given = {self._source(output) for output in self._outputs[0]}
        return tuple(source for source in SOURCES if source in given)

    @cached_property
    def rate(self) -> int:  # type: ignore[override]
        """Sample rate in Hz."""
        return self._outputs[1]

    def weight_files(self) -> tuple[WeightFile, ...]:
        """A file for each network of the model, see `find_file`.

        Raises
        ------
        SeparatorError
            The model is unknown, two files have the same signature, or the demucs package is not installed.
        """
        found = {signature: find_file(signature, self._folders) for signature in self._bag.models}
        return tuple(WeightFile((path.name,) if path else file_names(signature)) for signature, path in found.items())

    def weight_folders(self) -> tuple[Path, ...]:
        """Folders of bags and weights, see ``repo``."""
        return tuple(self._folders)

    def load(self) -> None:
        """Build the networks now, see `BaseSeparator`."""
        _ = self._networks

    def networks(self) -> Mapping[str, Any]:
        """The networks of the model, by their signatures."""
        return dict(zip(self._bag.models, getattr(self._networks, "models", [self._networks]), strict=False))

    def song_to_inspect(self) -> tuple[float, float]:
        """A part of a chunk; those of long songs overlap, and each shift is separated anew."""
        return 6.0, 1 / (1 - self.overlap)

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Data that the networks were trained on, such as ``"musdb18hq/test"``; None when it is not known."""
        try:
            data = [TRAINED_ON[signature] for signature in self._bag.models]
        except KeyError:
            return None
        return tuple(dict.fromkeys(chain.from_iterable(data)))

    def weights_sha256(self) -> dict[str, str]:
        """File name and sha256 of every network's file.

        Raises
        ------
        MissingWeightsError
            Files are missing.
        SeparatorError
            A file's sha256 is not the one in its name, the model is unknown, or the demucs package is not installed.
        """
        return {path.name: verified_sha256(path) for path in self._files}

    def describe(self) -> dict[str, Any]:
        """All that the output depends on: options, the package's version, the bag, the files' sha256."""
        described = super().describe()
        described["options"]["model"] = self._bag.name
        return described | {"package": f"demucs {version('demucs')}", "bag": self._bag.model_dump(mode="json")}

    def _separate(self, mixture: Samples) -> NDArray[np.floating]:
        import torch
        from demucs.apply import apply_model

        networks = self._networks
        audio = torch.from_numpy(np.array(mixture))
        mono = audio.mean(0)
        mean = mono.mean()
        # torch's standard deviation of a single sample is NaN
        deviation = (mono.std() if len(mono) > 1 else torch.zeros(())) + 1e-8
        with _seeded(self.seed):
            outputs = apply_model(
                networks,
                ((audio - mean) / deviation)[None],
                shifts=self.shifts,
                overlap=self.overlap,
                segment=self.segment,
                device=self.device,
                num_workers=self.jobs,
            )[0]
        outputs.mul_(deviation).add_(mean)
        sources = self.sources
        stems = torch.zeros(len(sources), *audio.shape)
        for name, output in zip(networks.sources, outputs, strict=True):
            stems[sources.index(self._source(name))] += output
        return stems.numpy()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's own generator, which the package draws from, and restore its state afterwards."""
    with _RANDOM:
        state = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
