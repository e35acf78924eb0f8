"""Masks of a detector: maps brought back to the original images, decided pixel by pixel, one at a time.

Thresholds are tuned and metrics computed where the grader compares, at the size of the original images.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from src.calibration.pixels import PixelThreshold, normal_pixel_quantile, tune_pixel_threshold
from src.competition import Competition
from src.data.geometry import map_to_original
from src.data.images import read_mask
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.image_header import image_size
from src.metrics.masks import MASK_METRICS, MaskCounts
from src.metrics.ranking import UndefinedMetric
from src.predictions import read_map
from src.submission.formats.map_folder import MapAndMask
from src.submission.image_sizes import ImageSizes

Kind = Literal["mask", "map", "both"]


def kind_of(competition: Competition) -> Kind | None:
    """What the values of its submission format are; None for formats without pixels."""
    if competition.submission.format == "rle":
        return "mask"
    if competition.submission.format != "map_folder":
        return None
    return {"maps": "map", "masks": "mask"}.get(competition.submission.options.get("write"), "both")


def mask_values(
    frame: pd.DataFrame,
    folder: str | Path,
    rows: pd.DataFrame,
    spec: PreprocessSpec | Mapping[str, Any],
    threshold: PixelThreshold | None,
    competition: Competition,
) -> "LazyMasks":
    """The values of a submission of masks, in the order of `frame`'s rows.

    Args:
        frame: predictions, of which `id` and `map` are looked at; maps lie below `folder`.
        rows: the images' `id` and `path`.
        spec: the model's preprocessing, which says where the image lies on the map.

    Raises:
        ProjectError: no image has a map, or masks are asked for and there is no threshold.
    """
    kind = kind_of(competition)
    if kind is None:
        raise ProjectError(f"the format '{competition.submission.format}' holds no masks.")
    if not frame["map"].notna().any():
        raise ProjectError(
            f"the submission needs anomaly maps, and none of the {len(frame)} predictions has one. Choose a model that "
            "makes maps, such as model=patchcore."
        )
    if threshold is None and kind != "map":
        raise ProjectError(
            "masks need a pixel threshold, and no held-out training image gives one: neither normal images nor "
            "defects with masks were held out. Train with data.holdout=0.2 or folds=5."
        )
    spec = spec if isinstance(spec, PreprocessSpec) else PreprocessSpec.from_dict(spec)
    return LazyMasks(frame, Path(folder), rows, spec, threshold, kind)


class LazyMasks(Sequence):
    """Masks, maps or `MapAndMask` of images, each made when it is asked for and kept by nobody.

    An image without a map (it could not be read) gets an empty mask and a map that is everywhere as low as the lowest
    pixel of the first image that has one. Its size is that of its header; where that cannot be read either, the
    commonest size of the others.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        folder: Path,
        rows: pd.DataFrame,
        spec: PreprocessSpec,
        threshold: PixelThreshold | None,
        kind: Kind,
    ) -> None:
        self.ids, self._cells = frame["id"].tolist(), frame["map"].tolist()
        self._folder, self._spec, self._threshold, self._kind = folder, spec, threshold, kind
        self._sizes = ImageSizes(rows["id"].tolist(), rows["path"].tolist())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> np.ndarray | MapAndMask:
        cell, size = self._cells[index], self._sizes.get(self.ids[index]) or self._commonest
        if isinstance(cell, str):
            plane = map_to_original(read_map(self._folder, cell), size[::-1], self._spec)
            mask = self._threshold.decide(plane) if self._kind != "map" else None
        else:
            plane = np.full(size[::-1], self._lowest, dtype=np.float32) if self._kind != "mask" else None
            mask = np.zeros(size[::-1], dtype=bool)
        if self._kind == "both":
            return MapAndMask(plane, mask)
        return plane if self._kind == "map" else mask

    @cached_property
    def _commonest(self) -> tuple[int, int]:
        return Counter(self._sizes.values()).most_common(1)[0][0]

    @cached_property
    def _lowest(self) -> float:
        first = next(cell for cell in self._cells if isinstance(cell, str))
        return float(read_map(self._folder, first).min())


