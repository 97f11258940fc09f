"""The models of the package audio-separator as separators: MDX-Net, MDX23C, Roformers, VR; with their levels kept."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property, partialmethod
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stemfuse.separators.audio.signals import ArraySignal, Samples, write_audio
from stemfuse.separators.audio.whole_files import whole_file
from stemfuse.separators.errors import AudioError, MissingWeightsError, SeparatorError, StemfuseError, wrong_usage
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.optional import import_optional
from stemfuse.separators.separator import BaseSeparator
from stemfuse.separators.source_names import check_source, source_of
from stemfuse.separators.sources import in_order
from stemfuse.separators.track import fit_length
from stemfuse.separators.weights.digests import verified_sha256
from stemfuse.separators.weights.folder import weights_folder

from .programs import working_folder
from .uvr_models import LISTS, UVRModel, find_model

FOLDER_VARIABLE = "AUDIO_SEPARATOR_MODEL_DIR"
"""Where the package itself is told its folder."""


class AudioSeparator(BaseSeparator):
    """A model of the package audio-separator, which knows those of Ultimate Vocal Remover.

    The package's own level changes are left out. It scales a loud mixture and every stem by their peaks, each by
    another factor, and writes integers; a blend needs stems at the mixture's level. Here the mixture is given
    with a peak of 1, where nothing is scaled, stems are taken before they are written, and scaled back.

    Parameters
    ----------
    model : str
        File name as ``audio-separator --list_models`` shows it, such as ``"UVR-MDX-NET-Inst_HQ_5.onnx"``, or the
        model's long name there.
    stems : mapping of str to str, optional
        By the package's name of a stem, the source that it is, such as ``{"Vocals": "vocals"}``; other stems are left
        out. When not given, all stems: ``Instrumental`` is the accompaniment, others are spelled as sources are.
    parameters : mapping, optional
        The package's parameters for models of this kind, such as ``{"segment_size": 256, "overlap": 0.25}``.
    folder : path-like, optional
        Where models, their lists and parameters lie, as the package has put them. If not given:
        ``$AUDIO_SEPARATOR_MODEL_DIR``, or else ``audio_separator`` in `weights_folder`.
    download : bool
        Whether the package may fetch files that are missing. The network is never touched otherwise.
    device : {"cpu", "cuda"}
        Where the model runs.

    Notes
    -----
    Identity is the sha256 of all files of the model, the parameters that the package knows them to have, and the
    package's version. Checkpoints are read by ``weights_only``, so that no file runs code. Demucs models are refused:
    the package would run what is in their files, the separator ``demucs`` does not.

    Examples
    --------
    >>> AudioSeparator("UVR-MDX-NET-Inst_HQ_5.onnx").model
    'UVR-MDX-NET-Inst_HQ_5.onnx'
    """

    name: ClassVar[str] = "audio_separator"
    opaque: ClassVar[str] = "the package audio-separator runs its model"
    not_in_identity = frozenset({"folder", "download", "device"})
    needs: ClassVar[Mapping[str, str]] = {"audio_separator": "audio-separator"}

    def __init__(
        self,
        model: str,
        stems: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        folder: str | os.PathLike[str] | None = None,
        download: bool = False,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.model, self.stems, self.parameters = model, stems, parameters
        self.folder, self.download, self.device = folder, download, device
        for source in (stems or {}).values():
            check_source(source, SeparatorError)
        if stems is not None and (not stems or len(set(stems.values())) < len(stems)):
            raise wrong_usage(SeparatorError(f"{self.name}: got stems={dict(stems)}, expected different sources"))

    def __getstate__(self) -> dict[str, Any]:
        # other processes get the options, not the model
        return self.options()

    def __setstate__(self, options: dict[str, Any]) -> None:
        vars(self).update(options)

    @property
    def _folder(self) -> Path:
        given = self.folder or os.environ.get(FOLDER_VARIABLE)
        return Path(given).expanduser() if given else weights_folder() / self.name

    @cached_property
    def _known(self) -> UVRModel:
        """What the lists and parameters in the folder say of the model; its files are there."""
        import_optional("audio_separator", "audio-separator", self.name)
        if self.download:
            self._fetch()
        found = find_model(self.model, self._folder, self.name)
        if found.kind == "Demucs":
            raise wrong_usage(
                SeparatorError(
                    f"{self.name}: {self.model} is a Demucs model, whose file this package would run: use the "
                    f"separator demucs (--separator demucs --option model={Path(found.name).stem})"
                )
            )
        return found

    @cached_property
    def _stems(self) -> dict[str, str]:
        """Sources by the package's names of the stems that are taken."""
        given = self._known.stems
        if self.stems is None:
            named = {stem: source_of(stem) for stem in given}
            if len(set(named.values())) < len(named):
                raise SeparatorError(
                    f"{self.name}: {self.model} gives {', '.join(given)}: say with stems which is which"
                )
            return named
        for stem in self.stems:
            if stem not in given:
                near = did_you_mean(stem, given)
                raise wrong_usage(
                    SeparatorError(f"{self.name}: got stem {stem!r}{near}, {self.model} gives {', '.join(given)}")
                )
        return dict(self.stems)

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]  # the model decides
        """What the model separates."""
        return in_order(self._stems.values())

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """The package does not say."""
        return None

    def weights_sha256(self) -> dict[str, str]:
        """File name and sha256 of every file of the model.

        Raises
        ------
        MissingWeightsError
            A file, or a list of the package, is missing.
        """
        return {path.name: verified_sha256(path) for path in self._known.files}

    def describe(self) -> dict[str, Any]:
        """All that the output depends on: options, files, the model's parameters, the package's version."""
        described = super().describe()
        described["options"]["model"] = self._known.name
        package = f"audio-separator {version('audio-separator')}"
        return described | {"package": package, "parameters": self._known.parameters}

    def load(self) -> None:
        """Read the model now, see `BaseSeparator`."""
        _ = self._loaded

    @cached_property
    def _loaded(self) -> Any:
        self.weights_sha256()
        self._check_files()
        package = self._package(self._known.kind)
        with self._its_errors("loading"):
            package.load_model(self._known.name)
        # stems are not scaled by their peaks
        package.model_instance.normalization_threshold = float("inf")
        return package

    def _check_files(self) -> None:
        """Refuse ONNX files that are not within bounds, before another program reads them."""
        from stemfuse.separators.foreign.onnx_files import read_onnx
        from stemfuse.separators.foreign.table import ForeignFileError

        for path in self._known.files:
            if path.suffix == ".onnx":
                try:
                    read_onnx(path)
                except (OSError, ForeignFileError) as error:
                    raise SeparatorError(f"{self.name}: {path}: {error}; fetch it again") from error

    def _package(self, kind: str = "") -> Any:
        """The package's own separator, which fetches nothing that it may not."""
        # a package that it needs may be missing, which is an error in a line too
        with self._its_errors("starting"):
            package = import_optional("audio_separator.separator", "audio-separator", self.name)
        adapter, device = self, self.device

        class Own(package.Separator):  # type: ignore[misc, name-defined]  # its type is not known
            def check_ffmpeg_installed(self) -> None:
                """It would be needed to write files, which are not written."""

            def setup_torch_device(self, system_info: Any) -> None:
                super().setup_torch_device(system_info)
                if device == "cpu":
                    self.torch_device, self.onnx_execution_provider = self.torch_device_cpu, ["CPUExecutionProvider"]

            def download_file_if_not_exists(self, url: str, output_path: str) -> None:
                adapter._file_for(super().download_file_if_not_exists, url, Path(output_path))

        with self._its_errors("starting"):
            made = Own(
                log_level=logging.CRITICAL,
                model_file_dir=str(self._folder),
                output_dir=str(self._folder),
                normalization_threshold=1.0,
            )
            # an environment variable goes before the argument
            made.model_file_dir = str(self._folder)
        if device == "cuda" and made.torch_device.type != "cuda":
            raise SeparatorError(f"{self.name}: device 'cuda' cannot be used here")
        if kind:
            known = made.arch_specific_params[kind]
            made.arch_specific_params = made.arch_specific_params | {kind: self._parameters(kind, known)}
        return made

    def _parameters(self, kind: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """The package's parameters of a kind of models, with the user's in their places."""
        given = dict(self.parameters or {})
        if unknown := [name for name in given if name not in known]:
            near = did_you_mean(unknown[0], known)
            listed = f"{kind.lower()}_params are {', '.join(known)}"
            raise wrong_usage(SeparatorError(f"{self.name}: parameter {unknown[0]!r} is unknown{near}, {listed}"))
        return {**known, **given}

    def _file_for(self, download: Any, url: str, path: Path) -> None:
        """Fetch a file that is missing, whole or not at all, where that is allowed."""
        if path.is_file():
            return
        if not self.download:
            raise MissingWeightsError(f"{self.name}: {path} is missing: put it there ({url}), or set download=true")
        with whole_file(path) as temporary:
            try:
                download(url, str(temporary))
            # no connection; the package itself answers other errors, and looks elsewhere
            except OSError as error:
                reason = " ".join(str(error).split())[:200]
                raise SeparatorError(f"{self.name}: {path.name} cannot be fetched from {url} ({reason})") from error

    def _fetch(self) -> None:
        """Have the package fetch the lists and the model's files."""
        lists = [self._folder / name for name in LISTS]
        with contextlib.suppress(MissingWeightsError):
            if all(path.is_file() for path in lists):
                find_model(self.model, self._folder, self.name)
                return
        self._folder.mkdir(parents=True, exist_ok=True)
        package = self._package()
        with self._its_errors("fetching"):
            names = {
                long: model["filename"]
                for models in package.list_supported_model_files().values()
                for long, model in models.items()
            }
            package.download_model_and_data(names.get(self.model, self.model))

    @contextlib.contextmanager
    def _its_errors(self, doing: str) -> Iterator[None]:
        """Whatever the package raises becomes an error of ours in a line; it prints nothing, and runs no file."""
        with _quiet(), _weights_only():
            try:
                yield
            except StemfuseError:
                raise
            # its errors have no common base, and for some it ends the process
            except (Exception, SystemExit) as error:
                if isinstance(error, SystemExit) and type(error) is not SystemExit:
                    raise
                cause = (error.__context__ or error) if isinstance(error, SystemExit) else error
                reason = " ".join(str(cause).split())[:300] or type(cause).__name__
                raise SeparatorError(f"{self.name}: {doing} {self.model} failed: {reason}") from error

    def _separate(self, mixture: Samples) -> NDArray[np.floating]:
        package, length = self._loaded, mixture.shape[1]
        peak = float(np.abs(mixture).max()) or 1.0
        written: dict[str, NDArray[np.float32]] = {}

        def keep(path: str, source: Any, stem: str) -> dict[str, Any]:
            # (time, channel)
            written[stem] = np.array(source, dtype=np.float32).T
            return {stem: source}

        package.model_instance.final_process = keep
        with working_folder() as folder, self._its_errors("separating by"):
            song = folder / "song.wav"
            write_audio([song], [(mixture / np.float32(peak))[None]], self.rate, self.channels, "FLOAT")
            package.separate(str(song))
        if missing := [stem for stem in self._stems if stem not in written]:
            raise SeparatorError(
                f"{self.name}: {self.model} gave {', '.join(written) or 'nothing'}, expected {', '.join(missing)}; "
                "name those that it gives with stems"
            )
        by_source = {source: self._fitted(written[stem], stem, length) for stem, source in self._stems.items()}
        return np.float32(peak) * np.stack([by_source[source] for source in self.sources])

    def _fitted(self, stem: NDArray[np.float32], name: str, length: int) -> Samples:
        """A stem of the mixture's form; some models of the package are some samples off."""
        if stem.ndim != 2 or len(stem) != self.channels or not np.isfinite(stem).all():
            raise SeparatorError(f"{self.name}: {self.model} gave {name} of shape {stem.shape}, or not finite")
        try:
            # it says what it does
            return fit_length(ArraySignal(stem, self.rate), length)[0].read()
        except AudioError as error:
            raise SeparatorError(f"{self.name}: {self.model} gave {name} with another length: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no warnings of others until the block ends; the package would switch all warnings off for good."""
    import tqdm

    bar, logger = tqdm.tqdm, logging.getLogger("audio_separator")
    made, level = bar.__init__, logger.level
    bar.__init__ = partialmethod(made, disable=True)
    # what matters in its messages comes as an error
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        bar.__init__ = made
        logger.setLevel(level)


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """PyTorch reads files without running what is in them, whatever it is asked for."""
    variable = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
