"""Captions in tables, COCO JSON and JSON records: what is read and mended, and what each mistake is answered with."""

import json
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.competition import Competition, load_competition, read_competition
from src.errors import ProjectError
from src.folds import assign_folds
from src.manifest import COLUMNS, data_hash, read_manifest, read_solution

TABLE = {"train": "train.csv", "test": "test.csv", "id": "id", "path": "{id}.png", "captions": {"columns": ["caption"]}}
COCO = {"train": "train.json", "test": "test.json", "images": "images"}
JSONL = {
    "train": "train.jsonl",
    "test": "test.jsonl",
    "id": "id",
    "path": "{input.image}.png",
    "captions": {"columns": ["output"]},
}


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Competition]:
    """A caption competition of a layout; further keys go to `data`, but for those of the spec itself."""

    def load(layout: str, **changes: Any) -> Competition:
        top = {key: changes.pop(key) for key in ("metric", "submission", "solution") if key in changes}
        base = {"csv": TABLE, "coco": COCO, "jsonl": JSONL}.get(layout, {})
        config = {
            "name": "mine",
            "task": "caption",
            "root": str(tmp_path),
            "data": {"layout": layout, **base, **changes},
            "metric": "cider_d",
            "submission": {"format": "caption", "columns": {"id": "id", "value": "caption"}},
        }
        return load_competition(config | top, source="conf/competition/mine.yaml")

    return load


@pytest.fixture
def tables(write: Callable, picture: Callable) -> Callable[..., None]:
    """Pictures 007, 8 and 9, and the rows of their tables; 9 is the test picture."""
    for name in ("007.png", "8.png", "9.png"):
        picture(name)

    def save(train: str, test: str = "id\n9\n") -> None:
        write("train.csv", train)
        write("test.csv", test)

    return save


def captions(manifest: pd.DataFrame) -> dict[str, list[str]]:
    train = manifest[manifest["split"] == "train"]
    return dict(zip(train["id"], train["captions"], strict=True))


def reports(table: pd.DataFrame) -> list[tuple[str, str | None, str, str]]:
    return [tuple(report.values()) for report in table.attrs["caption_reports"]]


# tables ------------------------------------------------------------------------------------------------------


def test_several_rows_an_image(make: Callable, tables: Callable, tmp_path: Path) -> None:
    tables("id,caption\n007,개가 달린다.\n8,새 한 마리\n007,들판의 개\n")
    manifest = read_manifest(make("csv"))
    assert list(manifest.columns) == [*COLUMNS, "captions"]
    assert manifest["id"].tolist() == ["007", "8", "9"] and manifest["path"].tolist()[0] == str(tmp_path / "007.png")
    assert captions(manifest) == {"007": ["개가 달린다.", "들판의 개"], "8": ["새 한 마리"]}
    assert manifest["captions"].iloc[2] is None
    assert manifest["source"].tolist() == ["train.csv:2", "train.csv:3", "test.csv:2"]
    assert manifest["label"].isna().all() and reports(manifest) == []
    assert read_solution(make("csv")) is None


def test_columns_and_cells_of_several_captions(make: Callable, tables: Callable) -> None:
    tables('id,a\n007,"하나\n둘"\n8,셋\n')
    assert captions(read_manifest(make("csv", captions={"columns": ["a"], "separator": "\n"})))["007"] == ["하나", "둘"]
    tables("id,a,b\n007,하나|둘,셋\n8,넷||,\n")
    spec = make("csv", captions={"columns": ["a", "b"], "separator": "|"})
    manifest = read_manifest(spec)
    assert captions(manifest) == {"007": ["하나", "둘", "셋"], "8": ["넷"]} and reports(manifest) == []
    spec = make("csv", captions={"columns": ["a", "b"]})
    assert captions(read_manifest(spec)) == {"007": ["하나|둘", "셋"], "8": ["넷||"]}


def test_a_table_of_captions(make: Callable, tables: Callable, write: Callable) -> None:
    """Rows of a test image are left alone, those of no image are reported."""
    tables("id,lot\n007,a\n8,b\n")
    write("captions.csv", "image,text\n8,새\n007,개\n9,곰\n10,소\n8,참새\n")
    spec = make("csv", group="lot", captions={"file": "captions.csv", "id": "image", "columns": ["text"]})
    manifest = read_manifest(spec)
    assert captions(manifest) == {"007": ["개"], "8": ["새", "참새"]}
    assert reports(manifest) == [("captions.csv", "10", "no image has this id", "set aside")]
    assert manifest["group"].tolist() == ["a", "b", None]


