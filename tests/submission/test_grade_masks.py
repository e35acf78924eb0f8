"""Masks and maps graded by the solution's masks: the values of the metrics themselves, unknown masks left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.competition import Competition, load_competition
from src.errors import ProjectError
from src.manifest import read_manifest
from src.metrics import masks as mask_metrics
from src.metrics import pixel
from src.submission.build import _refused, suffix_of
from src.submission.formats import write_submission
from src.submission.formats.map_folder import MapAndMask
from src.submission.grade import grade
from src.submission.validate import InvalidSubmission, check_submission, vocabulary

SIZES = {"a": (12, 10), "b": (9, 14), "c": (12, 10), "d": (8, 8)}
LABELS = {"a": "ok", "b": "scratch", "c": "scratch", "d": "scratch"}  # the mask of d is not known
Make = Callable[..., Competition]


def truth() -> dict[str, np.ndarray]:
    result = {name: np.zeros((height, width), bool) for name, (width, height) in SIZES.items()}
    result["b"][3:7, 2:6] = True
    result["c"][0:2, 5:12] = True
    return result


def predicted() -> dict[str, MapAndMask]:
    random = np.random.default_rng(0)
    values = {}
    for name, mask in truth().items():
        plane = random.normal(mask * 1.5, 0.7).astype(np.float16)
        values[name] = MapAndMask(plane, plane > 0.8)
    return values


@pytest.fixture
def make(tmp_path: Path) -> Make:
    root = tmp_path / "data"
    root.mkdir()
    for name, (width, height) in SIZES.items():
        cv2.imwrite(str(root / f"{name}.png"), np.zeros((height, width, 3), np.uint8))
        cv2.imwrite(str(root / f"{name}_mask.png"), truth()[name].astype(np.uint8) * 255)
    cv2.imwrite(str(root / "t.png"), np.zeros((8, 8, 3), np.uint8))
    (root / "train.csv").write_text("id,file,label,mask\nt,t.png,ok,\n")
    (root / "test.csv").write_text("id,file\n" + "".join(f"{name},{name}.png\n" for name in SIZES))
    rows = [f"{name},{label},{f'{name}_mask.png' if name in 'bc' else ''}\n" for name, label in LABELS.items()]
    (root / "solution.csv").write_text("id,label,mask\n" + "".join(rows))

    def build(form: str, metric: str, *, columns: dict[str, str] | None = None, **options: Any) -> Competition:
        config = {
            "name": "masks", "task": "anomaly", "root": str(root), "solution": "solution.csv", "metric": metric,
            "data": {
                "layout": "csv", "train": "train.csv", "test": "test.csv", "id": "id", "path": "file",
                "target": "label", "normal": ["ok"], "mask": "mask",
            },
            "submission": {"format": form, "columns": columns, "options": options},
        }  # fmt: skip
        return load_competition(config, source=tmp_path / "masks.yaml")

    return build


@pytest.mark.parametrize("metric", ["seg_f1", "dice", "iou"])
@pytest.mark.parametrize("options", [{}, {"order": "row", "index_base": 0, "empty": "-1"}, {"encoding": "coco_json"}])
def test_runs(metric: str, options: dict[str, Any], make: Make, tmp_path: Path) -> None:
    spec = make("rle", metric, columns={"id": "id", "value": "rle"}, **options)
    manifest, values = read_manifest(spec), predicted()
    path = write_submission(
        tmp_path / "s.csv", list(values), [value.mask for value in values.values()], spec, **vocabulary(manifest)
    )
    assert check_submission(path, spec, manifest) == []
    found = grade(path, spec, manifest)
    known = ("a", "b", "c")
    expected = getattr(mask_metrics, metric)([values[name].mask for name in known], [truth()[name] for name in known])
    assert found["name"] == metric and found["metric"] == found[metric] == pytest.approx(expected, abs=1e-12)
    assert (found["n_normal"], found["n_anomalous"]) == (1, 2) and "pixel_auroc" not in found
    assert grade(path, spec) == found


@pytest.mark.parametrize("metric", ["seg_f1", "aupro", "pixel_average_precision"])
@pytest.mark.parametrize("options", [{}, {"archive": "zip", "dtype": "float32"}])
def test_archives(metric: str, options: dict[str, Any], make: Make, tmp_path: Path) -> None:
    spec = make("map_folder", metric, **options)
    manifest, values = read_manifest(spec), predicted()
    path = tmp_path / f"s{suffix_of(spec)}"
    write_submission(path, list(values), list(values.values()), spec, **vocabulary(manifest))
    assert check_submission(path, spec, manifest) == []
    found, known = grade(path, spec, manifest), ("a", "b", "c")
    true = [truth()[name] for name in known]
    assert found["dice"] == pytest.approx(mask_metrics.dice([values[name].mask for name in known], true), abs=1e-12)
    for name in pixel.PIXEL_METRICS:
        expected = getattr(pixel, name)([values[of].map for of in known], true)
        assert found[name] == pytest.approx(expected, abs=1e-12)
    assert found["metric"] == found[metric]


def test_specs_that_cannot_work(make: Make) -> None:
    columns = {"id": "id", "value": "v"}
    for form, metric, given, options, message in (
        ("score", "dice", columns, {}, "'dice' compares masks, and the format 'score' holds none. Choose submission"),
        ("map_folder", "seg_f1", None, {"write": "maps"}, "'seg_f1' compares masks, and write: maps leaves the masks"),
        ("rle", "dice", columns, {"rows": "class"}, "submission.options.rows: an anomaly map knows no classes"),
        ("rle", "dice", {**columns, "class": "c"}, {}, "submission.columns.class: rows of images name no class"),
    ):
        with pytest.raises(ProjectError, match=message):
            make(form, metric, columns=given, **options)
    assert make("map_folder", "aupro", write="maps").metric == "aupro"


def test_half_of_an_archive(make: Make, tmp_path: Path) -> None:
    for write, has, lacks in (("maps", "aupro", "seg_f1"), ("masks", "seg_f1", "aupro")):
        spec = make("map_folder", "pixel_auroc", write=write)
        values = predicted()
        planes = [getattr(value, write[:-1]) for value in values.values()]
        found = grade(write_submission(tmp_path / "s.tar.gz", list(values), planes, spec), spec)
        assert found[has] is not None and lacks not in found
        assert (found["metric"] is None) == (write == "masks")


def test_sizes_come_from_the_files(make: Make, tmp_path: Path) -> None:
    spec = make("rle", "dice", columns={"id": "id", "value": "rle"})
    manifest, values = read_manifest(spec), predicted()
    assert dict(vocabulary(manifest)["sizes"]) == SIZES
    masks = [value.mask for value in values.values()]
    with pytest.raises(ProjectError, match="the mask of 'a' is 10×12 pixels, and the image 12×10"):
        write_submission(tmp_path / "s.csv", list(values), [masks[0].T, *masks[1:]], spec, **vocabulary(manifest))
    path = tmp_path / "s.csv"
    path.write_text("id,rle\na,\nb,121 7\nc,\nd,\n")
    with pytest.raises(InvalidSubmission, match="reaches beyond the image .1.: line 3 run '121 7'"):
        check_submission(path, spec, manifest)


def test_no_header_is_read_where_no_format_asks(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make("score", "auroc", columns={"id": "id", "value": "score"})
    manifest = read_manifest(spec)

    def refuse(paths: Any) -> Any:
        raise AssertionError("headers are read for nothing")

    monkeypatch.setattr("src.submission.image_sizes.image_sizes", refuse)
    path = write_submission(tmp_path / "s.csv", list(SIZES), [0.1, 0.2, 0.3, 0.4], spec, **vocabulary(manifest))
    assert check_submission(path, spec, manifest) == []


def test_an_image_without_a_readable_header_is_left_out(make: Make, tmp_path: Path) -> None:
    spec = make("rle", "dice", columns={"id": "id", "value": "rle"})
    manifest = read_manifest(spec)
    (tmp_path / "data" / "d.png").write_bytes(b"broken")
    sizes = vocabulary(manifest)["sizes"]
    assert "d" not in sizes and sizes.get("d") is None and sizes["b"] == (9, 14)
    values = predicted()
    masks = [values[name].mask if name != "d" else np.zeros((1, 1), bool) for name in values]
    path = write_submission(tmp_path / "s.csv", list(values), masks, spec, **vocabulary(manifest))
    assert check_submission(path, spec, manifest) == [] and grade(path, spec, manifest)["dice"] is not None


def test_refusals(make: Make, tmp_path: Path) -> None:
    spec = make("rle", "dice", columns={"id": "id", "value": "rle"})
    path = write_submission(tmp_path / "s.csv", list(SIZES), [value.mask for value in predicted().values()], spec)
    cv2.imwrite(str(tmp_path / "data" / "b_mask.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(ProjectError, match=r"the mask of 'b' has the shape \(14, 9\), and the true one \(4, 4\)"):
        grade(path, spec)
    (tmp_path / "data" / "solution.csv").write_text("id,label,mask\na,ok,\nb,x,\nc,x,\nd,x,\n")
    assert grade(path, spec) == {"name": "dice", "mode": "max", "metric": None, "n_normal": 1, "n_anomalous": 0}


def test_names_of_refused_files() -> None:
    for name, suffix, expected in (
        ("submission.tar.gz", ".tar.gz", "submission.refused.tar.gz"),
        ("mine.csv", ".csv", "mine.refused.csv"),
        ("mine.txt", ".csv", "mine.refused.txt"),
    ):
        assert _refused(Path("x") / name, suffix) == Path("x") / expected
