"""The report of a run: what it shows, what it escapes, and that it copes with whatever is absent."""

import base64
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.competition import Competition, DataSpec, SubmissionSpec
from src.errors import ProjectError
from src.metrics.anomaly import average_precision, evaluate_anomaly
from src.report import build_report, wording
from src.report.anomaly.answers import Rules
from src.report.anomaly.evidence import confusion, kinds, scored_sets
from src.report.anomaly.figures import draw_precision_recall
from src.report.anomaly.gallery import choose, load, write_heatmaps
from src.report.anomaly.overlay import outline, overlay

FIGURES = ("roc", "pr", "histogram", "gallery")
HOSTILE = "<script>alert('한글 & \"quotes\"')</script>"
RULES = Rules({"value": 1.5})
VOID = {"meta", "img", "br", "link", "input", "hr"}


class FakeRun:
    """A tiny competition with its predictions: 16 training and 12 test images, kinds `scratch` and `hole`."""

    def __init__(self, folder: Path, *, hostile: bool = False, maps: bool = True, masks: bool = True) -> None:
        self.root, self.run = folder / "data", folder / "outputs" / "tiny"
        (self.root / "images").mkdir(parents=True)
        (self.run / "predictions" / "maps").mkdir(parents=True)
        self.maps, self.masks, self.random = maps, masks, np.random.default_rng(0)
        train = [("ok", 0)] * 10 + [("scratch", 1)] * 4 + [("hole", 1)] * 2
        test = [("ok", 0)] * 6 + [("scratch", 1)] * 4 + [("hole", 1)] * 2
        rows = [self._image("train", i, *kind) for i, kind in enumerate(train)]
        answers = [self._image("test", i, *kind) for i, kind in enumerate(test)]
        if hostile:
            rows[10]["id"] = HOSTILE
            answers[0]["id"] = "a<b>&c/가나다"
            answers[7]["target"] = "<b>긁힘</b>"
        hidden = [{**row, "target": None, "label": pd.NA, "mask": None} for row in answers]
        self.manifest = pd.DataFrame(rows + hidden).astype({"label": "Int64"})
        self.solution = pd.DataFrame(answers)[["id", "target", "label", "mask"]].astype({"label": "Int64"})
        # defects score 2.00, 2.01, …; normal images 1.00, 1.01, …, but for one miss and one false alarm
        self.oof = self._predictions("oof", rows, {9: 2.5, 15: 1.05})
        self.test = self._predictions("test", answers, {})
        self.threshold = 1.5
        self.record = {
            "seed": 7,
            "git": {"revision": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "weights": {"kind": "file", "source": "weights/net.safetensors", "sha256": "ab12" * 16},
            "data_hash": "cd34" * 16,
            "seconds": {"fit": 75.2},
            "peak_memory": {"process_gib": 1.5},
            "versions": {"torch": "2.15.0"},
            "submission": {"path": "submission.csv", "rows": 12, "valid": True, "warnings": ["all equal"]},
        }
        self.broken = [
            {"id": "dead", "path": str(self.root / "images/dead.png"), "reason": "truncated <PNG>", "split": "train"}
        ]
        self.competition = Competition(
            name="tiny",
            task="anomaly",
            root=self.root,
            data=DataSpec(layout="csv", train="train.csv", test="test.csv"),
            metric="auroc",
            submission=SubmissionSpec(format="score", columns={"id": "id", "value": "score"}, labels={}, sample=None),
            solution=None,
            rules="none",
            bundled=False,
            source=Path("tiny.yaml"),
        )

    def _image(self, split: str, index: int, target: str, label: int) -> dict:
        picture = self.random.integers(90, 130, (24, 32, 3), dtype=np.uint8)
        mask = np.zeros((24, 32), np.uint8)
        if label:
            picture[8:14, 10:20] = 250
            mask[8:14, 10:20] = 255
        path = self.root / "images" / f"{split}_{index}.png"
        cv2.imwrite(str(path), picture)
        mask_path = None
        if label and self.masks:
            mask_path = str(path.with_name(f"{path.stem}_mask.png"))
            cv2.imwrite(mask_path, mask)
        return {
            "id": f"{split}/{index:03d}", "path": str(path), "split": split, "target": target, "label": label,
            "group": None, "mask": mask_path, "source": f"{split}.csv:{index + 2}",
        }  # fmt: skip

    def _predictions(self, part: str, rows: list[dict], scores: dict[int, float]) -> pd.DataFrame:
        found = []
        for index, row in enumerate(rows):
            score = scores.get(index, 1.0 + row["label"] + index / 100)
            name = None
            if self.maps:
                heat = np.full((16, 16), 0.5, np.float16)
                if row["label"]:
                    heat[5:10, 5:10] = score
                name = f"maps/{part}_{index}.npy"
                np.save(self.run / "predictions" / name, heat)
            fold = index % 2 if part == "oof" else -1
            found.append({"id": row["id"], "fold": fold, "score": score, "probs": None, "map": name})
        return pd.DataFrame(found)

    def metrics(self) -> dict:
        rows = self.oof.merge(self.manifest[["id", "label"]], on="id").dropna(subset=["label"])
        oof = evaluate_anomaly(rows["score"], rows["label"], self.threshold)
        graded = evaluate_anomaly(self.test["score"], self.solution["label"], self.threshold)
        both = rows["label"].nunique() == 2
        return {
            "metric": {"name": "auroc", "value": oof["auroc"], "mode": "max"},
            "oof": {"metric": oof["auroc"], **oof, "pixel_auroc": 0.87654},
            "folds": [{"fold": k, "metric": oof["auroc"], **oof} for k in range(2)],
            "threshold": {
                "value": self.threshold,
                "source": "oof" if both else "normal_quantile",
                "metric": "f1" if both else "false_alarm_rate",
                "score": 0.9 if both else None,
            },
            "graded": {"metric": graded["auroc"], **graded},
        }

    def build(self, metrics: dict | None = None, **changes: object) -> str:
        arguments = {
            "competition": self.competition, "manifest": self.manifest, "oof": self.oof, "test": self.test,
            "solution": self.solution, "record": self.record, "broken": self.broken,
        }  # fmt: skip
        path = build_report(self.run, metrics=self.metrics() if metrics is None else metrics, **(arguments | changes))
        assert path == self.run / "report.html"
        page = path.read_text(encoding="utf-8")
        check_page(page)
        return page


class Nesting(HTMLParser):
    """Fails where an element is closed that is not the innermost open one; collects ids, links and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> is misplaced at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)


def check_page(page: str) -> None:
    """Well-formed, self-contained, no leftovers of the template."""
    parser = Nesting()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert not re.search(r"https?://|url\((?!#)|@import", page)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in parser.links)
    assert {link[1:] for link in parser.links if link.startswith("#")} <= set(parser.ids)
    assert "script" not in parser.tags
    assert '<html lang="en">' in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"\bnan\b|\bNone\b|<NA>|\{\{|\{%", " ".join(parser.words))


def words(page: str) -> str:
    """The page's text with single spaces."""
    parser = Nesting()
    parser.feed(page)
    return re.sub(r"\s+", " ", " ".join(parser.words))


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


def test_whole_run(fake: FakeRun) -> None:
    (fake.run / "config.yaml").write_text("model:\n  name: patchcore\n  backbone: resnet18\n  ratio: 0.1\n")
    page = fake.build()
    text = words(page)
    oof = fake.metrics()["oof"]
    assert f"{oof['auroc']:.3f}" in text
    assert "95% bootstrap interval" in text
    assert "Tuned on out-of-fold scores for F1 (0.900 there)" in text
    assert "patchcore" in text and "resnet18" in text and "0.1" in text
    assert "1 min 15 s" in text and "1.5 GiB" in text
    assert "0123456789ab…" in text
    assert "✓ Valid" in text and "12 rows" in text and "all equal" in text
    assert "Pixel AUROC 0.877 – – –" in text  # out of fold, two folds, test
    assert "passed, 90%" in text and "false alarms, 10%" in text and "missed, 17%" in text
    assert "hole 1 of 2 2 of 2" in text and "scratch 4 of 4 4 of 4" in text
    assert "dead train truncated <PNG> images/dead.png" in text
    for name in FIGURES:
        assert cv2.imread(str(fake.run / "figures" / f"{name}.png")) is not None
    assert (fake.run / "report.html").stat().st_size < 2e6
    assert "5 of 6 defects are found" in text
    assert "1 of 6 defects stay below the threshold" in text
    assert "1 of 10 normal images reach the threshold" in text
    miss = text[text.index("Worst misses") :]
    assert "train/015" in miss[: miss.index("False alarms")]
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="[^"]*heatmap, true mask outlined"', page)
    assert pictures
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.max() > 200  # the white outline


