import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.boxes.types import Detections, Truth, pairwise_iou
from src.errors import ProjectError
from src.metrics.detection import coco_arrays, evaluate_boxes, voc_ap, voc_map
from src.metrics.matching import match_boxes
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import METRICS, get_metric

PANEL = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar1", "ar10", "ar100")


def scene(
    seed: int, *, n: int = 6, classes: int = 3, objects: int = 6, found: int = 9, crowd: float = 0.0, levels: int = 0
) -> tuple[list[Detections], list[Truth]]:
    """Images with objects of all three COCO sizes, detections near them and elsewhere; `levels` makes equal scores."""
    random = np.random.default_rng(seed)
    predictions, truth = [], []
    for _ in range(n):
        count = int(random.integers(0, objects + 1))
        corner, side = random.uniform(0, 300, (count, 2)), random.uniform(4, 160, (count, 2))
        boxes, labels = np.hstack([corner, corner + side]), random.integers(0, classes, count)
        truth.append(Truth(boxes, labels, random.random(count) < crowd))
        number = int(random.integers(0, found + 1))
        near = boxes[random.integers(0, count, number)] if count else random.uniform(0, 9, (number, 4))
        near = near + random.normal(0, 6, near.shape)
        near = np.hstack([np.minimum(near[:, :2], near[:, 2:]), np.maximum(near[:, :2], near[:, 2:])])
        scores = random.random(number)
        scores = np.round(scores * levels) / levels if levels else scores
        predictions.append(Detections(near, scores, random.integers(0, classes, number)))
    return predictions, truth


