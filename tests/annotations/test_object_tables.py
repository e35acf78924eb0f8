"""Boxes and counts in CSV tables: every shape of table that competitions hand out, and each mistake in one."""

from pathlib import Path

import pytest

from src.errors import ProjectError
from src.manifest import data_hash, read_manifest, read_solution
from tests.annotations.conftest import boxes_of, names_of, problems_of, train_rows

BOXES = {"file": "boxes.csv", "label": "label", "columns": ["x1", "y1", "x2", "y2"]}
HEADER = "id,label,x1,y1,x2,y2\n"
COUNTING = {"metric": "count_mae", "submission": {"format": "counts", "columns": {"id": "id"}}}


@pytest.fixture
def table(make, write, picture):
    """A csv competition with these tables; every image that `ids` names is there, and one test image t."""

    def build(tables: dict[str, str], ids: tuple = ("a", "b", "c"), train: str | None = None, **changes):
        for name in (*ids, "t"):
            picture(f"{name}.png")
        write("train.csv", train or "id,file\n" + "".join(f"{name},{name}.png\n" for name in ids))
        write("test.csv", "id,file\nt,t.png\n")
        for name, text in tables.items():
            write(f"{name}.csv", text)
        data = {"train": "train.csv", "test": "test.csv", "id": "id", "path": "file"}
        return make("csv", **{**data, **changes})

    return build


# boxes -------------------------------------------------------------------------------------------------------


def test_a_table_of_boxes(table) -> None:
    text = f"{HEADER}b,컵,1,2,3,4\na,apple,0,0,10.5,20\nb,apple,5,5,9,9\n"
    manifest = read_manifest(table({"boxes": text}, boxes=BOXES))
    assert boxes_of(manifest) == [[[0, 0, 10.5, 20]], [[1, 2, 3, 4], [5, 5, 9, 9]], []]
    assert names_of(manifest) == [["apple"], ["컵", "apple"], []]
    assert (manifest.attrs["classes"], manifest.attrs["category_ids"]) == (["apple", "컵"], [0, 1])
    assert [counts.tolist() for counts in train_rows(manifest)["counts"]] == [[1, 0], [1, 1], [0, 0]]
    assert [tags.tolist() for tags in train_rows(manifest)["tags"]] == [[0], [0, 1], []]
    assert manifest.loc[3, "boxes"] is None
    assert manifest.attrs["box_reports"] == []


@pytest.mark.parametrize(
    ("convention", "cells"), [("xyxy", "10,20,40,30"), ("xywh", "10,20,30,10"), ("cxcywh", "25,25,30,10")]
)
@pytest.mark.parametrize("normalized", [False, True])
def test_conventions(table, convention: str, cells: str, normalized: bool) -> None:
    if normalized:
        cells = ",".join(str(float(cell) / side) for cell, side in zip(cells.split(","), (100, 50) * 2, strict=True))
    spec = table(
        {"boxes": f"{HEADER}a,x,{cells}\n"}, boxes=BOXES | {"convention": convention, "normalized": normalized}
    )
    assert boxes_of(read_manifest(spec))[0] == [pytest.approx([10, 20, 40, 30])]


@pytest.mark.parametrize("cell", ["[8.0, 2, 56.0, 36]", "8 2 56 36", "8;2;56;36", "(8,2, 56,36)", "[[8, 2, 56, 36]]"])
def test_one_cell_a_box_in_the_train_table_itself(table, cell: str) -> None:
    """As in global wheat detection: rows repeat an image, and images without boxes have an empty cell."""
    train = f'id,file,bbox,lot\na,a.png,"{cell}",x\na,a.png,"[1, 1, 2, 2]",x\nb,b.png,,\n'
    spec = table({}, train=train, boxes={"columns": ["bbox"], "convention": "xywh"}, group="lot", classes=["밀"])
    manifest = read_manifest(spec)
    assert manifest["id"].tolist() == ["a", "b", "t"]
    assert boxes_of(manifest) == [[[8, 2, 64, 38], [1, 1, 3, 3]], []]
    assert manifest["group"].tolist() == ["x", None, None]
    assert manifest["source"].tolist() == ["train.csv:2", "train.csv:4", "test.csv:2"]
    assert manifest.attrs["classes"] == ["밀"]


