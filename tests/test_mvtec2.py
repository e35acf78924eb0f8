"""MVTec AD 2's folders with its shipped spec: ids, paths in the archive, and grading on the public test images."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.calibration.pixels import PixelThreshold
from src.competition import read_competition
from src.data.transforms import PreprocessSpec
from src.flows.anomaly_masks import mask_values
from src.manifest import read_manifest, read_solution
from src.predictions import write_map
from src.submission.build import suffix_of
from src.submission.formats import write_submission
from src.submission.grade import grade
from src.submission.pack import join, read_archive
from src.submission.validate import check_submission, vocabulary

SPEC = PreprocessSpec(48, 48, "letterbox")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two objects of 60×80 pixels, as the dataset has them after the one move that the spec asks for."""
    root = tmp_path / "mvtec_ad_2"
    for name in ("can", "vial"):
        for place in (
            "train/good/000_regular", "train/good/001_regular", "private/test_private/000_regular",
            "private/test_private_mixed/000_mixed", "test_public/good/000_regular", "test_public/bad/000_regular",
            "test_public/ground_truth/bad/000_regular_mask",
        ):  # fmt: skip
            path = root / name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = np.zeros((60, 80), np.uint8)
            if "bad" in place:
                picture[20:30, 50:64] = 255
            cv2.imwrite(str(path), picture)
    return root


def submitted(root: Path, target: Path, overrides: dict[str, object]) -> tuple[Path, pd.DataFrame, object]:
    """A submission whose maps are the pictures themselves."""
    spec = read_competition("mvtec2", {"root": str(root), **overrides})
    manifest = read_manifest(spec)
    rows = manifest[manifest["split"] == "test"]
    cells = []
    for row in rows.itertuples():
        canvas = np.full((48, 48), 0.1, np.float32)
        canvas[6:42] = cv2.resize(cv2.imread(row.path, 0), (48, 36), interpolation=cv2.INTER_AREA) / 255
        cells.append(write_map(target, row.id, canvas))
    frame = pd.DataFrame({"id": rows["id"], "map": pd.Series(cells, index=rows.index, dtype=object)})
    threshold = PixelThreshold(0.5, "normal_quantile", "false_alarm_rate", 0.001, 2, 0)
    values = mask_values(frame, target, rows, SPEC, threshold, spec)
    path = target / f"{rows['id'].iloc[0].split('/')[0]}{suffix_of(spec)}"
    write_submission(path, frame["id"].tolist(), values, spec, **vocabulary(manifest))
    warnings = check_submission(path, spec, manifest)
    return path, manifest, (spec, warnings)


def test_private_images(root: Path, tmp_path: Path) -> None:
    paths = []
    for name in ("can", "vial"):
        path, manifest, (spec, warnings) = submitted(root, tmp_path, {"data.categories": [name]})
        ids = manifest.loc[manifest["split"] == "test", "id"].tolist()
        assert ids == [f"{name}/test_private/000_regular", f"{name}/test_private_mixed/000_mixed"]
        assert "all masks are empty." in warnings and read_solution(spec) is None and grade(path, spec) is None
        paths.append(path)
    assert [path.name for path in paths] == ["can.tar.gz", "vial.tar.gz"]
    assert join(paths, tmp_path / "all.tar.gz") == 8
    names = {name for name, _ in read_archive(tmp_path / "all.tar.gz")}
    assert names == {
        f"submission/anomaly_images{kind}/{name}/test_private{split}.{suffix}"
        for kind, suffix in (("", "tiff"), ("_thresholded", "png"))
        for name in ("can", "vial")
        for split in ("/000_regular", "_mixed/000_mixed")
    }


def test_public_images_are_graded(root: Path, tmp_path: Path) -> None:
    overrides = {"data.test": "test_public", "data.mask": "test_public/ground_truth", "data.categories": "all"}
    path, manifest, (spec, _) = submitted(root, tmp_path, overrides)
    ids = manifest.loc[manifest["split"] == "test", "id"].tolist()
    assert ids == [f"{name}/{kind}/000_regular" for name in ("can", "vial") for kind in ("bad", "good")]
    found = grade(path, spec, manifest)
    assert found["metric"] == found["seg_f1"] > 0.8 and found["pixel_auroc"] > 0.98
    assert (found["n_normal"], found["n_anomalous"]) == (2, 2)
