"""The bundled competition of captions: honest tables, facts that are in the picture, no ground shared with test."""

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from src.competition import read_competition
from src.data import sample, sample_objects
from src.data import sample_caption as recipe
from src.data.draws import Draws
from src.data.sample_detection import PHOTOGRAPHS, edges, load_photographs
from src.data.sample_sentences import COLOURS, GROUNDS, PLACES, Facts, Group
from src.manifest import read_manifest, read_solution

REPOSITORY = Path(__file__).resolve().parents[2]
HUES = {
    "red": (0.0, 0.05),
    "yellow": (0.145, 0.06),
    "green": (0.36, 0.08),
    "blue": (0.61, 0.06),
    "purple": (0.77, 0.07),
}


@pytest.fixture(scope="module")
def photographs() -> dict[str, np.ndarray]:
    return load_photographs()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "TRAIN", 30)
        patch.setattr(recipe, "TEST", 10)
        return sample.make_sample("sample_caption", tmp_path_factory.mktemp("made") / "caption")


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_agree(root: Path) -> None:
    train, test = read(root / "train.csv"), read(root / "test.csv")
    solution, submission = read(root / "solution.csv"), read(root / "sample_submission.csv")
    assert list(train[0]) == ["id", "file", "group", "caption"] and list(test[0]) == ["id", "file"]
    assert list(solution[0]) == list(submission[0]) == ["id", "caption"]
    ids = [row["id"] for row in test]
    assert [*dict.fromkeys(row["id"] for row in train), *ids] == [f"{number:04d}" for number in range(40)]
    assert [row["id"] for row in submission] == list(dict.fromkeys(row["id"] for row in solution)) == ids
    for rows in (train, solution):
        assert set(Counter(row["id"] for row in rows).values()) == {5}
        assert len({(row["id"], row["caption"]) for row in rows}) == len(rows), "five different sentences"
    assert not {row["caption"] for row in solution} & {row["caption"] for row in submission}
    for row in train + test:
        image = cv2.imread(str(root / row["file"]))
        assert max(image.shape) == recipe.LONG_SIDE and min(image.shape[:2]) >= 0.8 * recipe.LONG_SIDE - 1


def test_the_readers_see_what_was_written(root: Path) -> None:
    competition = read_competition("sample_caption", {"root": str(root)})
    manifest, solution = read_manifest(competition), read_solution(competition)
    assert manifest.attrs["caption_reports"] == []
    wanted: dict[str, list[str]] = {}
    for row in read(root / "train.csv"):
        wanted.setdefault(row["id"], []).append(row["caption"])
    train = manifest[manifest["split"] == "train"]
    assert dict(zip(train["id"], train["captions"], strict=True)) == wanted
    hidden: dict[str, list[str]] = {}
    for row in read(root / "solution.csv"):
        hidden.setdefault(row["id"], []).append(row["caption"])
    assert dict(zip(solution["id"], solution["captions"], strict=True)) == hidden
    assert dict(zip(train["id"], train["group"], strict=True)) == {
        r["id"]: r["group"] for r in read(root / "train.csv")
    }


def test_spec_fits_the_recipe(root: Path) -> None:
    spec = yaml.safe_load((REPOSITORY / "conf/competition/sample_caption.yaml").read_text(encoding="utf-8"))
    assert spec["task"] == "caption" and spec["root"] == "data/sample/caption"
    for file in (spec["data"]["train"], spec["data"]["test"], spec["solution"], spec["sample_submission"]):
        assert (root / file).is_file()
    assert list(read(root / spec["sample_submission"])[0]) == list(spec["submission"]["columns"].values())


def test_version_follows_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    version = sample.recipe_version("sample_caption")
    assert {"sample_caption", "sample_sentences", "sample_objects"} <= set(sample.SOURCES["sample_caption"])
    fewer = tuple(name for name in sample.SOURCES["sample_caption"] if name != "sample_sentences")
    monkeypatch.setitem(sample.SOURCES, "sample_caption", fewer)
    assert sample.recipe_version("sample_caption") != version


def test_the_plan_spreads_facts() -> None:
    rows = recipe.plan()
    train, test = ([r for r in rows if r.split == split] for split in ("train", "test"))
    assert (len(train), len(test)) == (recipe.TRAIN, recipe.TEST) and recipe.plan() == rows
    for split in (train, test):
        facts = [row.facts for row in split]
        assert {f.ground for f in facts} == {None, *GROUNDS}
        assert {f.place for f in facts} >= set(PLACES)
        groups = [group for f in facts for group in f.groups]
        assert {group.kind for group in groups} == set(sample_objects.CLASSES)
        assert {group.colour for group in groups} == set(COLOURS) and {group.count for group in groups} == {1, 2, 3, 4}
        # neither the kind of object nor the ground gives the number away
        for kind in sample_objects.CLASSES:
            assert {1, 2, 3} <= {group.count for group in groups if group.kind == kind}
        assert len({len(row.facts.groups) for row in split[:20]}) == 2, "sorted, not shuffled"
    assert not {row.group for row in train} & {row.group for row in test}
    known = {row.facts for row in train}
    assert 0.2 < np.mean([row.facts not in known for row in test]) < 0.7, "new combinations must be described too"
    for row in rows:
        lost = recipe.LOST.get(row.facts.ground, recipe.LOST_UNNAMED)
        assert not {group.colour for group in row.facts.groups} & set(lost), row


