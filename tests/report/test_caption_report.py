"""The report of a caption run and the album: what they show and escape, and that they cope with what is absent."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from src.captions.decision import CaptionDecision, Chosen, decide
from src.captions.tokenizers import get_tokenizer
from src.competition import Competition, DataSpec, SubmissionSpec
from src.errors import ProjectError
from src.metrics.caption.measure import Frequencies, evaluate_captions, intervals, parse_caption_metric
from src.report import build_report
from src.report.caption import words
from src.report.caption.album import write_album
from src.report.caption.evidence import FREQUENCIES, CaptionSet, caption_sets, values_of
from src.report.caption.gallery import _wrapped, choose
from src.report.caption.summary import metric_interval, metric_title
from tests.test_report import HOSTILE, check_page
from tests.test_report import words as text_of

FIGURES = ("words", "gallery")
THINGS = ("사과", "컵", "공", "자동차", "꽃병", "의자")
COLOURS = ("빨간", "파란", "노란", "하얀")


class FakeCaptionRun:
    """A tiny competition of captions: 24 training and 8 test images with two references each.

    The first candidate is the first reference but for image 1 (degenerate, a sound one follows), image 2 (nothing
    sound) and every fourth image (a sentence of something else).
    """

    def __init__(self, folder: Path, *, metric: str = "cider_d") -> None:
        self.root, self.run = folder / "data", folder / "outputs" / "tiny"
        self.run.mkdir(parents=True)
        (self.root / "images").mkdir(parents=True)
        rows = [self._image("train", i) for i in range(24)] + [self._image("test", i) for i in range(8)]
        self.solution = pd.DataFrame([row for row in rows if row["split"] == "test"])[["id", "captions"]]
        self.manifest = pd.DataFrame([row | {"captions": None} if row["split"] == "test" else row for row in rows])
        self.manifest.attrs["caption_reports"] = [
            {"source": "train.csv, row 9", "id": "train/03", "problem": "odd space", "action": "cleaned <b>"}
        ]
        self.oof = self._predictions([row for row in rows if row["split"] == "train"])
        self.test = self._predictions([row for row in rows if row["split"] == "test"], test=True)
        self.name, self.broken = metric, []
        self.record = {"seed": 7, "weights": {"kind": "random"}, "submission": {"path": "s.csv", "valid": True}}
        self.competition = Competition(
            name="tiny",
            task="caption",
            root=self.root,
            data=DataSpec(layout="csv", train="train.csv", test="test.csv"),
            metric=metric,
            submission=SubmissionSpec(
                format="caption", columns={"id": "id", "value": "caption"}, labels={}, sample=None
            ),
            solution=None,
            rules="none",
            bundled=False,
            source=Path("tiny.yaml"),
        )

    def _image(self, split: str, index: int) -> dict[str, Any]:
        path = self.root / "images" / f"{split}_{index}.png"
        cv2.imwrite(str(path), np.full((48, 64, 3), 60 + 5 * index, np.uint8))
        thing, colour = THINGS[index % 6], COLOURS[index % 4]
        captions = [
            f"{colour} {thing} {index + 1}개가 탁자 위에 놓여 있다.",
            f"탁자 위에 {colour} {thing} {index + 1}개가 있다.",
        ]
        return {"id": f"{split}/{index:02d}", "path": str(path), "split": split, "target": None, "captions": captions}

    def _predictions(self, rows: list[dict[str, Any]], *, test: bool = False) -> pd.DataFrame:
        found = []
        for index, row in enumerate(rows):
            candidates = [row["captions"][0], "고양이 한 마리가 잔다.", "나무가 서 있다."]
            if index % 4 == 3:
                candidates = [candidates[1], candidates[0], candidates[2]]
            if index == 1:
                candidates = [", , ,", row["captions"][1]]
            if index == 2:
                candidates = ["개 개 개 개", "<unk>"]
            flags = ["retried"] if index in (1, 2) else None
            scores = [-0.5 - 0.25 * place for place in range(len(candidates))]
            found.append(
                {
                    "id": row["id"], "fold": -1 if test else index % 2, "candidates": candidates,
                    "candidate_scores": scores, "image_scores": None, "flags": flags,
                }
            )  # fmt: skip
        return pd.DataFrame(found)

    def decision(self) -> CaptionDecision:
        training = [row for row in self.manifest["captions"] if row]
        metric = parse_caption_metric(self.name)
        frequencies = Frequencies.of(training, metric.tokenizer)
        frequencies.to_file(self.run / FREQUENCIES)
        columns = (self.oof["candidates"].tolist(), self.oof["candidate_scores"].tolist(), None)
        return decide(*columns, training, metric=metric, training=training, frequencies=frequencies)

    def metrics(self) -> dict[str, Any]:
        metric, decision = parse_caption_metric(self.name), self.decision()
        frequencies = Frequencies.from_file(self.run / FREQUENCIES)
        known = dict(zip(self.manifest["id"], self.manifest["captions"], strict=True))
        known |= dict(zip(self.solution["id"], self.solution["captions"], strict=True))

        def panel(frame: pd.DataFrame) -> dict[str, Any]:
            references = [known[name] for name in frame["id"]]
            columns = (frame["candidates"].tolist(), frame["candidate_scores"].tolist(), None)
            chosen = decision.choose_all(*columns, frequencies=frequencies)
            texts = [each.text for each in chosen]
            figures = evaluate_captions(texts, references, tokenizer=metric.tokenizer)
            names = [name for name, value in figures.items() if isinstance(value, float)]
            ends = intervals(texts, references, names=names, tokenizer=metric.tokenizer, resamples=50)
            return {
                **figures, "metric": metric.corpus(texts, references), "n": len(texts),
                "intervals": {name: list(pair) for name, pair in ends.items()},
                "first": metric.corpus([each[0] for each in frame["candidates"]], references), "constant": 0.125,
            }  # fmt: skip

        oof = panel(self.oof)
        parts = [part for _, part in self.oof.groupby("fold")]
        kept = {
            "metric": {"name": metric.name, "value": oof["metric"], "mode": "max", "signature": metric.signature},
            "oof": oof, "folds": [{"fold": k, **panel(part)} for k, part in enumerate(parts)], "threshold": None,
            "decision": decision.to_dict(), "graded": panel(self.test),
            "degenerate": {
                "oof": {"images": 24, "retried": 2, "replaced": 1, "fallback": 1, "kinds": {"punctuation": 1}},
                "test": {"images": 8, "retried": 2, "replaced": 1, "fallback": 1, "kinds": {"repeated": 1}},
            },
        }  # fmt: skip
        return json.loads(json.dumps(kept))

    def build(self, **changes: Any) -> str:
        arguments = {
            "competition": self.competition, "manifest": self.manifest, "oof": self.oof, "test": self.test,
            "solution": self.solution, "record": self.record, "broken": self.broken,
        }  # fmt: skip
        arguments |= {"metrics": plain_metrics(self)} if "metrics" not in changes else {}
        page = build_report(self.run, **(arguments | changes)).read_text(encoding="utf-8")
        check_page(page)
        return page


PLAIN: dict[str, dict[str, Any]] = {}


def plain_metrics(fake: FakeCaptionRun) -> dict[str, Any]:
    """metrics.json of the unchanged run, made once."""
    if fake.name not in PLAIN:
        PLAIN[fake.name] = fake.metrics()
    return json.loads(json.dumps(PLAIN[fake.name]))


@pytest.fixture
def fake(tmp_path: Path) -> FakeCaptionRun:
    return FakeCaptionRun(tmp_path)


def caption_set(texts: list[str], references: list[list[str]], *, key: str = "oof") -> CaptionSet:
    n = len(texts)
    metric, values = parse_caption_metric("rouge_l"), np.full(n, np.nan)
    known = [i for i in range(n) if references[i]]
    if known:
        values[known] = values_of([texts[i] for i in known], [references[i] for i in known], metric, references[:1])
    return CaptionSet(
        key=key, title="Out of fold", ids=[f"{i}" for i in range(n)], paths=["x.png"] * n, folds=[0] * n,
        candidates=[[text] for text in texts], scores=[[-float(i)] for i in range(n)], image_scores=[None] * n,
        flags=[[]] * n, chosen=[Chosen(text, 0, "kept", []) for text in texts], references=references, values=values,
    )  # fmt: skip


def test_whole_run(fake: FakeCaptionRun) -> None:
    metrics = plain_metrics(fake)
    fake.broken = [{"id": "dead", "path": str(fake.root / "dead.png"), "reason": "truncated <PNG>", "split": "test"}]
    page = fake.build(metrics=metrics)
    text = text_of(page)
    assert f"CIDEr-D, out of fold {metrics['oof']['metric']:.3f} 0" in text
    assert "95% interval by resampling images" in text and "24 of 24 training images, 48 references" in text
    assert metrics["metric"]["signature"] in text and "One sentence for all images: 0.125" in text
    assert f"{metrics['graded']['metric']:.3f}" in text
    low, high = metrics["oof"]["intervals"]["bleu4"]
    assert f"BLEU-4 {metrics['oof']['bleu4']:.3f} {low:.3f} to {high:.3f}" in text
    assert "decoded again 2 2" in text and "the fallback sentence took the place 1 1" in text
    assert "punctuation alone 1 0" in text and "repeated words 0 1" in text
    assert "Replaced captions" in text and "Worst captions" in text and "Best captions" in text
    assert "한다체, plain 100%" in text
    assert "train.csv, row 9 train/03 odd space cleaned <b>" in text
    assert "1 test image cannot be read and got the fallback sentence" in text
    assert "dead test truncated <PNG> dead.png" in text
    assert page.count("data:image/jpeg") == 20 + 8  # two replaced, six each worst, best, drawn; all test images
    assert metrics["decision"]["fallback"] in text
    for name in FIGURES:
        assert (fake.run / "figures" / f"{name}.png").stat().st_size > 1000


def test_hostile_and_long_texts(fake: FakeCaptionRun) -> None:
    fake.oof.at[0, "candidates"] = [HOSTILE + " 개", "둘째 문장이다."]
    fake.oof.at[0, "candidate_scores"] = [-0.1, -0.2]
    fake.manifest.at[0, "captions"] = [HOSTILE, "가나다라마 " * 100]
    long = "끝나지않는문장" * 90
    fake.test.at[0, "candidates"] = [long, long + "."]
    fake.test.at[0, "candidate_scores"] = [-0.1, -0.2]
    page = fake.build()
    assert HOSTILE in text_of(page) and "<script>" not in page and long in page


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"oof": None}, "There are no out-of-fold predictions"),
        ({"test": None, "solution": None}, "Out of fold"),
        ({"solution": None}, "Test, no references"),
        ({"metrics": {}}, "No metric could be computed"),
        ({"metrics": {}, "oof": None, "test": None, "solution": None}, "There are no captions of readable images"),
        ({"record": {}}, "Not written"),
    ],
)
def test_copes_with_what_is_absent(changes: dict[str, Any], expected: str, fake: FakeCaptionRun) -> None:
    assert expected in text_of(fake.build(**changes))


def test_without_any_reference(fake: FakeCaptionRun) -> None:
    (fake.run / "figures").mkdir()
    (fake.run / "figures" / "words.png").write_bytes(b"older")
    metrics = plain_metrics(fake) | {"metric": {"name": "cider_d", "value": None}, "folds": [], "graded": None}
    metrics["oof"] = {"metric": None, "n": 0}
    metrics["decision"]["summary"] = {"images": 0, "choice": "first", "value": None, "reason": "no known captions"}
    fake.manifest["captions"] = [[] if split == "train" else None for split in fake.manifest["split"]]
    text = text_of(fake.build(metrics=metrics, solution=None))
    assert "No image predicted out of fold has a reference" in text
    assert "The model's first caption: nothing was tuned, for no known captions." in text
    assert "Least sure" in text and "Worst captions" not in text
    assert not (fake.run / "figures" / "words.png").exists()  # nothing to hold the sentences against


def test_one_image(fake: FakeCaptionRun) -> None:
    rows = fake.manifest["id"].isin(["train/00", "test/00"])
    attributes = fake.manifest.attrs
    fake.manifest, fake.solution = fake.manifest[rows].reset_index(drop=True), fake.solution.head(1)
    fake.manifest.attrs = attributes
    fake.oof, fake.test = fake.oof.head(1), fake.test.head(1)
    metrics = fake.metrics()
    text = text_of(fake.build(metrics=metrics))
    assert "Only 1 image with references stand" in text and "fewer than 20" in text


def test_unread_pictures_and_marked_rows(fake: FakeCaptionRun) -> None:
    (fake.root / "images" / "train_1.png").write_bytes(b"no picture")  # its caption is replaced, so it is shown
    fake.test.at[3, "flags"] = ["unread"]
    page = fake.build()
    assert "The image cannot be read" in page
    assert "test/03" not in page and "test/04" in page


def test_collapse_and_copies_are_said(fake: FakeCaptionRun) -> None:
    same = fake.manifest["captions"].iloc[5][0]
    fake.oof["candidates"] = [[same] for _ in range(len(fake.oof))]
    fake.oof["candidate_scores"] = [[-1.0] for _ in range(len(fake.oof))]
    metrics = fake.metrics()
    metrics["oof"]["constant"] = metrics["oof"]["metric"]
    text = text_of(fake.build(metrics=metrics))
    assert "every image has the same caption" in text and "24× 100%" in text
    assert "96% of the captions are a caption of another training image" in text  # image 5 has its own
    assert "One and the same sentence for every image would reach" in text


def test_predictions_of_another_table(fake: FakeCaptionRun) -> None:
    fake.oof.loc[0, "id"] = "stranger"
    with pytest.raises(ProjectError, match=r"oof.parquet: 1 predicted ids .* the first is 'stranger'"):
        fake.build(metrics={})


def test_metric_of_other_tokens_and_sums(tmp_path: Path) -> None:
    fake = FakeCaptionRun(tmp_path, metric="0.5*cider_d + 0.5*bleu4 @ char")
    text = text_of(fake.build())
    assert "0.5 CIDEr-D + 0.5 BLEU-4, characters, out of fold" in text and "characters in a sentence, mean" in text
    assert metric_title(parse_caption_metric("bleu1@word")) == "BLEU-1, words"
    assert metric_title(parse_caption_metric("cider_d")) == "CIDEr-D"


def test_values_are_those_of_the_metric(fake: FakeCaptionRun) -> None:
    metric = parse_caption_metric("cider_d")
    oof, test = caption_sets(
        fake.manifest, fake.oof, fake.test, fake.solution, decision=fake.decision(), metric=metric,
        frequencies=Frequencies.from_file(fake.run / FREQUENCIES), predictions=fake.run,
    )  # fmt: skip
    for scored in (oof, test):
        assert np.isclose(scored.values.mean(), metric.corpus(*scored.pairs()))
        assert [each.state for each in scored.chosen[:3]] == ["kept", "candidate", "fallback"]
    honest = metric.corpus(*oof.pairs()) - 0.25
    low, high = metric_interval({}, honest, oof, metric)
    assert low < honest < high
    kept = {"oof": {"intervals": {"cider_d": [1.0, 2.0]}}}
    low, high = metric_interval(kept, honest, oof, metric)
    assert np.allclose((low, high), (0.75, 1.75))


def test_words() -> None:
    training = [("0", ["개가 뛴다.", "개 한 마리."]), ("1", ["사과가 있다."]), ("2", ["개가 뛴다."])]
    references = [texts for _, texts in training]
    scored = caption_set(["개가 뛴다.", "개 한 마리.", "컵이 있다."], references)
    found = words.words_of(scored, training, get_tokenizer("morpheme"))
    assert found.copied == pytest.approx(2 / 3)  # the first two are captions of other images, not only their own
    assert found.others_copied == pytest.approx(2 / 3)
    assert found.distinct == 1.0 and found.captions.repeated == []
    rows = dict(words.table(found, "morphemes"))
    assert rows["sentences"] == ["3", "3"] and rows["different sentences"] == ["100%", "67%"]
    test = caption_set(["개가 뛴다.", "개가 뛴다.", "컵이다."], [[], [], []], key="test")
    found = words.words_of(test, training, get_tokenizer("morpheme"))
    assert found.others.title == "Training captions" and found.copied == pytest.approx(2 / 3)
    assert words.repeated(found) == [{"text": "개가 뛴다.", "n": 2, "share": "67%", "percent": 66.7}]
    assert words.words_of(test, [], get_tokenizer("morpheme")) is None


def test_words_said_too_often() -> None:
    texts = ["고양이가 잔다."] * 40 + ["강아지가 잔다."] * 10
    references = [["고양이가 잔다."]] * 10 + [["강아지가 잔다."]] * 40
    scored = caption_set(texts, references)
    found = words.unequal(words.words_of(scored, [], get_tokenizer("morpheme")))
    assert [item["word"] for item in found["often"]] == ["고양이"] and found["often"][0]["captions"] == "80%"
    assert [item["word"] for item in found["rare"]] == ["강아지"] and found["rare"][0]["others"] == "80%"


def test_gallery_shows_an_image_once() -> None:
    texts = [f"사과 {i}개가 있다." for i in range(40)]
    scored = caption_set(texts, [[texts[i] if i % 2 else "컵이다."] for i in range(40)])
    groups = choose(scored, {"3", "5"}, metric=parse_caption_metric("rouge_l"), name="ROUGE-L")
    titles = [group.title for group in groups]
    assert titles == ["Worst captions", "Best captions", "Drawn at random"]
    shown = [card.index for group in groups for card in group.cards]
    assert len(shown) == len(set(shown)) == 18 and not {3, 5} & set(shown)
    worst, best = ([scored.values[card.index] for card in group.cards] for group in groups[:2])
    assert max(worst) <= min(best) and min(best) > 0.9


def test_wrapping() -> None:
    class Font:
        def getlength(self, text: str) -> int:
            return 20 * len(text)  # ten letters a line

    assert _wrapped("짧다", Font()) == ["짧다"]
    assert _wrapped("한 남자가 개와 걷고 있다", Font()) == ["한 남자가 개와", "걷고 있다"]
    first, second = _wrapped("가" * 50, Font())
    assert first == "가" * 10 and second == "가" * 9 + "…"


def test_album(fake: FakeCaptionRun, tmp_path: Path) -> None:
    paths = fake.manifest["path"].tolist()[:4]
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "path": [paths[0], str(tmp_path / "none.png"), None, paths[3]],
            "caption": ["개가 뛴다.", HOSTILE, "긴 " * 300, ""],
            "candidates": [["개가 뛴다.", "개가 달린다."], np.array(["<i>둘</i>"]), None, "하나"],
        }
    )
    page = write_album(table, tmp_path / "album.html", title="새 사진 <1>").read_text(encoding="utf-8")
    check_page(page)
    text = text_of(page)
    assert page.count("data:image/jpeg") == 2 and "4 pictures" in text and "새 사진 <1>" in text
    assert text.count("개가 뛴다.") == 1 and "개가 달린다." in text and "<i>둘</i>" in text and HOSTILE in text
    assert "The picture cannot be read" in text and "There is no picture." in text
    assert not re.search(r"<script|<i>둘", page)
    empty = write_album(table.head(0), tmp_path / "empty.html", title="x").read_text(encoding="utf-8")
    assert "There are no pictures to show." in text_of(empty)
    with pytest.raises(ProjectError, match="'candidates' is missing"):
        write_album(table.drop(columns="candidates"), tmp_path / "x.html", title="x")
