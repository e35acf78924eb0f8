"""YOLO text files: shares, polygons, lists of other computers, classes from wherever exporters put them."""

import pytest

from src.errors import ProjectError
from src.manifest import read_manifest, read_solution
from tests.annotations.conftest import boxes_of, names_of, problems_of, train_rows


@pytest.fixture
def yolo(make, write, picture):
    """A competition of images/train and images/test with label files (name → text) and classes.txt."""

    def build(labels: dict[str, str], images: tuple = ("a.jpg",), listed: str | None = "컵\napple\n", **changes):
        for name in images:
            picture(f"images/train/{name}")
        picture("images/test/t.jpg")
        for name, text in labels.items():
            write(f"labels/{name}", text)
        if listed is not None:
            write("classes.txt", listed)
        return make("yolo", **{"train": "images/train", "test": "images/test", **changes})

    return build


def test_lines_become_boxes(yolo) -> None:
    text = "1 0.5 0.5 1 1\n\n0 0.1 0.2 0.1 0.2\r\n"
    manifest = read_manifest(yolo({"train/a.txt": text}, ("a.jpg", "b.jpg")))
    first, second = boxes_of(manifest)
    assert first == [pytest.approx([0, 0, 100, 50]), pytest.approx([5, 5, 15, 15])]
    assert second == []  # no file: no object
    assert names_of(manifest) == [["apple", "컵"], []]
    assert (manifest.attrs["classes"], manifest.attrs["category_ids"]) == (["컵", "apple"], [0, 1])
    assert manifest["id"].tolist() == ["a", "b", "t"]
    assert read_solution(yolo({})) is None


def test_polygons_give_their_bounds(yolo) -> None:
    manifest = read_manifest(yolo({"train/a.txt": "0 0.1 0.1 0.5 0.2 0.3 0.9\n1 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4"}))
    assert boxes_of(manifest) == [[pytest.approx([10, 5, 50, 45]), pytest.approx([10, 10, 30, 20])]]


def test_shares_beyond_one_are_clipped_and_reported(yolo) -> None:
    manifest = read_manifest(yolo({"train/a.txt": "0 0.95 0.5 0.12 0.2\n0 0.5 0.5 1.000001 1.000002\n"}))
    assert boxes_of(manifest) == [[pytest.approx([89, 20, 100, 30]), pytest.approx([0, 0, 100, 50])]]
    assert problems_of(manifest) == [("labels/train/a.txt:1", "a", "clipped")]


def test_a_turned_picture_is_upright(yolo, picture) -> None:
    spec = yolo({"train/a.txt": "0 0.5 0.5 1 1"})
    picture("images/train/a.jpg", orientation=8)
    assert boxes_of(read_manifest(spec)) == [[[0, 0, 50, 100]]]


def test_shares_of_an_unreadable_picture(yolo, write) -> None:
    spec = yolo({"train/a.txt": "0 0.5 0.5 1 1"})
    write("images/train/a.jpg", "x")
    manifest = read_manifest(spec)
    assert boxes_of(manifest) == [None]
    assert problems_of(manifest) == [("images/train/a.jpg", "a", "its objects are unknown")]


WRONG_LINES = [
    ("2 0.5 0.5 1 1", r"labels/train/a\.txt:1: class 2, and classes\.txt has 2 classes, 0 to 1"),
    ("-1 0.5 0.5 1 1", "class -1, and classes.txt"),
    ("0.5 0.5 0.5 1 1", "the class is 0.5, where a whole number"),
    ("0 0.5 0.5 1", "4 numbers, where a label has 5"),
    ("0 0.5 0.5 1 1 0.9", "6 numbers, where a label has 5.*holds predictions"),
    ("cup 0.5 0.5 1 1", "holds something that is no number"),
]


