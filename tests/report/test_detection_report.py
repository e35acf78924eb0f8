"""The report of a detection run: what becomes of boxes, what the page shows, and that it copes with what is absent."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from src.boxes.types import Detections, Truth
from src.competition import Competition, DataSpec, SubmissionSpec
from src.errors import ProjectError
from src.flows.detection_panel import decide, pair, panel, with_honest_counts
from src.metrics.detection import evaluate_boxes
from src.metrics.registry import get_metric
from src.report import build_report
from src.report.detection.evidence import BoxSet, curves, outcomes
from src.report.detection.gallery import choose
from src.report.detection.marks import MOST_MARKS, mark_limit, marks
from src.report.detection.summary import folded_confusion, metric_interval
from src.report.scoreboard import strip
from tests.test_report import check_page, words

CLASSES = ("사과", "<b>배</b>", "컵")
FIGURES = ("pr", "counts", "confusion", "gallery")
WIDTH, HEIGHT = 96, 72


class FakeBoxRun:
    """A tiny competition of boxes: 24 training and 8 test images, three boxes each but for empty ones.

    Predictions are the truth, shifted by a pixel, but for out-of-fold images 1 (an object missed), 2 (one taken for
    another class) and 3 (a box on nothing).
    """

    def __init__(self, folder: Path, classes: tuple[str, ...] = CLASSES) -> None:
        self.root, self.run, self.classes = folder / "data", folder / "outputs" / "tiny", classes
        self.run.mkdir(parents=True)
        (self.root / "images").mkdir(parents=True)
        rows = [self._image("train", i, 24) for i in range(24)] + [self._image("test", i, 8) for i in range(8)]
        answers = [row for row in rows if row["split"] == "test"]
        self.solution = pd.DataFrame(answers)[["id", "boxes", "labels", "ignored", "counts"]]
        hidden = dict.fromkeys(("boxes", "labels", "ignored", "counts"))
        self.manifest = pd.DataFrame([row | hidden if row["split"] == "test" else row for row in rows])
        self.manifest.attrs = {"classes": list(classes), "category_ids": list(range(len(classes))), "box_reports": []}
        self.oof = self._predictions([row for row in rows if row["split"] == "train"], wrong=True)
        self.test = self._predictions(answers, wrong=False)
        self.record: dict[str, Any] = {
            "seed": 7,
            "weights": {"kind": "random"},
            "submission": {"path": "s.csv", "valid": True},
        }
        self.broken: list[dict[str, str]] = []
        self.competition = Competition(
            name="tiny",
            task="detection",
            root=self.root,
            data=DataSpec(layout="csv", train="train.csv", test="test.csv"),
            metric="map50",
            submission=SubmissionSpec(
                format="prediction_string", columns={"id": "id", "value": "p"}, labels={}, sample=None
            ),
            solution=None,
            rules="none",
            bundled=False,
            source=Path("tiny.yaml"),
        )

    def _image(self, split: str, index: int, n: int) -> dict[str, Any]:
        picture = np.full((HEIGHT, WIDTH, 3), 90 + index, np.uint8)
        boxes = [] if index == n - 1 else [[4 + 30 * k, 6 + index % 7, 24 + 30 * k, 26 + index % 7] for k in range(3)]
        labels = [(index + k) % len(self.classes) for k in range(len(boxes))]
        for x1, y1, x2, y2 in boxes:
            picture[y1:y2, x1:x2] = 220
        path = self.root / "images" / f"{split}_{index}.png"
        cv2.imwrite(str(path), picture)
        return {
            "id": f"{split}/{index:02d}", "path": str(path), "split": split, "target": None, "group": None,
            "boxes": np.array(boxes, float).reshape(-1, 4), "labels": np.array(labels, np.int64),
            "ignored": np.zeros(len(boxes), bool), "counts": np.bincount(labels, minlength=len(self.classes)),
            "width": WIDTH, "height": HEIGHT,
        }  # fmt: skip

    def _predictions(self, rows: list[dict], *, wrong: bool) -> pd.DataFrame:
        found = []
        for index, row in enumerate(rows):
            boxes, labels = (row["boxes"] + 1).tolist(), row["labels"].tolist()
            scores = [0.9 - 0.01 * k - 0.001 * index for k in range(len(boxes))]
            if wrong and index == 1:
                boxes, labels, scores = boxes[1:], labels[1:], scores[1:]
            if wrong and index == 2:
                labels = [(labels[0] + 1) % len(self.classes), *labels[1:]]
            if wrong and index == 3:
                boxes, labels, scores = [*boxes, [60.0, 50.0, 90.0, 70.0]], [*labels, 0], [*scores, 0.8]
            found.append(
                {
                    "id": row["id"],
                    "fold": index % 2,
                    "width": WIDTH,
                    "height": HEIGHT,
                    "boxes": boxes,
                    "scores": scores,
                    "labels": labels,
                    "masks": None,
                }  # fmt: skip
            )
        return pd.DataFrame(found)

    def metrics(self, name: str = "map50", truth: pd.DataFrame | None = None) -> dict[str, Any]:
        metric, train = get_metric(name), self.manifest[self.manifest["split"] == "train"]
        truth = train if truth is None else truth
        paired = pair(self.oof, truth)
        decision = decide(paired, classes=self.classes, metric=metric)
        oof = with_honest_counts(panel(paired, decision, classes=self.classes, metric=metric), decision.rule, metric)
        graded = panel(pair(self.test, self.solution), decision, classes=self.classes, metric=metric)
        parts = {k: pair(self.oof[self.oof["fold"] == k], truth) for k in (0, 1)}
        folds = [{"fold": k, **panel(part, decision, classes=self.classes, metric=metric)} for k, part in parts.items()]
        kept = {
            "metric": {"name": name, "value": oof.get("metric"), "mode": metric.mode},
            "oof": oof, "folds": folds, "threshold": None, **decision.to_dict(), "graded": graded,
        }  # fmt: skip
        return json.loads(json.dumps(kept))

    def build(self, **changes: Any) -> str:
        arguments = {
            "competition": self.competition, "manifest": self.manifest, "oof": self.oof, "test": self.test,
            "solution": self.solution, "record": self.record, "broken": self.broken,
        }  # fmt: skip
        arguments |= {"metrics": self.metrics()} if "metrics" not in changes else {}
        page = build_report(self.run, **(arguments | changes)).read_text(encoding="utf-8")
        check_page(page)
        return page


@pytest.fixture
def fake(tmp_path: Path) -> FakeBoxRun:
    return FakeBoxRun(tmp_path)


def box_set(found: list[Detections], truth: list[Truth], n_classes: int) -> BoxSet:
    counts = np.array([each.counts(n_classes) for each in truth])
    counted = np.array([np.bincount(each.labels, minlength=n_classes) for each in found])
    return BoxSet(
        key="oof", title="Out of fold", ids=[f"{i}" for i in range(len(found))], paths=["x.png"] * len(found),
        folds=[0] * len(found), sizes=[(100, 100)] * len(found), found=found, kept=found, counted=counted, truth=truth,
        counts=counts,
    )  # fmt: skip


def random_set(seed: int, images: int = 30, n_classes: int = 3) -> BoxSet:
    random = np.random.default_rng(seed)

    def some(n: int) -> np.ndarray:
        corner = random.uniform(0, 70, (n, 2))
        return np.concatenate([corner, corner + random.uniform(8, 30, (n, 2))], axis=1)

    truth, found = [], []
    for _ in range(images):
        n = int(random.integers(0, 5))
        truth.append(Truth(some(n), random.integers(0, n_classes, n), random.random(n) < 0.15))
        near = truth[-1].boxes + random.normal(0, 1.5, (n, 4))
        near = np.concatenate([np.minimum(near[:, :2], near[:, 2:]), np.maximum(near[:, :2], near[:, 2:])], axis=1)
        labels = np.where(random.random(n) < 0.7, truth[-1].labels, random.integers(0, n_classes, n))
        extra = int(random.integers(0, 3))
        found.append(
            Detections(
                np.concatenate([near, some(extra)]),
                random.random(n + extra),
                np.concatenate([labels, random.integers(0, n_classes, extra)]),
            )
        )
    return box_set(found, truth, n_classes)


def test_what_becomes_of_boxes() -> None:
    boxes = [[0, 0, 20, 20], [30, 0, 50, 20], [60, 0, 80, 20], [0, 60, 40, 100]]
    truth = Truth(boxes, [0, 1, 2, 0], [False, False, False, True])
    # The surest box on the first object has the wrong class; the right one still gets it.
    kept = Detections(
        [[0, 0, 20, 20], [1, 0, 21, 20], [30, 0, 50, 20], [60, 60, 80, 80], [0, 60, 40, 100]],
        [0.9, 0.8, 0.7, 0.6, 0.5],
        [1, 0, 2, 2, 0],
    )
    outcome = outcomes([kept], [truth], n_classes=3)[0]
    assert outcome.boxes.tolist() == ["false", "right", "confused", "false", "neutral"]
    assert outcome.objects.tolist() == ["right", "confused", "missed", "neutral"]
    assert outcome.partner.tolist() == [-1, 0, 1, -1, -1]
    assert (outcome.missed, outcome.false, outcome.errors) == (2, 3, 5)
    table = box_set([kept], [truth], 3).confusion
    assert table.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_every_object_and_box_stands_once_in_the_confusion(seed: int) -> None:
    scored = random_set(seed)
    objects = sum(each.counts(3) for each in scored.truth)
    assert scored.confusion[:-1].sum(axis=1).tolist() == objects.tolist()
    neutral = sum(int((outcome.boxes == "neutral").sum()) for outcome in scored.outcomes.values())
    assert scored.confusion[:, :-1].sum() == sum(map(len, scored.kept)) - neutral
    found = evaluate_boxes(scored.found, scored.truth, classes=["0", "1", "2"])
    recall = np.diag(scored.confusion)[:3] / objects
    for label, curve in curves(scored).items():
        assert curve.ap50 == pytest.approx(found["per_class"][str(label)]["ap50"], abs=1e-9)
        assert curve.recall[-1] == pytest.approx(recall[label]) and curve.point[0] == pytest.approx(recall[label])
        assert (np.diff(curve.precision) <= 0).all()


def test_folded_confusion_keeps_the_sum() -> None:
    table = np.random.default_rng(0).integers(0, 9, (41, 41))
    folded, names = folded_confusion(table, [str(i) for i in range(40)])
    assert folded.sum() == table.sum() and len(folded) == len(names) + 1 == 19 and names[-1] == "23 others"
    assert folded[-1, -1] == table[-1, -1] and folded[-1, :-1].sum() == table[-1, :-1].sum()


@pytest.mark.parametrize("name", ["map50", "map", "voc_map", "count_mae", "count_exact"])
def test_intervals_hold_the_value(name: str) -> None:
    scored = random_set(1)
    metric = get_metric(name)
    if metric.needs == "boxes":
        value = metric.value(*scored.pairs(), n_classes=3)
    else:
        value = metric.value(scored.counted, scored.counts) * 0.9  # as cross-validation may say otherwise
    low, high = metric_interval(name, value, scored)
    assert 0 <= low < value < high and (high <= 1 or metric.mode == "min")


def test_strip_of_an_error_begins_at_nothing() -> None:
    shown = strip(1.5, (1.2, 1.8), 2.4, error=True)
    assert shown["ticks"] == ["0", "2.5", "5"] and shown["value"] == 30 and shown["graded"] == 48
    assert strip(1.5, (1.2, 1.8), 2.4) is None  # no share


def test_whole_run(fake: FakeBoxRun) -> None:
    fake.manifest.attrs["box_reports"] = [
        {"source": f"boxes.csv row {i}", "id": "train/00", "problem": "no area: <i>", "action": "set aside"}
        for i in range(250)
    ]
    fake.broken = [{"id": "test/07", "path": str(fake.root / "images/test_7.png"), "reason": "cut", "split": "test"}]
    metrics = fake.metrics()
    page = fake.build(metrics=metrics)
    text = words(page)
    assert f"mAP50, out of fold {metrics['oof']['map50']:.3f}" in text and "95% interval by resampling images" in text
    assert "24 of 24 training images, 69 objects" in text and "The ring is the graded score" in text
    assert "67 of 69 objects are found (97%), 1 taken for another class, 1 missed; 1 box lies on nothing" in text
    assert "Worst images 3 of 24 images have a missed or false object" in text
    assert "Confused most: 컵 taken for 사과 1×." in text
    assert "In 20 images with objects, every one is found and nothing else" in text
    assert "<b>배</b>" in text and "<b>배" not in page
    assert "random weights" in text and "Few objects" not in text
    assert "250 boxes of the files: 250 set aside. The first 200 are listed" in text and "no area: <i>" in text
    assert "1 test image cannot be read and got no boxes" in text
    assert "Fold 0" in text and "mAP75" in text and "Images 24" in text
    for name in FIGURES:
        assert cv2.imread(str(fake.run / "figures" / f"{name}.png")) is not None
    assert (fake.run / "report.html").stat().st_size < 2e6
    gallery = page[page.index('id="pictures"') :]
    missed = re.search(
        r'<g class="missed"><title>truth: ([^,]+), missed</title><rect class="case" x="([\d.]+)"', gallery
    )
    assert missed and missed.group(2) == "4.0"  # original pixels, the first object of image 1
    assert "3 true" not in text and re.search(r"train/01 1 missed", text) and re.search(r"train/03 1 false", text)


def test_figures_of_an_older_report_go(fake: FakeBoxRun) -> None:
    (fake.run / "figures").mkdir()
    for name in FIGURES:
        (fake.run / "figures" / f"{name}.png").write_bytes(b"old")
    text = words(fake.build(oof=None, test=None, solution=None, metrics={}, record={}))
    assert "There are no out-of-fold predictions" in text and "There are no predictions of readable images" in text
    assert "No metric could be computed" in text and not any((fake.run / "figures").iterdir())


def test_only_counts_are_known(fake: FakeBoxRun) -> None:
    fake.manifest[["boxes", "labels", "ignored"]] = None
    page = fake.build(solution=None, metrics=fake.metrics("count_rmse") | {"graded": None})
    text = words(page)
    assert "Only numbers of objects are known, not where they are" in text
    assert "Worst counts" in text and 'id="show-truth"' not in page and "Confusion" not in text
    assert "Lower is better" in text
    assert sorted(path.name for path in (fake.run / "figures").iterdir()) == ["counts.png", "gallery.png"]


def test_nothing_is_known(fake: FakeBoxRun) -> None:
    fake.manifest[["boxes", "labels", "ignored", "counts"]] = None
    text = words(fake.build(solution=None, metrics={}))
    assert "Nothing is known of what is in the images" in text and "Most objects" in text and "Nothing found" in text


def test_pictures_that_cannot_be_read(fake: FakeBoxRun) -> None:
    Path(fake.manifest.loc[1, "path"]).write_bytes(b"no picture")
    text = words(fake.build(test=None, solution=None))
    assert "The image cannot be read" in text and "train/01" in text


def test_many_classes(tmp_path: Path) -> None:
    fake = FakeBoxRun(tmp_path, tuple(f"종류 {i}" for i in range(30)))
    text = words(fake.build(test=None, solution=None))
    assert "The 12 classes with the most objects; the other" in text and "others" in text
    assert "Few objects stand behind" in text and "No object out of fold" in text


def test_predictions_of_another_competition(fake: FakeBoxRun) -> None:
    metrics = fake.metrics()
    fake.oof.loc[3, "id"] = "stranger"
    with pytest.raises(ProjectError, match=r"oof\.parquet: 1 predicted ids .* 'stranger'"):
        fake.build(metrics=metrics)
    assert not (fake.run / "report.html").exists()


def test_an_image_is_shown_once_and_the_worst_first() -> None:
    scored = random_set(3)
    groups = choose(scored, ["a", "b", "c"], [0.5] * 3, {"0"})
    shown = [card.index for group in groups for card in group.cards]
    assert len(shown) == len(set(shown)) and 0 not in shown
    errors = [scored.outcomes[card.index].errors for card in groups[0].cards]
    assert errors == sorted(errors, reverse=True) and errors[0] == max(
        outcome.errors for index, outcome in scored.outcomes.items() if index
    )
    assert [group.title for group in groups][:1] == ["Worst images"]


def test_thousands_of_boxes_stay_within_the_page() -> None:
    grid = np.array([[x, y, x + 4, y + 4] for x in range(0, 100, 5) for y in range(0, 100, 5)], float)
    truth = [Truth(grid, np.zeros(len(grid)))] * 12
    found = [
        Detections(np.concatenate([grid[9:], grid[:1] + 50.0]), np.linspace(0.9, 0.5, len(grid) - 8), np.zeros(392))
    ] * 12
    scored = box_set(found, truth, 1)
    groups = choose(scored, ["점"], [0.5], set())
    limit = mark_limit(groups)
    shown = [marks(card, ["점"], [0], limit) for group in groups for card in group.cards]
    drawn = [len(each["objects"]) + len(each["boxes"]) for each in shown]
    assert 0.8 * MOST_MARKS < sum(drawn) <= MOST_MARKS
    assert all(each["left_out"] == 792 - n for each, n in zip(shown, drawn, strict=True))
    missed = [item for item in shown[0]["objects"] if item["state"] == "missed"]
    assert len(missed) == 9 and [item["tag"]["text"] for item in missed] == ["missed 점"] * 9
    assert [item["state"] for item in shown[0]["boxes"]].count("false") == 1
