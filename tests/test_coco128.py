"""128 real photographs of 80 classes in YOLO's layout: read, trained on for an epoch, evaluated by every detector."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from src.predictions import read_predictions
from src.training import train
from tests.compose import compose
from tests.models.detection.tiny_detectors import OPTIONS

TEST_IMAGES = 24
CONFIGS = {  # the shipped configuration that a tiny network's options go into
    "compact": "compact",
    "detic": "detic",
    "faster_rcnn": "faster_rcnn",
    "fcos": "fcos",
    "retinanet": "retinanet",
    "rt_detr_v2": "rtdetr",
    "d_fine": "dfine",
    "rf_detr": "rf_detr",
    "detr": "detr",
    "deformable_detr": "deformable_detr",
    "grounding-dino": "grounding_dino",
    "owlv2": "owlv2",
    "omdet-turbo": "omdet_turbo",
    "yolov8n": "yolov8",
    "yolo26n": "yolov8",
}
TRAIN = {"max_epochs": 1, "weights": "random", "image_size": 64, "score_floor": 0.001, "max_detections": 50}


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of links to the photographs and labels, with a list of the training and one of the test images."""
    source = shared_data / "coco128"
    if not source.is_dir():
        pytest.skip("coco128 is not here")
    made = tmp_path_factory.mktemp("coco128")
    for name in ("images", "labels", "classes.txt"):
        (made / name).symlink_to(source / name, target_is_directory=name != "classes.txt")
    names = sorted(path.name for path in (source / "images" / "train2017").iterdir())
    assert len(names) == 128
    for split, part in (("train", names[TEST_IMAGES:]), ("test", names[:TEST_IMAGES])):
        lines = "".join(f"images/train2017/{name}\n" for name in part)
        (made / f"{split}.txt").write_text(lines, encoding="utf-8")
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_trained_for_an_epoch_and_evaluated(name: str, root: Path, tmp_path: Path) -> None:
    from src.competition import load_competition
    from src.manifest import read_manifest

    if "yolo" in name and find_spec("ultralytics") is None:
        pytest.skip("ultralytics, an optional extra, is not installed")
    config = compose(
        "train", "task=detection", f"model={CONFIGS[name]}", "competition=yolo", f"competition.root='{root}'",
        "competition.data.train=train.txt", "competition.data.test=test.txt", f"outputs='{tmp_path}'", "logger=csv",
        "report=false", "data.num_workers=0", "data.batch_size=8", "trainer.progress=false", "run=once",
        "augment=detection_light",
    )  # fmt: skip
    tiny = {key: value for key, value in OPTIONS[name].items() if key != "_target_"}
    config["model"].update({key: value for key, value in {**tiny, **TRAIN}.items() if key in config["model"]})
    if "yolo" in name:  # its first scores are about 1e-5
        config["model"]["score_floor"] = 0.0
    if name == "detic":
        config["model"]["text_weights"] = "random"
    manifest = read_manifest(load_competition(config["competition"], source="coco128"))
    assert len(manifest.attrs["classes"]) == 80 and sum(len(boxes) for boxes in manifest["boxes"].dropna()) > 700

    result = train(config)
    metrics = json.loads((result.run.path / "metrics.json").read_text(encoding="utf-8"))
    assert 0 <= metrics["oof"]["map50"] <= 1 and metrics["graded"]["images"] == TEST_IMAGES
    fit = json.loads((result.run.path / "fold_0" / "fit.json").read_text(encoding="utf-8"))
    assert fit["epochs"] == 1
    frame = read_predictions(result.run.path / "predictions" / "test.parquet", "detection")
    assert len(frame) == TEST_IMAGES and sum(len(boxes) for boxes in frame["boxes"]) > 0
    assert result.submission.is_file()
