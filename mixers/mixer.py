"""Bases of the mixers: training by gradient, and networks that predict weights for each song, with their files."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import WeakKeyDictionary

from stemfuse.blending import FusionError, LinearFusion, MixingWeights, save_description
from stemfuse.blending.application import check_inputs
from stemfuse.separators import ChannelLabel, Track, TrackError, TrainingError, check_fields
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.labels import check_channel_labels
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.training import OPTIMISER_NAMES, Execution, History, Recipe, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from torch import nn

    from stemfuse.separators.training.schedule import Batches

    from .segments import PackedAudio, Segments, TrackBlocks


SIZES = frozenset({"segment", "shift", "fold", "frame_s", "bands", "hidden", "run"})
"""Arguments of mixers that are positive numbers."""


class Mixer(LinearFusion):
    """A linear fusion that is trained by gradient.

    Attributes
    ----------
    execution : Execution
        Where training runs, its checkpoints, its progress; set it before `fit`.
    history_ : sequence of dict
        One row per epoch; not saved.
    """

    may_be_zero: ClassVar[frozenset[str]] = frozenset()
    """Sizes of the network that 0 has a meaning for."""
    execution: Execution = Execution()
    needs: ClassVar[Mapping[str, str]] = {"torch": "mixers", "lightning_fabric": "mixers", "safetensors": "mixers"}

    def __post_init__(self) -> None:
        check_fields(self, FusionError)

    @property
    def needs_one_rate(self) -> bool:
        """Segments and frames of all songs are as long in samples."""
        return True

    def check(self) -> None:
        """Raise unless the recipe and the network's sizes make sense and the packages are installed."""
        super().check()
        for name, value in self.arguments().items():
            if name in SIZES - self.may_be_zero and not value > 0:
                raise FusionError(f"got {name}={value}, expected a positive number; take --option {name}=...")
        if self.recipe.optimiser not in OPTIMISER_NAMES:
            near = did_you_mean(self.recipe.optimiser, OPTIMISER_NAMES)
            raise wrong_usage(
                FusionError(
                    f"got optimiser={self.recipe.optimiser!r}, expected one of {', '.join(OPTIMISER_NAMES)}{near}"
                )
            )

    @property
    def recipe(self) -> Recipe:
        """How it is trained: a recipe from the constructor's arguments of the same names."""
        names = {field.name for field in fields(Recipe)}
        return Recipe(**{name: value for name, value in self.arguments().items() if name in names})

    def segments(
        self, blocks: TrackBlocks, held_out: TrackBlocks | None, length: int, shift: int
    ) -> tuple[Segments, Segments | None]:
        """Segments that are trained on, and those that choose the epoch, which cover every sample once.

        They are read from training packs where the execution names a folder for them.
        """
        from .pack import packed
        from .segments import Segments

        where, kind = self.execution.packs, self.execution.pack_kind

        def source(part: TrackBlocks) -> PackedAudio:
            return part if where is None else packed(part, where, kind)

        data = Segments(source(blocks), length, shift)
        return data, None if held_out is None else Segments(source(held_out), length, length, tails=True)

    def train(
        self,
        objective: nn.Module,
        data: Batches,
        valid_data: Batches | None,
        identity: Mapping[str, Any],
        epochs: int | None = None,
    ) -> History:
        """Minimise an objective in place by this mixer's recipe and execution.

        Parameters
        ----------
        objective : Module
            From a batch to one loss per example.
        data, valid_data : Batches
            What is trained on, and what chooses the epoch; without ``valid_data`` the last epoch is kept.
        identity : mapping
            What a checkpoint has to agree with; see `stemfuse.mixers.segments.identity_of`.
        epochs : int, optional
            How many; those of the recipe when not given.

        Returns
        -------
        list of dict
            One row per epoch.

        Raises
        ------
        TrainingError
            An argument of the recipe is out of range, the loss is not finite, or a checkpoint is of another training.
        """
        from stemfuse.separators.training.loop import run_training

        from .estimate import TrainingEstimate

        execution = self.execution
        recipe = self.recipe if epochs is None else replace(self.recipe, epochs=epochs)
        if execution.estimates:
            estimate = TrainingEstimate.of(self.kind, objective, data, valid_data, recipe)
            estimate.say()
            execution = replace(execution, measured=estimate.say_time)
        return run_training(objective, data, valid_data, recipe, execution, identity)


