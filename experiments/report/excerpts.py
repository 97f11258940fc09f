"""FLAC that browsers seek in: libsndfile writes no seek table, and without one Chromium fails near a file's end."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

from stemfuse.separators import AudioError
from stemfuse.separators.audio.whole_files import whole_file

STREAMINFO_END = 4 + 4 + 34
"""Where the first block of metadata ends; a seek table may follow it."""

SEEK_TABLE, POINT_BYTES = 3, 18


def add_seek_table(path: Path, every_s: float = 1.0) -> None:
    """Put a table of positions into a FLAC file that has none, one for every second.

    Parameters
    ----------
    path : Path
        A FLAC file; its samples stay as they are.
    every_s : float
        Distance of the positions.

    Raises
    ------
    AudioError
        The file is no FLAC, or cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np, soundfile as sf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "noise.flac")
    ...     sf.write(file, np.random.default_rng(0).normal(0, 0.1, 44100), 44100)
    ...     before = sf.read(file)[0]
    ...     add_seek_table(file, 0.5)
    ...     file.read_bytes()[STREAMINFO_END], bool((sf.read(file)[0] == before).all())
    (3, True)
    """
    import av

    content = path.read_bytes()
    if content[:4] != b"fLaC":
        raise AudioError(f"{path}: got no FLAC file, expected one to put a seek table into")
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        frames = [
            (packet.pts, packet.pos, packet.duration)
            for packet in file.demux(stream)
            if packet.size and packet.pts is not None and packet.pos is not None
        ]
        rate = stream.rate
    if not frames:
        return
    starts, first = [start for start, _, _ in frames], frames[0][1]
    wanted = range(0, starts[-1] + 1, max(1, round(every_s * rate)))
    chosen = [frames[place] for place in dict.fromkeys(bisect_right(starts, sample) - 1 for sample in wanted)]
    table = b"".join(
        start.to_bytes(8, "big") + (at - first).to_bytes(8, "big") + int(length or 0).to_bytes(2, "big")
        for start, at, length in chosen
    )
    block = bytes([SEEK_TABLE]) + len(table).to_bytes(3, "big") + table
    with whole_file(path, "free some space", AudioError) as temporary:
        temporary.write_bytes(content[:STREAMINFO_END] + block + content[STREAMINFO_END:])