def test_hostile_ids_are_text(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, hostile=True)
    fake.record["weights"]["source"] = "<img src=x>"
    fake.record["submission"] = {"path": "submission.csv", "valid": False, "problems": ["row 3: '<i>'"]}
    page = fake.build()
    assert "<script" not in page and "<b>긁힘" not in page and "<img src=x>" not in page
    text = words(page)
    assert HOSTILE in text and "a<b>&c/가나다" in text and "<b>긁힘</b> – 1 of 1" in text
    assert "✗ Not valid" in text and "row 3: '<i>'" in text


def test_normal_only(fake: FakeRun) -> None:
    normal = fake.manifest["label"] != 1
    fake.manifest = fake.manifest[normal.fillna(True)]
    fake.oof = fake.oof[fake.oof["id"].isin(fake.manifest["id"])]
    metrics = fake.metrics() | {"graded": None, "folds": []}
    text = words(fake.build(solution=None, metrics=metrics))
    assert "hold no labelled defect" in text and "10% of them (1 of 10) reach it" in text
    assert "From normal scores only" in text
    assert "There is no ROC or precision-recall curve" in text
    assert "Highest scores" in text and "Nearest to the threshold" in text
    assert "Image AUROC the competition's metric – Accuracy at the threshold 0.900" in text
    assert sorted(path.name for path in (fake.run / "figures").iterdir()) == ["gallery.png", "histogram.png"]


