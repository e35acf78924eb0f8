"""Captions as CSV, COCO JSON and JSONL: golden files, there and back, and every spoilt file refused with its line."""

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from src.captions.cleaning import clean_caption
from src.captions.degenerate import problems_of
from src.competition import Competition, SubmissionSpec
from src.data_spec import DataSpec
from src.errors import ProjectError
from src.submission.formats import FORMATS, check_columns, check_options, check_together, write_submission
from src.submission.formats.base import BadCell
from src.submission.formats.captions import read_caption
from src.submission.validate import read_values, submission_warnings, validate_submission

MakeSpec = Callable[..., Competition]
IDS = ["007", "12", "사진 3"]
TEXTS = ['소녀가 "안녕"이라고 쓴 칠판, 그 앞에 있다.', "빨간 사과 두 개가 놓여 있다.", "개 한 마리가 뛴다 🐕."]


def fail(key: str, problem: str) -> NoReturn:
    raise ProjectError(f"submission.{key}: {problem}")


@pytest.fixture
def make_spec(tmp_path: Path) -> MakeSpec:
    """A caption competition; `sample` and `test` are the texts of a sample submission and of a JSONL test file."""

    def make(
        form: str, *, sample: str | None = None, test: str | None = None, suffix: str = ".csv", **options: Any
    ) -> Competition:
        columns = {"id": "img_name", "value": "comments"} if form == "caption" else {}
        check_columns(form, columns, fail)
        checked = check_options(form, options, fail)
        check_together(form, columns, checked, fail)
        path = None
        if sample is not None:
            path = tmp_path / f"sample_submission{suffix}"
            path.write_text(sample, encoding="utf-8")
        if test is not None:
            (tmp_path / "test.jsonl").write_text(test, encoding="utf-8")
        layout = "csv" if test is None else "jsonl"
        return Competition(
            name="sentences",
            task="caption",
            root=tmp_path,
            data=DataSpec(layout=layout, train=f"train.{layout}", test=f"test.{layout}", id="id", path="file"),
            metric="cider_d",
            submission=SubmissionSpec(format=form, columns=columns, labels={}, sample=path, options=checked),
            solution=None,
            rules="none",
            bundled=False,
            source=tmp_path / "sentences.yaml",
        )

    return make


def test_golden_csv(make_spec: MakeSpec, tmp_path: Path) -> None:
    path = write_submission(tmp_path / "s.csv", IDS, TEXTS, make_spec("caption"))
    assert path.read_bytes() == (
        "img_name,comments\n"
        '007,"소녀가 ""안녕""이라고 쓴 칠판, 그 앞에 있다."\n'
        "12,빨간 사과 두 개가 놓여 있다.\n"
        "사진 3,개 한 마리가 뛴다 🐕.\n"
    ).encode()  # fmt: skip
    assert validate_submission(path, make_spec("caption"), IDS) == []
    assert read_values(path, make_spec("caption"), IDS) == dict(zip(IDS, TEXTS, strict=True))