def test_rows_of_one_id_agree(table) -> None:
    boxes = {"columns": ["bbox"]}
    with pytest.raises(ProjectError, match=r"train\.csv:2, train\.csv:3: the id 'a' has two images"):
        read_manifest(table({}, train="id,file,bbox\na,a.png,\na,b.png,\n", boxes=boxes))
    train = "id,file,bbox,lot\na,a.png,,x\na,a.png,,y\n"
    with pytest.raises(ProjectError, match="has two groups, 'x' and 'y'"):
        read_manifest(table({}, train=train, boxes=boxes, group="lot"))


def test_a_box_without_a_class_column_is_of_the_one_class(table) -> None:
    boxes = {"file": "boxes.csv", "columns": ["x1", "y1", "x2", "y2"]}
    assert read_manifest(table({"boxes": f"{HEADER}a,,1,1,2,2\n"}, boxes=boxes)).attrs["classes"] == ["object"]
    with pytest.raises(ProjectError, match=r"data\.boxes\.label: not given, and there are 2 classes"):
        read_manifest(table({"boxes": f"{HEADER}a,,1,1,2,2\n"}, boxes=boxes, classes=["x", "y"]))


def test_problems_name_the_row(table) -> None:
    rows = ["a,x,90,40,120,60", "a,x,9,9,3,3", "a,x,3,3,9,9", "b,x,1,1,1,9", "z,x,1,1,2,2", "t,x,1,1,2,2"]
    manifest = read_manifest(table({"boxes": HEADER + "\n".join(rows)}, boxes=BOXES))
    assert boxes_of(manifest) == [[[90, 40, 100, 50], [3, 3, 9, 9]], [], []]
    assert problems_of(manifest) == [
        ("boxes.csv", "z", "set aside"),
        ("boxes.csv:2", "a", "clipped"),
        ("boxes.csv:3", "a", "swapped"),
        ("boxes.csv:4", "a", "set aside"),
        ("boxes.csv:5", "b", "set aside"),
    ]


def test_reports_stay_with_the_table_and_are_not_copied(table) -> None:
    manifest = read_manifest(table({"boxes": f"{HEADER}a,x,9,9,3,3\n"}, boxes=BOXES))
    reports = manifest.attrs["box_reports"]
    assert train_rows(manifest).attrs["box_reports"] is reports and len(reports) == 1


