"""Image files of every common kind → RGB uint8 arrays, at full size or at the model's size; masks → {0, 1}.

Three decoders share the work: simplejpeg for ordinary JPEG (with DCT scaling), OpenCV for PNG and TIFF whose
colour channels have more than 8 bits, Pillow for the rest. Colour profiles (ICC) are ignored, as every peer
library does.

What is decided here:
- Alpha is dropped, not composited: Pillow's `convert("RGB")`, OpenCV and torchvision do the same.
- Samples above 8 bits are scaled by the range in use, because files rarely say it: maximum ≤ 255 means 8-bit
data in a
  wide file (kept), ≤ 4095 means 12-bit camera data (× 255/4095), else the full 16 bits (÷ 257). Dividing
  12-bit data by 257 would leave 16 grey levels. The price: in a truly 16-bit set, a picture darker than 1/16
  comes out brighter.
- EXIF orientation is applied, and "original size" means the size after it.
- Of a file with several frames or pages, the first is read.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from src.data.geometry import lay_out, place
from src.errors import ProjectError
from src.image_header import EXIF_ORIENTATION, FORMATS, TURNED

try:
    import simplejpeg
except ImportError:  # an optional accelerator: Pillow reads the same files, at half the speed
    simplejpeg = None

if TYPE_CHECKING:
    from src.data.transforms import PreprocessSpec

T = TypeVar("T")

INTERPOLATIONS = ("bilinear", "bicubic", "area")
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262

# A DCT-scaled decode (by 2, 4 or 8) must leave this many times the target, and the antialiased resize does
# the rest. Measured by benchmarks/decode.py: at 3 the mean error is that of rounding to uint8; at 1 it is
# several times that.
DCT_MARGIN = 3

# Broken files are reported once, by ImageError; the codecs' own words on stderr would repeat it for every
# file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


class ImageError(ProjectError):
    """An image or mask file that cannot be read. `path` is the file, `reason` says why in a few words."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read image {path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason)  # it crosses from loader workers to the main process


def read_image(path: str | Path) -> np.ndarray:
    """The whole picture, H×W×3 uint8 RGB, upright.

    Raises:
        ImageError: missing, empty, truncated, not an image, zero-sized, or unreasonably large (over 178 Mpx).
    """
    return _guarded(path, lambda data: _decode(data, path, None))[0]


def read_resized(path: str | Path, spec: PreprocessSpec) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture on the model's canvas, H×W×3 uint8 RGB as `spec` says, and its original (height, width).

    A JPEG much larger than the canvas is decoded at 1/2, 1/4 or 1/8 through its DCT, then resized with
    antialiasing.

    Raises:
        ImageError: as `read_image`.
    """
    pixels, original_size = _guarded(path, lambda data: _decode(data, path, spec))
    placement = place(original_size, spec)
    scaled = resize(pixels, (placement.scaled_height, placement.scaled_width), spec.interpolation)
    return lay_out(scaled, placement, (spec.height, spec.width), spec.pad_value), original_size


def read_size(path: str | Path) -> tuple[int, int]:
    """(height, width) after EXIF rotation, from the header where it is enough.

    Raises:
        ImageError: as `read_image`, as far as the header shows.
    """

    def size(data: bytes) -> tuple[int, int]:
        header = _open_header(data, path)
        # Pillow's versions differ on what the header of a rotated TIFF says.
        if header is None or header.format == "TIFF":
            return _decode(data, path, None)[1]
        return _upright(header.size, _orientation(header))

    return _guarded(path, size)


def read_mask(
    path: str | Path, size: tuple[int, int] | None = None, *, spec: PreprocessSpec | None = None
) -> np.ndarray:
    """A mask, H×W uint8 {0, 1}: any sample that is not zero is 1.

    Of a palette image the indices count; of a JPEG, samples above half its maximum, its zeros being blurred;
    of an image whose colours are all black, the alpha. `size` (height, width) stretches it, `spec` lays it on
    the model's canvas as its image; both take the nearest pixel.

    Raises:
        ImageError: as `read_image`.
    """
    mask = _guarded(path, lambda data: _decode_mask(data, path))
    if spec is not None:
        return lay_mask(mask, spec)
    return mask if size is None else _nearest(mask, size)


def lay_mask(mask: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """A full-size mask H×W on the model's canvas, where `read_resized` lays its image; padding is 0."""
    placement = place(mask.shape, spec)
    scaled = _nearest(mask, (placement.scaled_height, placement.scaled_width))
    return lay_out(scaled, placement, (spec.height, spec.width), 0)


