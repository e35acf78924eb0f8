"""COCO JSON: what files of the wild have wrong, and what they have right."""

import json

import numpy as np
import pytest

from src.errors import ProjectError
from src.manifest import data_hash, read_manifest, read_solution
from tests.annotations.conftest import boxes_of, names_of, problems_of, train_rows

CATEGORIES = [{"id": 7, "name": "컵"}, {"id": 3, "name": "apple"}]


def image(number: int, name: str, **more) -> dict:
    return {"id": number, "file_name": name, "width": 100, "height": 50, **more}


def annotation(number: int, image_id: int, box: list | None = None, category: int = 7, **more) -> dict:
    entry = {"id": number, "image_id": image_id, "category_id": category, **more}
    return entry if box is None else {**entry, "bbox": box}


@pytest.fixture
def coco(make, write, picture):
    """A competition of these training images and annotations, and one test image."""

    def build(listed: list, annotations: list, categories: list | None = None, test: dict | None = None, **changes):
        document = {"images": listed, "annotations": annotations}
        write("train.json", json.dumps({**document, "categories": categories or CATEGORIES}))
        write("test.json", json.dumps(test or {"images": [image(900, "t.png")]}))
        picture("t.png")
        return make("coco", **{"train": "train.json", "test": "test.json", **changes})

    return build


def test_a_file_becomes_a_manifest(coco, picture) -> None:
    picture("a.png")
    picture("b.png")
    boxes = [annotation(1, 5, [10, 20, 30, 5]), annotation(2, 5, [0, 0, 1.5, 2], 3, iscrowd=1)]
    manifest = read_manifest(coco([image(5, "a.png"), image(2, "b.png")], boxes))
    assert manifest["id"].tolist() == ["5", "2", "900"]
    assert manifest.attrs["classes"] == ["apple", "컵"]
    assert manifest.attrs["category_ids"] == [3, 7]
    assert manifest.attrs["box_reports"] == []
    first, second = (train_rows(manifest).loc[row] for row in range(2))
    assert first["boxes"].tolist() == [[10, 20, 40, 25], [0, 0, 1.5, 2]]
    assert (first["labels"].tolist(), first["ignored"].tolist()) == ([1, 0], [False, True])
    assert (first["counts"].tolist(), first["tags"].tolist()) == ([0, 1], [1])
    assert (first["width"], first["height"], first["source"]) == (100, 50, "train.json image 5")
    # an image without annotations is one without objects
    assert (second["boxes"].shape, second["labels"].dtype, second["counts"].tolist()) == ((0, 4), np.int64, [0, 0])
    assert second["tags"].tolist() == []
    test = manifest.loc[2]
    assert [test[name] for name in ("boxes", "labels", "ignored", "counts", "tags")] == [None] * 5
    assert (test["width"], test["height"]) == (100, 50)


def test_the_test_annotations_are_the_solution_and_do_not_enter(coco, picture) -> None:
    picture("a.png")
    test = {"images": [image(900, "t.png")], "annotations": [annotation(1, 900, [1, 2, 3, 4])]}
    spec = coco([image(1, "a.png")], [annotation(1, 1, [0, 0, 5, 5])], test=test)
    assert read_manifest(spec).loc[1, "boxes"] is None
    solution = read_solution(spec)
    assert solution["id"].tolist() == ["900"]
    assert solution.loc[0, "boxes"].tolist() == [[1, 2, 4, 6]]
    assert (solution.loc[0, "labels"].tolist(), solution.loc[0, "counts"].tolist()) == ([1], [0, 1])
    assert solution.attrs["classes"] == ["apple", "컵"]
    bare = coco([image(1, "a.png")], [annotation(1, 1, [0, 0, 5, 5])])
    assert read_solution(bare) is None


def test_a_solution_of_its_own_numbers_the_images_anew(coco, picture, write) -> None:
    for name in ("a.png", "u.png"):
        picture(name)
    test = {"images": [image(900, "t.png"), image(901, "u.png")]}
    answers = {
        "images": [image(2, "u.png"), image(1, "t.png")],
        "annotations": [annotation(1, 1, [1, 1, 1, 1], 3)],
        "categories": CATEGORIES,
    }
    write("answers.json", json.dumps(answers))
    spec = coco([image(1, "a.png")], [], test=test, id="file_name", solution="answers.json")
    solution = read_solution(spec)
    assert solution["id"].tolist() == ["t.png", "u.png"]
    assert [len(boxes) for boxes in solution["boxes"]] == [1, 0]
    answers["images"].pop()
    write("answers.json", json.dumps(answers))
    with pytest.raises(ProjectError, match=r"solution: .*does not list the test image 't\.png'"):
        read_solution(spec)