def test_figures_of_an_older_report_go(fake: FakeRun) -> None:
    fake.build()
    assert (fake.run / "figures/roc.png").exists()
    fake.build(oof=None, test=None, solution=None)
    assert not any((fake.run / "figures").iterdir())


@pytest.mark.parametrize("masks", [True, False])
def test_without_maps(tmp_path: Path, masks: bool) -> None:
    page = FakeRun(tmp_path, maps=False, masks=masks).build()
    assert "The predictions hold no heatmaps." in page
    assert ("The white line is the true mask." in page) is masks
    assert (": true mask outlined" in page) is masks


def test_nothing_at_all(fake: FakeRun) -> None:
    text = words(fake.build(oof=None, test=None, solution=None, metrics={}, record={}, broken=[]))
    assert "There are no out-of-fold predictions" in text
    assert "There are no predictions to draw." in text
    assert "Set aside" not in text


def test_one_image(fake: FakeRun) -> None:
    fake.build(oof=fake.oof.head(1), test=None, solution=None, metrics={"threshold": {"value": 1.5}})


def test_test_without_out_of_fold(fake: FakeRun) -> None:
    metrics = {"metric": {"name": "auroc", "value": None, "mode": "max"}, "oof": {}, "folds": [], "threshold": None}
    text = words(fake.build(oof=fake.oof.head(0), metrics=metrics))
    assert "No training image was held out to set one" in text
    assert "Highest-scoring defects" in text and "Decisions at the threshold" not in text