def test_a_negative_width_is_set_aside(table) -> None:
    spec = table({"boxes": f"{HEADER}a,x,10,10,-5,5\n"}, boxes=BOXES | {"convention": "xywh"})
    assert boxes_of(read_manifest(spec))[0] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,x,1,1,2,", r"boxes\.csv:2: a box without 'y2'"),
        ("a,x,1,1,two,2", r"boxes\.csv:2: a box is made of numbers .*'two'"),
        ("a,,1,1,2,2", r"boxes\.csv:2: a box without a class: column 'label' is empty"),
        ("q,x,1,1,2,2", r"data\.boxes\.id: .*boxes\.csv has no id of a training image: 'q' there, 'a' in train\.csv"),
        ("A.png,x,1,1,2,2", r"data\.boxes\.id: .* has the id 'A\.png', and the images 'a'\. Ids are compared as text"),
    ],
)
def test_wrong_rows(table, row: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        read_manifest(table({"boxes": f"{HEADER}{row}\n"}, boxes=BOXES))


def test_lost_zeros_are_no_empty_image(table) -> None:
    text = f"{HEADER}7,x,1,1,2,2\n100,x,1,1,2,2\n"
    with pytest.raises(ProjectError, match="has the id '7', and the images '007'"):
        read_manifest(table({"boxes": text}, ("007", "100"), boxes=BOXES))
    both = f"{HEADER}007,x,1,1,2,2\n100,x,1,1,2,2\n"
    assert len(read_manifest(table({"boxes": both}, ("007", "100", "7"), boxes=BOXES))) == 4


def test_unknown_classes_name_the_nearest(table) -> None:
    spec = table({"boxes": f"{HEADER}a,aple,1,1,2,2\n"}, boxes=BOXES, classes=["apple", "cup"])
    with pytest.raises(ProjectError, match=r"boxes\.csv:2: 'aple' is no class\. Did you mean 'apple'\?"):
        read_manifest(spec)


@pytest.mark.parametrize(
    ("labels", "classes", "names", "ids"),
    [
        (("1", "0"), ["사과", "컵"], [["컵"], ["사과"]], [0, 1]),
        (("7", "3"), {3: "사과", 7: "컵"}, [["컵"], ["사과"]], [3, 7]),
        (("10", "2"), None, [["10"], ["2"]], [2, 10]),
        (("1.0", "0.0"), None, [["1"], ["0"]], [0, 1]),
        (("컵", "사과"), None, [["컵"], ["사과"]], [0, 1]),
    ],
)
def test_numbers_as_classes(table, labels: tuple, classes, names: list, ids: list) -> None:
    text = HEADER + "".join(f"{i},{label},1,1,2,2\n" for i, label in zip("ab", labels, strict=True))
    manifest = read_manifest(table({"boxes": text}, ("a", "b"), boxes=BOXES, classes=classes))
    assert names_of(manifest) == names
    assert manifest.attrs["category_ids"] == ids


def test_classes_of_a_file(table, write) -> None:
    write("classes.txt", "\ufeff컵\napple\n")
    spec = table({"boxes": f"{HEADER}a,apple,1,1,2,2\n"}, boxes=BOXES, classes="classes.txt")
    assert read_manifest(spec).attrs["classes"] == ["컵", "apple"]
    for text, message in [("", "names no class"), ("a\n\nb", "no name for class 1"), ("a\na", "'a' twice")]:
        write("classes.txt", text)
        with pytest.raises(ProjectError, match=message):
            read_manifest(spec)


# prediction strings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("0 1 1 2 3 4 1 1 5 5 9 9 ", ""), [[[1, 2, 3, 4], [5, 5, 9, 9]], []]),
        (("0 1 2 3 4", "14 0 0 1 1"), [[[1, 2, 3, 4]], []]),
        (("none 1 0 0 1 1", "1 1 5 5 9 9"), [[], [[5, 5, 9, 9]]]),
    ],
)
def test_prediction_strings(table, cells: tuple, expected: list) -> None:
    train = "id,file,PredictionString\n" + "".join(f"{i},{i}.png,{cell}\n" for i, cell in zip("ab", cells, strict=True))
    boxes = {"columns": ["PredictionString"], "format": "prediction_string"}
    empty = ["none 1 0 0 1 1", "14 0 0 1 1"]
    manifest = read_manifest(table({}, train=train, boxes=boxes | {"empty": empty}, classes=["x", "y"]))
    assert boxes_of(manifest) == expected


def test_a_prediction_string_of_odd_length(table) -> None:
    train = "id,file,s\na,a.png,0 1 1 2 3 4\nb,b.png,14 1 0 0 1 1 1\n"
    spec = table({}, train=train, boxes={"columns": ["s"], "format": "prediction_string"}, classes=["x"])
    with pytest.raises(ProjectError, match=r"train\.csv:3: 7 words in column 's'.*data\.boxes\.empty"):
        read_manifest(spec)


# counts ------------------------------------------------------------------------------------------------------


def test_wide_counts(table) -> None:
    text = "id,컵,apple\na,1,0\nc,3.0,2\n"
    spec = table({"counts": text}, counts={"file": "counts.csv", "columns": ["컵", "apple"]}, **COUNTING)
    manifest = read_manifest(spec)
    rows = train_rows(manifest)
    assert manifest.attrs["classes"] == ["컵", "apple"]
    assert [None if counts is None else counts.tolist() for counts in rows["counts"]] == [[1, 0], None, [3, 2]]
    assert [None if tags is None else tags.tolist() for tags in rows["tags"]] == [[0], None, [0, 1]]
    assert boxes_of(manifest) == [None, None, None]
    assert problems_of(manifest) == [("counts.csv", "b", "its counts are unknown")]
    changed = table(
        {"counts": text.replace("1,0", "2,0")}, counts={"file": "counts.csv", "columns": ["컵"]}, **COUNTING
    )
    assert data_hash(read_manifest(changed)) != data_hash(manifest)