def test_ids_of_a_table_of_captions_in_another_spelling(make: Callable, tables: Callable, write: Callable) -> None:
    tables("id\n007\n8\n")
    spec = lambda: make("csv", captions={"file": "captions.csv", "columns": ["text"]})  # noqa: E731
    write("captions.csv", "id,text\n8,새\n7,개\n")
    with pytest.raises(ProjectError, match=r"captions.csv has the id '7', and the images '007'.* Write both alike"):
        read_manifest(spec())
    write("captions.csv", "id,text\na,새\nb,개\n")
    with pytest.raises(ProjectError, match=r"data\.captions\.id: .*no id of a training image: 'a' there, '007' in"):
        read_manifest(spec())


def test_what_is_set_aside_or_cleaned(make: Callable, tables: Callable) -> None:
    long = "id,caption\n007, 개가  달린다.\n007,\n007,개가 달린다.\n8,nan\n8,새\n007,\ufffd개\n"
    tables(long)
    manifest = read_manifest(make("csv"))
    assert captions(manifest) == {"007": ["개가 달린다.", "\ufffd개"], "8": ["새"]}
    assert reports(manifest) == [
        ("train.csv:2", "007", "the caption has run of spaces, space at an end", "cleaned"),
        ("train.csv:3", "007", "the caption is empty", "set aside"),
        ("train.csv:4", "007", "the same caption as in train.csv:2", "set aside"),
        ("train.csv:7", "007", "the caption has U+FFFD", "left as it is"),
        ("train.csv:5", "8", "the caption is empty ('nan')", "set aside"),
    ]


def test_an_image_without_captions_stays(make: Callable, tables: Callable) -> None:
    tables("id,caption\n007,\n8,새\n")
    manifest = read_manifest(make("csv"))
    assert captions(manifest) == {"007": [], "8": ["새"]}
    assert reports(manifest)[1:] == [("train.csv:2", "007", "no caption", "the image is not trained on")]


def test_no_caption_at_all(make: Callable, tables: Callable) -> None:
    tables("id,caption\n007,\n8,none\n")
    with pytest.raises(ProjectError, match=r"data\.captions\.columns: no training image has a caption: train\.csv:2"):
        read_manifest(make("csv"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "NFD"])
def test_encodings_forms_and_paths(make: Callable, write: Callable, picture: Callable, encoding: str) -> None:
    """Tables of Korean spreadsheets, names as macOS stores them, spaces in paths."""
    picture(nfd("한글 사진/가.png"))
    picture(nfd("한글 사진/나 다.png"))
    train, test = "이름,파일,설명\n007,한글 사진/가.png,개가 달린다.\n", "이름,파일\n나,한글 사진/나 다.png\n"
    if encoding == "NFD":
        train, test = train[:8] + nfd(train[8:]), test[:6] + nfd(test[6:])  # but for the header
    for name, text in (("train.csv", train), ("test.csv", test)):
        write(name, text.encode("utf-8" if encoding == "NFD" else encoding))
    manifest = read_manifest(make("csv", id="이름", path="파일", captions={"columns": ["설명"]}))
    assert captions(manifest) == {"007": ["개가 달린다."]}
    assert [Path(path).is_file() for path in manifest["path"]] == [True, True]
    mended = [("train.csv:2", "007", "the caption has not NFC", "cleaned")] if encoding == "NFD" else []
    assert reports(manifest) == mended


def test_rows_of_an_image_that_disagree(make: Callable, tables: Callable) -> None:
    tables("id,file,lot,caption\n007,007.png,a,개\n007,007.png,b,새\n", "id,file\n9,9.png\n")
    with pytest.raises(ProjectError, match=r"train\.csv:2, train\.csv:3: the id '007' has two groups, 'a' and 'b'"):
        read_manifest(make("csv", path="file", group="lot"))
    tables("id,file,caption\n007,007.png,개\n007,8.png,새\n", "id,file\n9,9.png\n")
    with pytest.raises(ProjectError, match="the id '007' has two images"):
        read_manifest(make("csv", path="file"))
    tables("id,file,caption\n1,007.png,개\n2,007.png,새\n", "id,file\n9,9.png\n")
    with pytest.raises(ProjectError, match=r"give all captions of an image one id: data\.id may name"):
        read_manifest(make("csv", path="file"))
    tables("id,file,caption\n,007.png,개\n,8.png,새\n", "id,file\n9,9.png\n")
    with pytest.raises(ProjectError, match="2 rows have no id: train.csv:2, train.csv:3"):
        read_manifest(make("csv", path="file"))


