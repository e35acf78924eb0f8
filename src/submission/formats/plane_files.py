"""Maps and masks as image files: float TIFF and 8-bit grey, encoded, decoded and checked as a grader would."""

from io import BytesIO

import numpy as np

MAP_SUFFIXES = (".tiff", ".tif")
MASK_SUFFIXES = (".png", ".bmp", ".tiff", ".tif")
_PILLOW = {".png": "PNG", ".bmp": "BMP", ".tiff": "TIFF", ".tif": "TIFF"}


class BadPlane(ValueError):
    """A file that is not what is asked for. `kind` follows "files", `remedy` says what to do, `found` what is there."""

    def __init__(self, kind: str, remedy: str, found: str = "") -> None:
        super().__init__(kind)
        self.kind, self.remedy, self.found = kind, remedy, found


def encode_map(plane: np.ndarray, dtype: str) -> bytes:
    """An uncompressed TIFF of one (H, W) page, which every reader knows; the archive around it compresses.

    Values beyond the range of `dtype` (float16 ends at 65,504) become its last number: their order among the others
    stays, and `submission_warnings` tells of such maps.
    """
    import tifffile

    limits = np.finfo(dtype)
    values = np.clip(np.asarray(plane, dtype=np.float32), limits.min, limits.max).astype(dtype)
    buffer = BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", metadata=None, software=False)
    return buffer.getvalue()


def encode_mask(mask: np.ndarray, suffix: str, white: int) -> bytes:
    """An 8-bit grey image, `white` where the (H, W) mask is true and 0 elsewhere."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(white)).save(buffer, _PILLOW[suffix])
    return buffer.getvalue()


def decode_map(content: bytes, dtype: str) -> np.ndarray:
    """The (H, W) map of a TIFF file; BadPlane where it is none of `dtype`, or holds a number that is not finite."""
    import tifffile

    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            pages = len(file.pages)
            plane = file.asarray() if pages else None
    except Exception as error:  # damaged bytes make tifffile raise anything, from struct.error to KeyError
        raise BadPlane("are no readable TIFF", "Write them with tifffile.imwrite", _brief(error)) from error
    if plane is None:
        raise BadPlane("are no readable TIFF", "Write them with tifffile.imwrite", "no page")
    if plane.ndim != 2 or pages != 1:
        raise BadPlane("have more than one channel or page", "Write (height, width) arrays", f"shape {plane.shape}")
    if plane.dtype != np.dtype(dtype):
        raise BadPlane(
            f"are not of the type {dtype}", f"Convert: plane.astype(np.{dtype})", f"type {plane.dtype}"
        )
    if not np.isfinite(plane).all():
        bad = int((~np.isfinite(plane)).sum())
        raise BadPlane("hold NaN or infinite values", "Predict in 32-bit precision, or clip", f"{bad} pixels")
    return plane


def decode_mask(content: bytes, white: int) -> np.ndarray:
    """The (H, W) bool mask of an 8-bit grey image file; BadPlane where it is none, or not of 0 and `white` alone."""
    from PIL import Image

    try:
        with Image.open(BytesIO(content)) as image:
            mode, values = image.mode, np.asarray(image)
    except Exception as error:  # damaged bytes make Pillow raise anything, from SyntaxError to struct.error
        raise BadPlane("are no readable image", "Write them with PIL.Image.fromarray", _brief(error)) from error
    if mode != "L":
        raise BadPlane("are not 8-bit grey", "Convert: Image.fromarray(mask.astype(np.uint8) * 255)", f"mode {mode}")
    other = np.setdiff1d(np.unique(values), [0, white])
    if len(other):
        remedy = f"Write 0 for normal pixels and {white} for anomalous ones"
        raise BadPlane(f"hold values other than 0 and {white}", remedy, f"value {other[0]}")
    return values == white


def _brief(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:60]
