"""Archives of many files, .tar.gz and .zip: written file by file, read in one pass, joined.

    python -m src.submission.pack joined.tar.gz can.tar.gz fabric.tar.gz …

joins the submissions of several runs where a server wants all objects in one archive. The same files in the same order
make the same bytes: times and owners are left out.
"""

import argparse
import gzip
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Protocol

from src.atomic import atomic_path
from src.errors import ProjectError

KINDS = ("tar.gz", "zip")
_LEVEL = 6  # of DEFLATE
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, NotImplementedError, RuntimeError)


class BadArchive(ValueError):
    """A file that is no readable archive; the text says why."""


class Writer(Protocol):
    def add(self, name: str, content: bytes) -> None:
        """Put a file into the archive; `name` has forward slashes."""


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def add(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._archive.addfile(entry, BytesIO(content))


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, name: str, content: bytes) -> None:
        entry = zipfile.ZipInfo(name)  # of 1980-01-01
        entry.external_attr = 0o644 << 16
        self._archive.writestr(entry, content, zipfile.ZIP_DEFLATED, _LEVEL)


@contextmanager
def archive_writer(target: str | Path, kind: str) -> Iterator[Writer]:
    """A new archive of one of KINDS, whole or not at all: it takes its name when the block ends without an error."""
    with atomic_path(target) as temporary:
        if kind == "zip":
            with zipfile.ZipFile(temporary, "w") as archive:
                yield _Zip(archive)
            return
        with (
            temporary.open("wb") as file,
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            yield _Tar(archive)


def kind_of(path: str | Path) -> str | None:
    """Which of KINDS a file is by its first bytes; None for neither."""
    with Path(path).open("rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        return "tar.gz"
    return "zip" if start in (b"PK\x03\x04", b"PK\x05\x06") else None


def read_archive(path: str | Path) -> Iterator[tuple[str, bytes | None]]:
    """(name, content) of every entry in the archive's order, folders left out; None for what is no plain file.

    Raises:
        BadArchive: neither kind of archive, or damaged; what came before the damage has been answered.
    """
    kind = kind_of(path)
    if kind is None:
        raise BadArchive("it is neither a .tar.gz nor a .zip")
    try:
        yield from _tar_entries(path) if kind == "tar.gz" else _zip_entries(path)
    except _DAMAGE as error:
        raise BadArchive(f"it is damaged or cut off ({error})") from error


def _tar_entries(path: str | Path) -> Iterator[tuple[str, bytes | None]]:
    # Not mode "r|gz": tarfile's own reader of streams takes a file that is cut off for one that ends.
    with gzip.open(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        for entry in archive:
            if entry.isdir():
                continue
            file = archive.extractfile(entry) if entry.isreg() else None
            yield entry.name.removeprefix("./"), None if file is None else file.read()
        while packed.read(1 << 20):  # to the end, where the checksum is
            pass


def _zip_entries(path: str | Path) -> Iterator[tuple[str, bytes | None]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            linked = (entry.external_attr >> 16) & 0o170000 == 0o120000
            yield entry.filename, None if linked else archive.read(entry)


def join(archives: Sequence[str | Path], target: str | Path) -> int:
    """One archive of the files of several, of the kind that `target` is named for; answers how many files it has.

    Raises:
        ProjectError: a name that is in two of them, an archive that cannot be read, or another suffix. Nothing is
            written then.
    """
    kind = next((kind for kind in KINDS if Path(target).name.endswith(f".{kind}")), None)
    if kind is None:
        raise ProjectError(f"{target}: name the archive .tar.gz or .zip.")
    where: dict[str, str] = {}
    with archive_writer(target, kind) as writer:
        for path in map(str, archives):
            if not Path(path).is_file():
                raise ProjectError(f"there is no archive {path}.")
            try:
                for name, content in read_archive(path):
                    if content is None:
                        raise ProjectError(f"{path}: {name} is no plain file. Pack the files themselves.")
                    if name in where:
                        raise ProjectError(f"{name} is in {where[name]} and in {path}. Leave one of the two out.")
                    where[name] = path
                    writer.add(name, content)
            except BadArchive as error:
                raise ProjectError(f"{path} cannot be joined: {error}.") from error
    return len(where)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m src.submission.pack", description=join.__doc__.split("\n")[0])
    parser.add_argument("target", help="the archive to write, .tar.gz or .zip")
    parser.add_argument("archives", nargs="+", help="submissions to join, with different files each")
    given = parser.parse_args(arguments)
    try:
        number = join(given.archives, given.target)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{given.target}  {number} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