def check_mask_size(
    mask_size: tuple[int, int], image_size: tuple[int, int], *, mask: str | Path, image: str | Path
) -> None:
    """Refuse a mask whose (height, width) is not its image's (after EXIF rotation).

    Raises:
        ProjectError: names both files and both sizes.
    """
    if tuple(mask_size) != tuple(image_size):
        raise ProjectError(
            f"mask {mask} is {mask_size[1]}×{mask_size[0]} pixels (width×height), but its image {image} is "
            f"{image_size[1]}×{image_size[0]}. Save the mask at its image's size, or correct the mask column."
        )


def resize(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Resize H×W×3 uint8 to `size` (height, width), without aliasing when it shrinks.

    `bilinear` and `bicubic` are the antialiased filters of Pillow and of torchvision's
    `Resize(antialias=True)`, computed by torch's uint8 kernel (within one level of torchvision's float path).
    `area` is OpenCV's box average.
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    if interpolation == "area":
        shrinks = size[0] <= pixels.shape[0] and size[1] <= pixels.shape[1]
        return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    import torch.nn.functional as F
    from torch import from_numpy, inference_mode

    with inference_mode():
        # Channels-last strides select the vectorised uint8 kernel.
        planes = from_numpy(np.ascontiguousarray(pixels))[None].permute(0, 3, 1, 2)
        out = F.interpolate(planes, size=size, mode=interpolation, antialias=True, align_corners=False)
        return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())


def _guarded(path: str | Path, decode: Callable[[bytes], T]) -> T:
    """Read the file and decode it; whatever goes wrong becomes an ImageError."""
    try:
        # From memory always: OpenCV cannot open non-ASCII paths on Windows.
        data = Path(path).read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
        raise ImageError(path, reason) from error
    if not data:
        raise ImageError(path, "the file is empty")
    try:
        return decode(data)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(path, f"too many pixels to be sane; cut it into tiles ({error})") from error
    except Exception as error:  # corrupt bytes make the codecs raise anything, from KeyError to struct.error
        raise ImageError(path, f"damaged or truncated ({str(error) or type(error).__name__})") from error


def _open_header(data: bytes, path: str | Path) -> Image.Image | None:
    """Pillow's view of the header (pixels not yet decoded), or None for a TIFF that only OpenCV may know."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        if data[:2] in (b"II", b"MM"):
            return None
        known = "JPEG, PNG, TIFF, BMP, WebP, GIF, PPM"
        raise ImageError(path, f"not an image of a known kind ({known}), or its header is damaged") from error


def _orientation(header: Image.Image) -> int:
    return header.getexif().get(EXIF_ORIENTATION, 1)


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """A header's (width, height) → (height, width) after rotation."""
    return size if orientation in TURNED else size[::-1]


def _decode(data: bytes, path: str | Path, spec: PreprocessSpec | None) -> tuple[np.ndarray, tuple[int, int]]:
    """RGB uint8, upright, and the original (height, width). With a `spec`, a JPEG may be DCT-scaled."""
    header = _open_header(data, path)
    if header is None or _is_deep(header, data):
        pixels = _decode_deep(data, header, path)
        return pixels, pixels.shape[:2]
    if header.format not in ("JPEG", "MPO") or header.mode not in ("RGB", "L"):
        pixels = _decode_pillow(header, path)
        return pixels, pixels.shape[:2]
    orientation = _orientation(header)
    original_size = _upright(header.size, orientation)
    factor = 1
    if spec is not None:
        placement = place(original_size, spec)
        reduction = min(original_size[0] / placement.scaled_height, original_size[1] / placement.scaled_width)
        factor = max(f for f in (1, 2, 4, 8) if f == 1 or f * DCT_MARGIN <= reduction)
    return _turn(_decode_jpeg(data, header, factor), orientation), original_size


