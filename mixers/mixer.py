"""Base of mixers whose weights vary in time: a network that says them, its labels, its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stemfuse.blending import FusionError, LinearFusion, input_labels, save_description
from stemfuse.separators import Track, TrackError, TrainingError
from stemfuse.separators.training import Execution, History, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from torch import nn


class NetworkMixer(LinearFusion):
    """A linear fusion whose weights a network finds from the song; subclasses say which one.

    It is saved as two files of one name: ``.safetensors`` with the network's tensors and the labels of its inputs and
    outputs, and ``.json`` with kind and arguments. It loads on a machine without CUDA whatever it was trained on.

    Attributes
    ----------
    network_ : torch.nn.Module
        On the CPU, in evaluation mode.
    inputs_, outputs_ : tuple of str
        Labels of input and output channels.
    rate_ : int
        Sample rate in Hz of the tracks that it was fitted on.
    history_ : list of dict
        One row per epoch; not saved.
    execution : Execution
        Where training runs, checkpoints, progress; set it before `fit`.
    """

    varies_in_time: ClassVar[bool] = True
    suffix: ClassVar[str] = ".safetensors"
    execution: Execution = Execution()
    network_: nn.Module
    inputs_: tuple[str, ...]
    outputs_: tuple[str, ...]
    rate_: int
    history_: History

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> nn.Module:
        """Make the network of these arguments, not trained, for inputs and outputs of these labels."""
        raise FusionError(f"{type(self).__name__} has no network of its own; take a subclass")

    def learnt(self, network: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...], rate: int) -> Self:
        """Keep what was learnt."""
        self.network_ = network.cpu().eval()
        self.inputs_, self.outputs_, self.rate_ = tuple(inputs), tuple(outputs), rate
        return self

    def check_track(self, track: Track) -> None:
        """Raise unless the mixer is fitted and the track has its inputs."""
        if not hasattr(self, "network_"):
            raise FusionError(f"{self.kind}: not fitted; call fit(tracks) first, or load a fitted one")
        present = input_labels(track)
        for label in self.inputs_:
            if label not in present:
                raise TrackError(
                    f"track {track.name!r} has no input {label!r}; its separators are "
                    f"{', '.join(track.stems) or 'none'}: separate or adopt what is missing, or fit again without it"
                )
        if track.rate != self.rate_:
            raise TrackError(f"track {track.name!r} has {track.rate} Hz, {self.kind} was fitted at {self.rate_} Hz")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path``, which ends in ``.safetensors``, and the ``.json`` beside it.

        Raises
        ------
        FusionError
            Not fitted, another suffix, or the files cannot be written.
        """
        path = Path(path)
        if not hasattr(self, "network_"):
            raise FusionError(f"{self.kind}: not fitted; there is nothing to save")
        if path.suffix != self.suffix:
            raise FusionError(f"{path}: a network is saved as {self.suffix}, choose such a name")
        description: dict[str, Any] = {"inputs": self.inputs_, "outputs": self.outputs_, "rate": self.rate_}
        write_checkpoint(path, {"network": self.network_.state_dict()}, description)
        save_description(path.with_suffix(".json"), self)

    def restore(self, path: str | os.PathLike[str]) -> Self:
        """Read the network that `save` wrote; the arguments have to be those that it was saved with.

        Raises
        ------
        FusionError
            The file is missing, damaged, or of other arguments.
        """
        try:
            groups, description = read_checkpoint(Path(path).with_suffix(self.suffix))
            inputs, outputs = tuple(description["inputs"]), tuple(description["outputs"])
            network = self.build(inputs, outputs)
            network.load_state_dict(groups["network"])
            return self.learnt(network, inputs, outputs, int(description["rate"]))
        except (KeyError, RuntimeError, TrainingError) as error:
            raise FusionError(f"{path}: not a network of {self!r} ({error}); fit again") from error