def test_constants_stand_where_the_sample_has_them(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec("caption", constants={"mos": 5.0, "note": ""})
    path = write_submission(tmp_path / "s.csv", ["a", "b"], TEXTS[1:], spec)
    assert path.read_text("utf-8").splitlines()[:2] == ["img_name,comments,mos,note", f"a,{TEXTS[1]},5.0,"]
    sample = "img_name,mos,comments\nb,0,\na,0,\n"
    spec = make_spec("caption", constants={"mos": 5.0}, sample=sample)
    path = write_submission(tmp_path / "s.csv", ["a", "b"], TEXTS[1:], spec)
    assert path.read_text("utf-8") == f"img_name,mos,comments\nb,5.0,{TEXTS[2]}\na,5.0,{TEXTS[1]}\n"
    assert validate_submission(path, spec, ["a", "b"]) == [] and submission_warnings(path, spec, ["a", "b"]) == []
    assert read_values(path, spec, ["a", "b"]) == {"a": TEXTS[1], "b": TEXTS[2]}
    path.write_text(path.read_text("utf-8").replace("b,5.0", "b,good").replace("a,5.0", "a,4.25"), encoding="utf-8")
    (problem,) = validate_submission(path, spec, ["a", "b"])
    assert "column 'mos' is not a finite number (1): line 2 'good' (id 'b')" in problem
    for constants, message in (
        ({"comments": 1}, "submission.columns has a column of this name"),
        ({"mos": float("nan")}, "expected columns with the text or the number of every row"),
        ({"mos": True}, "expected columns with the text"),
        ("mos", "expected columns with the text"),
    ):
        with pytest.raises(ProjectError, match=message):
            make_spec("caption", constants=constants)


def test_golden_coco_and_pycocotools_loads_it(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec("coco_captions")
    path = write_submission(tmp_path / "s.json", ["42", "7"], TEXTS[:2], spec)
    assert path.read_text("utf-8") == (
        "[\n"
        '{"image_id": 42, "caption": "소녀가 \\"안녕\\"이라고 쓴 칠판, 그 앞에 있다."},\n'
        '{"image_id": 7, "caption": "빨간 사과 두 개가 놓여 있다."}\n'
        "]\n"
    )
    assert validate_submission(path, spec, ["7", "42"]) == [] and FORMATS["coco_captions"].suffix == ".json"
    assert read_values(path, spec, ["7", "42"]) == {"42": TEXTS[0], "7": TEXTS[1]}
    coco = pytest.importorskip("pycocotools.coco").COCO()
    coco.dataset = {"images": [{"id": 42}, {"id": 7}], "annotations": []}
    coco.createIndex()
    assert coco.loadRes(str(path)).imgToAnns[7][0]["caption"] == TEXTS[1]
    spec = make_spec("coco_captions", image_id="str")
    path = write_submission(tmp_path / "s.json", ["007"], TEXTS[:1], spec)
    assert json.loads(path.read_text("utf-8"))[0]["image_id"] == "007"
    assert validate_submission(path, spec, ["007"]) == []


RECORDS = [
    {"id": "gips-1", "input": {"image": "a.jpg", "kind": 3}, "output": ""},
    {"id": 12, "input": {"image": "b.jpg"}, "output": ["", ""], "weight": 0.5},
]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


@pytest.mark.parametrize(
    "given",
    [{"sample": LINES, "suffix": ".jsonl"}, {"test": LINES}, {"sample": json.dumps(RECORDS), "suffix": ".json"}],
)
def test_jsonl_keeps_every_record(given: dict[str, str], make_spec: MakeSpec, tmp_path: Path) -> None:
    spec, ids = make_spec("caption_jsonl", **given), ["12", "gips-1"]
    path = write_submission(tmp_path / "s.jsonl", ids, TEXTS[:2], spec)
    assert path.read_text("utf-8") == (
        '{"id": "gips-1", "input": {"image": "a.jpg", "kind": 3}, "output": "빨간 사과 두 개가 놓여 있다."}\n'
        '{"id": 12, "input": {"image": "b.jpg"}, "output": "소녀가 \\"안녕\\"이라고 쓴 칠판, 그 앞에 있다.", '
        '"weight": 0.5}\n'
    )
    assert validate_submission(path, spec, ids) == [] and submission_warnings(path, spec, ids) == []
    assert read_values(path, spec, ids) == {"gips-1": TEXTS[1], "12": TEXTS[0]}
    with pytest.raises(ProjectError, match="1 of its ids have no prediction: '12'; 1 predicted ids are not in it"):
        write_submission(tmp_path / "no.jsonl", ["13", "gips-1"], TEXTS[:2], spec)
    path.write_text("".join(reversed(path.read_text("utf-8").splitlines(keepends=True))), encoding="utf-8")
    (problem,) = validate_submission(path, spec, ids)
    assert "rows are in another order than expected: line 1 has id '12', expected 'gips-1'" in problem


def test_jsonl_with_other_keys_and_without_records(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec("caption_jsonl", id_key="meta.key", output_key="answer.text")
    path = write_submission(tmp_path / "s.jsonl", ["a"], TEXTS[:1], spec)
    assert json.loads(path.read_text("utf-8")) == {"meta": {"key": "a"}, "answer": {"text": TEXTS[0]}}
    assert validate_submission(path, spec, ["a"]) == [] and read_values(path, spec, ["a"]) == {"a": TEXTS[0]}
    spec = make_spec("caption_jsonl", id_key="idd", test=LINES)
    with pytest.raises(ProjectError, match="test.jsonl, line 1: no text or whole number under 'idd'. Did you mean"):
        write_submission(path, ["a"], TEXTS[:1], spec)
    spec = make_spec("caption_jsonl", sample="id,output\na,\n")
    with pytest.raises(ProjectError, match="line 1: cannot be parsed as JSON"):
        write_submission(path, ["a"], TEXTS[:1], spec)
    assert "the sample submission is unusable" in validate_submission(path, spec, ["a"])[0]
    spec = make_spec("caption_jsonl", sample=LINES, suffix=".jsonl")
    problems = validate_submission(path, spec, ["gips-1", "a"])
    assert "does not match the test table: ids that the table lacks (1): '12'" in problems[0]
    assert "does not match the test table: test ids that it lacks (1): 'a'" in problems[1]


def test_values_that_cannot_be_written(make_spec: MakeSpec, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    for value, message in (
        (None, r"the caption of '007' is NoneType \(None\), expected a text"),
        (["한 문장"], "the caption of '007' is list"),
        (" \u200b ", "the caption of '007' is empty"),
        ("NaN", "the caption of '007' is (empty|missing)"),
        ("개 <unk> 한 마리", "the caption of '007' holds a mark of the tokenizer"),
        ("개 \ufffd", "the caption of '007' holds a broken character"),
    ):
        for form, suffix in (("caption", ".csv"), ("caption_jsonl", ".jsonl")):
            with pytest.raises(ProjectError, match=message):
                write_submission(path.with_suffix(suffix), ["007"], [value], make_spec(form))
    with pytest.raises(ProjectError, match="the id '007a' is not a whole number.*image_id: str"):
        write_submission(path, ["007a"], TEXTS[:1], make_spec("coco_captions"))
    with pytest.raises(ProjectError, match="the ids '7' and '007' are one image_id"):
        write_submission(path, ["7", "007"], TEXTS[:2], make_spec("coco_captions"))
    assert not path.exists()


def test_the_writer_cleans(make_spec: MakeSpec, tmp_path: Path) -> None:
    untidy = unicodedata.normalize("NFD", "\ufeff개 한\u3000마리가\n뛴다.\r\n")
    path = write_submission(tmp_path / "s.csv", ["a"], [untidy], make_spec("caption"))
    assert path.read_text("utf-8") == "img_name,comments\na,개 한 마리가 뛴다.\n"


# text of a cell or a JSON string → what is said of it
SPOILT = [
    ("", "is empty"),
    ("  ", "is empty"),
    ("\u200b", "is empty"),
    ("nan", "is missing (NaN)"),
    ("None", "is missing (NaN)"),
    ("개 한 마리\n뛴다", "holds a line break or a tab"),
    ("개 한 마리\t뛴다", "holds a line break or a tab"),
    ("개 한 마리\u2028뛴다", "holds a line break or a tab"),
    ("개 한 \x08마리", "holds a control character"),
    (unicodedata.normalize("NFD", "개 한 마리"), "is not composed Unicode (NFC)"),
    ("개 <unk> 마리", "holds a mark of the tokenizer"),
    ("[PAD] 개 한 마리", "holds a mark of the tokenizer"),
    ("개 한 마리</s>", "holds a mark of the tokenizer"),
    ("개 한 마리<|endoftext|>", "holds a mark of the tokenizer"),
    ("▁개▁한▁마리", "holds a mark of the tokenizer"),
    ("개 한 마\ufffd", "holds a broken character"),
    ("['개 한 마리가 뛴다.']", "is a list in brackets"),
]


@pytest.mark.parametrize(("text", "message"), SPOILT)
def test_each_spoilt_text_is_refused_with_its_line(
    text: str, message: str, make_spec: MakeSpec, tmp_path: Path
) -> None:
    path, ids = tmp_path / "s.csv", ["1", "2", "3"]
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [("img_name", "comments"), ("1", TEXTS[0]), ("2", text), ("3", TEXTS[2])]
        csv.writer(file, lineterminator="\n").writerows(rows)
    (problem,) = validate_submission(path, make_spec("caption"), ids)
    assert message in problem and "(1): line 3" in problem and "(id '2')" in problem and problem.endswith(".")
    entries = [{"id": "1", "output": TEXTS[0]}, {"id": "2", "output": text}, {"id": "3", "output": TEXTS[2]}]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (problem,) = validate_submission(path, make_spec("caption_jsonl"), ids)
    assert f"entries whose 'output' {message} (1): line 2" in problem and "(id '2')" in problem
    coco = [{"image_id": int(entry["id"]), "caption": entry["output"]} for entry in entries]
    path.write_text("[\n" + ",\n".join(map(json.dumps, coco)) + "\n]")
    (problem,) = validate_submission(path, make_spec("coco_captions"), ids)
    assert f"entries whose 'caption' {message} (1): line 3" in problem and "(id '2')" in problem


def test_marks_that_are_refused_are_degenerate() -> None:
    for text, _ in SPOILT:
        try:
            read_caption(text)
        except BadCell as error:
            if "mark" in error.kind or "broken" in error.kind:
                assert "unknown" in problems_of(text)


GOOD_CSV = "img_name,comments\n1,개 한 마리.\n2,사과.\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD_CSV.replace("개 한", "개, 한"), "rows do not have 2 cells (1): line 2 has 3. Quote cells that contain"),
        (GOOD_CSV.replace("개 한 마리.", '"개 "한" 마리."'), "line 2: cannot be parsed as CSV"),
        (GOOD_CSV.replace("2,", "1,"), "ids appear more than once (1): '1' (lines 2, 3)"),
        (GOOD_CSV.replace("2,사과.\n", ""), "ids are missing (1): '2'"),
        (GOOD_CSV.replace("comments", "caption"), "line 1: found column 'caption' where 'comments' is expected"),
        (GOOD_CSV.encode("cp949"), "line 2: the bytes are not UTF-8. It looks like CP949"),
        (b"\xef\xbb\xbf" + GOOD_CSV.encode(), "line 1: the file begins with a byte order mark"),
    ],
)
def test_spoilt_csv(content: str | bytes, message: str, make_spec: MakeSpec, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = validate_submission(path, make_spec("caption"), ["1", "2"])
    assert any(message in problem for problem in problems), problems


COCO = '[\n{"image_id": 1, "caption": "개 한 마리."},\n{"image_id": 2, "caption": "사과."}\n]\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"image_id": 2', '"image_id": 1', "ids appear more than once (1): '1' (lines 2, 3)"),
        ('"image_id": 2', '"image_id": 3', "ids are not in the test set (1): line 3 '3'"),
        ('"image_id": 2', '"image_id": "2"', "have an image_id that is not a whole number (1): line 3 '2'"),
        ('"image_id": 2', '"image_id": 2.0', "have an image_id that is not a whole number (1): line 3 2.0"),
        ('"image_id": 2', '"id": 2', "lack 'image_id' (1): line 3"),
        ('"caption": "사', '"captions": "사', "lack 'caption' (1): line 3 Did you mean 'captions'? (id '2')"),
        ('"사과."', "NaN", "have a 'caption' that is no text (1): line 3 nan (id '2')"),
        ('"사과."', '["사과."]', "have a list as 'caption' (1): line 3 ['사과.'] (id '2')"),
        ('"사과."', '"\\ud83d"', "whose 'caption' holds a broken character (1): line 3"),
        ('"사과."}', '"사과."},', "line 4: cannot be parsed as JSON"),
        ("},\n", "}\n", "line 3: cannot be parsed as JSON (Expecting ',' delimiter)"),
        ("]\n", "]]", "line 4: cannot be parsed as JSON (Extra data)"),
        ('{"image_id": 2, "caption": "사과."}', "3", "entries are not objects (1): line 3 3"),
        (',\n{"image_id": 2, "caption": "사과."}', "", "ids are missing (1): '2'"),
        ("[\n", '{"annotations": [\n', "cannot be parsed as JSON"),
    ],
)
def test_spoilt_coco(old: str, new: str, message: str, make_spec: MakeSpec, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(COCO, encoding="utf-8")
    assert validate_submission(path, make_spec("coco_captions"), ["2", "1"]) == []
    assert old in COCO
    path.write_text(COCO.replace(old, new), encoding="utf-8")
    problems = validate_submission(path, make_spec("coco_captions"), ["2", "1"])
    assert any(message in problem for problem in problems), problems


JSONL = '{"id": "1", "output": "개 한 마리."}\n{"id": 2, "output": "사과."}\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"사과."', '"사과', "line 2: cannot be parsed as JSON"),
        ('"id": 2', '"id": "2"', "have an 'id' of another type (1): line 2 '2'. Write 2"),
        ('"id": 2', '"id": null', "lack 'id' (1): line 2"),
        ('"id": 2', '"id": 2.5', "have an 'id' that is no text and no whole number (1): line 2 2.5"),
        ('"id": 2', '"id": 3', "ids are not in the test set (1): line 2 '3'"),
        ('"output": "사', '"answer": "사', "lack 'output' (1): line 2"),
        ('"사과."', '["사과."]', "have a list as 'output' (1): line 2 ['사과.'] (id '2')"),
        ('{"id": 2, "output": "사과."}\n', "", "ids are missing (1): '2'"),
        ("}\n{", "}\n\n{", "line 2: is blank"),
        ("}\n{", "}{", "line 1: cannot be parsed as JSON (Extra data)"),
    ],
)
def test_spoilt_jsonl(old: str, new: str, message: str, make_spec: MakeSpec, tmp_path: Path) -> None:
    path, spec = tmp_path / "s.jsonl", make_spec("caption_jsonl", sample=JSONL, suffix=".jsonl")
    path.write_text(JSONL, encoding="utf-8")
    assert validate_submission(path, spec, ["1", "2"]) == []
    assert old in JSONL
    path.write_text(JSONL.replace(old, new), encoding="utf-8")
    problems = validate_submission(path, spec, ["1", "2"])
    assert any(message in problem for problem in problems), problems
    path.write_text(json.dumps([{"id": "1", "output": "개."}]))
    assert "the file is one JSON list" in validate_submission(path, spec, ["1", "2"])[0]
    path.write_text("")
    assert "the file is empty" in validate_submission(path, spec, ["1", "2"])[0]


