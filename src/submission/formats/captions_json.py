"""Captions as JSON: `coco_captions` (a list of results) and `caption_jsonl` (a record a line, its answer filled in)."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.errors import ProjectError, nearest
from src.submission.formats import options as opt
from src.submission.formats.base import BadCell, Context
from src.submission.formats.captions import caption_doubts, read_caption, written
from src.submission.formats.coco import image_id_of, names_of
from src.submission.formats.whole_file import WholeFile
from src.submission.json_reading import Record, read_either, read_lines, read_list
from src.submission.reading import listed
from src.submission.row_ids import id_problems, sample_problems

_Fault = tuple[str, str]  # kind and remedy; equal ones are one problem of the file


class _Captions(WholeFile):
    """What both share: one text a record, records told apart by their id."""

    def expected(self, context: Context) -> str:
        return "one sentence of composed Unicode on one line for each image"

    def doubts(self, values: Mapping[str, Any], context: Context) -> list[str]:
        return caption_doubts(values)


class CocoCaptions(_Captions):
    """[{"image_id": 1, "caption": "…"}, …], an entry an image in any order: what pycocotools' loadRes takes."""

    name = "coco_captions"
    suffix = ".json"
    options = {"image_id": opt.choice("int", "int", "str")}

    def content(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> str:
        names_of(ids, context)  # two ids of one number are refused
        lines = [
            json.dumps({"image_id": image_id_of(name, context), "caption": written(name, value)}, ensure_ascii=False)
            for name, value in zip(ids, values, strict=True)
        ]
        return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"

    def problems(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> list[str]:
        records, problems = read_list(path)
        if records is None:
            return problems
        kind = context.option("image_id")
        names = {} if ids is None else names_of(ids, context)

        def identify(record: dict[str, Any]) -> str:
            value = record["image_id"]
            if type(value).__name__ != kind:
                words = "a whole number" if kind == "int" else "a text"
                remedy = f"Write it as {words}, or say what the competition's ids are: submission.options.image_id"
                raise BadCell(f"have an image_id that is not {words}", remedy, repr(value))
            return names.get(value, str(value))

        found, more = _checked(records, identify, id_key="image_id", output_key="caption")
        expected = None if ids is None else list(ids)
        problems += id_problems(found, expected, complete=len(found) == len(records), ordered=False)
        return problems + more

    def values(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> dict[str, str]:
        records = read_list(path)[0] or []
        names = {} if ids is None else names_of(ids, context)
        return {
            names.get(record["image_id"], str(record["image_id"])): record["caption"] for _, record in records
        }


class CaptionJsonl(_Captions):
    """A JSON object a line: {"id": "…", …, "output": "…"}, as the National Institute of Korean Language asks for.

    Every record of the sample submission, or without one of a test file of the layout jsonl, is written as it is, in
    its order, with the answer in `output_key`. Without either a record is the id and the answer. Keys within objects
    are dotted, as in "output.text".
    """

    name = "caption_jsonl"
    suffix = ".jsonl"
    options = {"id_key": opt.text("id", empty=False), "output_key": opt.text("output", empty=False)}

    def content(self, ids: Sequence[str], values: Sequence[Any], context: Context) -> str:
        id_key, output_key = context.option("id_key"), context.option("output_key")
        text_of = {name: written(name, value) for name, value in zip(ids, values, strict=True)}
        template = self._template(context)
        if template is None:
            records = [(name, _with({}, id_key, name)) for name in ids]
        else:
            records = [(name, record) for _, name, record in template]
            _check_same(text_of, [name for name, _ in records], context)
        lines = [json.dumps(_with(of, output_key, text_of[name]), ensure_ascii=False) for name, of in records]
        return "".join(f"{line}\n" for line in lines)

    def problems(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> list[str]:
        id_key, output_key = context.option("id_key"), context.option("output_key")
        expected, problems, own = None if ids is None else list(ids), [], {}
        try:
            template = self._template(context)
        except ProjectError as error:
            template, problems = None, [f"the sample submission is unusable: {error}"]
        if template is not None:
            expected = [name for _, name, _ in template]
            own = {name: _at(record, id_key) for _, name, record in template}
            if ids is not None:
                problems += sample_problems(context.records.name, expected, ids)
        records, faults = read_lines(path)
        problems += faults
        if records is None:
            return problems

        def identify(record: dict[str, Any]) -> str:
            value = _at(record, id_key)
            name = _id_text(value)
            if name is None:
                remedy = "Write it as the test file does"
                raise BadCell(f"have an '{id_key}' that is no text and no whole number", remedy, f"{value!r:.40}")
            if name in own and type(value) is not type(own[name]):
                remedy = f"Write {own[name]!r}, as {context.records.name} does"
                raise BadCell(f"have an '{id_key}' of another type", remedy, repr(value))
            return name

        found, more = _checked(records, identify, id_key=id_key, output_key=output_key)
        repeats = expected is not None and len(set(expected)) < len(expected)
        complete = len(found) == len(records) and not faults
        return problems + id_problems(found, expected, complete=complete, repeats=repeats) + more

    def values(self, path: str | Path, ids: Sequence[str] | None, context: Context) -> dict[str, str]:
        id_key, output_key = context.option("id_key"), context.option("output_key")
        records = read_lines(path)[0] or []
        return {str(_at(record, id_key)): _at(record, output_key) for _, record in records}

    def _template(self, context: Context) -> list[tuple[int, str, dict[str, Any]]] | None:
        """(line, id, record) of the file whose records are repeated; None where there is none.

        Raises:
            ProjectError: it holds no JSON records, or one without an id.
        """
        path, id_key = context.records, context.option("id_key")
        if path is None:
            return None
        records, problems = read_either(path)
        if records is None or problems:
            raise ProjectError(f"{path}: {problems[0]} The format 'caption_jsonl' repeats its JSON records.")
        result = []
        for line, record in records:
            name = _id_text(_at(record, id_key)) if isinstance(record, dict) else None
            if name is None:
                keys = list(record) if isinstance(record, dict) else []
                raise ProjectError(
                    f"{path}, line {line}: no text or whole number under '{id_key}'.{nearest(id_key, keys)} Name the "
                    f"key of the ids: submission.options.id_key. Its keys: {', '.join(map(str, keys)) or 'none'}."
                )
            result.append((line, name, record))
        return result


def _checked(
    records: Sequence[Record], identify: Callable[[dict[str, Any]], str], *, id_key: str, output_key: str
) -> tuple[list[tuple[int, str]], list[str]]:
    """((line, id) of the records that have an id, what is wrong with records otherwise)."""
    found: list[tuple[int, str]] = []
    faults: dict[_Fault, list[str]] = {}
    for line, record in records:
        name = None
        try:
            _require(record, id_key, output_key, keys=(id_key,))
            name = identify(record)
            found.append((line, name))
            _require(record, id_key, output_key, keys=(output_key,))
            _read(_at(record, output_key), output_key)
        except BadCell as error:
            of = "" if name is None else f" (id '{name}')"
            part = "" if error.found is None else f" {error.found}"
            faults.setdefault((error.kind, error.remedy), []).append(f"line {line}{part}{of}")
    return found, [listed(f"entries {kind}", at, remedy) for (kind, remedy), at in faults.items()]


def _require(record: Any, id_key: str, output_key: str, *, keys: Sequence[str]) -> None:
    shape = f'{{"{id_key}": …, "{output_key}": "…"}}'
    if not isinstance(record, dict):
        raise BadCell("are not objects", f"Write {shape} for each image", f"{record!r:.40}")
    for key in keys:
        if _at(record, key) is None:
            raise BadCell(f"lack '{key}'", f"Every entry needs {shape}", nearest(key, record).strip() or None)


def _read(value: Any, key: str) -> None:
    if isinstance(value, list):
        raise BadCell(f"have a list as '{key}'", "Write one sentence alone, as a text", f"{value!r:.40}")
    if not isinstance(value, str):
        remedy = "Write the sentence as a text; NaN and null are missing ones"
        raise BadCell(f"have a '{key}' that is no text", remedy, f"{value!r:.40}")
    try:
        read_caption(value)
    except BadCell as error:
        found = f"{value[:40]!r}" if error.found is None else error.found
        raise BadCell(f"whose '{key}' {error.kind}", error.remedy, found) from None


def _check_same(predicted: Mapping[str, str], order: Sequence[str], context: Context) -> None:
    wanted = set(order)
    lacking = [repr(name) for name in dict.fromkeys(order) if name not in predicted]
    extra = [repr(name) for name in predicted if name not in wanted]
    parts = []
    if lacking:
        parts.append(f"{len(lacking)} of its ids have no prediction: {', '.join(lacking[:5])}")
    if extra:
        parts.append(f"{len(extra)} predicted ids are not in it: {', '.join(extra[:5])}")
    if parts:
        raise ProjectError(
            f"the predictions do not match the records of {context.records}: {'; '.join(parts)}. Predict the "
            "competition's own test images (infer.py run=… without images=), or correct submission.options.id_key."
        )


def _at(record: Any, dotted: str) -> Any:
    """What lies under a dotted key; None where there is nothing."""
    if isinstance(record, dict) and dotted in record:
        return record[dotted]
    for key in dotted.split("."):
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _with(record: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """A copy of the record with a value under a dotted key."""
    key, _, rest = (dotted, "", "") if dotted in record else dotted.partition(".")
    if not rest:
        return {**record, key: value}
    inner = record.get(key)
    return {**record, key: _with(inner if isinstance(inner, dict) else {}, rest, value)}


def _id_text(value: Any) -> str | None:
    if isinstance(value, str) and value:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