def test_wide_counts_in_the_train_table_under_other_names(table) -> None:
    counts = {"columns": {"컵": "n_cup", "apple": "n_apple"}}
    spec = table({}, train="id,file,n_cup,n_apple\na,a.png,1,2\n", counts=counts, **COUNTING)
    assert train_rows(read_manifest(spec))["counts"][0].tolist() == [1, 2]


def test_long_counts(table) -> None:
    text = "image,class,count\na,컵,2\na,apple,1\nb,컵,0\n"
    counts = {"file": "counts.csv", "id": "image", "label": "class", "count": "count"}
    manifest = read_manifest(table({"counts": text}, counts=counts, **COUNTING))
    assert manifest.attrs["classes"] == ["apple", "컵"]
    assert [counts.tolist() for counts in train_rows(manifest)["counts"]] == [[1, 2], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", r"counts\.csv:2: no number in column 'cup'\. Write 0"),
        ("nan", "no number in column 'cup'"),
        ("-1", "'-1' in column 'cup' is no count"),
        ("1.5", "'1.5' in column 'cup' is no count"),
        ("3개", "'3개' in column 'cup' is no count"),
        ("inf", "'inf' in column 'cup' is no count"),
    ],
)
def test_wrong_counts(table, cell: str, message: str) -> None:
    spec = table({"counts": f"id,cup\na,{cell}\n"}, counts={"file": "counts.csv", "columns": ["cup"]}, **COUNTING)
    with pytest.raises(ProjectError, match=message):
        read_manifest(spec)


def test_contradicting_counts(table) -> None:
    counts = {"file": "counts.csv", "label": "class", "count": "n"}
    spec = table({"counts": "id,class,n\na,x,1\na,x,1\na,x,2\n"}, counts=counts, **COUNTING)
    with pytest.raises(ProjectError, match=r"counts\.csv:4: 'x' in 'a' is 2, and 1 in a row before"):
        read_manifest(spec)


def test_counts_of_an_unknown_class(table) -> None:
    counts = {"file": "counts.csv", "columns": ["aple"]}
    with pytest.raises(ProjectError, match="'aple' is no class. Did you mean 'apple'"):
        read_manifest(table({"counts": "id,aple\na,1\n"}, counts=counts, classes=["apple"], **COUNTING))


def test_boxes_and_counts_together(table) -> None:
    """Counts are of the boxes where these are known; an image that has counts and no boxes has unknown boxes."""
    tables = {"boxes": f"{HEADER}a,x,1,1,2,2\n", "counts": "id,x\na,4\nb,2\nc,0\n"}
    spec = table(tables, boxes=BOXES, counts={"file": "counts.csv", "columns": ["x"]})
    manifest = read_manifest(spec)
    assert boxes_of(manifest) == [[[1, 1, 2, 2]], None, []]
    assert [counts.tolist() for counts in train_rows(manifest)["counts"]] == [[1], [2], [0]]
    assert problems_of(manifest) == [("train.csv:2", "a", "the boxes are taken")]


# tags --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["bell pepper|컵", "bell pepper; 컵;", '"컵, bell pepper"'])
def test_tags_say_what_is_there_and_not_where(table, cell: str) -> None:
    train = f"id,file,tags\na,a.png,컵\nb,b.png,{cell}\nc,c.png,\n"
    spec = table({"boxes": f"{HEADER}a,bell pepper,1,1,2,2\n"}, train=train, boxes=BOXES, tags="tags")
    manifest = read_manifest(spec)
    assert manifest.attrs["classes"] == ["bell pepper", "컵"]
    assert [tags.tolist() for tags in train_rows(manifest)["tags"]] == [[0, 1], [0, 1], []]
    assert boxes_of(manifest) == [[[1, 1, 2, 2]], None, []]
    assert train_rows(manifest)["counts"][1] is None


def test_tags_by_spaces(table) -> None:
    train = "id,file,tags\na,a.png,컵 bell\nb,b.png,bell pepper\n"
    boxes = {"boxes": f"{HEADER}a,컵,1,1,2,2\n"}
    spec = table(boxes, train=train, boxes=BOXES, tags="tags", classes=["컵", "bell", "bell pepper"])
    assert [tags.tolist() for tags in train_rows(read_manifest(spec))["tags"]] == [[0, 1], [2]]
    with pytest.raises(ProjectError, match=r"train\.csv:3: 'bel' is no class"):
        read_manifest(
            table(boxes, train=train.replace("bell pepper", "bel"), boxes=BOXES, tags="tags", classes=["컵", "bell"])
        )