def _decode_jpeg(data: bytes, header: Image.Image, factor: int) -> np.ndarray:
    width, height = (math.ceil(side / factor) for side in header.size)
    if simplejpeg is not None:
        try:
            return simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
        except ValueError as error:
            # Its strict mode is the only one that notices a cut-off file closed by an end marker. It also
            # refuses harmless stray bytes, which cameras do write: those go on to Pillow, which refuses real
            # damage itself.
            if "premature" in str(error).lower():
                raise
    header.draft("RGB", (width, height))
    return np.array(header.convert("RGB"))


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8) to H×W×C."""
    if orientation in (2, 5, 7):
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    if orientation == 4:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _is_deep(header: Image.Image, data: bytes) -> bool:
    """Colour with more than 8 bits a sample: Pillow would drop the low byte, whatever range is in use."""
    if header.format == "PNG":
        return data[24] == 16 and not header.mode.startswith("I")  # byte 24 is IHDR's bit depth
    if header.format == "TIFF":
        return header.mode in ("RGB", "RGBA", "RGBX", "LA") and max(header.tag_v2.get(TIFF_BITS, (8,))) > 8
    return False


def _decode_deep(data: bytes, header: Image.Image | None, path: str | Path) -> np.ndarray:
    if header is not None and header.format == "PNG":
        Image.open(io.BytesIO(data)).verify()  # all checksums: OpenCV 4 returns half of a file cut off
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # of a TIFF, already upright
    if raw is None:
        raise ImageError(path, "damaged, or a TIFF of an unknown kind")
    pixels = _to_8_bits(raw[..., 2::-1] if raw.ndim == 3 else raw, path)
    pixels = pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    is_png = header is not None and header.format == "PNG"
    return _turn(pixels, _orientation(header)) if is_png else np.ascontiguousarray(pixels)


def _decode_pillow(header: Image.Image, path: str | Path) -> np.ndarray:
    is_jpeg, has_adobe_marker = header.format in ("JPEG", "MPO"), "adobe" in header.info
    white_is_zero = header.format == "TIFF" and header.tag_v2.get(TIFF_PHOTOMETRIC) == 0
    image = ImageOps.exif_transpose(header)
    if image.mode[0] in "IF":  # 16- and 32-bit grey, float
        grey = np.asarray(image)
        if white_is_zero and image.mode.startswith("I;16"):  # Pillow inverts the 8-bit ones only
            grey = 65535 - grey
        return cv2.cvtColor(_to_8_bits(grey, path), cv2.COLOR_GRAY2RGB)
    if image.mode == "CMYK" and is_jpeg and not has_adobe_marker:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for Adobe's, whose ink is inverted
    return np.array(image.convert("RGB"))


def _to_8_bits(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Any sample type → uint8, by the range in use (see the module's first lines)."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # NaN fails too
        raise ImageError(path, f"samples from {low} to {high}; expected 8-bit, 16-bit, or floats from 0 to 1")
    if values.dtype.kind == "f":
        if high > 255:
            raise ImageError(path, f"float samples up to {high}; expected 0 to 1 (or 0 to 255)")
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    if high <= 255:
        return values.astype(np.uint8)
    wide = values.astype(np.uint32)
    return ((wide * 255 + 2047) // 4095 if high <= 4095 else (wide + 128) // 257).astype(np.uint8)


def _decode_mask(data: bytes, path: str | Path) -> np.ndarray:
    header = _open_header(data, path)
    if header is None or _is_deep(header, data):
        raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if raw is None:
            raise ImageError(path, "damaged, or a TIFF of an unknown kind")
        return np.ascontiguousarray((raw if raw.ndim == 2 else raw[..., :3].any(-1)) != 0).astype(np.uint8)
    lossy = header.format in ("JPEG", "MPO")
    image = ImageOps.exif_transpose(header)
    values = np.asarray(image)  # of a palette image: the indices
    if values.ndim == 3:
        colours = len(image.getbands()) - ("A" in image.getbands())
        visible, last = values[..., :colours].max(-1), values[..., -1]
        drawn_in_alpha = colours < values.shape[2] and not visible.any() and last.min() < last.max()
        values = last if drawn_in_alpha else visible
    level = values.max() / 2 if lossy else 0
    return (values > level).astype(np.uint8)


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == tuple(size):
        return mask
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
