"""Pictures made small, inlined in the page, or named as files."""

import base64
import re

import numpy as np

SIDE = 256  # pixels of a thumbnail's longer side


def shrink(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Scale so that the longer side is `side` pixels; small pictures are enlarged, at most 8 times."""
    import cv2

    height, width = image.shape[:2]
    scale = min(side / max(height, width), 8.0)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale > 2 else cv2.INTER_CUBIC
    return cv2.resize(image, shape, interpolation=method)


def data_uri(image: np.ndarray, quality: int = 84) -> str:
    """The picture as a base64 JPEG address for an <img>."""
    import cv2

    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def file_name(rank: int, identifier: object, suffix: str) -> str:
    """'003_id.png': letters of an id that a file system may refuse become "_", and the end of a long one stands."""
    plain = re.sub(r"[^\w.-]+", "_", str(identifier))[-60:]  # 3 bytes a Korean letter; names end at 255 bytes
    return f"{rank:03d}_{plain}{suffix}"