def by_pycocotools(predictions: list[Detections], truth: list[Truth], n_classes: int) -> tuple[dict, list[dict]]:
    """The panel and the values per class, by the reference implementation."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    def xywh(box: np.ndarray) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    annotations = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "iscrowd": int(crowd)}
        for image, item in enumerate(truth)
        for box, label, crowd in zip(item.boxes, item.labels, item.ignored, strict=True)
    ]
    for index, annotation in enumerate(annotations):
        annotation |= {"id": index + 1, "area": annotation["bbox"][2] * annotation["bbox"][3]}
    results = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for image, item in enumerate(predictions)
        for box, label, score in zip(item.boxes, item.labels, item.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        objects = coco.COCO()
        objects.dataset = {
            "info": {},
            "images": [{"id": index} for index in range(len(truth))],
            "categories": [{"id": index} for index in range(n_classes)],
            "annotations": annotations,
        }
        objects.createIndex()
        found = objects.loadRes(results) if results else coco.COCO()
        if not results:  # its own reader fails on an empty list
            found.dataset = objects.dataset | {"annotations": []}
            found.createIndex()
        evaluation = cocoeval.COCOeval(objects, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = dict(zip(PANEL, evaluation.stats[:9], strict=True))
    precision = evaluation.eval["precision"]
    each = []
    for index in range(n_classes):
        part = precision[:, :, index, 0, 2]
        each.append({"ap": part[part > -1].mean() if (part > -1).any() else -1, "ap50": part[0].mean()})
    return stats, each


def assert_equal_panels(predictions: list[Detections], truth: list[Truth], n_classes: int) -> None:
    ours = evaluate_boxes(predictions, truth, classes=[f"c{index}" for index in range(n_classes)])
    theirs, each = by_pycocotools(predictions, truth, n_classes)
    for name in PANEL:
        if theirs[name] == -1:
            assert ours[name] is None, name
        else:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name
    for index, reference in enumerate(each):
        mine = ours["per_class"][f"c{index}"]
        for name, value in reference.items():
            assert (mine[name] is None) if value == -1 else mine[name] == pytest.approx(value, abs=1e-6), (index, name)


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_pycocotools(seed: int) -> None:
    assert_equal_panels(*scene(seed, n=20, crowd=0.15 if seed % 2 else 0.0, levels=5 if seed % 3 == 0 else 0), 3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 5),
    classes=st.integers(1, 4),
    objects=st.integers(0, 5),
    found=st.integers(0, 12),
    crowd=st.sampled_from([0.0, 0.3, 1.0]),
    levels=st.sampled_from([0, 1, 3]),
)
def test_equal_to_pycocotools_on_anything(
    seed: int, n: int, classes: int, objects: int, found: int, crowd: float, levels: int
) -> None:
    drawn = scene(seed, n=n, classes=classes, objects=objects, found=found, crowd=crowd, levels=levels)
    assert_equal_panels(*drawn, classes)


def test_more_than_a_hundred_detections_an_image() -> None:
    random = np.random.default_rng(1)
    corner = random.uniform(0, 900, (160, 2))
    boxes = np.hstack([corner, corner + 30])
    truth = [Truth(boxes, np.zeros(160)), Truth(boxes[:5], np.ones(5))]
    predictions = [
        Detections(boxes + 1, random.random(160), np.zeros(160)),
        Detections(boxes[:140], np.round(random.random(140), 1), np.r_[np.ones(120), np.zeros(20)]),
    ]
    assert_equal_panels(predictions, truth, 2)
    panel = evaluate_boxes(predictions, truth, classes=["a", "b"])
    assert panel["ar1"] < panel["ar10"] < panel["ar100"] < 1  # 100 of 160 objects is all that may be found


def test_degenerate_cases() -> None:
    empty, nothing = Detections.empty(), Truth(np.zeros((0, 4)), np.zeros(0))
    thing, flat = Truth([[0, 0, 50, 50]], [0]), Detections([[5, 5, 5, 9]], [0.9], [0])
    for predictions, truth in (
        ([empty], [thing]),
        ([flat], [thing]),
        ([empty, flat], [nothing, thing]),
        ([flat], [nothing]),
        ([empty], [nothing]),
        ([Detections([[0, 0, 50, 50]], [0.5], [1])], [thing]),
        ([Detections([[0, 0, 50, 50]], [-2.0], [0])], [Truth([[0, 0, 50, 50]], [0], [True])]),
    ):
        assert_equal_panels(predictions, truth, 2)
    panel = evaluate_boxes([], [], classes=["a"])
    assert panel["map"] is None and panel["per_class"]["a"] == {"ap": None, "ap50": None, "n": 0}
    assert evaluate_boxes([empty], [thing], classes=["a"])["map"] == 0.0
    assert evaluate_boxes([empty], [nothing], classes=[])["per_class"] == {}
    with pytest.raises(UndefinedMetric, match="map50 needs objects"):
        METRICS["map50"].function([flat], [nothing], 2)


def test_undefined_is_none_and_never_minus_one() -> None:
    predictions, truth = scene(3, n=2, objects=2)
    small = [Truth(item.boxes[:, [0, 1, 0, 1]] + [0, 0, 9, 9], item.labels) for item in truth]
    panel = evaluate_boxes(predictions, small, classes=["a", "b", "c", "absent"])
    assert panel["map_large"] is None and panel["map_small"] is not None
    assert panel["per_class"]["absent"] == {"ap": None, "ap50": None, "n": 0}
    assert panel["map"] >= 0 and -1 not in {panel[name] for name in PANEL}


def test_values_by_hand() -> None:
    truth = [Truth([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 0]), Truth([[0, 0, 10, 10]], [0])]
    predictions = [
        Detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8], [0, 0]),
        Detections([[0, 0, 10, 10]], [0.7], [0]),
    ]
    # right, wrong, right; three objects: precision 1 to recall 1/3, then 2/3 to recall 2/3
    assert voc_map(predictions, truth, n_classes=1) == pytest.approx(1 / 3 + (2 / 3) / 3, abs=1e-12)
    # COCO looks at recalls 0, 0.01 … 1: 34 lie up to 1/3, 33 up to 2/3
    assert evaluate_boxes(predictions, truth, classes=["a"])["map50"] == pytest.approx((34 + 33 * 2 / 3) / 101)


def slow_voc(predictions: list[Detections], truth: list[Truth], label: int, iou: float) -> float:
    """VOC's average precision with plain loops, as the devkit describes it."""
    entries = [
        (-score, image, box)
        for image, item in enumerate(predictions)
        for box, score, kind in zip(item.boxes, item.scores, item.labels, strict=True)
        if kind == label
    ]
    objects = {
        image: [(b, i) for b, k, i in zip(t.boxes, t.labels, t.ignored, strict=True) if k == label]
        for image, t in enumerate(truth)
    }
    total = sum(not ignored for items in objects.values() for _, ignored in items)
    if not total:
        return float("nan")
    used, hits, false, curve = set(), 0, 0, []
    for _, image, box in sorted(entries, key=lambda entry: entry[:2]):
        overlaps = [pairwise_iou([box], [other])[0, 0] for other, _ in objects[image]]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if overlaps and overlaps[best] >= iou:
            if objects[image][best][1]:
                continue
            if (image, best) not in used:
                used.add((image, best))
                hits += 1
            else:
                false += 1
        else:
            false += 1
        curve.append((hits / total, hits / (hits + false)))
    area, last = 0.0, 0.0
    for position, (recall, _) in enumerate(curve):
        area += (recall - last) * max(precision for _, precision in curve[position:])
        last = recall
    return area


