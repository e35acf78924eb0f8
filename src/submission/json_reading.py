"""Submissions that are JSON: a list of entries, or an object a line; each entry with its line in the file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = tuple[int, Any]  # the line where an entry begins, counted from 1, and the entry
_WRITE = "Write it with json.dump"
_BLANKS = " \t\r\n"  # what JSON takes for white space


def read_list(path: str | Path) -> tuple[list[Record] | None, list[str]]:
    """(the entries of a JSON list, or None where the file is none; its problems so far)."""
    text, problems = _text(path)
    if text is None:
        return None, problems
    try:
        if text.lstrip(_BLANKS).startswith("["):
            return _items(text), problems
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}: cannot be parsed as JSON ({error.msg})"
        return None, [*problems, f"{where}. {_WRITE}."]
    except RecursionError:
        return None, [*problems, f"the file is nested too deeply to be a list of entries. {_WRITE}."]
    if isinstance(data, dict) and "annotations" in data:
        return None, [*problems, "the file holds a COCO data set, expected the list of results alone. Write that."]
    return None, [*problems, f"the file holds a JSON {type(data).__name__}. Expected a list of entries."]


def read_lines(path: str | Path) -> tuple[list[Record] | None, list[str]]:
    """(the values of a JSONL file's lines, or None where the file is none; its problems so far).

    A line that cannot be parsed is left out and named among the problems; blank lines at the end are fine.
    """
    text, problems = _text(path)
    if text is None:
        return None, problems
    if not text.strip():
        return None, [*problems, "the file is empty. Expected a JSON object a line."]
    if text.lstrip(_BLANKS).startswith("["):
        remedy = "Write each with json.dumps(record, ensure_ascii=False), and a line break after it"
        return None, [*problems, f"the file is one JSON list, expected an object a line. {remedy}."]
    records = []
    for line, part in enumerate(text.rstrip(_BLANKS).split("\n"), 1):
        if not part.strip(_BLANKS):
            problems.append(f"line {line}: is blank. Remove it.")
            continue
        try:
            records.append((line, json.loads(part)))
        except json.JSONDecodeError as error:
            remedy = "Write each line with json.dumps, which escapes quotes and line breaks"
            problems.append(f"line {line}: cannot be parsed as JSON ({error.msg}). {remedy}.")
        except RecursionError:
            problems.append(f"line {line}: is nested too deeply. Write each line with json.dumps.")
    return records, problems


def read_either(path: str | Path) -> tuple[list[Record] | None, list[str]]:
    """The entries of a file that is a JSON list or has an object a line."""
    text, problems = _text(path)
    if text is None:
        return None, problems
    return read_list(path) if text.lstrip(_BLANKS).startswith("[") else read_lines(path)


def places(lines: Sequence[int]) -> str:
    """ "line 3", "lines 3, 7"."""
    return f"line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines))}"


def _text(path: str | Path) -> tuple[str | None, list[str]]:
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        return None, [f"the file {path} {kind}. Check the path, or make it: python make_submission.py runs=[…]."]
    content = path.read_bytes()
    problems = []
    if content.startswith(b"\xef\xbb\xbf"):
        problems.append("the file begins with a byte order mark, which JSON does not have. Save it as plain UTF-8.")
        content = content[3:]
    try:
        return content.decode("utf-8"), problems
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, [*problems, f"line {line}: the bytes are not UTF-8. {_WRITE}, in a file opened as UTF-8."]


def _items(text: str) -> list[Record]:
    """The elements of a list, one after another, so that the place of each is known."""
    decoder = json.JSONDecoder()
    at, line, seen = _past_blanks(text, text.index("[") + 1), 1, 0
    found: list[Record] = []
    while text[at : at + 1] != "]":
        if found:
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _past_blanks(text, at + 1)
        line, seen = line + text.count("\n", seen, at), at
        value, at = decoder.raw_decode(text, at)
        found.append((line, value))
        at = _past_blanks(text, at)
    rest = _past_blanks(text, at + 1)
    if rest != len(text):
        raise json.JSONDecodeError("Extra data", text, rest)
    return found


def _past_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at