def test_images_that_are_not_there_or_in_both_splits(make: Callable, tables: Callable) -> None:
    tables("id,caption\n007,개\n10,소\n")
    with pytest.raises(ProjectError, match=r"1 of 2 image files are missing .*: train\.csv:3 '10\.png'"):
        read_manifest(make("csv"))
    tables("id,caption\n007,개\n9,소\n")
    with pytest.raises(ProjectError, match=r"data\.test: 1 images are in the training set too: test\.csv:2"):
        read_manifest(make("csv"))


MISTAKES = [
    ({"captions": {"columns": ["captoin"]}}, r"data\.captions\.columns: .*no column 'captoin'\. .* 'caption'\?"),
    ({"captions": None}, r"data\.captions: expected keys with values, found nothing"),
    ({"captions": {}}, r"data\.captions\.columns: not given\. As in captions: \{columns: \[caption\]\}"),
    ({"captions": {"columns": ["caption", "caption"]}}, r"data\.captions\.columns: 'caption' is named twice"),
    ({"captions": {"columns": ["caption"], "separator": " "}}, r"data\.captions\.separator: spaces are between"),
    ({"captions": {"columns": ["caption"], "seperator": "|"}}, r"data\.captions\.seperator: .*mean 'separator'"),
    ({"captions": {"columns": ["caption"], "id": "x"}}, r"data\.captions\.id: the train table has data\.id"),
    ({"captions": {"columns": ["c"], "file": "caption.csv"}}, r"data\.captions\.file: .*caption\.csv does not exist"),
    ({"captions": {"columns": ["c"], "file": "../c.csv"}}, r"data\.captions\.file: '\.\./c\.csv' leaves the root"),
    ({"target": "caption"}, r"data\.target: the task caption does not use it"),
    ({"boxes": {"columns": ["x"]}}, r"data\.boxes: the task caption does not use it"),
    ({"annotations": "x"}, r"data\.annotations: the layout csv does not use it"),
    ({"layout": "voc"}, r"data\.layout: 'voc' is not a layout of the task caption\. Its layouts: csv, coco, jsonl"),
    ({"layout": "coco"}, r"data\.path: the layout coco does not use it"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[str(changes)[:50] for changes, _ in MISTAKES])
def test_a_mistake_in_a_spec(make: Callable, tables: Callable, changes: dict, message: str) -> None:
    tables("id,caption\n007,개\n")
    with pytest.raises(ProjectError, match=message):
        make(**{"layout": "csv"} | TABLE | changes)


def test_other_keys_of_other_layouts(make: Callable) -> None:
    with pytest.raises(ProjectError, match=r"data\.classes: the task caption does not use it"):
        make("coco", classes=["a"])
    with pytest.raises(ProjectError, match=r"data\.captions\.file: unknown key"):
        make("jsonl", captions={"columns": ["x"], "file": "y"})
    with pytest.raises(ProjectError, match=r"data\.captions: not given\. As in captions: \{columns: \[output\]\}"):
        load_competition(
            {
                "name": "mine", "task": "caption", "root": ".", "metric": "cider_d",
                "data": {key: JSONL[key] for key in ("train", "test", "id", "path")} | {"layout": "jsonl"},
            },
            source="x.yaml",
        )  # fmt: skip


# solutions ---------------------------------------------------------------------------------------------------


@pytest.fixture
def graded(make: Callable, tables: Callable, picture: Callable, write: Callable) -> Callable[..., pd.DataFrame]:
    """The solution of a competition whose test images are 9 and 10."""
    tables("id,caption\n007,개\n8,새\n", "id\n9\n10\n")
    picture("10.png")

    def read(content: str, name: str = "solution.csv", **changes: Any) -> pd.DataFrame:
        write(name, content)
        return read_solution(make("csv", solution=name, **changes))

    return read


def test_a_solution_of_several_rows_an_image(graded: Callable) -> None:
    solution = graded("id,caption\n10,곰 한 마리\n9,소\n10, 곰\n")
    assert list(solution.columns) == ["id", "captions"]
    assert solution["id"].tolist() == ["9", "10"] and solution["captions"].tolist() == [["소"], ["곰 한 마리", "곰"]]
    assert [report[0] for report in reports(solution)] == ["solution.csv:4"]


def test_a_solution_with_the_columns_of_a_submission(graded: Callable) -> None:
    submission = {"format": "caption", "columns": {"id": "img", "value": "text"}}
    solution = graded("img,text\n9,소\n10,곰\n", submission=submission)
    assert solution["captions"].tolist() == [["소"], ["곰"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,caption\n9,소\n", r"solution: .*solution\.csv has no caption for 1 of 2 test images: 10\. Each needs"),
        ("id,caption\n9,소\n10,nan\n", "has no caption for 1 of 2 test images: 10"),
        ("id,caption\n9,소\n10,곰\n11,말\n", r"has 1 ids that are no test images: '11' \(the test set has '9'\)"),
        ("id,captions\n9,소\n10,곰\n", "no column 'caption'. Did you mean 'captions'"),
        ("ident,caption\n9,소\n", "no column 'id'. Did you mean 'ident'"),
    ],
)
def test_a_solution_that_does_not_fit(graded: Callable, content: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        graded(content)


def test_a_solution_of_json_for_tables(graded: Callable) -> None:
    with pytest.raises(ProjectError, match=r"solution: .*\.json is no table, and the layout csv needs one"):
        graded("[]", "solution.json")


# COCO --------------------------------------------------------------------------------------------------------


@pytest.fixture
def coco(write: Callable, picture: Callable) -> Callable[..., None]:
    for name in ("a.png", "b.png", "c.png"):
        picture(f"images/{name}")

    def save(annotations: list[dict], name: str = "train.json", images: dict[Any, str] | None = None) -> None:
        images = {7: "a.png", 8: "b.png"} if images is None else images
        listed = [{"id": key, "file_name": file} for key, file in images.items()]
        write(name, json.dumps({"images": listed, "annotations": annotations}, ensure_ascii=False))

    save([], "test.json", {9: "c.png"})
    return save


def said(image: Any, caption: Any, number: int) -> dict:
    return {"image_id": image, "caption": caption, "id": number}


def test_coco_captions(make: Callable, coco: Callable) -> None:
    coco([said(7, "개", 1), said(8, "새 ", 2), said(7, "큰 개", 3), said(99, "곰", 4), said(8, None, 5), said(8, 3, 6)])
    manifest = read_manifest(make("coco"))
    assert captions(manifest) == {"7": ["개", "큰 개"], "8": ["새"]}
    assert sorted(reports(manifest)) == [
        ("train.json annotation 2", "8", "the caption has space at an end", "cleaned"),
        ("train.json annotation 4", None, "no image has the id 99", "set aside"),
        ("train.json annotation 5", "8", "the caption is empty", "set aside"),
        ("train.json annotation 6", "8", "the caption is no text but 3", "set aside"),
    ]
    for kind, ids in (("stem", ["a", "b", "c"]), ("file_name", ["a.png", "b.png", "c.png"])):
        manifest = read_manifest(make("coco", id=kind))
        assert manifest["id"].tolist() == ids and list(captions(manifest).values()) == [["개", "큰 개"], ["새"]]
    assert read_solution(make("coco")) is None


def test_coco_test_captions_grade_and_do_not_enter_the_manifest(make: Callable, coco: Callable) -> None:
    coco([said(7, "개", 1)])
    coco([said(9, "곰", 1)], "test.json", {9: "c.png"})
    manifest = read_manifest(make("coco"))
    assert "곰" not in manifest.to_json() and read_solution(make("coco"))["captions"].tolist() == [["곰"]]


@pytest.mark.parametrize("kind", ["whole", "annotations alone", "results", "table"])
def test_solutions_of_coco(make: Callable, coco: Callable, write: Callable, kind: str) -> None:
    """A file may list more images, by other numbers where ids are names."""
    coco([said(7, "개", 1)])
    name, spec = "solution.json", {}
    if kind == "whole":
        coco([said(70, "새", 1), said(90, "곰", 2), said(90, "곰 둘", 3)], name, {70: "b.png", 90: "c.png"})
        spec = {"id": "stem"}
    elif kind == "annotations alone":
        write(name, json.dumps({"annotations": [said(9, "곰", 1), said(9, "곰 둘", 2)]}))
    elif kind == "results":
        write(name, json.dumps([said(9, "곰", 1), said(9, "곰 둘", 2)]))
    else:
        name = "solution.csv"
        write(name, "id,caption\n9,곰\n9,곰 둘\n")
    solution = read_solution(make("coco", solution=name, **spec))
    assert solution["captions"].tolist() == [["곰", "곰 둘"]] and reports(solution) == []


def test_mistakes_in_coco(make: Callable, coco: Callable, write: Callable) -> None:
    coco([{"image_id": 7, "captions": "개"}])
    with pytest.raises(ProjectError, match=r"data\.train: no annotation in train\.json has a `caption`\..*'captions'"):
        read_manifest(make("coco"))
    coco([])
    with pytest.raises(ProjectError, match=r"data\.train: train\.json has no annotations"):
        read_manifest(make("coco"))
    coco([said(99, "곰", 1)])
    with pytest.raises(ProjectError, match=r"no training image has a caption: train\.json annotation 1: no image"):
        read_manifest(make("coco"))
    coco([said(7, {"ko": "개"}, 1)])
    with pytest.raises(ProjectError, match=r"annotation 1: 'caption' is an object, .*caption\.ko"):
        read_manifest(make("coco"))
    coco([said(7, "개", 1)], images={7: "a.png", 8: "x.png"})
    with pytest.raises(ProjectError, match=r"1 of 2 image files are missing .*train\.json image 8 'x\.png'"):
        read_manifest(make("coco"))
    write("train.json", "[]")
    with pytest.raises(ProjectError, match=r"data\.train: train\.json is a list, .* read by data\.layout: jsonl"):
        read_manifest(make("coco"))
    write("train.json", '{"images": [')
    with pytest.raises(ProjectError, match=r"train\.json is not JSON .*fetch it again"):
        read_manifest(make("coco"))


def test_coco_in_cp949(make: Callable, coco: Callable, write: Callable) -> None:
    document = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [said(1, "개가 달린다.", 1)]}
    write("train.json", json.dumps(document, ensure_ascii=False).encode("cp949"))
    assert captions(read_manifest(make("coco"))) == {"1": ["개가 달린다."]}


# records -----------------------------------------------------------------------------------------------------


@pytest.fixture
def records(write: Callable, picture: Callable) -> Callable[..., None]:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        picture(name)

    def save(items: list[dict], name: str = "train.jsonl", *, whole: bool = False) -> None:
        lines = [json.dumps(item, ensure_ascii=False) for item in items]
        write(name, json.dumps(items) if whole else "\n".join(lines) + "\n\n")

    save([{"id": "t", "input": {"image": "c"}, "output": None}], "test.jsonl")
    return save


def record(name: Any, image: str, output: Any, **more: Any) -> dict:
    return {"id": name, "input": {"image": image}, "output": output, **more}


@pytest.mark.parametrize("whole", [False, True])
def test_records(make: Callable, records: Callable, whole: bool) -> None:
    """Lines, or one list; texts, or lists of texts; a sentence with a line separator in it; records of one id."""
    items = [
        record("007", "a", ["개", "큰\u2028개", ""], lot=1),
        record(8, "b", "새", lot=2),
        record("007", "a", "작은 개", lot=1),
        record("x", "d", float("nan"), lot=None),
    ]
    records(items, whole=whole)
    manifest = read_manifest(make("jsonl", group="lot"))
    assert captions(manifest) == {"007": ["개", "큰 개", "작은 개"], "8": ["새"], "x": []}
    assert manifest["group"].tolist() == ["1", "2", None, None]
    where = "train.jsonl record 1" if whole else "train.jsonl:1"
    assert manifest["source"].iloc[0] == where and [report[:3] for report in reports(manifest)[:2]] == [
        (where, "007", "the caption has line break or tab"),
        (where, "007", "the caption is empty"),
    ]
    assert read_solution(make("jsonl", group="lot")) is None


def test_nested_keys(make: Callable, records: Callable) -> None:
    turns = [{"from": "human", "value": "무엇?"}, {"from": "gpt", "value": "개"}]
    records([{"a.b": "1", "img": {"file": "a.png"}, "turns": turns, "more": {"ko": ["큰 개"]}}])
    records([{"a.b": "2", "img": {"file": "c.png"}}], "test.jsonl")
    spec = make("jsonl", id="a.b", path="img.file", captions={"columns": ["turns.1.value", "more.ko"]})
    assert captions(read_manifest(spec)) == {"1": ["개", "큰 개"]}


def test_solutions_of_records(make: Callable, records: Callable, write: Callable) -> None:
    records([record("1", "a", "개")])
    records([record("t", "c", ["곰", "곰 둘"])], "test.jsonl")
    assert read_solution(make("jsonl"))["captions"].tolist() == [["곰", "곰 둘"]]
    assert "곰" not in read_manifest(make("jsonl")).to_json()
    records([record("t", "c", "소")], "answers.jsonl")
    assert read_solution(make("jsonl", solution="answers.jsonl"))["captions"].tolist() == [["소"]]
    write("answers.csv", "id,output\nt,말\n")
    assert read_solution(make("jsonl", solution="answers.csv"))["captions"].tolist() == [["말"]]
    records([record("t", "c", "곰"), record("u", "d", "")], "test.jsonl")
    with pytest.raises(ProjectError, match=r"data\.test: test\.jsonl has no caption for 1 of 2 test images: u"):
        read_solution(make("jsonl"))


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        ('{"id": "1", "input": {"image": "a"}, "output": "개"}\n{"id": "2', {}, r"train\.jsonl:2: not JSON \(Unterm"),
        ('[{"id": "1"},\n{"id": }]', {}, r"train\.jsonl:2: not JSON \(Expecting value, column 8\)"),
        ('{"images": [],\n "annotations": []}', {}, r"one object with the keys images, annotations.*layout coco"),
        ('"a"\n', {}, r"train\.jsonl:1: a str, where an object with keys is expected"),
        ("\n", {}, "is empty: no record"),
        (json.dumps(record("1", "a", "개")), {"id": "ident"}, r"train\.jsonl:1: no key 'ident', .*data\.id.*: id, in"),
        (json.dumps(record("1", "a", "개")), {"path": "{input.img}.png"}, "no key 'input.img'.*mean 'input.image'"),
        (json.dumps(record("1", "a", "개")), {"path": "{input}.png"}, r"'input'.*expected a text.*as in input\.image"),
        (json.dumps(record(True, "a", "개")), {}, "'id', which data.id names, is True"),
        (json.dumps(record("1", "x", "개")), {}, r"1 of 1 image files are missing .*train\.jsonl:1 'x\.png'"),
        (
            json.dumps(record("1", "a", "개")),
            {"captions": {"columns": ["outptu"]}},
            r"data\.captions\.columns: no record of train\.jsonl has the key 'outptu'\. Did you mean 'output'",
        ),
        (json.dumps(record("1", "a", {"ko": "개"})), {}, r"train\.jsonl:1: 'output' is an object.*output\.ko"),
        (json.dumps(record("1", "a", [])), {}, "no training image has a caption: train.jsonl:1 has none"),
    ],
)
def test_mistakes_in_records(
    make: Callable, records: Callable, write: Callable, lines: str, changes: dict, message: str
) -> None:
    write("train.jsonl", lines)
    with pytest.raises(ProjectError, match=message):
        read_manifest(make("jsonl", **changes))