@pytest.mark.parametrize(("kind", "expected"), [("id", "1"), ("file_name", "x/가.png"), ("stem", "가")])
def test_ids(coco, picture, kind: str, expected: str) -> None:
    picture("x/가.png")
    spec = coco([image(1, "x/가.png")], [], id=kind)
    assert read_manifest(spec)["id"][0] == expected


def test_images_in_a_folder_each_split(coco, picture) -> None:
    picture("train/a.png")
    picture("val/t.png")
    for images in ({"train": "train", "test": "val"}, "{split}"):
        if images == "{split}":
            picture("test/t.png")
        paths = read_manifest(coco([image(1, "a.png")], [], images=images))["path"]
        assert paths[0].endswith("/train/a.png")
        assert paths[1].endswith("/val/t.png" if images != "{split}" else "/test/t.png")


def test_file_names_of_windows_and_of_another_suffix_case(coco, picture) -> None:
    picture("x/a.JPG")
    assert read_manifest(coco([image(1, "x\\a.jpg")], []))["path"][0].endswith("x/a.JPG")


def test_what_is_mended_or_set_aside_is_reported(coco, picture) -> None:
    picture("a.png")
    boxes = [
        annotation(1, 1, [90, 40, 20, 20]),
        annotation(2, 1, [10, 10, 0, 5]),
        annotation(3, 1, [5, 5, 5, 5]),
        annotation(4, 1, [5, 5, 5, 5]),
        annotation(5, 99, [5, 5, 5, 5]),
        annotation(6, 1, [1, 2, 3]),
        annotation(7, 1),
        annotation(8, 1, [float("nan"), 0, 1, 1]),
        annotation(9, 1, segmentation={"counts": "abc", "size": [50, 100]}),
    ]
    manifest = read_manifest(coco([image(1, "a.png")], boxes))
    assert boxes_of(manifest) == [[[90, 40, 100, 50], [5, 5, 10, 10]]]
    assert sorted(problems_of(manifest)) == [
        ("train.json annotation 1", "1", "clipped"),
        ("train.json annotation 2", "1", "set aside"),
        ("train.json annotation 4", "1", "set aside"),
        ("train.json annotation 5", None, "set aside"),
        ("train.json annotation 6", "1", "set aside"),
        ("train.json annotation 7", "1", "set aside"),
        ("train.json annotation 8", "1", "set aside"),
        ("train.json annotation 9", "1", "set aside"),
    ]


def test_a_box_of_polygons(coco, picture) -> None:
    picture("a.png")
    polygons = [[10, 10, 20, 10, 20, 30], [5, 12, 8, 12, 8, 14]]
    boxes = [annotation(1, 1, segmentation=polygons), annotation(2, 1, [], segmentation=polygons, category=3)]
    assert boxes_of(read_manifest(coco([image(1, "a.png")], boxes))) == [[[5, 10, 20, 30]] * 2]


def test_a_size_that_is_not_the_pictures(coco, picture) -> None:
    picture("a.jpg", size=(100, 50), orientation=6)
    picture("b.png", size=(80, 50))
    images = [image(1, "a.jpg"), image(2, "b.png")]
    manifest = read_manifest(coco(images, [annotation(1, 1, [10, 60, 90, 40])]))
    assert train_rows(manifest)[["width", "height"]].values.tolist() == [[50, 100], [80, 50]]
    assert boxes_of(manifest)[0] == [[10, 60, 50, 100]]
    texts = [report["problem"] for report in manifest.attrs["box_reports"]]
    assert len(texts) == 3  # the two sizes, and the box that leaves the upright picture
    assert any("says 100×50, and the picture is 50×100 (the same turned by 90°" in text for text in texts)
    assert any("says 100×50, and the picture is 80×50" in text and "turned" not in text for text in texts)