def test_no_ground_of_the_test_reaches_training(photographs: dict[str, np.ndarray]) -> None:
    ruined = {name: picture.copy() for name, picture in photographs.items()}
    for name, picture in ruined.items():
        top, bottom, left, right = edges(picture, PHOTOGRAPHS[name][0])
        picture[top:bottom, left:right] = 255 - picture[top:bottom, left:right]
    rows = recipe.plan()
    for row in rows[:25]:
        assert np.array_equal(recipe.make_picture(row, photographs), recipe.make_picture(row, ruined)), row
    assert not np.array_equal(recipe.make_picture(rows[-1], photographs), recipe.make_picture(rows[-1], ruined))


def test_same_picture_each_time(photographs: dict[str, np.ndarray]) -> None:
    for row in recipe.plan()[:3]:
        first, again = (recipe.make_picture(row, photographs) for _ in range(2))
        other = recipe.make_picture(row, photographs, seed=1)
        assert np.array_equal(first, again)
        assert first.shape != other.shape or not np.array_equal(first, other)


class Seen:
    """What `paint` was asked for: for each object its middle as shares of the picture, and the pixels it covers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.middles: list[tuple[float, float]] = []
        self.cover: np.ndarray | None = None
        self.cut = 0
        monkeypatch.setattr(recipe, "paint", self.paint)

    def paint(self, draws, table, cutout, corner) -> None:
        height, width = table.value.shape[:2]
        rows, columns = np.nonzero(cutout.alpha > 0.5)
        rows, columns = rows + corner[0], columns + corner[1]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        self.cut += int((~inside).sum())
        if self.cover is None:
            self.cover = np.zeros((height, width), int)
        self.cover[rows[inside], columns[inside]] += 1
        middle_x, middle_y = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        self.middles.append((middle_x / width, middle_y / height))


def test_objects_are_whole_apart_and_where_the_facts_say(
    photographs: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in recipe.plan()[-80:]:
        with monkeypatch.context() as patch:
            seen = Seen(patch)
            recipe.make_picture(row, photographs)
        counts = [group.count for group in row.facts.groups]
        assert len(seen.middles) == sum(counts) and seen.cut == 0 and seen.cover.max() == 1, row
        x, y = np.array(seen.middles).T
        if len(counts) == 2:
            axis = y if row.facts.place == "down" else x
            assert axis[: counts[0]].max() + 0.2 < axis[counts[0] :].min(), row
        elif row.facts.place is not None:
            inside = {
                "왼쪽": x.max() < 0.42 and abs(y.mean() - 0.5) < 0.2,
                "오른쪽": x.min() > 0.58 and abs(y.mean() - 0.5) < 0.2,
                "위쪽": y.max() < 0.42 and abs(x.mean() - 0.5) < 0.2,
                "아래쪽": y.min() > 0.58 and abs(x.mean() - 0.5) < 0.2,
                "가운데": abs(y.mean() - 0.5) < 0.2 and abs(x.mean() - 0.5) < 0.15,
            }
            assert inside[row.facts.place], row


@pytest.mark.parametrize("kind", recipe.COLOURS)
def test_an_object_has_the_colour_of_its_name(kind: str) -> None:
    """Much of it is neither grey nor dark, and most of that has the hue."""
    for colour in recipe.COLOURS[kind]:
        for number in range(6):
            cutout = sample_objects.draw(Draws(kind, colour, number), kind, 60, (0.0, -1.0), colour)
            pixels = cutout.colour[cutout.alpha > 0.9].astype(np.float32)
            hue, saturation, value = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2HSV)[0].T
            if colour == "white":
                assert np.mean((saturation < 0.15) & (value > 0.5)) > 0.4
                continue
            strong = (saturation > 0.35) & (value > 0.3)
            middle, width = HUES[colour]
            near = np.abs((hue[strong] / 360 - middle + 0.5) % 1 - 0.5) < width
            assert strong.mean() > 0.4 and near.mean() > 0.6, (colour, number, strong.mean(), near.mean())


def test_a_palette_leaves_the_drawing_as_it_is() -> None:
    plain, painted = (sample_objects.draw(Draws("shape"), "별", 60, (0.0, -1.0), palette) for palette in (None, "star"))
    assert np.array_equal(plain.colour, painted.colour) and np.array_equal(plain.alpha, painted.alpha)


def test_a_row_says_its_own_facts() -> None:
    facts = Facts((Group("별", "blue", 2),), ground="grass")
    row = recipe.Row("0007", "train", facts, "grass", (0, 1))
    assert row.group == "grass-01" and row.file == "images/train/0007.jpg"
    assert len(row.captions) == 5 and all("별" in caption and "두 개" in caption for caption in row.captions)
    assert row.captions == row.captions != recipe.Row("0008", "train", facts, "grass", (0, 1)).captions