# what the rest of the project does with it -------------------------------------------------------------------


def test_captions_count_for_the_hash(make: Callable, tables: Callable) -> None:
    tables("id,caption\n007,개\n8,새\n")
    first = data_hash(read_manifest(make("csv")))
    tables("id,caption\n8,새\n007,개\n")
    assert data_hash(read_manifest(make("csv"))) == first
    tables("id,caption\n007,개\n8,참새\n")
    assert data_hash(read_manifest(make("csv"))) != first


@pytest.fixture
def many() -> pd.DataFrame:
    """40 images of 10 groups, every tenth without captions, as `read_manifest` gives them."""
    rows = [
        {"id": f"{n:03d}", "split": "train", "target": None, "group": f"g{n % 10}" if n < 30 else None,
         "captions": [] if n % 10 == 9 else ["개"]}
        for n in range(40)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(label=pd.array([pd.NA] * 40, dtype="Int64"))


@pytest.mark.parametrize("one_class", [False, True])
def test_folds_of_captions(many: pd.DataFrame, one_class: bool) -> None:
    """Groups stay whole; every image is in a fold, and a hold-out has only images with captions."""
    folds = assign_folds(many, n_folds=4, seed=1, holdout=0.2, one_class=one_class)
    assert set(folds) == {0, 1, 2, 3} and folds.groupby(many["group"]).nunique().max() == 1
    assert folds.value_counts().max() <= 14
    held = assign_folds(many, n_folds=1, seed=1, holdout=0.2, one_class=one_class)
    assert set(held) == {-1, 0} and 4 <= (held == 0).sum() <= 12
    assert all(many.loc[held == 0, "captions"].map(len) > 0)
    assert held[many["captions"].map(len) > 0].groupby(many["group"]).nunique().max() == 1


def test_too_few_captioned_images_for_folds(many: pd.DataFrame) -> None:
    many["captions"] = [["개"]] * 3 + [[]] * 37
    with pytest.raises(ProjectError, match=r"folds=5 needs at least 5 captioned training groups, and there are 3"):
        assign_folds(many, n_folds=5, seed=1, holdout=0.2, one_class=False)


def test_a_hundred_thousand_rows(make: Callable, write: Callable, tmp_path: Path) -> None:
    """Nothing is done row by row with pandas or the file system: a few seconds, here with a wide margin."""
    (tmp_path / "images").mkdir()
    for n in range(2000):
        (tmp_path / "images" / f"{n:05d}.png").touch()
    lines = [f"{n % 1999:05d},사진 {n}번에는 개가 들판을 달린다." for n in range(100_000)]
    write("train.csv", "id,caption\n" + "\n".join(lines))
    write("test.csv", "id\n01999\n")
    start = time.perf_counter()
    manifest = read_manifest(make("csv", images="images"))
    took = time.perf_counter() - start
    assert len(manifest) == 2000 and sum(map(len, captions(manifest).values())) == 100_000
    assert took < 15


@pytest.mark.parametrize("name", ["captions_csv", "coco_captions", "captions_jsonl"])
def test_shipped_specs_work_as_they_stand(name: str, tmp_path: Path, write: Callable, picture: Callable) -> None:
    for image in ("images/007.jpg", "images/008.jpg"):
        picture(image)
    if name == "captions_csv":
        write("train.csv", "id,caption\n007,개\n")
        write("test.csv", "id\n008\n")
    elif name == "coco_captions":
        images = [{"id": 7, "file_name": "007.jpg"}, {"id": 8, "file_name": "008.jpg"}]
        write("train.json", json.dumps({"images": images[:1], "annotations": [said(7, "개", 1)]}))
        write("test.json", json.dumps({"images": images[1:]}))
    else:
        write("train.jsonl", json.dumps(record("007", "007", ["개"])))
        write("test.jsonl", json.dumps(record("008", "008", None)))
    manifest = read_manifest(read_competition(name, {"root": str(tmp_path)}))
    assert manifest["captions"].tolist() == [["개"], None]


def test_real_captions(shared_data: Path) -> None:
    root = shared_data / "korean_captions"
    overrides = {
        "root": str(root), "data.test": "val.csv", "data.id": "image_id", "data.path": "images/{image_id}",
        "data.captions": {"columns": ["caption"]}, "solution": "val.csv",
        "submission.columns": {"id": "image_id", "value": "caption"},
    }  # fmt: skip
    spec = read_competition("captions_csv", overrides)
    manifest, solution = read_manifest(spec), read_solution(spec)
    train = captions(manifest)
    assert (len(train), len(solution)) == (534, 100)
    assert sum(map(len, train.values())) == 701 and sum(map(len, solution["captions"])) == 125
    assert train["1119418776_58e4b93eac.jpg"][0] == "흑백 개가 들판을 달려가고 있다."
    assert manifest["id"].tolist()[534:] == solution["id"].tolist() and reports(manifest) == []
    assert set(assign_folds(manifest, n_folds=5, seed=0, holdout=0.2, one_class=False)) == set(range(5))
