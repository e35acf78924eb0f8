"""Pascal VOC: coordinates that count from 1, names that lie, files that are missing or hostile."""

import pytest

from src.errors import ProjectError
from src.manifest import read_manifest, read_solution
from tests.annotations.conftest import boxes_of, names_of, problems_of, train_rows


def xml(*objects: str, size: str = "<size><width>100</width><height>50</height></size>", name: str = "x.jpg") -> str:
    return f"<annotation><filename>{name}</filename>{size}{''.join(objects)}</annotation>"


def thing(box: tuple, label: str = "개", more: str = "") -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{label}</name>{more}<bndbox>{corners}</bndbox></object>"


@pytest.fixture
def voc(make, write, picture):
    """A competition of images in train/ and test/ with these XML files (name → text)."""

    def build(files: dict[str, str], images: tuple = ("train/a.jpg",), **changes):
        for name in (*images, "test/t.jpg"):
            picture(name)
        write("Annotations/readme.txt", "x")
        for name, text in files.items():
            write(name, text)
        return make("voc", **{"train": "train", "test": "test", **changes})

    return build


def test_coordinates_count_from_one(voc) -> None:
    manifest = read_manifest(voc({"Annotations/a.xml": xml(thing((1, 1, 100, 50)), thing((11, 21, 30, 40)))}))
    assert boxes_of(manifest) == [[[0, 0, 100, 50], [10, 20, 30, 40]]]
    assert manifest.attrs["box_reports"] == []
    assert manifest["id"].tolist() == ["a", "t"]


def test_unless_a_training_box_starts_at_zero(voc) -> None:
    files = {"Annotations/a.xml": xml(thing((0, 5, 9, 9))), "Annotations/t.xml": xml(thing((5, 5, 9, 9)))}
    spec = voc(files)
    assert boxes_of(read_manifest(spec)) == [[[0, 5, 9, 9]]]
    assert read_solution(spec)["boxes"][0].tolist() == [[5, 5, 9, 9]]
    spec = voc({"Annotations/a.xml": xml(thing((1, 5, 9, 9)))})
    assert read_solution(spec)["boxes"][0].tolist() == [[4, 4, 9, 9]]


def test_the_image_is_found_by_the_name_of_the_xml(voc) -> None:
    files = {
        "Annotations/deep/a.xml": xml(thing((1, 1, 9, 9)), name="other.jpg"),
        "train/b.xml": xml(thing((1, 1, 5, 5)), name="a.jpg"),
        "Annotations/다.xml": xml(name="?"),
    }
    manifest = read_manifest(voc(files, ("train/a.jpg", "train/b.jpg", "train/다.jpg")))
    assert boxes_of(manifest) == [[[0, 0, 9, 9]], [[0, 0, 5, 5]], []]


def test_an_image_without_a_file_is_unknown_and_one_without_objects_is_empty(voc) -> None:
    manifest = read_manifest(voc({"Annotations/a.xml": xml()}, ("train/a.jpg", "train/b.jpg"), classes=["개"]))
    assert boxes_of(manifest) == [[], None]
    assert train_rows(manifest)["counts"][1] is None and train_rows(manifest)["tags"][1] is None
    assert problems_of(manifest) == [("train/b.jpg", "b", "its objects are unknown")]
    with pytest.raises(ProjectError, match=r"data\.classes: not given, and no training image has an object"):
        read_manifest(voc({"Annotations/a.xml": xml()}, ("train/a.jpg", "train/b.jpg")))


def test_no_file_for_any_image(voc) -> None:
    with pytest.raises(ProjectError, match=r"data\.annotations: no XML file in .*Annotations .* 'train/a\.jpg'"):
        read_manifest(voc({"Annotations/z.xml": xml()}))


def test_difficult_parts_and_odd_boxes(voc) -> None:
    part = "<part><name>머리</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></part>"
    objects = [
        thing((1, 1, 9.5, 9), more=f"<difficult>1</difficult>{part}"),
        thing((30, 9, 20, 3)),
        thing((90, 1, 140, 9)),
        "<object><name>개</name></object>",
        thing(("x", 1, 2, 2)),
    ]
    manifest = read_manifest(voc({"Annotations/a.xml": xml(*objects)}))
    assert boxes_of(manifest) == [[[0, 0, 9.5, 9], [20, 3, 29, 8], [89, 0, 100, 9]]]
    row = train_rows(manifest).loc[0]
    assert (row["ignored"].tolist(), row["counts"].tolist()) == ([True, False, False], [2])
    assert [(source, action) for source, _, action in problems_of(manifest)] == [
        ("Annotations/a.xml object 4", "set aside"),
        ("Annotations/a.xml object 5", "set aside"),
        ("Annotations/a.xml object 2", "swapped"),
        ("Annotations/a.xml object 3", "clipped"),
    ]


def test_the_picture_is_trusted_for_its_size(voc) -> None:
    wrong = "<size><width>60</width><height>50</height></size>"
    manifest = read_manifest(voc({"Annotations/a.xml": xml(thing((1, 1, 90, 9)), size=wrong)}))
    assert boxes_of(manifest) == [[[0, 0, 90, 9]]]
    report = manifest.attrs["box_reports"][0]
    assert report["problem"] == "its annotation says 60×50, and the picture is 100×50"
    for size in ("", "<size><width>0</width><height>0</height></size>", "<size><width>?</width></size>"):
        manifest = read_manifest(voc({"Annotations/a.xml": xml(thing((1, 1, 90, 9)), size=size)}))
        assert manifest.attrs["box_reports"] == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949", "euc-kr"])
