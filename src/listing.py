"""Finding files under a folder: safe relative paths, Korean names in either Unicode form, one listing each.

A path that a table or a config names is checked as text: once `..` is folded away it must lie under the
folder. Symbolic links below the folder are followed, wherever they lead: a table cannot make one, and people
do link their data in from a bigger disk.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from src.errors import ProjectError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
IGNORED_FOLDERS = ("__MACOSX",)  # besides hidden ones

_DRIVE = re.compile(r"[A-Za-z]:/")
_UNTIDY = re.compile(r"(^|/)\.{0,2}(/|$)")  # an empty, "." or ".." part
_DIGITS = re.compile(r"([0-9]+)")


def nfc(text: str) -> str:
    """Composed Unicode form. macOS archives store decomposed (NFD) names, which look the same and differ."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Sort key by which `img2` precedes `img10`; total, so that an order never depends on the file system."""
    parts = _DIGITS.split(text.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


def is_image(name: str) -> bool:
    """Whether a name is an image's, by suffix in any case; hidden files (`._a.jpg` of macOS) are not."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def relative_under(text: str, base: str, start: str = ".") -> str | None:
    """`text` as a POSIX path relative to the absolute folder `base`, without `..`; None when it leaves it.

    Backslashes count as separators. A relative `text` starts from the folder `start` below the base; an
    absolute one is accepted only if it lies under the base. The base itself is ".".
    """
    path = text.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path):
        prefix = base.replace("\\", "/").rstrip("/") + "/"
        path = posixpath.normpath(path)
        if not path.startswith(prefix):
            return None
        return path[len(prefix) :]
    if start != ".":
        path = f"{start}/{path}"
    if _UNTIDY.search(path):
        path = posixpath.normpath(path)
    return None if path == ".." or path.startswith("../") else path


def locate(base: Path, relative: str) -> Path:
    """A `relative_under` file or folder, spelt as on the disk; `base / relative` when there is none."""
    plain = base / relative
    if plain.exists():
        return plain
    tree = Tree(base)
    return Path(tree.find(relative) or tree.find_folder(relative) or plain)


class Tree:
    """Files below `base`, each folder listed once, whatever the number of questions.

    `find("가/a.jpg")` also answers for a name in the other Unicode form and for another case of the suffix.
    """

    def __init__(self, base: str | Path) -> None:
        self.base = str(base)
        self._folders: dict[str, _Folder | None] = {}

    def find(self, relative: str) -> str | None:
        """Absolute path, spelt as on the disk, of a `relative_under` file; None when absent or ambiguous."""
        head, _, name = relative.rpartition("/")
        folder = self._folder(head)
        if folder is None:
            return None
        found = name if name in folder.files else folder.loose_file(name)
        return None if found is None else f"{folder.path}/{found}"

    def find_folder(self, relative: str) -> str | None:
        """Absolute path of a folder given by `relative_under`, or None."""
        folder = self._folder("" if relative == "." else relative)
        return None if folder is None else folder.path

    def images(self, relative: str = "") -> Iterator[tuple[str, str]]:
        """(path relative to `base`/`relative`, absolute path) of all images below, sorted naturally."""
        return self.files(relative, is_image)

    def files(self, relative: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        """As `images`, for the files whose name is `wanted`.

        Hidden files and folders and `__MACOSX` are left out; a folder met twice through links is read once.
        """
        start = self._folder("" if relative == "." else relative)
        found: list[tuple[str, str]] = []
        seen: set[str] = set()
        waiting = [("", start)] if start is not None else []
        while waiting:
            prefix, folder = waiting.pop()
            real = os.path.realpath(folder.path)
            if real in seen:
                continue
            seen.add(real)
            names = (name for name in folder.files if wanted(name) and not name.startswith("."))
            found += [(prefix + name, f"{folder.path}/{name}") for name in names]
            for name in sorted(folder.folders, reverse=True):
                if not name.startswith(".") and name not in IGNORED_FOLDERS:
                    waiting.append((f"{prefix}{name}/", _Folder(f"{folder.path}/{name}")))
        yield from sorted(found, key=lambda pair: natural_key(pair[0]))

    def names(self, relative: str) -> list[str]:
        """Names of the files and folders in one folder; empty when there is no such folder."""
        folder = self._folder("" if relative == "." else relative)
        return sorted(folder.files | folder.folders) if folder is not None else []

    def _folder(self, relative: str) -> "_Folder | None":
        if relative not in self._folders:
            self._folders[relative] = self._open(relative)
        return self._folders[relative]

    def _open(self, relative: str) -> "_Folder | None":
        if not relative:
            return _Folder(self.base) if Path(self.base).is_dir() else None
        head, _, name = relative.rpartition("/")
        parent = self._folder(head)
        if parent is None:
            return None
        found = name if name in parent.folders else parent.loose_folder(name)
        return None if found is None else _Folder(f"{parent.path}/{found}")


class _Folder:
    """One listing: names of files and of folders (links followed, broken ones left out)."""

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/") or "/"
        self.files: set[str] = set()
        self.folders: set[str] = set()
        self._loose_files: dict[str, list[str]] | None = None
        self._loose_folders: dict[str, list[str]] | None = None
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.is_dir():
                        self.folders.add(entry.name)
                    elif entry.is_file():
                        self.files.add(entry.name)
        except OSError as error:
            raise ProjectError(f"could not list the folder {path}: {error.strerror or error}.") from error

    def loose_file(self, name: str) -> str | None:
        if self._loose_files is None:
            self._loose_files = _by_key(self.files, _file_key)
        return _only(self._loose_files.get(_file_key(name)))

    def loose_folder(self, name: str) -> str | None:
        if self._loose_folders is None:
            self._loose_folders = _by_key(self.folders, nfc)
        return _only(self._loose_folders.get(nfc(name)))


def _file_key(name: str) -> str:
    stem, dot, suffix = nfc(name).rpartition(".")
    return f"{stem}{dot}{suffix.lower()}" if dot else suffix


def _by_key(names: set[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for name in names:
        table.setdefault(key(name), []).append(name)
    return table


def _only(names: list[str] | None) -> str | None:
    return names[0] if names is not None and len(names) == 1 else None