def test_an_unreadable_picture_has_no_size_and_keeps_its_boxes(coco, write) -> None:
    write("a.png", "not a picture")
    manifest = read_manifest(coco([image(1, "a.png")], [annotation(1, 1, [90, 40, 20, 20])]))
    assert manifest["width"].isna().tolist() == [True, False]
    assert boxes_of(manifest) == [[[90, 40, 100, 50]]]  # clipped to the size that the file claims


def test_classes_leave_out_unused_categories(coco, picture) -> None:
    picture("a.png")
    spec = coco([image(1, "a.png")], [annotation(1, 1, [0, 0, 5, 5])], classes=["컵"])
    manifest = read_manifest(spec)
    assert (manifest.attrs["classes"], manifest.attrs["category_ids"]) == (["컵"], [7])
    assert names_of(manifest) == [["컵"]]
    used = coco([image(1, "a.png")], [annotation(4, 1, [0, 0, 5, 5], 3)], classes=["컵"])
    with pytest.raises(ProjectError, match=r"train\.json annotation 4: 'apple' is no class.*add it to data\.classes"):
        read_manifest(used)
    with pytest.raises(ProjectError, match=r"no category 'aple'\. Did you mean 'apple'\?"):
        read_manifest(coco([image(1, "a.png")], [], classes=["aple"]))


def test_decomposed_korean_class_names_are_composed(coco, picture) -> None:
    import unicodedata

    picture("a.png")
    spec = coco([image(1, "a.png")], [], [{"id": 1, "name": unicodedata.normalize("NFD", "사과")}])
    assert read_manifest(spec).attrs["classes"] == ["사과"]


def test_the_hash_follows_the_boxes(coco, picture) -> None:
    picture("a.png")
    hashes = {
        data_hash(read_manifest(coco([image(1, "a.png")], boxes)))
        for boxes in ([], [annotation(1, 1, [0, 0, 5, 5])], [annotation(1, 1, [0, 0, 5, 6])])
    }
    assert len(hashes) == 3


WRONG = [
    ("[]", "is a list, and COCO JSON has keys: images"),
    ("{", "is not JSON"),
    ("{}", r"lists no images\. Its keys: none"),
    ('{"images": [{"id": 1}]}', "image number 1 has no `file_name`"),
    ('{"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}', "two images have the id 1"),
    ('{"images": [{"id": 1, "file_name": "a.png"}]}', "lists no categories"),
    ('{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1}]}', "needs an `id`.*and a `name`"),
    (
        '{"images": [{"id": 1, "file_name": "b.png"}]}',
        r"data\.images: 1 of 1 image files are missing.*image 1 'b\.png'",
    ),
    ('{"images": [{"id": 1, "file_name": "t.png"}], "categories": [{"id": 1, "name": "x"}]}', "1 images are in the"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_wrong_file(coco, picture, write, text: str, message: str) -> None:
    picture("a.png")
    spec = coco([image(1, "a.png")], [])
    write("train.json", text)
    with pytest.raises(ProjectError, match=message):
        read_manifest(spec)


def test_an_unknown_category(coco, picture) -> None:
    picture("a.png")
    with pytest.raises(ProjectError, match=r"annotation 1: category_id 9 is unknown\. Known: 3 \(apple\), 7 \(컵\)"):
        read_manifest(coco([image(1, "a.png")], [annotation(1, 1, [0, 0, 1, 1], 9)]))


def test_twice_the_same_picture(coco, picture) -> None:
    picture("a.png")
    with pytest.raises(ProjectError, match="train.json image 1, train.json image 2: the image .* occurs 2 times"):
        read_manifest(coco([image(1, "a.png"), image(2, "a.png")], []))


def test_deep_pcb(shared_data) -> None:
    from src.competition import read_competition

    root = shared_data / "deep_pcb"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}")
    folders = {"train": "train", "test": "val"}
    spec = read_competition("coco", {"root": str(root), "data.test": "val.json", "data.images": folders})
    manifest, solution = read_manifest(spec), read_solution(spec)
    assert manifest.attrs["classes"] == ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
    train = train_rows(manifest)
    assert (len(train), sum(map(len, train["boxes"])), len(solution)) == (180, 1317, 60)
    assert sum(map(len, solution["boxes"])) == 332
    assert (manifest[["width", "height"]] == 640).all(axis=None)
    assert manifest.attrs["box_reports"] == []
    assert train["boxes"][0][0].tolist() == [409, 394, 435, 422]
    assert sum(counts.sum() for counts in train["counts"]) == 1317
