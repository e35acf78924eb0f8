"""Drawing one picture: the heatmap laid over it, the true mask's outline."""

from pathlib import Path
from typing import Any

import numpy as np

from src.errors import ProjectError
from src.predictions import read_map


def read_finite_map(path: str) -> np.ndarray:
    """An anomaly map H×W float32 from its file; half-precision overflow becomes the largest finite value.

    Raises:
        ProjectError: the file is missing, or is no two-dimensional array.
    """
    values = read_map(Path(), path)
    if values.ndim != 2 or not values.size:
        raise ProjectError(f"the anomaly map {path} has shape {values.shape}, expected (H, W). Predict again.")
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=65504.0, neginf=-65504.0)


def on_picture(anomaly_map: np.ndarray, shape: tuple[int, int], preprocess: dict[str, Any] | None) -> np.ndarray:
    """The part of a map H×W that covers the picture of `shape` (height, width).

    `preprocess` is a PreprocessSpec as a dict. Without it, and for the resize mode "squash", the whole map does.
    """
    from src.data.geometry import map_to_original
    from src.data.transforms import PreprocessSpec

    spec = PreprocessSpec.from_dict(preprocess) if preprocess else None
    if spec is None or spec.resize == "squash":
        return anomaly_map
    return map_to_original(anomaly_map, shape, spec)


def overlay(picture: np.ndarray, anomaly_map: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """The map in colour over the grey picture, H×W×3 uint8; low values stay clear, so the part remains visible.

    The map covers the whole picture and is stretched to its size.
    """
    import cv2

    height, width = picture.shape[:2]
    low, high = scale
    level = cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)
    level = np.clip((level - low) / max(high - low, 1e-12), 0, 1)
    colours = cv2.applyColorMap((level * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    strength = 0.8 * level[..., None] ** 0.75
    return (grey * (1 - strength) + colours * strength).round().astype(np.uint8)


def outline(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask's contour, white on a dark casing so that it reads on any ground; a copy, H×W×3 uint8."""
    import cv2

    height, width = picture.shape[:2]
    # INTER_AREA and any share above zero: a hair-thin scratch must not vanish from a small thumbnail
    covered = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    shape = (covered > 0.2).astype(np.uint8) if (covered > 0.2).any() else (covered > 0).astype(np.uint8)
    contours, _ = cv2.findContours(shape, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(picture)
    drawn = cv2.drawContours(drawn.copy(), contours, -1, (20, 20, 20), 3)
    return cv2.drawContours(drawn, contours, -1, (255, 255, 255), 1)


def colour_stops(n: int = 9) -> list[str]:
    """CSS colours evenly along the heatmap's colour scale, for its legend."""
    import cv2

    ramp = np.linspace(0, 255, n).round().astype(np.uint8)[None]
    return ["#{2:02x}{1:02x}{0:02x}".format(*colour) for colour in cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO)[0]]
