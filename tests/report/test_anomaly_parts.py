"""The anomaly report's parts: certainty, categories, classes, choices, and decisions that are no single threshold."""

import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.calibration.certainty import promised_interval
from src.calibration.class_rule import ClassRule
from src.calibration.map_rule import MapRule
from src.calibration.threshold import normal_quantile, tune_threshold
from src.flows.anomaly_decision import Classes, Decision
from src.flows.anomaly_tables import category_rows, chosen_classes, class_figures
from src.metrics.registry import get_metric
from src.report.anomaly.answers import Rules, read_rules
from src.report.anomaly.categories import category_view
from src.report.anomaly.certainty import origin, promise, small_figure, threshold_interval
from src.report.anomaly.choices import choices
from src.report.anomaly.classes import confused_pairs, confusion_view, folded, shortened
from src.report.anomaly.evidence import confusion, scored_sets
from src.report.anomaly.figures import draw_histogram
from src.report.anomaly.gallery import choose, load
from src.report.anomaly.overlay import overlay
from src.report.anomaly.summary import headline, with_classes
from tests.test_report import FakeRun, words

CLASSES = ("ok", "hole", "긁힘")


class FakeClassRun(FakeRun):
    """FakeRun with probabilities of three classes; out of fold a hole is called 긁힘 and an ok image a hole."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, maps=False)
        for frame in (self.manifest, self.solution):
            frame["target"] = frame["target"].replace("scratch", "긁힘")
        self.rule = ClassRule("argmax", value=0.8125, plain=0.8125, gated=0.8, metric="macro_f1")
        self.metadata = {"class_names": list(CLASSES), "normal_classes": ["ok"], "by_target": True}
        wrong = {"train/015": "긁힘", "train/000": "hole"}
        for frame, truth in ((self.oof, self.manifest), (self.test, self.solution)):
            targets = truth.set_index("id")["target"].reindex(frame["id"])
            frame["probs"] = [
                [0.7 if name == wrong.get(image, target) else 0.15 for name in CLASSES]
                for image, target in targets.items()
            ]
            frame.attrs = {"metadata": self.metadata}

    def metrics(self) -> dict:
        classes = Classes.of(self.oof)
        parts = {}
        for key, frame, truth in (("oof", self.oof, self.manifest), ("graded", self.test, self.solution)):
            targets = truth.set_index("id")["target"].reindex(frame["id"]).tolist()
            chosen = chosen_classes(frame, Decision(class_rule=self.rule), classes, None)
            parts[key] = class_figures(chosen, targets, classes, "macro_f1")
        found = super().metrics()
        found["metric"] = {"name": "macro_f1", "value": self.rule.value, "mode": "max"}
        found["oof"]["metric"], found["graded"]["metric"] = self.rule.value, parts["graded"]["metric"]
        return found | {"class_rule": self.rule.to_dict(), "classes": {**parts, "normal": ["ok"]}}


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


@pytest.fixture
def told(tmp_path: Path) -> FakeClassRun:
    return FakeClassRun(tmp_path)


def with_categories(fake: FakeRun) -> None:
    """Every second image is of 병 and scores higher by 5; the others are of cable."""
    for frame in (fake.manifest, fake.solution):
        frame["category"] = ["병" if int(name[-3:]) % 2 else "cable" for name in frame["id"]]
    for frame in (fake.oof, fake.test):
        frame["score"] += [5.0 if int(name[-3:]) % 2 else 0.0 for name in frame["id"]]


def own_thresholds(cross_validated: float | None = 0.75) -> dict:
    threshold = {"value": 1.5, "source": "oof", "metric": "f1", "score": 0.9}
    own = {"병": {**threshold, "value": 6.5}}
    return {
        "shared": threshold, "own": own, "metric": "f1", "cross_validated": cross_validated, "plain": 0.5,
    }  # fmt: skip


def sets_of(fake: FakeRun, metrics: dict, test: bool = True) -> list:
    tested = fake.test if test else None
    return scored_sets(
        fake.manifest, fake.oof, tested, fake.solution, fake.run / "predictions", read_rules(metrics)
    )  # fmt: skip


def test_the_promise_and_the_doubt_of_the_threshold(fake: FakeRun) -> None:
    rows = fake.oof.merge(fake.manifest[["id", "label"]], on="id")
    labels = rows["label"].astype(int)
    sure = promised_interval(rows["score"], labels, "f1", n=200)
    metrics = fake.metrics() | {
        "metric": {"name": "f1", "value": 0.83, "mode": "max"},
        "threshold": tune_threshold(rows["score"], labels, "f1").to_dict(),
        "certainty": sure.to_dict(),
    }
    page = fake.build(metrics)
    text = words(page)
    assert f"On new images like these expect F1 between {sure.low:.3f} and {sure.high:.3f} (95%)." in text
    assert text.count("On new images like these") == 1
    assert "On resampled images it comes out between" in text
    assert "of 10 normal and 6 defective images" in text and "same share of defects, 38%: with another share F1" in text
    assert 'class="band"' in page and "The grey band is where the threshold may as well lie" in text


def test_histogram_marks_the_interval(fake: FakeRun) -> None:
    oof = sets_of(fake, fake.metrics(), test=False)
    axes = draw_histogram(oof, 1.5, (1.25, 90.0)).axes[0]
    band = axes.patches[-1] if len(axes.patches) else None
    spans = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
    assert band is not None and any(abs(span.x0 - 1.25) < 1e-6 and abs(span.x1 - 90.0) < 1e-6 for span in spans)
    assert axes.get_xlim()[1] < 5  # a far end does not press the scores together


def test_thresholds_from_normal_scores_say_how(fake: FakeRun) -> None:
    scores = np.random.default_rng(0).gamma(3, 1, 400)
    many, few = normal_quantile(scores).to_dict(), normal_quantile(scores[:24]).to_dict()
    said = " ".join(origin(Rules(many), None, 0.01))
    n_above = int((scores >= many["value"]).sum())
    assert f"of 400 images, aimed at 1% false alarms. It leaves {n_above} of them above it." in said
    assert "It stands above all of them" in " ".join(origin(Rules(few), None, 0.01))
    tail = few | {"method": "tail"}
    assert "where a tail fitted to them says" in " ".join(origin(Rules(tail), None, 0.01))
    oof = sets_of(fake, {"threshold": few}, test=False)[0]
    told = promise(None, Rules(few), oof, target=0.01)
    assert "Expect up to 4% of new normal images" in told["expect"]
    low, high = few["interval"]
    assert f"The score that 1% of them reach lies between {low:.4g}" in told["assumes"]
    assert f"{high:.4g}" in told["assumes"]
    assert promise(None, Rules({"value": 1.5, "source": "oof"}), oof, target=0.01) is None


def test_a_promise_of_another_metric_stands_beside(fake: FakeRun) -> None:
    sure = {"metric": "auroc", "low": 0.7, "high": 0.9, "level": 0.95, "threshold_low": None, "threshold_high": None}
    rules = read_rules(fake.metrics())
    metrics = fake.metrics() | {"metric": {"name": "average_precision", "value": 0.9}}
    top = headline(metrics, sets_of(fake, metrics), rules, sure)
    assert not top["promised"] and top["interval"] is not None
    assert threshold_interval(rules, sure) is None
    oof = sets_of(fake, metrics, test=False)[0]
    assert "another share leaves it as it is" in promise(sure, rules, oof, target=None)["assumes"]


def test_small_figure_gathers_what_lies_far_beyond(fake: FakeRun) -> None:
    oof = sets_of(fake, fake.metrics(), test=False)[0]
    assert small_figure(oof, None, None) is None
    assert "more" not in small_figure(oof, 1.5, None)["ends"][1]
    oof.frame.loc[oof.frame["score"].idxmax(), "score"] = 1000.0
    shown = small_figure(oof, 1.5, (1.2, 1.6))
    assert shown["ends"][1].endswith("and more") and 0 < shown["line"] < shown["width"] / 2
    low, width = shown["band"]
    assert low < shown["line"] < low + width


def test_categories_are_decided_by_their_own_thresholds(fake: FakeRun) -> None:
    with_categories(fake)
    metrics = fake.metrics() | {"category_thresholds": own_thresholds()}
    oof = sets_of(fake, metrics)[0]
    called = oof.frame.set_index("id")["called"]
    lines = np.where(oof.frame["category"] == "병", 6.5, 1.5)
    assert (oof.frame["line"] == lines).all() and (called.to_numpy() == (oof.frame["score"] >= lines)).all()
    assert confusion(oof) == {"hits": 5, "misses": 1, "false_alarms": 1, "passed": 9}
    assert confusion(sets_of(fake, fake.metrics())[0])["false_alarms"] > 1  # one threshold would be wrong

    class Decided:
        category_thresholds = type("By", (), {"value_of": staticmethod(lambda name: {"병": 6.5}.get(name, 1.5))})

    rows = category_rows(fake.oof, fake.manifest, Decided)
    metrics["categories"] = {"oof": rows, "graded": category_rows(fake.test, fake.solution, Decided)}
    view = category_view(metrics, sets_of(fake, metrics), read_rules(metrics), test_known=True, allowed=True)
    by_name = {row["category"]: row for row in rows}
    assert [row["name"] for row in view["rows"]] == sorted(by_name, key=lambda name: by_name[name]["auroc"])
    assert [row["own"] for row in view["rows"]] == [row["name"] == "병" for row in view["rows"]]
    assert "cross-validation found them better" in view["note"]
    assert all(row["strip"]["normal"].count("M") == by_name[row["name"]]["n_normal"] for row in view["rows"])
    assert {row["name"]: row["strip"]["line"] for row in view["rows"]}["병"] > view["width"] / 2
    assert not view["logarithmic"]
    metrics["metric"] = {"name": "f1", "value": 0.83, "mode": "max"}
    text = words(fake.build(metrics))
    assert "1 category has its own; this is the others'." in text
    assert "Each category is cut at its own threshold." in text
    assert "On images held out of their tuning it is 0.750." in text
    assert "1 category has its own F1 0.750 one threshold for all: 0.500" in text
    assert re.search(r"병 6\.500 own 5 3 \S+ \S+ 3 3", text)


@pytest.mark.parametrize(
    ("known", "allowed", "expected"),
    [
        (False, True, "not known beforehand"),
        (True, False, "calibration.by_category=null"),
        (True, True, "cross-validation did not find own ones better"),
    ],
)
def test_why_categories_share_a_threshold(fake: FakeRun, known: bool, allowed: bool, expected: str) -> None:
    rows = [{"category": name, "auroc": 0.9, "f1": 0.8, "n_normal": 4, "n_anomalous": 4} for name in "ab"]
    metrics = fake.metrics() | {"categories": {"oof": rows, "graded": None}}
    view = category_view(metrics, [], read_rules(metrics), test_known=known, allowed=allowed)
    assert expected in view["note"] and not view["with_graded"] and not view["with_strips"]


def test_classes(told: FakeClassRun) -> None:
    page = told.build()
    text = words(page)
    assert "14 of 16 images get their class, 88%." in text and "12 of 12 images" in text
    main = text[text.index("the competition's metric") :]
    assert main.startswith("the competition's metric 0.812")  # of the classes, not of normal against defective
    assert "Macro F1 over classes" in text and "Macro F1 at the threshold" in text
    table = text[text.index("class images precision") :]
    places = [table.index(row) for row in ("hole 2 0.500 0.500 0.500", "긁힘 4 0.800 1.000 0.889", "ok 10 1.000")]
    assert places == sorted(places)
    assert "hole → 긁힘 1 of 2" in text and "ok → hole 1 of 10 false alarm" in text
    pairs = page[page.index('class="pairs"') : page.index("Examples are the surest")]
    assert re.findall(r'<img [^>]*alt="([^"]+)"', pairs) == ["train/000", "train/015"]
    assert "→ 긁힘 70%" in text and "wrong class" in text
    assert "asking the score first whether anything is wrong: 0.800 , no clear gain" in text
    assert "Normal or defective, by the class that is said" in text
    drawn = cv2.imread(str(told.run / "figures" / "confusion.png"))
    assert drawn is not None
    told.build(FakeRun.metrics(told))
    assert not (told.run / "figures" / "confusion.png").exists()


def test_classes_decide_what_is_called_defective(told: FakeClassRun) -> None:
    oof, test = sets_of(told, told.metrics())
    assert confusion(oof) == {"hits": 6, "misses": 0, "false_alarms": 1, "passed": 9}  # scores would miss train/015
    assert oof.frame["line"].isna().all()
    groups = {group.title: group for group in choose(oof, read_rules(told.metrics()), set())}
    assert [card.row.id for card in groups["Wrong classes"].cards] == ["train/015"]
    assert groups["Wrong classes"].cards[0].verdict == "wrong class"
    assert [card.row.id for card in groups["False alarms"].cards] == ["train/000"]
    hits = {card.row.id: card.verdict for card in groups["Best hits"].cards}
    assert hits["train/015"] == "wrong class" and hits["train/010"] == "hit"
    gated = told.metrics() | {"class_rule": ClassRule("gated", threshold=1.5).to_dict()}
    assert (sets_of(told, gated)[0].frame["line"] == 1.5).all()
    unlabelled = scored_sets(told.manifest, None, told.test, None, told.run / "predictions", read_rules(gated))
    titles = [group.title for group in choose(unlabelled[0], read_rules(gated), set())]
    assert titles == ["Highest scores", "Nearest to the threshold", "Least sure of their class"]
    assert test.called.sum() == 6


def test_interval_of_classes_and_names_of_their_metrics(told: FakeClassRun) -> None:
    metrics = told.metrics()
    oof = sets_of(told, metrics)[0]
    top = headline(metrics, [oof], read_rules(metrics), None)
    truth, said = oof.frame["target"].to_numpy(str), oof.frame["said"].to_numpy(str)
    value = get_metric("macro_f1").value(said, truth)
    assert top["interval"][0] <= value <= top["interval"][1] < 1.0 + 1e-9
    assert top["name"] == "Macro F1 over classes"
    panel = with_classes(metrics)["oof"]
    assert panel["class_accuracy"] == pytest.approx(14 / 16) and panel["macro_f1"] == metrics["oof"]["macro_f1"]
    assert with_classes(FakeRun.metrics(told)) == FakeRun.metrics(told)


def test_probabilities_without_a_class_rule_only_label_the_cards(told: FakeClassRun) -> None:
    text = words(told.build(FakeRun.metrics(told)))
    assert "→ 긁힘 70%" in text and "Decisions at the threshold" in text and "wrong class" not in text


def test_ninety_classes_fold_into_those_that_are_confused() -> None:
    names = [f"부품{i // 6:02d}-아주_긴_결함_이름_{i % 6}" for i in range(90)]
    table = np.diag(np.full(90, 5))
    table[3, 4], table[80, 7] = 4, 1
    small, shown, left_out = folded(table, names)
    assert shown == [names[3], names[4], names[7], names[80], "others"] and left_out == 86
    assert small.sum() == table.sum() and small[0, 1] == 4 and small[3, 2] == 1 and small[4, 4] == 86 * 5
    many = table + np.eye(90, k=1, dtype=int)
    small, shown, left_out = folded(many, names)
    assert len(shown) == 20 and left_out == 71 and small.sum() == many.sum()
    view = confusion_view({"confusion": table.tolist(), "names": names})
    assert view["rows"][0]["cells"][0] == {"n": 5, "share": 56, "right": True, "void": False}
    assert view["rows"][-1]["cells"][-1]["void"] and view["right"] == 450
    assert len(view["columns"][0]["short"]) <= 22 and view["columns"][0]["short"].endswith("_3")
    pairs = confused_pairs({"confusion": table.tolist(), "names": names}, None)
    assert [(pair["truth"], pair["said"], pair["n"], pair["of"]) for pair in pairs] == [
        (names[3], names[4], 4, 9),
        (names[80], names[7], 1, 6),
    ]


def test_short_names_stay() -> None:
    assert shortened("tile-good") == "tile-good"
    assert shortened("screw-manipulated_front_side") == "screw-man…d_front_side"


def test_strips_of_skewed_scores_are_logarithmic(fake: FakeRun) -> None:
    with_categories(fake)
    fake.oof["score"] = [0.001 * 1.5**place for place in range(16)]
    rows = [{"category": name, "auroc": 0.9, "n_normal": 5, "n_anomalous": 3} for name in ("병", "cable")]
    metrics = {"threshold": {"value": 0.001 * 1.5**7.5}, "categories": {"oof": rows}}
    view = category_view(metrics, sets_of(fake, metrics), read_rules(metrics), test_known=True, allowed=True)
    assert view["logarithmic"] and view["rows"][0]["strip"]["line"] == pytest.approx(view["width"] / 2, abs=0.2)


def test_choices() -> None:
    metrics = {
        "map_rule": MapRule(4.0, "top", 0.01, metric="f1", cross_validated=0.91, plain=0.88).to_dict(),
        "category_scale": {"centres": {"a": 1.0, "b": 2.0}, "metric": "f1", "value": 0.8, "plain": 0.7},
        "class_rule": ClassRule("gated", threshold=0.5, value=0.7, plain=0.6, metric="macro_f1").to_dict(),
        "pixel_threshold": {
            "value": 0.25, "source": "oof", "metric": "seg_f1", "score": 0.6, "min_area": 40, "cross_validated": 0.5,
            "plain": 0.4,
        },
    }  # fmt: skip
    rows = choices(metrics, read_rules(metrics))
    assert [row["what"].split()[0] for row in rows] == ["Score", "Scale", "Class", "Pixels"]
    assert "highest 1% of the pixels of the heatmap, smoothed by a Gaussian of 4 pixels" in rows[0]["choice"]
    assert (rows[0]["metric"], rows[0]["value"], rows[0]["plain"]) == ("F1", "0.910", "0.880")
    assert "Each of 2 categories" in rows[1]["choice"]
    assert rows[2]["choice"].startswith("Defective from a score of 0.5000 on") and not rows[2]["kept"]
    assert "regions of fewer than 40 pixels are dropped" in rows[3]["choice"] and rows[3]["plain"] == "0.400"
    assert choices({}, Rules()) == []
    given = choices({"map_rule": MapRule(2.0, "max").to_dict()}, Rules())[0]
    assert given["choice"].endswith("(given, not tuned)") and given["value"] == "–"


def test_maps_with_negative_values_share_a_scale(fake: FakeRun) -> None:
    for path in (fake.run / "predictions/maps").iterdir():
        np.save(path, np.load(path) - 9.0)
    oof = sets_of(fake, fake.metrics(), test=False)[0]
    low, high = load(choose(oof, Rules({"value": 1.5}), set()))
    assert low == pytest.approx(-8.5) and -8 < high < -6
    heat = np.full((10, 10), -8.5, np.float32)
    heat[:5] = high
    drawn = overlay(np.full((10, 10, 3), 100, np.uint8), heat, (low, high))
    assert (drawn[9] == 100).all() and drawn[0, 0, 0] > drawn[0, 0, 2] + 50


def test_a_test_image_without_probabilities_is_left_unsaid(told: FakeClassRun) -> None:
    metrics = told.metrics()
    told.test.at[0, "probs"] = None
    test = sets_of(told, metrics)[1]
    assert test.frame["said"].tolist()[:2] == [None, "ok"] and pd.isna(test.frame["called"].iloc[0])
