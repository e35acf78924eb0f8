"""`submission.options` and `submission.columns`: what each format takes, and what is said of the rest."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import yaml

from src.cli import CONF
from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import FORMATS, Context, check_columns, check_options


def fail(key: str, problem: str) -> NoReturn:
    raise ProjectError(f"submission.{key}: {problem}")


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("prediction_string", {"seperator": ","}, "has no such option. Did you mean 'separator'?"),
        ("score", {"decimals": 2}, "the format 'score' has no such option. It has none"),
        ("prediction_string", {"trailing_space": "yes"}, "expected true or false, found the text 'yes'"),
        ("prediction_string", {"separator": ""}, "expected a text that is not empty, in quotes, found an empty text"),
        ("prediction_string", {"box": "xyxyx"}, "expected xyxy or xywh or cxcywh, found the text 'xyxyx'"),
        ("prediction_string", {"decimals": True}, "expected a whole number, 0 or more, found the truth value true"),
        ("prediction_string", {"max_boxes": 0}, "expected a whole number, 1 or more, found the number 0"),
        ("prediction_string", {"min_score": 5}, "expected a number between 0 and 1, found the number 5"),
        ("prediction_string", {"labels": "names"}, "expected index, name, category_id, a whole number"),
        ("prediction_string", {"labels": {}}, "a mapping of class to text, found"),
        ("prediction_string", {"order": ["label", "score", "x1"]}, "options.order: its coordinates must be one of"),
        ("prediction_string", {"order": ["label", "label"]}, "none twice"),
        ("prediction_string", {"order": ["x", "y", "w", "h"], "box": "xyxy"}, "options.box: xyxy is not what options"),
        ("prediction_string", {"integer": True, "decimals": 1}, "options.integer: whole numbers have no decimals"),
        ("coco", {"image_id": "text"}, "expected int or str"),
        ("counts", {"decimals": 0}, "expected a whole number, 1 or more"),
        ("count_long", {"pattern": "{id}"}, "'{id}' must hold {id} and one field of the class"),
        ("count_long", {"pattern": "{id}_{klass}"}, "unknown field 'klass'. Did you mean 'class'?"),
        ("count_long", {"pattern": "{id"}, "As in '{id}_{class}'"),
        ("rle", {"pattern": "{id}_{class}"}, "must hold {id} once and no other field"),
        ("rle", {"pattern": "{id}_1", "rows": "instance"}, "rows of objects have none"),
        ("rle", {"encoding": "coco", "order": "row"}, "options.order: encoding: coco is always COCO's"),
        ("map_folder", {"pattern": "{parent}/x"}, "must hold {id}, or {name} and {parent}"),
        ("map_folder", {"pattern": "{nam}"}, "unknown field 'nam'. Did you mean 'name'"),
        ("map_folder", {"top": "../up"}, "options.top: '../up': expected folder names"),
        ("map_folder", {"write": "masks", "dtype": "float32"}, "options.dtype: write: masks leaves those files out"),
        ("map_folder", {"masks_suffix": ".jpg"}, "expected .png or .bmp or .tiff or .tif"),
        ("rle", {"index_base": 2}, "options.index_base: expected 0 or 1, found the number 2"),
    ],
)
def test_wrong_options(form: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        check_options(form, options, fail)
    assert message in str(caught.value)


def test_given_options_are_kept_and_null_is_not_given() -> None:
    options = {"order": ["label", "score", "x1", "y1", "x2", "y2"], "empty": "", "labels": 0, "decimals": None}
    kept = check_options("prediction_string", options, fail)
    assert kept == {"order": ["label", "score", "x1", "y1", "x2", "y2"], "empty": "", "labels": 0}


@pytest.mark.parametrize(
    ("form", "columns", "message"),
    [
        ("score", {"id": "id"}, "columns: the format 'score' needs 'value'"),
        ("counts", {"apple": "apple"}, "needs 'id'"),
        ("count", {"id": "id", "value": "n", "class": "c"}, "columns.class: the format 'count' has no such column"),
        ("rle", {"id": "id", "valu": "n"}, "needs 'value'"),
        ("rle", {"id": "id", "value": "n", "clas": "c"}, "columns.clas: the format 'rle' has no such column. Did you"),
        ("counts", {"id": "id", "apple": "id"}, "two columns are called 'id'"),
    ],
)
def test_wrong_columns(form: str, columns: dict[str, str], message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        check_columns(form, columns, fail)
    assert message in str(caught.value)


def test_shipped_specs_can_be_told_otherwise() -> None:
    """Their options are written out at their defaults, and one of them is then turned on the command line."""
    for name, changes in (
        ("masks_rle", {"encoding": "coco_json"}),
        ("masks_rle", {"rows": "instance"}),
        ("mvtec2", {"write": "masks"}),
        ("mvtec2", {"write": "maps", "archive": "zip"}),
    ):
        shipped = yaml.safe_load((CONF / "competition" / f"{name}.yaml").read_text(encoding="utf-8"))["submission"]
        check_options(shipped["format"], {**shipped["options"], **changes}, fail)


def test_every_default_is_a_value_that_the_option_takes(make_boxes_spec: Callable[..., Competition]) -> None:
    for name, grammar in FORMATS.items():
        for key, option in grammar.options.items():
            assert option.default is None or option.fits(option.default), (name, key)
        if name not in ("score", "label", "class"):
            columns = {"id": "id"} if name == "counts" else {} if name == "coco" else None
            assert grammar.expected(Context(make_boxes_spec(name, columns).submission, ("a",)))
            assert grammar.empty or "caption" in name  # an empty caption is an error, not a warning
