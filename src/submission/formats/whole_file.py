"""Formats whose file is no table of cells: JSON of one list or of an object a line, an archive of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from src.atomic import write_text
from src.submission.formats.base import Context, Format


class WholeFile(Format):
    """A file that is written, checked and read as a whole, without header, columns and cells.

    `columns` may be given (a solution table has its id and value there), and says nothing about the file.
    """

    whole_file: ClassVar[bool] = True
    roles: ClassVar[tuple[str, ...]] = ()
    optional_roles: ClassVar[tuple[str, ...]] = ("id", "value")

    def write_file(self, path: str | Path, ids: Sequence[str], values: Sequence[Any], context: Context) -> None:
        """Write the whole file or nothing; a format of text has `content` instead."""
        write_text(path, self.content(ids, values, context))

    def content(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> str:
        """The text of the file.

        Raises:
            ProjectError: an id or a value that cannot be written.
        """
        raise NotImplementedError

    def problems(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> list[str]:
        """Every problem of the file; `ids` are those of the test images, where they are known."""
        raise NotImplementedError

    def values(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> dict[str, Any]:
        """id → value of a valid file: of `ids`, or without them of the images that it names."""
        raise NotImplementedError

    def warnings(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> list[str] | None:
        """What is odd about a valid file whose values are too large to be held at once; None: they are not."""
        return None