@pytest.mark.parametrize("iou", [0.4, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(5))
def test_voc_equals_plain_loops(seed: int, iou: float) -> None:
    predictions, truth = scene(seed, n=15, crowd=0.2)
    ours = voc_ap(predictions, truth, n_classes=3, iou=iou)
    for label in range(3):
        assert ours[label] == pytest.approx(slow_voc(predictions, truth, label, iou), abs=1e-12, nan_ok=True)


def test_voc_golden() -> None:
    truth = [Truth([[0, 0, 10, 10], [0, 0, 10, 9]], [0, 0]), Truth([[0, 0, 4, 4]], [1], [True])]
    # Both look at the first object, which the second overlaps more; VOC calls the duplicate wrong, COCO does not.
    pair = Detections([[0, 0, 10, 10], [0, 0, 10, 9.6]], [0.9, 0.8], [0, 0])
    predictions = [pair, Detections([[0, 0, 4, 4], [8, 8, 9, 9]], [0.9, 0.8], [1, 1])]
    assert voc_ap(predictions, truth, n_classes=2).tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert evaluate_boxes(predictions, truth, classes=["a", "b"])["map50"] == pytest.approx(1.0)
    assert voc_map(predictions, truth, n_classes=2) == pytest.approx(0.5)  # the class without a counted object is out
    nothing = [Truth(np.zeros((0, 4)), np.zeros(0))] * 2
    with pytest.raises(UndefinedMetric, match="voc_map"):
        voc_map(predictions, nothing, n_classes=2)
    with pytest.raises(ProjectError, match="iou=0"):
        voc_map(predictions, truth, n_classes=2, iou=0)


@pytest.mark.parametrize("seed", range(6))
def test_matches_give_cocos_precision(seed: int) -> None:
    predictions, truth = scene(seed, n=12, crowd=0.2, levels=6 if seed % 2 else 0)
    matches = match_boxes(predictions, truth, n_classes=3)
    precision, recall = coco_arrays(predictions, truth, n_classes=3)
    for label in range(3):
        mine = (matches.labels == label) & matches.right
        total = matches.objects[:, label].sum()
        assert mine.sum() / total == pytest.approx(recall[0, label, 0, 2], abs=1e-12)
    for image, row, partner in zip(matches.images, matches.rows, matches.partner, strict=True):
        if partner >= 0:
            assert predictions[image].labels[row] == truth[image].labels[partner]


def test_labels_and_lengths_are_checked() -> None:
    thing = Truth([[0, 0, 5, 5]], [2])
    with pytest.raises(ProjectError, match="truth, image 0: label 2 is not one of the 2 classes"):
        evaluate_boxes([Detections.empty()], [thing], classes=["a", "b"])
    with pytest.raises(ProjectError, match="1 predictions but 2 images"):
        voc_map([Detections.empty()], [thing, thing], n_classes=3)


def test_registered() -> None:
    predictions, truth = scene(4)
    panel = evaluate_boxes(predictions, truth, classes=list("abc"))
    for name in ("map", "map50", "map75", "ar100"):
        metric = get_metric(name)
        assert (metric.task, metric.needs, metric.mode) == ("detection", "boxes", "max")
        assert metric.value(predictions, truth, n_classes=3) == panel[name]
    assert get_metric("mAP@50").name == "map50" and get_metric("mAP50-95").name == "map"
    lower, usual = (get_metric(name).value(predictions, truth, n_classes=3) for name in ("voc_map@0.4", "voc_map"))
    assert lower == voc_map(predictions, truth, n_classes=3, iou=0.4) and lower >= usual
    assert get_metric("map").value([Detections.empty()], [Truth([], [])], n_classes=3) is None
    with pytest.raises(ProjectError, match="number of classes"):
        get_metric("map").value(predictions, truth)