def pixel_decision(
    oof: pd.DataFrame,
    rows: pd.DataFrame,
    folder: str | Path,
    spec: PreprocessSpec,
    metric: str,
    *,
    min_area: Literal["auto"] | int | None = "auto",
    target: float = 0.001,
) -> PixelThreshold | None:
    """How maps become masks, from out-of-fold maps; None where no held-out image can say.

    With defects whose masks are known the threshold that is best for `metric` (`tune_pixel_threshold`); else, from
    normal images alone, the one that a share `target` of their pixels reaches.

    Args:
        oof: `id`, `fold`, `map`; maps lie below `folder`.
        rows: the training rows: `id`, `path`, `label`, `mask`.
        min_area: "auto" tunes the smallest area where masks are known; a number sets it; None drops no region.

    Raises:
        ProjectError: `oof` holds test rows.
    """
    tested = oof.loc[oof["fold"] < 0, "id"]
    if len(tested):
        raise ProjectError(
            f"{len(tested)} of {len(oof)} rows are of the test (fold -1), first '{tested.iloc[0]}'. A pixel threshold "
            "is tuned on out-of-fold rows only: pass predictions/oof.parquet."
        )
    joined = oof[["id", "map"]].merge(rows[["id", "path", "label", "mask"]], on="id", validate="one_to_one")
    pairs = _Pairs(joined, Path(folder), spec)
    area = min_area if isinstance(min_area, int) else 0
    try:
        found = tune_pixel_threshold(pairs if min_area == "auto" else iter(pairs), metric)
    except UndefinedMetric:
        normal = _Pairs(joined[_normal(joined)], Path(folder), spec)
        try:
            return replace(normal_pixel_quantile((p for p, _ in normal), target_false_alarm=target), min_area=area)
        except UndefinedMetric:
            return None
    if not area:
        return found
    found = replace(found, min_area=area)
    return replace(found, score=MASK_METRICS[found.metric](_counts(pairs, found)))


def mask_value(
    rows: pd.DataFrame, metric: str, threshold: PixelThreshold | None, folder: str | Path, spec: PreprocessSpec
) -> float | None:
    """A metric of masks on predicted rows; None without a threshold, or where it is undefined.

    Args:
        rows: `id`, `map`, `label`, `mask`, `path`; rows without a map, and defects without a mask, do not count.
    """
    if threshold is None:
        return None
    try:
        return MASK_METRICS[metric](_counts(_Pairs(rows, Path(folder), spec), threshold))
    except UndefinedMetric:
        return None


def _normal(rows: pd.DataFrame) -> np.ndarray:
    """(N,) bool: labelled normal."""
    return (rows["label"] == 0).fillna(False).to_numpy(dtype=bool)


def _counts(pairs: "_Pairs", threshold: PixelThreshold) -> MaskCounts:
    counts = MaskCounts()
    for plane, mask in pairs:
        counts.add(threshold.decide(plane), mask)
    return counts


class _Pairs:
    """(map, true mask) at the size of the original image, of the rows where both are known; read anew each time."""

    def __init__(self, rows: pd.DataFrame, folder: Path, spec: PreprocessSpec) -> None:
        known = rows["mask"].notna().to_numpy() | _normal(rows)
        self._rows = rows[known & np.array([isinstance(cell, str) for cell in rows["map"]], dtype=bool)]
        self._folder, self._spec = folder, spec

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for row in self._rows.itertuples():
            if isinstance(row.mask, str):
                mask = read_mask(row.mask) != 0
            else:
                size = image_size(row.path)
                if size is None:
                    raise ProjectError(f"{row.path}: its header cannot be read any more. Put the image back.")
                mask = np.zeros(size[::-1], dtype=bool)
            yield map_to_original(read_map(self._folder, row.map), mask.shape, self._spec), mask