def test_warnings(make_spec: MakeSpec, tmp_path: Path) -> None:
    ids = [str(number) for number in range(12)]
    path, spec = tmp_path / "s.csv", make_spec("caption")

    def warnings(texts: list[str]) -> list[str]:
        return submission_warnings(write_submission(path, ids, texts, spec), spec, ids)

    sound = [f"사과 {number} 개가 놓여 있다." for number in range(12)]
    assert warnings(sound) == []
    assert "all 12 rows have the same value (개 한 마리가 뛴다.)" in warnings(["개 한 마리가 뛴다."] * 12)[0]
    assert "one sentence stands for 6 of 12 images" in warnings(sound[:6] + ["개가 뛴다."] * 6)[0]
    (warning,) = warnings([*sound[:11], ", , ,"])
    assert warning == "1 of 12 captions look degenerate (punctuation): '11' has ', , ,'."
    assert "degenerate (latin)" in warnings([*sound[:11], "a dog runs on the grass"])[0]
    english = [f"A dog runs past {number} trees." for number in range(12)]
    assert warnings(english) == []
    path.write_text("img_name,comments\n1,개 한\u3000마리가 뛴다.\n2,사과.\n", encoding="utf-8")
    assert "1 of 2 captions hold an odd space: '1' has" in submission_warnings(path, spec, ["1", "2"])[0]
    sample = write_submission(tmp_path / "a.json", ids, sound, make_spec("coco_captions")).read_text("utf-8")
    spec, path = make_spec("coco_captions", sample=sample, suffix=".json"), tmp_path / "s.json"
    assert submission_warnings(write_submission(path, ids, sound, spec), spec, ids) == [
        "the file equals the sample submission."
    ]
    assert "all 12 images have the same value" in warnings(["개가 뛴다."] * 12)[0]


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40) | st.text(
    st.sampled_from(list('가힣a1 ",\n\r;\'\\[]<>🐕\u200d\u0301\u1112\u1161\u11ab\u3000')), min_size=1, max_size=20
)


@pytest.mark.parametrize(
    ("form", "suffix"), [("caption", ".csv"), ("coco_captions", ".json"), ("caption_jsonl", ".jsonl")]
)
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(texts: list[str], form: str, suffix: str, make_spec: MakeSpec, tmp_path: Path) -> None:
    spec, ids = make_spec(form), [str(number) for number in range(len(texts))]
    try:
        path = write_submission(tmp_path / f"s{suffix}", ids, texts, spec)
    except ProjectError:  # then the reader must refuse one of the cleaned texts
        with pytest.raises(BadCell):
            for text in texts:
                read_caption(clean_caption(text)[0])
        assume(False)
    assert validate_submission(path, spec, ids) == []
    assert read_values(path, spec, ids) == {
        name: clean_caption(text)[0] for name, text in zip(ids, texts, strict=True)
    }
