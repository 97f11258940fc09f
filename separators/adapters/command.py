"""Any program that writes stems into a folder, as a separator."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from stemfuse.separators.audio.containers import open_signal
from stemfuse.separators.audio.signals import BLOCK, RATE, Samples, Signal, write_audio
from stemfuse.separators.audio.sums import SumSignal
from stemfuse.separators.errors import AudioError, MissingWeightsError, SeparatorError, TrackError, listed, wrong_usage
from stemfuse.separators.names import did_you_mean, shown
from stemfuse.separators.separator import BaseSeparator
from stemfuse.separators.source_names import check_source
from stemfuse.separators.sources import Sums, in_order, parse_sources
from stemfuse.separators.stems import Stems
from stemfuse.separators.trusted import check_trust
from stemfuse.separators.weights.digests import verified_sha256

from .programs import run_program, working_folder

SONG = "song"
"""Name of the file that the program is given, and so of what it writes."""

ADAPTER = "1"
"""Raised when programs are given something else, or their files are read in another way."""

GIVEN = ("mixture", "folder")
"""Placeholders that every program needs."""

_PLACE = re.compile(r"\{(\{\w+\})\}|\{(\w+)\}")
"""A placeholder, or in doubled braces a word that is none."""


class Command(BaseSeparator):
    """Any program that reads a mixture from a file and writes stems into a folder.

    It is started once for every song, as a list of arguments that no shell reads, and only where it is trusted, see
    `stemfuse.separators.trust`. It is ended with all that it started when it takes too long, or when stemfuse ends. Its
    stems have to have the mixture's rate, channels and length, and finite samples.

    Parameters
    ----------
    arguments : sequence of str
        The program and its arguments. ``{mixture}`` becomes the path of the mixture, a float32 WAV called
        ``song.wav``; ``{folder}`` that of an empty folder for the stems; ``{NAME}`` that of the file NAME in ``files``;
        ``{{NAME}}`` stands for ``{NAME}`` itself.
    stems : str, sequence of str, or mapping, optional
        What it separates, found in its folder by name, in any layout that ``stemfuse adopt`` reads; or sums of it, see
        `stemfuse.separators.parse_sources`.
    outputs : mapping of str to str, optional
        In place of ``stems``: by source, the file that it writes, relative to ``{folder}``.
    version : str
        Of the program, as you state it: another version is another separator in the store.
    files : mapping of str to path-like
        Files that the output depends on, such as a script or a model, by a name of your own. Their digests
        count, not where they lie. Without a version there has to be one.
    rate : int
        Sample rate in Hz that the program works at.
    channels : int
        Of the mixtures that it takes.
    timeout_s : float
        How long it may take for one song, in seconds.

    Examples
    --------
    >>> import sys
    >>> from stemfuse.separators import trust
    >>> halving = '''
    ... import sys, soundfile
    ... audio, rate = soundfile.read(sys.argv[1])
    ... soundfile.write(sys.argv[2] + "/vocals.wav", audio / 2, rate, subtype="FLOAT")
    ... '''
    >>> arguments = [sys.executable, "-c", halving, "{mixture}", "{folder}"]
    >>> halves = trust(Command(arguments, stems=["vocals"], version="1"))
    >>> import numpy
    >>> halves.separate(numpy.ones((2, 100)), 44100)["vocals"].read(0, 2).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    name: ClassVar[str] = "command"
    opaque: ClassVar[str] = "another program separates"
    runs_code = True
    not_in_identity = frozenset({"files", "timeout_s"})

    def __init__(
        self,
        arguments: Sequence[str],
        stems: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        outputs: Mapping[str, str] | None = None,
        version: str = "",
        files: Mapping[str, str | os.PathLike[str]] | None = None,
        rate: int = RATE,
        channels: int = 2,
        timeout_s: float = 3600.0,
    ) -> None:
        self.arguments, self.stems, self.outputs = arguments, stems, outputs
        self.version, self.files = version, files  # type: ignore[misc]  # the user states it
        self.rate, self.channels, self.timeout_s = rate, channels, timeout_s
        self._check_arguments()
        self._sums = self._checked_sums()
        self.sources = in_order(self._sums)
        if not version and not files:
            raise self._misuse(
                "got neither a version nor files: stems of an older program could not be told from those of a new one; "
                "state a version, or name files whose digests count"
            )
        if rate < 1 or channels < 1 or not 0 < timeout_s < float("inf"):
            raise self._misuse(f"got rate={rate}, channels={channels}, timeout_s={timeout_s}, expected more than 0")

    def _misuse(self, why: str) -> SeparatorError:
        return wrong_usage(SeparatorError(f"{self.name}: {why}"))

    def _check_arguments(self) -> None:
        if isinstance(self.arguments, str) or not self.arguments or not all(self.arguments):
            raise self._misuse(f"got arguments {self.arguments!r}, expected a list: the program, then its arguments")
        known = [*GIVEN, *(self.files or {})]
        used = [name for argument in self.arguments for _, name in _PLACE.findall(argument) if name]
        for name in used:
            if name not in known:
                places = ", ".join(f"{{{one}}}" for one in known)
                raise self._misuse(f"arguments: {{{name}}} is unknown{did_you_mean(name, known)}, there are {places}")
        for name in GIVEN:
            if name not in used:
                raise self._misuse(f"got arguments without {{{name}}}, expected it where the program takes its path")

    def _checked_sums(self) -> Sums:
        """By source, its parts in the program's folder."""
        if (self.stems is None) == (self.outputs is None):
            raise self._misuse("expected either stems (names that are found) or outputs (by source, a file)")
        if self.outputs is None:
            return parse_sources(self.stems)
        for source, file in self.outputs.items():
            check_source(source, SeparatorError)
            if not file or Path(file).is_absolute() or ".." in Path(file).parts:
                raise self._misuse(f"outputs: got {file!r}, expected a file below {{folder}}")
        if not self.outputs:
            raise self._misuse("got no outputs, expected a file for each source")
        return {source: (source,) for source in self.outputs}

    @property
    def _program(self) -> str:
        return shown(Path(self.arguments[0]).name)

    def _paths(self) -> dict[str, Path]:
        """The files that count, where they lie now."""
        paths = {name: Path(path).expanduser().absolute() for name, path in (self.files or {}).items()}
        if missing := [path for path in paths.values() if not path.is_file()]:
            raise MissingWeightsError(f"{self.name}: {missing[0]} is missing, which files names")
        return paths

    def weights_sha256(self) -> dict[str, str]:
        """Name and sha256 of every file that counts.

        Raises
        ------
        MissingWeightsError
            A file is missing.
        """
        return {name: verified_sha256(path) for name, path in self._paths().items()}

    def describe(self) -> dict[str, Any]:
        """All that the output depends on: arguments, the version that the user states, files, and our part in it."""
        return super().describe() | {"adapter": ADAPTER}

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Nobody knows."""
        return None

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        check_trust(self, f"the program {self._program}")
        with working_folder() as folder:
            song, written = folder / f"{SONG}.wav", folder / "stems"
            written.mkdir()
            write_audio([song], (samples[None] for _, samples in mixture.blocks()), self.rate, self.channels, "FLOAT")
            places = {"mixture": song, "folder": written, **self._paths()}
            run_program([_filled(argument, places) for argument in self.arguments], self.timeout_s, self.name)
            stems = self._found(written, mixture.length)
            for start in range(0, mixture.length, BLOCK):
                try:
                    samples = stems.read(start, min(start + BLOCK, mixture.length))
                except AudioError as error:
                    raise self._wrong(error, written) from error
                yield samples

    def _wrong(self, why: object, folder: Path) -> SeparatorError:
        """What is wrong with what the program wrote; the folder itself is gone when it is read."""
        return SeparatorError(f"{self.name}: {self._program} wrote {str(why).replace(f'{folder}{os.sep}', '')}")

    def _found(self, folder: Path, length: int) -> Stems:
        """The stems in the program's folder, whose form is right."""
        files = self._named_files(folder) if self.outputs is not None else self._found_files(folder)
        signals: dict[str, Signal] = {}
        for source in self.sources:
            parts = {str(path): self._opened(path, folder, length) for path in files[source]}
            signals[source] = SumSignal(parts) if len(parts) > 1 else next(iter(parts.values()))
        return Stems.from_signals(signals)

    def _named_files(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        files = {source: folder / file for source, file in (self.outputs or {}).items()}
        if missing := [source for source, path in files.items() if not path.is_file()]:
            raise self._without(missing, folder)
        return {source: (path,) for source, path in files.items()}

    def _found_files(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        from stemfuse.separators.store.adoption import find_stems
        from stemfuse.separators.track import Track

        song = Track(SONG, open_signal(folder.parent / f"{SONG}.wav"))
        try:
            found = find_stems(folder, [song], self._sums).found[0]
        except TrackError as error:
            raise self._without(self.sources, folder) from error
        if missing := [source for source in self.sources if source not in found.files]:
            raise self._without(missing, folder)
        return {source: (path, *found.added.get(source, ())) for source, path in found.files.items()}

    def _without(self, missing: Sequence[str], folder: Path) -> SeparatorError:
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        wrote = f"only {listed(map(shown, files))}" if files else "no file"
        return self._wrong(
            f"{wrote}, expected one stem each of {', '.join(missing)}; name its files with outputs", folder
        )

    def _opened(self, path: Path, folder: Path, length: int) -> Signal:
        try:
            signal = open_signal(path)
        except AudioError as error:
            raise self._wrong(error, folder) from error
        expected = {"Hz": self.rate, "channels": self.channels, "samples": length}
        got = {"Hz": signal.rate, "channels": signal.channels, "samples": signal.length}
        for what, number in expected.items():
            if got[what] != number:
                raise self._wrong(f"{path} with {got[what]} {what}, expected {number} as in the mixture", folder)
        return signal


def _filled(argument: str, places: Mapping[str, Path]) -> str:
    """An argument with paths in the places of its placeholders."""
    return _PLACE.sub(lambda place: place[1] or str(places[place[2]]), argument)
