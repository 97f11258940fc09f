"""Files of Gram statistics: what they hold, and whether they are of the audio that is meant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from stemfuse.separators import whole_file
from stemfuse.separators.foreign.arrays import read_arrays

from .errors import GramError

SCHEMA = 1


def write_gram(path: str | os.PathLike[str], values: Mapping[str, Any], identity: str) -> None:
    """Write the fields of `GramStatistics`, and of what audio they are, as one ``.npz``; see its `save`."""
    with whole_file(path, error=GramError) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            schema=SCHEMA,
            identity=np.array(identity, np.str_),
            track=np.array(values["track"], np.str_),
            inputs=np.array(values["inputs"], np.str_),
            outputs=np.array(values["outputs"], np.str_),
            moments=values["moments"],
            silent=values["silent"],
            grid=np.array([values[name] for name in ("window", "hop", "rate")]),
        )


def read_gram(path: str | os.PathLike[str], identity: str | None) -> dict[str, Any]:
    """Read the fields of `GramStatistics` that `write_gram` wrote; see its `load`."""
    try:
        file = read_arrays(path)
        if int(file["schema"]) != SCHEMA:
            raise GramError(f"{path}: got schema {file['schema']}, expected {SCHEMA}; delete the file")
        if identity is not None and str(file["identity"]) != identity:
            raise GramError(f"{path}: got the statistics of other audio; delete the file")
        labels = {name: tuple(file[name].tolist()) for name in ("inputs", "outputs")}
        grid = dict(zip(("window", "hop", "rate"), map(int, file["grid"]), strict=True))
        return {"track": str(file["track"]), **labels, "moments": file["moments"], "silent": file["silent"], **grid}
    except GramError:
        raise
    except Exception as error:  # a damaged archive may raise anything in numpy
        raise GramError(f"{path}: no Gram statistics can be read ({error}); delete the file") from error
