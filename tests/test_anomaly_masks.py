"""Maps become masks of the original images: a defect stays where it is, thresholds come from out-of-fold rows alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from src.boxes.run_length import coco_to_mask
from src.calibration.pixels import PixelThreshold
from src.competition import Competition, load_competition
from src.data.images import read_resized
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.flows.anomaly_masks import LazyMasks, kind_of, mask_value, mask_values, pixel_decision
from src.metrics.masks import dice, seg_f1
from src.predictions import write_map
from src.submission.formats import write_submission
from src.submission.formats.map_folder import MapAndMask
from src.submission.validate import read_values

CENTRES = {  # size (height, width) and the defect's centre (row, column)
    "wide": ((240, 400), (150.0, 220.0)),
    "tall": ((500, 260), (260.0, 100.0)),
    "small": ((60, 64), (22.0, 40.0)),
}
HALF = PixelThreshold(0.5, "oof", "seg_f1", 1.0, 3, 3)


def competition(tmp_path: Path, form: str, **options: Any) -> Competition:
    root = tmp_path / "data"
    root.mkdir(exist_ok=True)
    (root / "train.csv").write_text("id,file\n")
    (root / "test.csv").write_text("id,file\n")
    columns = {"id": "id", "value": "rle"} if form in ("rle", "score") else None
    config = {
        "name": "m", "task": "anomaly", "root": str(root), "metric": "pixel_auroc",
        "data": {"layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file"},
        "submission": {"format": form, "columns": columns, "options": options},
    }  # fmt: skip
    return load_competition(config, source=tmp_path / "m.yaml")


def planted(tmp_path: Path, spec: PreprocessSpec, scale: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(predictions whose maps are the pictures themselves on the canvas, rows): a white disc on black in each."""
    rows, cells = [], []
    for name, ((height, width), (row, column)) in CENTRES.items():
        picture = np.zeros((height, width, 3), np.uint8)
        cv2.circle(picture, (int(column), int(row)), max(5, min(height, width) // 14), (255, 255, 255), -1)
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), picture)
        canvas = read_resized(path, replace(spec, mean=(0.0, 0.0, 0.0)))[0][..., 0].astype(np.float32) / 255
        if scale > 1:
            canvas = cv2.resize(canvas, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        rows.append({"id": name, "path": str(path)})
        cells.append(write_map(tmp_path, name, canvas))
    return pd.DataFrame({"id": list(CENTRES), "fold": -1, "map": cells}), pd.DataFrame(rows)


def centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_planted_defect_stays_within_two_pixels(resize: str, scale: int, tmp_path: Path) -> None:
    """Through the canvas, the stored map, the way back, and run lengths in a file and back."""
    frame, rows = planted(tmp_path, spec := PreprocessSpec(256, 256, resize), scale)
    task = competition(tmp_path, "rle", order="row", index_base=0)
    masks = mask_values(frame, tmp_path, rows, spec, HALF, task)
    sizes = {name: size[::-1] for name, (size, _) in CENTRES.items()}
    path = write_submission(tmp_path / "s.csv", list(CENTRES), masks, task, sizes=sizes)
    values = read_values(path, task, list(CENTRES), sizes=sizes)
    for index, (name, (size, centre)) in enumerate(CENTRES.items()):
        assert masks[index].shape == size and masks[index].any()
        assert np.abs(centroid(masks[index]) - centre).max() <= 2
        assert np.array_equal(coco_to_mask(values[name].masks[0], sizes[name]), masks[index])


def test_kinds_of_values(tmp_path: Path) -> None:
    spec = PreprocessSpec(64, 64)
    frame, rows = planted(tmp_path, spec)
    for form, options, kind in (
        ("rle", {}, "mask"),
        ("map_folder", {}, "both"),
        ("map_folder", {"write": "maps"}, "map"),
        ("map_folder", {"write": "masks"}, "mask"),
    ):
        task = competition(tmp_path, form, **options)
        assert kind_of(task) == kind
        values = mask_values(frame, tmp_path, rows, spec.to_dict(), HALF, task)
        assert isinstance(values, LazyMasks) and len(values) == 3
        value = values[1]
        if kind == "both":
            assert isinstance(value, MapAndMask) and np.array_equal(value.map >= np.float32(0.5), value.mask)
        else:
            assert value.dtype == (bool if kind == "mask" else np.float32) and value.shape == (500, 260)
        with pytest.raises(IndexError):
            values[3]
    assert kind_of(competition(tmp_path, "score")) is None


def test_images_without_a_map(tmp_path: Path) -> None:
    spec = PreprocessSpec(64, 64)
    frame, rows = planted(tmp_path, spec)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows.loc[len(rows)] = ["broken", str(tmp_path / "broken.png")]
    rows.loc[len(rows)] = ["twin", str(tmp_path / "tall.png")]
    cells = pd.Series([frame["map"][0], None, None], dtype=object)
    frame = pd.DataFrame({"id": ["wide", "tall", "broken"], "fold": -1, "map": cells})
    low = np.load(tmp_path / frame["map"].iloc[0]).min()
    values = mask_values(frame, tmp_path, rows, spec, HALF, competition(tmp_path, "map_folder"))
    assert not values[1].mask.any() and values[1].map.shape == values[1].mask.shape == (500, 260)
    assert (values[1].map == low).all()
    assert values[2].mask.shape == (500, 260)  # tall.png is there twice: the commonest size
    refused = frame.assign(map=[None] * 3)
    with pytest.raises(ProjectError, match="none of the 3 predictions has one"):
        mask_values(refused, tmp_path, rows, spec, HALF, competition(tmp_path, "rle"))
    with pytest.raises(ProjectError, match="masks need a pixel threshold"):
        mask_values(frame, tmp_path, rows, spec, None, competition(tmp_path, "rle"))
    assert mask_values(frame, tmp_path, rows, spec, None, competition(tmp_path, "map_folder", write="maps"))[0].any()


def trained(tmp_path: Path, spec: PreprocessSpec, n: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(out-of-fold predictions, training rows): two of three have a defect with a mask; specks in every map."""
    random = np.random.default_rng(0)
    rows, cells = [], []
    for index in range(n):
        name, mask = f"t{index}", np.zeros((96, 80), np.uint8)
        if index % 3:
            cv2.circle(mask, (20 + 3 * index, 50), 9, 255, -1)
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((96, 80, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"{name}_mask.png"), mask)
        plane = np.where(cv2.resize(mask, (spec.width, spec.height), interpolation=cv2.INTER_AREA) > 127, 0.8, 0.1)
        for row, column in random.integers(0, 64, (4, 2)).tolist():
            plane[row, column] = 0.9
        path = str(tmp_path / f"{name}_mask.png") if index % 3 else None
        rows.append({"id": name, "path": str(tmp_path / f"{name}.png"), "label": int(index % 3 > 0), "mask": path})
        cells.append(write_map(tmp_path, name, plane))
    frame = pd.DataFrame({"id": [row["id"] for row in rows], "fold": np.arange(n) % 3, "map": cells})
    return frame, pd.DataFrame(rows).astype({"label": "Int64", "mask": object})


def test_decision_with_masks(tmp_path: Path) -> None:
    spec = PreprocessSpec(64, 64)
    oof, rows = trained(tmp_path, spec)
    found = {area: pixel_decision(oof, rows, tmp_path, spec, "dice", min_area=area) for area in ("auto", None, 5)}
    assert found["auto"].source == "oof" and found["auto"].metric == "dice" and found["auto"].n_images == 12
    assert found["auto"].min_area > 0 and found["auto"].cross_validated > found["auto"].plain
    assert found["auto"].score > found[None].score and found[None].min_area == 0 and found[5].min_area == 5
    joined = oof.merge(rows, on="id")
    for threshold in found.values():
        assert mask_value(joined, "dice", threshold, tmp_path, spec) == pytest.approx(threshold.score, abs=1e-12)
    values = [(threshold := found["auto"]).decide(p) for p in _planes(joined, tmp_path, spec)]
    true = [np.zeros((96, 80)) if mask is None else cv2.imread(mask, 0) for mask in joined["mask"].where(
        joined["mask"].notna(), None)]  # fmt: skip
    assert mask_value(joined, "seg_f1", threshold, tmp_path, spec) == pytest.approx(seg_f1(values, true))
    assert mask_value(joined, "dice", threshold, tmp_path, spec) == pytest.approx(dice(values, true))
    assert mask_value(joined, "dice", None, tmp_path, spec) is None
    assert mask_value(joined[joined["label"] == 0], "seg_f1", threshold, tmp_path, spec) is None


def _planes(joined: pd.DataFrame, folder: Path, spec: PreprocessSpec) -> list[np.ndarray]:
    return [cv2.resize(np.load(folder / cell).astype(np.float32), (80, 96)) for cell in joined["map"]]


def test_decision_without_masks(tmp_path: Path) -> None:
    spec = PreprocessSpec(64, 64)
    oof, rows = trained(tmp_path, spec)
    rows["mask"] = None
    found = pixel_decision(oof, rows, tmp_path, spec, "seg_f1", target=0.01)
    normal = np.stack(_planes(oof.merge(rows[rows["label"] == 0], on="id"), tmp_path, spec))
    assert found.source == "normal_quantile" and found.n_images == len(normal) == 4
    assert (normal >= found.value).mean() == found.score <= 0.01 and found.min_area == 0
    assert pixel_decision(oof, rows, tmp_path, spec, "seg_f1", min_area=7).min_area == 7
    rows["label"] = pd.array([pd.NA] * len(rows), dtype="Int64")
    assert pixel_decision(oof, rows, tmp_path, spec, "seg_f1") is None
    assert pixel_decision(oof.assign(map=[None] * len(oof)), rows, tmp_path, spec, "seg_f1") is None


def test_test_rows_are_refused(tmp_path: Path) -> None:
    oof, rows = trained(tmp_path, spec := PreprocessSpec(64, 64), 3)
    oof.loc[1, "fold"] = -1
    with pytest.raises(ProjectError, match=r"1 of 3 rows are of the test \(fold -1\), first 't1'"):
        pixel_decision(oof, rows, tmp_path, spec, "dice")
