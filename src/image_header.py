"""The size of a picture from its file's header: nothing is decoded.

Sizes are those of the upright picture, as a viewer shows it: an EXIF orientation that turns the picture by 90° swaps
width and height. Boxes of annotations are taken to be pixels of that picture.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
EXIF_ORIENTATION, TIFF_WIDTH, TIFF_HEIGHT = 274, 256, 257
TURNED = (5, 6, 7, 8)  # orientations whose width is the height of what is stored
THREADS = 8  # waiting for a disk or a network folder is most of the work


def image_size(path: str | Path) -> tuple[int, int] | None:
    """(width, height) in pixels after EXIF rotation; None for a file that is absent, damaged or no known image."""
    try:
        with Path(path).open("rb") as file, Image.open(file, formats=FORMATS) as header:
            if header.format == "TIFF":  # Pillow's versions differ on the `size` of a rotated one; its tags do not
                size = int(header.tag_v2[TIFF_WIDTH]), int(header.tag_v2[TIFF_HEIGHT])
                orientation = header.tag_v2.get(EXIF_ORIENTATION, 1)
            else:
                size, orientation = header.size, _orientation(header, file)
    except Exception:  # corrupt bytes make Pillow raise anything, from KeyError to struct.error
        return None
    if min(size) < 1:
        return None
    return size[::-1] if orientation in TURNED else size


def image_sizes(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    """`image_size` of each."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(image_size, paths))


def _orientation(header: Image.Image, file: BinaryIO) -> int:
    if header.format == "PNG" and not _notes_after_pixels(file):
        return Image.Image.getexif(header).get(EXIF_ORIENTATION, 1)  # PngImageFile's own would decode all pixels
    return header.getexif().get(EXIF_ORIENTATION, 1)


def _notes_after_pixels(file: BinaryIO) -> bool:
    """Whether a PNG has a chunk behind its pixels that may hold EXIF or XMP."""
    position, pixels = file.tell(), False
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            kind = head[4:]
            if pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            if kind == b"IEND":
                return False
            pixels = pixels or kind == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
        return False
    finally:
        file.seek(position)