class NetworkMixer(Mixer):
    """A mixer whose weights are predicted for each song by a network.

    A subclass implements `build`, `data`, `objective` and `predict`.

    It is saved as two files of one name: ``.safetensors`` with the network's tensors and the labels of its inputs and
    outputs, and ``.json`` with kind and arguments. A network trained on CUDA loads on a machine without it.

    Attributes
    ----------
    mixture : bool
        Whether the mixture is one of the inputs.
    centred : bool
        Whether the mixture's mean is subtracted from all channels first.
    seed : int
        Of initial weights, order and dropout.
    network_ : torch.nn.Module
        On the CPU, in evaluation mode.
    inputs_, outputs_ : tuple of str
        Labels of input and output channels.
    rate_ : int
        Sample rate in Hz of the tracks that it was fitted on.
    """

    varies_in_time: ClassVar[bool] = True
    suffix: ClassVar[str] = ".safetensors"
    mixture: bool
    centred: bool = False
    seed: int
    network_: nn.Module
    inputs_: tuple[str, ...]
    outputs_: tuple[str, ...]
    rate_: int

    @property
    def is_fitted(self) -> bool:
        """Whether there is a trained network."""
        return "network_" in vars(self)

    @property
    def fitted_rate(self) -> int | None:
        """Sample rate in Hz of the tracks that it was fitted on."""
        return self.rate_ if self.is_fitted else None

    @property
    def fitted_channels(self) -> int | None:
        """Number of channels of the tracks that it was fitted on."""
        return len({ChannelLabel.parse(label).channel for label in self.outputs_}) if self.is_fitted else None

    @property
    def fitted_sources(self) -> tuple[str, ...] | None:
        """Sources of its outputs."""
        return tuple(dict.fromkeys(ChannelLabel.parse(label).signal for label in self.outputs_))

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> nn.Module:
        """Make the network, not trained, for inputs and outputs of these labels."""
        raise FusionError(f"{type(self).__name__} has no network of its own; use a subclass that implements build")

    def data(self, blocks: TrackBlocks, held_out: TrackBlocks | None) -> tuple[Batches, Batches | None]:
        """What is trained on, and what chooses the epoch."""
        raise FusionError(f"{type(self).__name__} has no data of its own; use a subclass that implements data")

    def objective(self, network: nn.Module, blocks: TrackBlocks, data: Any) -> nn.Module:
        """Make the loss, from a batch to one value per example; the network may be set up by the data before."""
        raise FusionError(f"{type(self).__name__} has no loss of its own; use a subclass that implements objective")

    def predict(self, track: Track) -> MixingWeights:
        """Predict the weights of a track that has been checked; its audio is read once."""
        raise FusionError(f"{type(self).__name__} predicts no weights; use a subclass that implements predict")

    def weights(self, track: Track) -> MixingWeights:
        """Weights that the network predicts for a track; those of the last track are kept, and not predicted again.

        Raises
        ------
        FusionError
            The mixer is not fitted.
        TrackError
            An input is missing, or the track has another sample rate.
        """
        self.check_track(track)
        last = _PREDICTED.get(self)
        if last is None or last[0]() is not track:
            last = _PREDICTED[self] = weakref.ref(track), self.predict(track)
        return last[1]

    def fit(self, train: Sequence[Track], valid: Sequence[Track] | None = None) -> Self:
        """Train the network on tracks.

        Parameters
        ----------
        train : sequence of Track
            With references, and stems of the same separators and sources.
        valid : sequence of Track, optional
            Choose the epoch that is kept, which may be the untrained network; without them it is the last.

        Raises
        ------
        FusionError
            An argument is unknown, the tracks differ in their stems, or no separator gives a source that needs one.
        AudioError
            A sample is NaN.
        """
        from .segments import identity_of, training_blocks

        self.check()
        blocks, held_out = training_blocks(train, valid, self.mixture, self.centred)
        with seeded(self.seed):
            network = self.build(blocks.inputs, blocks.outputs)
        data, valid_data = self.data(blocks, held_out)
        objective = self.objective(network, blocks, data)
        self.history_ = self.train(objective, data, valid_data, identity_of(self, blocks, held_out))
        return self.learnt(network, blocks.inputs, blocks.outputs, blocks.rate)

    def learnt(self, network: nn.Module, inputs: Sequence[str], outputs: Sequence[str], rate: int) -> Self:
        """Keep a trained network and what it was trained for."""
        _PREDICTED.pop(self, None)
        self.network_ = network.cpu().eval()
        self.inputs_, self.outputs_, self.rate_ = tuple(inputs), tuple(outputs), rate
        return self

    def check_track(self, track: Track) -> None:
        """Raise unless the mixer is fitted and the track has its inputs and its sample rate."""
        if not self.is_fitted:
            raise FusionError(f"{self.kind}: not fitted; call fit(tracks) first, or load a fitted one")
        check_inputs(track, self.inputs_)
        if track.rate != self.rate_:
            raise TrackError(f"track {track.name!r} has {track.rate} Hz, {self.kind} was fitted at {self.rate_} Hz")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path``, which ends in ``.safetensors``, and the ``.json`` beside it.

        Raises
        ------
        FusionError
            The mixer is not fitted, or the path has another suffix.
        WriteError
            A file cannot be written.
        """
        path, described = self.saved_files(path)
        if not self.is_fitted:
            raise FusionError(f"{self.kind}: not fitted; there is nothing to save")
        if path.suffix != self.suffix:
            raise FusionError(f"{path}: a network is saved as {self.suffix}, choose such a name")
        description: dict[str, Any] = {"inputs": self.inputs_, "outputs": self.outputs_, "rate": self.rate_}
        write_checkpoint(path, {"network": self.network_.state_dict()}, description)
        save_description(described, self)

    def saved_files(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """``path`` and the ``.json`` beside it."""
        return Path(path), Path(path).with_suffix(".json")

    def restore(self, path: str | os.PathLike[str]) -> Self:
        """Read the network that `save` wrote; the mixer needs the arguments that it was saved with.

        Raises
        ------
        FusionError
            The file is missing, damaged, or of other arguments.
        """
        try:
            groups, description = read_checkpoint(Path(path).with_suffix(self.suffix))
            inputs, outputs = (tuple(map(str, description[what])) for what in ("inputs", "outputs"))
            # outputs name the files that are written
            check_channel_labels(inputs, outputs, FusionError)
            network = self.build(inputs, outputs)
            network.load_state_dict(groups["network"])
            return self.learnt(network, inputs, outputs, int(description["rate"]))
        except (FusionError, KeyError, RuntimeError, TrainingError, TypeError, ValueError) as error:
            raise FusionError(f"{path}: not a network of {self!r} ({error}); fit again") from error


_PREDICTED: WeakKeyDictionary[NetworkMixer, tuple[weakref.ref[Track], MixingWeights]] = WeakKeyDictionary()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from a seed inside the block; those of the caller go on untouched after it."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
