"""The manifest: every layout (csv, folder, mvtec, coco, voc, yolo, jsonl) read into one table, a row an image.

Columns, always all present: `id` str, `path` str (absolute), `split` "train" | "test", `target` str | None,
`label` Int64 (0 normal, 1 anomalous, <NA> unknown), `group` str | None, `mask` str | None (absolute),
`source` str (the row or file it comes from, for messages). Train rows first; within a split the order of the
table, or natural order by name. Ids are unique within a split.

The task anomaly adds `category`: str | None (of test rows too where the files name it), and `attrs`: "target_pattern",
that of the spec or None; "classes", the distinct training targets in natural order, where the submission's format is
`class`.

The task detection adds those of `src.annotations.targets` (boxes, labels, counts, sizes …) and `attrs`: "classes", the
names that labels index; "category_ids", the numbers that the files call them by; "box_reports", what was mended or set
aside.

The task caption adds `captions`: list[str], cleaned (`src.captions.cleaning`) and all different, [] where a training
image has none; None for test images; and `attrs["caption_reports"]`, a list of {source, id, problem, action}.

What is known of the test images never enters: `read_solution` reads it, for grading alone.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.annotations import captions
from src.annotations.targets import TARGET_COLUMNS, read_answered, read_splits
from src.competition import Competition
from src.competition_files import check_files
from src.errors import ProjectError
from src.layouts import read_answers, read_rows
from src.row_targets import answer_targets, check_test_categories, class_names, train_targets
from src.rows import Rows
from src.tables import differing_ids

COLUMNS = ("id", "path", "split", "target", "label", "group", "mask", "source")
ANOMALY_COLUMNS = (*COLUMNS, "category")


def read_manifest(spec: Competition) -> pd.DataFrame:
    """Both splits of a competition; of the test split only `id`, `path`, `source` and perhaps `category` are known.

    Raises:
        ProjectError: whatever a spec's files can have wrong (`check_files`, `read_rows`, the readers of
            `src.annotations`), targets of the task anomaly that cannot be used (`train_targets`), a category of test
            images that no training image has, no caption for the task caption.
    """
    check_files(spec)
    if spec.task == "detection":
        return _detection_manifest(spec)
    if spec.task == "caption":
        return _caption_manifest(spec)
    train, test = read_rows(spec, "train"), read_rows(spec, "test")
    labels, categories = train_targets(spec, train)
    check_test_categories(spec, categories, test)
    frames = [
        _frame(train, "train", labels).assign(category=_column("category", categories)),
        _frame(test, "test", [pd.NA] * len(test.ids)).assign(category=_column("category", test.categories)),
    ]
    manifest = pd.concat(frames, ignore_index=True)
    manifest.attrs["target_pattern"] = spec.data.target_pattern
    if spec.submission.format == "class":
        manifest.attrs["classes"] = class_names(train.targets)
    return manifest


def read_solution(spec: Competition) -> pd.DataFrame | None:
    """For grading: `id`, `target`, `label` (Int64), `mask` and `category` of the test images, in the test's order.

    From the solution table, else (folder, mvtec) from the names of the test's sub-folders and the ground
    truth; None when there is neither.

    For the task detection: `id`, `boxes`, `labels`, `ignored`, `counts`, as in the manifest (boxes None where the
    solution has counts alone), and the manifest's `attrs`. From the solution table or JSON, else from the annotations
    of the test images (coco, voc, yolo).

    For the task caption: `id`, `captions` (one or more for each image), and `attrs["caption_reports"]`. From the
    solution file, else from the captions of the test file (coco, jsonl), if it has any.

    Raises:
        ProjectError: the solution's ids are not the test's, a row has no target or no caption, a mask is missing.
    """
    if spec.task == "detection":
        return _detection_solution(spec)
    if spec.task == "caption":
        return _caption_solution(spec)
    answers = read_answers(spec)
    if answers is None:
        return None
    test = read_rows(spec, "test") if spec.solution is not None else None
    train = read_rows(spec, "train") if spec.data.target_pattern is not None else None
    order = answers.ids if test is None else test.ids
    place = {value: row for row, value in enumerate(answers.ids)}
    difference = differing_ids(place, order)
    if difference:
        problem = f"{spec.solution} does not fit the test set: {difference}. It needs one row for each image."
        raise spec.error("solution", problem)
    rows = [place[value] for value in order]
    labels, categories = answer_targets(spec, answers, test, train)
    return pd.DataFrame(
        {
            "id": pd.Series(order, dtype=object),
            "target": pd.Series([answers.targets[row] for row in rows], dtype=object),
            "label": pd.array([labels[row] for row in rows], dtype="Int64"),
            "mask": pd.Series([answers.masks[row] for row in rows], dtype=object),
            "category": _column("category", [categories[row] for row in rows]),
        }
    )


def require_classes(manifest: pd.DataFrame) -> None:
    """For methods that learn from defects: both classes must be among the training labels.

    Raises:
        ProjectError: only one class, or no labels at all.
    """
    labels = manifest.loc[manifest["split"] == "train", "label"]
    normal, anomalous = int((labels == 0).sum()), int((labels == 1).sum())
    if not normal or not anomalous:
        raise ProjectError(
            f"two classes are needed, and the training set has {normal} normal and {anomalous} anomalous "
            "images. Label some of the missing class, correct competition.data.normal, or choose a model "
            "that learns from normal images alone, such as model=patchcore."
        )


def data_hash(manifest: pd.DataFrame) -> str:
    """sha256 over splits, ids, paths relative to their common folder, file sizes and targets; 64 hex digits.

    The same wherever the data lies and in whatever order the rows are. Contents are not read: a file replaced
    by another of the same size goes unnoticed. Categories, boxes, labels, counts, tags and captions count too, where
    there are any.

    Raises:
        ProjectError: an image has vanished since the manifest was read.
    """
    paths = manifest["path"].tolist()
    start = len(os.path.commonpath(paths)) if paths else 0
    lines = []
    objects = _further_lines(manifest)
    columns = (manifest[name] for name in ("split", "id", "target", "path", "source"))
    for row, (split, identifier, target, path, source) in enumerate(zip(*columns, strict=True)):
        try:
            size = Path(path).stat().st_size
        except OSError as error:
            raise ProjectError(f"{source}: {path} is gone ({error.strerror}). Put it back.") from error
        lines.append(repr((split, identifier, path[start:], size, target)) + (objects[row] if objects else ""))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _detection_manifest(spec: Competition) -> pd.DataFrame:
    train, test, targets, attributes = read_splits(spec)
    frames = []
    for rows, split in ((train, "train"), (test, "test")):
        frame = _frame(rows, split, [pd.NA] * len(rows.ids))
        frames.append(frame.assign(**{name: _column(name, targets[split][name]) for name in TARGET_COLUMNS}))
    manifest = pd.concat(frames, ignore_index=True)
    manifest.attrs.update(attributes)
    return manifest


def _detection_solution(spec: Competition) -> pd.DataFrame | None:
    answered = read_answered(spec)
    if answered is None:
        return None
    ids, targets, attributes = answered
    names = ("boxes", "labels", "ignored", "counts")
    solution = pd.DataFrame({"id": _column("id", ids), **{name: _column(name, targets[name]) for name in names}})
    solution.attrs.update(attributes)
    return solution


def _caption_manifest(spec: Competition) -> pd.DataFrame:
    train, test, texts, reports = captions.read_splits(spec)
    frames = [
        _frame(rows, split, [pd.NA] * len(rows.ids)).assign(captions=_column("captions", values))
        for rows, split, values in ((train, "train", texts), (test, "test", [None] * len(test.ids)))
    ]
    manifest = pd.concat(frames, ignore_index=True)
    manifest.attrs["caption_reports"] = reports
    return manifest


def _caption_solution(spec: Competition) -> pd.DataFrame | None:
    answered = captions.read_answered(spec)
    if answered is None:
        return None
    ids, texts, reports = answered
    solution = pd.DataFrame({"id": _column("id", ids), "captions": _column("captions", texts)})
    solution.attrs["caption_reports"] = reports
    return solution


def _column(name: str, values: Sequence) -> pd.Series:
    if name in ("width", "height"):
        return pd.Series(pd.array(values, dtype="Int64"))
    column = np.empty(len(values), dtype=object)  # filled one by one: arrays of one shape would be made into one
    for row, value in enumerate(values):
        column[row] = value
    return pd.Series(column, dtype=object)


def _further_lines(manifest: pd.DataFrame) -> list[str]:
    """What is known of each row's category, objects and captions as text; empty where nothing is."""
    names = [name for name in ("boxes", "labels", "ignored", "counts", "tags", "captions") if name in manifest]
    if not names:
        known = manifest["category"].tolist() if "category" in manifest else []
        return [repr(category) for category in known] if any(category is not None for category in known) else []
    classes = manifest.attrs.get("classes", [])
    columns = (manifest[name] for name in names)
    return [repr((classes, [_plain(value) for value in row])) for row in zip(*columns, strict=True)]


def _plain(value: np.ndarray | list[str] | None) -> list | None:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _frame(rows: Rows, split: str, labels: Sequence) -> pd.DataFrame:
    values = {
        "id": rows.ids,
        "path": rows.paths,
        "split": [split] * len(rows.ids),
        "target": rows.targets,
        "label": labels,
        "group": rows.groups,
        "mask": rows.masks,
        "source": rows.sources,
    }
    # Objects, not pandas 3's own strings: those would turn None into NaN, and differ between pandas 2 and 3.
    return pd.DataFrame(
        {name: pd.Series(values[name], dtype="Int64" if name == "label" else object) for name in COLUMNS}
    )
