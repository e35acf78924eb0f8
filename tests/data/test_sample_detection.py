"""The bundled competitions of boxes and counts: honest tables, boxes of what is seen, no ground shared with test."""

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from src.competition import read_competition
from src.data import sample, sample_objects
from src.data import sample_detection as recipe
from src.data.draws import Draws
from src.manifest import read_manifest, read_solution

REPOSITORY = Path(__file__).resolve().parents[2]
LEFT, RIGHT = (-1.0, 0.0), (1.0, 0.0)


@pytest.fixture(scope="module")
def photographs() -> dict[str, np.ndarray]:
    return recipe.load_photographs()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "TRAIN", 26)
        patch.setattr(recipe, "TEST", 14)
        return sample.make_sample("sample_detection", tmp_path_factory.mktemp("made") / "detection")


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def spec(name: str) -> dict:
    return yaml.safe_load((REPOSITORY / "conf" / "competition" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_tables_agree(root: Path) -> None:
    train, test = read(root / "train.csv"), read(root / "test.csv")
    assert list(train[0]) == ["id", "file", "group"] and list(test[0]) == ["id", "file"]
    assert [row["id"] for row in train + test] == [f"{number:04d}" for number in range(40)]
    for images, boxes, counts in ((train, "boxes", "counts"), (test, "solution_boxes", "solution_counts")):
        rows, numbers = read(root / f"{boxes}.csv"), read(root / f"{counts}.csv")
        found = Counter((row["id"], row["label"]) for row in rows)
        assert [row["id"] for row in numbers] == [row["id"] for row in images]
        assert all(int(row[name]) == found[row["id"], name] for row in numbers for name in recipe.CLASSES)
        assert sum(found.values()) == sum(int(row[name]) for row in numbers for name in recipe.CLASSES) > 20
    empty = {row["id"] for row in train} - {row["id"] for row in read(root / "boxes.csv")}
    assert empty, "a picture without objects must stay in the table"


def test_boxes_lie_in_their_pictures(root: Path) -> None:
    files = {row["id"]: row["file"] for row in read(root / "train.csv") + read(root / "test.csv")}
    sizes = {id_: cv2.imread(str(root / file)).shape[:2] for id_, file in files.items()}
    assert len({*sizes.values()}) > 30 and {h > w for h, w in sizes.values()} == {True, False}
    for row in read(root / "boxes.csv") + read(root / "solution_boxes.csv"):
        height, width = sizes[row["id"]]
        x1, y1, x2, y2 = (int(row[name]) for name in ("x1", "y1", "x2", "y2"))
        assert 0 <= x1 < x1 + 8 < x2 <= width and 0 <= y1 < y1 + 8 < y2 <= height, row


def test_sample_submissions(root: Path) -> None:
    ids = [row["id"] for row in read(root / "test.csv")]
    boxes, counts = read(root / "sample_submission.csv"), read(root / "sample_submission_counts.csv")
    assert [row["id"] for row in boxes] == [row["id"] for row in counts] == ids
    assert {row["PredictionString"] for row in boxes} == {""}
    assert list(counts[0]) == ["id", *recipe.CLASSES] and {row[n] for row in counts for n in recipe.CLASSES} == {"0"}


def test_specs_fit_the_recipe(root: Path) -> None:
    boxes, counts = spec("sample_detection"), spec("sample_counting")
    assert boxes["root"] == counts["root"] == "data/sample/detection"
    for config in (boxes, counts):
        assert tuple(config["data"]["classes"]) == recipe.CLASSES
        named = [config["data"][key] for key in ("train", "test")]
        named += [config["data"]["boxes"]["file"], config["solution"], config["sample_submission"]]
        assert all((root / file).is_file() for file in named)
    assert list(read(root / boxes["sample_submission"])[0]) == list(boxes["submission"]["columns"].values())
    assert counts["data"]["counts"]["columns"] == list(recipe.CLASSES)


@pytest.mark.parametrize("name", ["sample_detection", "sample_counting"])
def test_the_readers_see_what_was_drawn(root: Path, name: str) -> None:
    competition = read_competition(name, {"root": str(root)})
    manifest, solution = read_manifest(competition), read_solution(competition)
    assert manifest.attrs["classes"] == list(recipe.CLASSES) and manifest.attrs["box_reports"] == []
    train = manifest[manifest["split"] == "train"]
    wanted = {row["id"]: [int(row[c]) for c in recipe.CLASSES] for row in read(root / "counts.csv")}
    assert {row.id: row.counts.tolist() for row in train.itertuples()} == wanted
    assert all(len(row.boxes) == sum(wanted[row.id]) for row in train.itertuples())
    hidden = {row["id"]: [int(row[c]) for c in recipe.CLASSES] for row in read(root / "solution_counts.csv")}
    assert {row.id: row.counts.tolist() for row in solution.itertuples()} == hidden


def test_two_competitions_are_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    version = sample.recipe_version("sample_detection")
    assert version == sample.recipe_version("sample_counting") != sample.recipe_version("sample_anomaly")
    monkeypatch.setitem(sample.SOURCES, "sample_detection", sample.SOURCES["sample_detection"][:-1])
    assert sample.recipe_version("sample_detection") != version


def test_the_plan_spreads_numbers_and_grounds() -> None:
    rows = recipe.plan()
    train, test = ([r for r in rows if r.split == split] for split in ("train", "test"))
    assert (len(train), len(test)) == (recipe.TRAIN, recipe.TEST) and recipe.plan() == rows
    for split in (train, test):
        assert {row.objects for row in split} == set(range(13))
        groups = Counter(row.group for row in split)
        assert max(groups.values()) - min(groups.values()) <= 1
        assert np.std([row.objects for row in split[: len(split) // 2]]) > 1.5, "sorted, not shuffled"
    assert not {row.group for row in train} & {row.group for row in test}


def test_no_ground_of_the_test_reaches_training(photographs: dict[str, np.ndarray]) -> None:
    ruined = {name: picture.copy() for name, picture in photographs.items()}
    for name, picture in ruined.items():
        top, bottom, left, right = recipe.edges(picture, recipe.PHOTOGRAPHS[name][0])
        picture[top:bottom, left:right] = 255 - picture[top:bottom, left:right]
    for row in recipe.plan()[:14]:
        before, after = (recipe.make_scene(row, pictures) for pictures in (photographs, ruined))
        assert np.array_equal(before.image, after.image), row


def test_same_scene_each_time(photographs: dict[str, np.ndarray]) -> None:
    for row in recipe.plan()[:3]:
        first, again = (recipe.make_scene(row, photographs) for _ in range(2))
        other = recipe.make_scene(row, photographs, seed=1)
        assert np.array_equal(first.image, again.image) and np.array_equal(first.boxes, again.boxes)
        assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


def test_a_box_is_the_seen_part_and_most_is_seen() -> None:
    crowded = recipe.Table(np.full((120, 160, 3), 0.5, np.float32), 1.0, LEFT)
    for number in range(30):
        draws = Draws("crowd", number)
        cutout = sample_objects.draw(draws, draws.pick(recipe.CLASSES), draws.uniform(24, 50), LEFT)
        recipe._place(draws, crowded, cutout, "x")
    seen = np.bincount(crowded.owner[crowded.owner >= 0], minlength=len(crowded.areas))
    shares = seen / np.array(crowded.areas)
    assert 4 < len(shares) < 30, "some found a place, some did not"
    assert recipe.SEEN <= shares.min() < 0.9, "some are covered, none too much"
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3] = mask[4, 3:8] = True
    assert recipe._extent(mask) == (3, 2, 8, 5)


def test_look_alikes_are_in_no_table(photographs: dict[str, np.ndarray]) -> None:
    drawn = []
    row = next(row for row in recipe.plan() if row.objects == 0)
    with pytest.MonkeyPatch.context() as patch:
        place = recipe._place
        patch.setattr(recipe, "_place", lambda *args: (drawn.append(args[-1]), place(*args)))
        for seed in range(8):
            assert len(recipe.make_scene(row, photographs, seed=seed).boxes) == 0
    assert drawn and set(drawn) == {None}


@pytest.mark.parametrize("kind", [*sample_objects.CLASSES, *sample_objects.OTHERS])
def test_drawings_have_their_size_and_a_solid_shape(kind: str) -> None:
    for number, size in enumerate((24, 50, 92)):
        cutout = sample_objects.draw(Draws(kind, number), kind, size, LEFT)
        x1, y1, x2, y2 = recipe._extent(cutout.alpha > 0.5)
        assert abs(max(x2 - x1, y2 - y1) - size) <= 2.5
        assert 0.1 < (cutout.alpha > 0.5).sum() / ((x2 - x1) * (y2 - y1)) <= 1
        border = np.concatenate([cutout.alpha[0], cutout.alpha[-1], cutout.alpha[:, 0], cutout.alpha[:, -1]])
        assert border.max() == 0 and cutout.alpha.max() == 1 and np.isfinite(cutout.colour).all()
        assert cutout.colour.min() >= 0 and cutout.colour.max() <= 1


def test_light_comes_from_its_side() -> None:
    for number in range(5):
        halves = []
        for light in (LEFT, RIGHT):
            cutout = sample_objects.draw(Draws("lit", number), "block", 60, light)
            brightness = (cutout.colour.mean(-1) * cutout.alpha)[:, : cutout.alpha.shape[1] // 2].sum()
            halves.append(brightness)
        assert halves[0] > halves[1]