@pytest.mark.parametrize(("line", "message"), WRONG_LINES, ids=[line for line, _ in WRONG_LINES])
def test_wrong_lines(yolo, line: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        read_manifest(yolo({"train/a.txt": line}))


def test_labels_that_are_nowhere(yolo) -> None:
    with pytest.raises(ProjectError, match=r"'images/train/a\.jpg' should have 'labels/train/a\.txt'"):
        read_manifest(yolo({}))


def test_labels_beside_the_images_or_in_the_split(make, write, picture) -> None:
    for name in ("train/images/a.jpg", "valid/images/t.jpg", "flat/b.jpg"):
        picture(name)
    write("train/labels/a.txt", "0 0.5 0.5 1 1")
    write("flat/b.txt", "0 0.5 0.5 1 1")
    for train in ("train/images", "flat"):
        spec = make("yolo", train=train, test="valid/images", classes=["x"])
        assert boxes_of(read_manifest(spec)) == [[[0, 0, 100, 50]]]


def test_lists_of_paths(yolo, write) -> None:
    lines = ["./images/train/a.jpg", "/home/me/set/images/train/b.jpg", "D:\\set\\images\\train\\c.jpg"]
    write("lists/train.txt", "\n".join([*lines, "../images/train/d.jpg", ""]))
    spec = yolo({"train/a.txt": "0 0.5 0.5 1 1"}, ("a.jpg", "b.jpg", "c.jpg", "d.jpg"), train="lists/train.txt")
    manifest = read_manifest(spec)
    assert manifest["id"].tolist() == ["a", "b", "c", "d", "t"]
    assert boxes_of(manifest) == [[[0, 0, 100, 50]], [], [], []]
    write("lists/train.txt", "images/train/a.jpg\nimages/train/z.jpg\n../../../etc/passwd\n")
    with pytest.raises(ProjectError, match=r"2 of 3 listed images are missing .*train\.txt:2 'images/train/z\.jpg'"):
        read_manifest(spec)


def test_images_of_one_name_in_two_folders(yolo, write, picture) -> None:
    write("labels/train/a.txt", "0 0.5 0.5 1 1")
    spec = yolo({}, ("a.jpg", "x/a.jpg"))
    assert read_manifest(spec)["id"].tolist() == ["a", "x/a", "t"]
    write("train.txt", "images/train/a.jpg\nimages/train/x/a.jpg\n")
    listed = yolo({}, ("a.jpg", "x/a.jpg"), train="train.txt", id="file_name")
    assert read_manifest(listed)["id"].tolist() == ["images/train/a.jpg", "images/train/x/a.jpg", "t.jpg"]


def test_the_test_labels_are_the_solution(yolo) -> None:
    spec = yolo({"train/a.txt": "0 0.5 0.5 1 1", "test/t.txt": "1 0.5 0.5 1 1"})
    assert read_manifest(spec).loc[1, "boxes"] is None
    solution = read_solution(spec)
    assert solution["boxes"][0].tolist() == [[0, 0, 100, 50]]
    assert solution["counts"][0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "names: [컵, apple]"),
        ("data.yaml", "nc: 2\nnames:\n  1: apple\n  0: 컵\n"),
        ("labels/classes.txt", "컵\napple\n\n"),
        ("obj.names", "컵\r\napple"),
    ],
)
def test_classes_are_found(yolo, write, name: str, text: str) -> None:
    spec = yolo({"train/a.txt": "1 0.5 0.5 1 1"}, listed=None)
    with pytest.raises(ProjectError, match=r"data\.classes: not given, and no file names the classes"):
        read_manifest(spec)
    write(name, text)
    manifest = read_manifest(spec)
    assert manifest.attrs["classes"] == ["컵", "apple"]
    assert names_of(manifest) == [["apple"]]


def test_classes_of_the_spec_come_first(yolo, write) -> None:
    assert read_manifest(yolo({"train/a.txt": "1 0.5 0.5 1 1"}, classes=["x", "y"])).attrs["classes"] == ["x", "y"]
    write("names.yaml", "names: {5: x, 1: y}")
    manifest = read_manifest(yolo({"train/a.txt": "1 0.5 0.5 1 1"}, classes="names.yaml"))
    assert (manifest.attrs["classes"], manifest.attrs["category_ids"]) == (["y", "x"], [1, 5])
    assert names_of(manifest) == [["y"]]


def test_coco128(shared_data, tmp_path) -> None:
    from src.competition import read_competition

    root = shared_data / "coco128"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}")
    for name in ("images", "labels", "classes.txt"):
        (tmp_path / name).symlink_to(root / name)
    names = sorted(path.name for path in (root / "images/train2017").iterdir())
    (tmp_path / "train.txt").write_text("".join(f"./images/train2017/{name}\n" for name in names[:100]))
    (tmp_path / "test.txt").write_text("".join(f"images/train2017/{name}\n" for name in names[100:]))
    spec = read_competition("yolo", {"root": str(tmp_path), "data.train": "train.txt", "data.test": "test.txt"})
    manifest, solution = read_manifest(spec), read_solution(spec)
    train = train_rows(manifest)
    assert len(train) + len(solution) == 128
    assert sum(map(len, train["boxes"])) + sum(map(len, solution["boxes"])) == 929
    assert (len(manifest.attrs["classes"]), manifest.attrs["classes"][0]) == (80, "person")
    assert manifest.attrs["box_reports"] == solution.attrs["box_reports"] == []
    first = train[train["id"] == "000000000110"].iloc[0]

    assert first["labels"][0] == 56
