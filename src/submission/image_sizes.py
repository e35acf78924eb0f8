"""Sizes of the test images, read from their files' headers if and when a format asks for one."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from src.image_header import image_sizes


class ImageSizes(Mapping[str, tuple[int, int]]):
    """id → (width, height) of the upright picture; an image whose header cannot be read is not in it.

    The first question reads all headers at once, several at a time: a format that asks for one size asks for all.
    """

    def __init__(self, ids: Sequence[str], paths: Sequence[str]) -> None:
        self._paths = dict(zip(ids, paths, strict=True))

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        found = zip(self._paths, image_sizes(list(self._paths.values())), strict=True)
        return {name: size for name, size in found if size is not None}

    def __getitem__(self, name: str) -> tuple[int, int]:
        return self._sizes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)
