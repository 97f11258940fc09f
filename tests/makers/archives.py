"""Archives of files: tapes, and wheels that pip takes for a package's."""

import io
import tarfile
import zipfile


def write_tape(path, contents):
    """A tar archive, compressed by gzip."""
    with tarfile.open(path, "w:gz") as tape:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tape.addfile(entry, io.BytesIO(content))


def write_wheel(folder, name, version, contents):
    """A wheel of a package with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    about = f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for place, content in contents.items():
            archive.writestr(place, content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path