def test_encodings(voc, write, encoding: str) -> None:
    spec = voc({"Annotations/a.xml": xml()})
    declared = "" if encoding in ("utf-8-sig", "cp949") else f'<?xml version="1.0" encoding="{encoding}"?>\n'
    write("Annotations/a.xml", (declared + xml(thing((1, 1, 9, 9), "강아지"))).encode(encoding))
    assert names_of(read_manifest(spec)) == [["강아지"]]


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]>' + xml(thing((1, 1, 9, 9), "&y;"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), r"Annotations/a\.xml: it has a document type"),
        (('<?xml version="1.0" encoding="UTF-16"?>' + BOMB).encode("utf-16"), "it has a document type"),
        (b"<annotation>", r"Annotations/a\.xml: not readable as XML \(no element found"),
        (b"<html/>", "its root is <html>"),
        (b"<annotation><object/></annotation>", "object 1: it has no <name>"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "cannot be decoded"),
    ],
)
def test_files_that_are_refused(voc, write, content: bytes, message: str) -> None:
    spec = voc({"Annotations/a.xml": xml()})
    write("Annotations/a.xml", content)
    with pytest.raises(ProjectError, match=message):
        read_manifest(spec)


def test_an_unknown_class_names_the_object(voc) -> None:
    spec = voc({"Annotations/a.xml": xml(thing((1, 1, 9, 9), "racoon"))}, classes=["raccoon", "cat"])
    with pytest.raises(ProjectError, match=r"a\.xml object 1: 'racoon' is no class\. Did you mean 'raccoon'\?"):
        read_manifest(spec)


def test_lists_of_names(voc, write, picture) -> None:
    for name in ("가 나.jpg", "b.PNG", "t.jpg"):
        picture(f"JPEGImages/{name}")
    write("ImageSets/train.txt", "가 나\r\n\r\nb  -1\r\n")
    write("ImageSets/test.txt", "t.jpg")
    files = {"Annotations/가 나.xml": xml(thing((1, 1, 9, 9))), "Annotations/b.xml": xml()}
    spec = voc(files, train="ImageSets/train.txt", test="ImageSets/test.txt")
    manifest = read_manifest(spec)
    assert manifest["id"].tolist() == ["가 나", "b", "t"]
    assert manifest["source"].tolist() == ["ImageSets/train.txt:1", "ImageSets/train.txt:3", "ImageSets/test.txt:1"]
    assert boxes_of(manifest) == [[[0, 0, 9, 9]], []]
    write("ImageSets/train.txt", "가 나\nbb\n")
    with pytest.raises(ProjectError, match=r"data\.train: 1 of 2 listed images are missing .*train\.txt:2 'bb'.*'b'\?"):
        read_manifest(spec)
    write("ImageSets/train.txt", "b\nt\n")
    with pytest.raises(ProjectError, match=r"data\.test: 1 images are in the training set too: ImageSets/test\.txt:1"):
        read_manifest(spec)


def test_the_solution_is_of_the_test_images_files(voc) -> None:
    spec = voc({"Annotations/a.xml": xml(thing((1, 1, 9, 9)))})
    assert read_solution(spec) is None
    spec = voc({"Annotations/t.xml": xml(thing((1, 1, 9, 9)), thing((1, 1, 5, 5), more="<difficult>1</difficult>"))})
    assert read_manifest(spec).loc[1, "boxes"] is None
    solution = read_solution(spec)
    assert (solution["counts"][0].tolist(), solution["ignored"][0].tolist()) == ([1], [False, True])


def test_a_solution_with_gaps(voc, picture) -> None:
    spec = voc({"Annotations/a.xml": xml(thing((1, 1, 9, 9))), "Annotations/t.xml": xml()})
    picture("test/u.jpg")
    with pytest.raises(ProjectError, match=r"data\.annotations: 1 test images have no XML file: test/u\.jpg"):
        read_solution(spec)


def test_a_solution_file_is_refused(voc, write) -> None:
    write("s.csv", "id\n")
    with pytest.raises(ProjectError, match="solution: the layout voc"):
        voc({"Annotations/a.xml": xml(thing((1, 1, 9, 9)))}, solution="s.csv")


def test_raccoon(shared_data, tmp_path) -> None:
    from src.competition import read_competition

    root = shared_data / "raccoon"
    if not root.is_dir():
        pytest.skip(f"no real data at {root}")
    names = sorted(path.stem for path in (root / "images").iterdir())
    for folder in ("images", "annotations"):
        (tmp_path / folder).symlink_to(root / folder)
    (tmp_path / "train.txt").write_text("\n".join(names[:150]))
    (tmp_path / "test.txt").write_text("\n".join(names[150:]))
    folders = {"data.images": "images", "data.annotations": "annotations"}
    lists = {"data.train": "train.txt", "data.test": "test.txt"}
    spec = read_competition("voc", {"root": str(tmp_path), **folders, **lists})
    manifest, solution = read_manifest(spec), read_solution(spec)
    train = train_rows(manifest)
    assert len(train) + len(solution) == 200
    assert sum(map(len, train["boxes"])) + sum(map(len, solution["boxes"])) == 217
    assert manifest.attrs["classes"] == ["raccoon"]
    first = train[train["id"] == "raccoon-1"].iloc[0]
    assert first["boxes"].tolist() == [[80, 87, 522, 408]]
    assert (first["width"], first["height"]) == (650, 417)
    assert manifest.attrs["box_reports"] == solution.attrs["box_reports"] == []