# solutions ---------------------------------------------------------------------------------------------------


def test_a_solution_of_boxes(table, write, picture) -> None:
    spec = table({"boxes": f"{HEADER}a,x,1,1,2,2\n", "answers": f"{HEADER}t,x,0,0,5,5\n"}, boxes=BOXES)
    assert read_solution(spec) is None
    write("test.csv", "id,file\nu,u.png\nt,t.png\n")
    picture("u.png")
    spec = table({"boxes": f"{HEADER}a,x,1,1,2,2\n"}, boxes=BOXES, solution="answers.csv")
    write("test.csv", "id,file\nu,u.png\nt,t.png\n")
    solution = read_solution(spec)
    assert solution["id"].tolist() == ["u", "t"]
    assert [boxes.tolist() for boxes in solution["boxes"]] == [[], [[0, 0, 5, 5]]]
    assert [counts.tolist() for counts in solution["counts"]] == [[0], [1]]
    write("answers.csv", f"{HEADER}T,x,0,0,5,5\n")
    with pytest.raises(ProjectError, match=r"solution: .*1 ids that are no test images, such as 'T'"):
        read_solution(spec)
    write("answers.csv", f"{HEADER}t,y,0,0,5,5\n")
    with pytest.raises(ProjectError, match=r"answers\.csv:2: 'y' is no class"):
        read_solution(spec)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("id,컵,apple\nt,3,1\n", {"id": "id"}),
        ("test_id,apples,컵\nt,1,3\n", {"id": "test_id", "apple": "apples"}),
    ],
)
def test_a_solution_of_counts_for_boxes(table, text: str, columns: dict) -> None:
    tables = {"boxes": f"{HEADER}a,컵,1,1,2,2\n", "answers": text}
    form = {"metric": "count_mae", "submission": {"format": "counts", "columns": columns}}
    spec = table(tables, boxes=BOXES, classes=["컵", "apple"], solution="answers.csv", **form)
    solution = read_solution(spec)
    assert (solution["boxes"][0], solution["counts"][0].tolist()) == (None, [3, 1])


def test_a_solution_of_one_count(table) -> None:
    tables = {"boxes": f"{HEADER}a,x,1,1,2,2\n", "answers": "SampleID,PredictedLabel\nt,3\n"}
    columns = {"id": "SampleID", "value": "PredictedLabel"}
    form = {"metric": "count_mae", "submission": {"format": "count", "columns": columns}}
    solution = read_solution(table(tables, boxes=BOXES, solution="answers.csv", **form))
    assert solution["counts"][0].tolist() == [3]


def test_a_solution_of_other_columns_or_with_gaps(table, write) -> None:
    tables = {"boxes": f"{HEADER}a,x,1,1,2,2\n", "answers": "id,score\nt,3\n"}
    spec = table(tables, boxes=BOXES, solution="answers.csv")
    with pytest.raises(ProjectError, match=r"solution: answers\.csv has the columns id, score, and needs .*x1, y1"):
        read_solution(spec)
    write("answers.csv", "id,x\n")
    with pytest.raises(ProjectError, match="has no row for 1 test images, such as 't'"):
        read_solution(spec)


@pytest.mark.slow
def test_the_sample_competitions(tmp_path: Path) -> None:
    """Boxes and counts of the bundled sample say the same."""
    from src.competition import read_competition
    from src.data.sample import make_sample

    make_sample("sample_detection", tmp_path / "sample")
    boxes, counts = (
        read_competition(name, {"root": str(tmp_path / "sample")}) for name in ("sample_detection", "sample_counting")
    )
    first, second = read_manifest(boxes), read_manifest(counts)
    assert first.attrs["box_reports"] == second.attrs["box_reports"] == []
    for manifest, solution in ((first, read_solution(boxes)), (second, read_solution(counts))):
        assert manifest.loc[manifest["split"] == "test", "id"].tolist() == solution["id"].tolist()
    totals = [sum(values.sum() for values in read_solution(spec)["counts"]) for spec in (boxes, counts)]
    assert totals[0] == totals[1] > 0