def test_identical_scores(fake: FakeRun) -> None:
    fake.oof["score"] = fake.test["score"] = fake.threshold = 0.0
    assert "The model tells no image from another." in words(fake.build())


def test_troubled_run(fake: FakeRun) -> None:
    found = fake.manifest.set_index("id").loc["train/013"]
    Path(found["path"]).write_bytes(b"no image")
    Path(found["mask"]).write_bytes(b"no mask")
    (fake.run / "predictions/maps/oof_13.npy").write_bytes(b"no map")
    fake.record["weights"]["kind"] = "random"
    fake.record["git"]["dirty"] = True
    metrics = fake.metrics()
    metrics["graded"]["metric"] = 0.2
    broken = [{"id": "test/009", "path": "x.png", "reason": "empty file", "split": "test"}]
    text = words(fake.build(metrics, broken=broken))
    assert "The image cannot be read" in text
    assert "The mask cannot be read" in text
    assert "The heatmap cannot be read" in text
    assert "1 test image cannot be read" in text
    assert text.count("test/009") == 1  # in the table of images set aside, not in the gallery
    assert "random weights" in text and "uncommitted changes" in text
    assert "The graded score lies outside the out-of-fold interval" in text
    assert "Only 6 labelled defects" in text


def test_predictions_of_another_competition(fake: FakeRun) -> None:
    fake.oof.loc[3, "id"] = "stranger"
    with pytest.raises(ProjectError, match="'stranger'"):
        fake.build()
    assert not (fake.run / "report.html").exists()


def test_scores_that_are_not_finite(fake: FakeRun) -> None:
    fake.test.loc[2, "score"] = np.inf
    with pytest.raises(ProjectError, match=r"test\.parquet: the score of 'test/002' is not a finite number"):
        fake.build(metrics={})


def test_evidence(fake: FakeRun) -> None:
    folder = fake.run / "predictions"
    oof, test = scored_sets(fake.manifest, fake.oof, fake.test, fake.solution, folder, RULES)
    assert (len(oof.normal), len(oof.defective), len(test.normal), len(test.defective)) == (10, 6, 6, 6)
    assert confusion(oof) == {"hits": 5, "misses": 1, "false_alarms": 1, "passed": 9}
    on_the_line = scored_sets(fake.manifest, fake.oof, None, None, folder, Rules({"value": 2.5}))[0]
    assert confusion(on_the_line)["false_alarms"] == 1  # a score at the threshold is an alarm
    assert [row["name"] for row in kinds([oof, test])] == ["hole", "scratch"]
    groups = choose(oof, RULES, skip={"train/009"})
    assert [group.title for group in groups] == ["Best hits", "Worst misses", "Highest-scoring normal images"]
    scores = [card.row.score for card in groups[0].cards]
    assert scores == sorted(scores, reverse=True)


def test_twenty_thousand_images_are_quick(fake: FakeRun) -> None:
    n = 20_000
    random = np.random.default_rng(1)
    label = (random.random(n) < 0.05).astype(int)
    base = fake.manifest.iloc[10]
    manifest = pd.DataFrame(
        {
            "id": [f"i{i}" for i in range(n)],
            "path": base["path"],
            "split": "train",
            "target": "scratch",
            "label": pd.array(label, dtype="Int64"),
            "group": None,
            "mask": base["mask"],
            "source": "",
        }  # fmt: skip
    )
    oof = pd.DataFrame(
        {"id": manifest["id"], "fold": 0, "score": random.normal(label), "probs": None, "map": "maps/oof_10.npy"}
    )
    start = time.perf_counter()
    page = fake.build(manifest=manifest, oof=oof, test=None, solution=None, metrics=fake.metrics() | {"graded": None})
    assert time.perf_counter() - start < 20  # a few seconds on an idle core
    assert len(page) < 2e6


def test_outline_marks_the_border_of_the_mask() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    drawn = outline(np.full((40, 40, 3), 128, np.uint8), mask)
    assert (drawn[10, 12:28] == 255).all() and (drawn[20, 20] == 128).all() and (drawn[2, 2] == 128).all()
    hair = np.zeros((1000, 1000), np.uint8)
    hair[500, :] = 1  # must survive a thumbnail
    assert (outline(np.zeros((100, 100, 3), np.uint8), hair) == 255).any()


def test_overlay_keeps_low_values_grey() -> None:
    picture = np.full((10, 10, 3), 100, np.uint8)
    heat = np.zeros((10, 10), np.float32)
    heat[:5] = 1
    drawn = overlay(picture, heat, (0.0, 1.0))
    assert (drawn[9] == 100).all()
    assert drawn[0, 0, 0] > drawn[0, 0, 2] + 50  # hot is red


def test_letterboxed_maps_come_back_to_the_picture(fake: FakeRun) -> None:
    """Pictures are 24×32: on a 32×32 canvas the map's outer rows are padding, which must not be drawn."""
    for path in (fake.run / "predictions/maps").iterdir():
        heat = np.zeros((32, 32), np.float16)
        heat[:4] = heat[28:] = 9.0
        heat[16, 16] = 1.0
        np.save(path, heat)
    oof = scored_sets(fake.manifest, fake.oof, None, None, fake.run / "predictions", RULES)[0]
    for resize, low, high in (("letterbox", 0.5, 1.0), ("squash", 9.0, 9.0)):
        scale = load(choose(oof, RULES, set()), {"height": 32, "width": 32, "resize": resize})
        assert scale[0] == 0 and low <= scale[1] <= high


def test_write_heatmaps(fake: FakeRun, tmp_path: Path) -> None:
    rows = fake.test.merge(fake.manifest[["id", "path"]], on="id").head(3).copy()
    rows["id"] = ["a/b c", "../../etc/x", "한글"]
    rows.loc[1, "map"] = None
    target = tmp_path / "heatmaps"
    written = write_heatmaps(rows, folder=fake.run / "predictions", target=target)
    assert [path.name for path in written] == ["001_a_b_c.png", "003_한글.png"]
    decoded = cv2.imdecode(np.fromfile(written[0], np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (192, 512, 3)  # 24×32 enlarged 8 times, picture beside heatmap
    write_heatmaps(rows.tail(1), folder=fake.run / "predictions", target=target)
    assert [path.name for path in target.iterdir()] == ["001_한글.png"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.5, "0.5000"), (12.3456, "12.35"), (-0.00012345, "-0.0001234"), (1234.5, "1,234"), (3e9, "3.000e+09")],
)
def test_scores_have_four_digits(value: float, expected: str) -> None:
    assert wording.score(value) == expected


def test_wording() -> None:
    assert wording.metric_value(0.98765, 100) == "0.988"
    assert wording.metric_value(0.98765, 5000) == "0.9877"
    assert wording.metric_value(None) == wording.metric_value(float("nan")) == "–"
    assert wording.percent(1, 3) == "33%" and wording.percent(1, 300) == "0.3%" and wording.percent(0, 0) == "–"
    assert wording.duration(3725) == "1 h 02 min" and wording.duration(0.42) == "0.4 s"
    assert wording.fact("memory_gib", 7.8) == "7.8 GiB"
    assert wording.fact("peak_bytes", 2**20) == "1 MiB"
    assert wording.fact("", [0.1, "a", None, True]) == "0.1, a, –, yes"
    assert json.dumps(wording.fact("args", {"pad_type": "same"})) == '"pad_type: same"'


def test_precision_recall_steps_enclose_the_average_precision(fake: FakeRun) -> None:
    oof = scored_sets(fake.manifest, fake.oof, None, None, fake.run / "predictions", RULES)[0]
    curve = draw_precision_recall([oof], decided=True).axes[0].lines[0]
    recall, precision = curve.get_xdata(), curve.get_ydata()
    assert curve.get_drawstyle() == "steps-pre" and recall[0] == 0 and recall[-1] == 1
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(average_precision(*oof.arrays()))
