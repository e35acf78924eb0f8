"""The competition spec as typed dataclasses: tables, ids, target, metric, grammar, rules; validated on load.

A spec is a YAML file under conf/competition/ (`forkme.yaml` is the commented minimum). Whatever is wrong with
one is a ProjectError that names the file, the dotted key, what was found and what to type.
"""

import os.path
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.competition_files import ROOT_REMEDY, check_files
from src.errors import ProjectError, nearest
from src.listing import locate, relative_under
from src.section import REQUIRED, Section, shown

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "conf" / "competition"
TASKS = ("anomaly", "detection", "caption")
LAYOUTS = ("csv", "folder", "mvtec")
RULES = ("dacon", "kaggle", "none")
SAMPLE_PREFIX = "sample_"  # the competitions that this project makes itself

KEYS = ("name", "task", "root", "bundled", "data", "metric", "submission", "rules")
KEYS += ("sample_submission", "solution")
DATA_KEYS = {
    "csv": ("layout", "train", "test", "images", "id", "path", "target", "normal", "group", "mask"),
    "folder": ("layout", "train", "test", "normal"),
    "mvtec": ("layout", "train", "test", "normal", "mask"),
}
NORMAL_REMEDY = "List the target values that mean normal, as in normal: [good]."


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where tables and images lie; a column is None where the layout or the competition has none.

    train, test: csv: a table; folder and mvtec: a folder. Like `images`, relative to the root.
    path: a column, or a template over columns such as "{split}/{id}.png" ("split" is "train" or "test",
        unless the table has such a column).
    normal: target values that mean normal; everything else is a defect.
    mask: csv: a column of mask paths; mvtec: the folder of ground truth.
    """

    layout: str
    train: str
    test: str
    images: str = "."
    id: str | None = None
    path: str | None = None
    target: str | None = None
    normal: tuple[str, ...] = ()
    group: str | None = None
    mask: str | None = None

    def path_parts(self) -> list[tuple[str, str | None]]:
        """`path` as (literal text, column that follows or None) pairs; a plain column is [("", column)]."""
        if self.path is None:
            return []
        if "{" not in self.path:
            return [("", self.path)]
        return [(literal, column) for literal, column, _, _ in string.Formatter().parse(self.path)]


@dataclass(frozen=True, kw_only=True)
class SubmissionSpec:
    """Grammar of a submission row.

    columns: {"id": header, "value": header}, in the order in which they are written.
    labels: {"normal": text, "anomalous": text}; what the format `label` writes.
    sample: absolute path of the competition's sample submission, or None: rows in test-table order.
    """

    format: str
    columns: dict[str, str]
    labels: dict[str, str]
    sample: Path | None


@dataclass(frozen=True, kw_only=True)
class Competition:
    """One competition. `root` and `solution` are absolute; `source` is the YAML file, for messages."""

    name: str
    task: str
    root: Path
    data: DataSpec
    metric: str
    submission: SubmissionSpec
    solution: Path | None
    rules: str
    bundled: bool
    source: Path

    @property
    def solution_columns(self) -> tuple[str, str]:
        """(id, target) columns of the solution table: the data's own names, else those of a submission."""
        columns = self.submission.columns
        return self.data.id or columns["id"], self.data.target or columns["value"]

    @property
    def images_root(self) -> Path:
        """Folder that the path and mask columns are relative to (`data.images`)."""
        return self.locate(self.data.images)

    def locate(self, relative: str) -> Path:
        """Absolute path below the root; on the disk the name may have the other Unicode form."""
        return locate(self.root, relative)

    def error(self, key: str, problem: str) -> ProjectError:
        """A ProjectError about one key of this spec."""
        return ProjectError(f"{shown(self.source, REPOSITORY)}: {key}: {problem}")


def load_competition(config: dict[str, Any], *, source: str | Path) -> Competition:
    """Check a plain dict (Hydra's, resolved, or a YAML file's) and the files that it names.

    A value "???" counts as not given. The files of a bundled competition are not looked for here, since they
    may yet have to be made; `check_files` does, and `read_manifest` calls it.

    Raises:
        ProjectError: an unknown, missing or ill-typed key, an unknown choice, a path that leaves the root, a
            root, table or column that does not exist.
    """
    top = Section(config, KEYS, shown(source, REPOSITORY))
    name = top.text("name")
    bundled = top.flag("bundled", False)
    if bundled and not name.startswith(SAMPLE_PREFIX):  # a copied sample: its weights policy is not a user's
        top.fail("bundled", "true is for the samples that this project makes itself. Remove the line.")
    task = top.text("task", choices=TASKS)
    root = _root(top)
    spec = Competition(
        name=name,
        task=task,
        root=root,
        data=_data(top, root, task),
        metric=_metric(top),
        submission=_submission(top, root),
        solution=_file(top, "solution", root),
        rules=top.text("rules", "none", choices=RULES),
        bundled=bundled,
        source=Path(source),
    )
    if not bundled:
        check_files(spec)
    return spec


def available_competitions() -> list[str]:
    """Names under conf/competition, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def from_config(config: dict[str, Any]) -> Competition:
    """The competition of a composed configuration, or of one kept in a run; messages name the YAML it came from."""
    return load_competition(config, source=FOLDER / f"{config.get('name', 'competition')}.yaml")


def read_competition(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Competition:
    """Load a spec without Hydra: a name under conf/competition, or the path of a YAML file.

    `overrides` maps dotted keys to values, as in {"root": "/data/bottle", "data.normal": ["ok"]}.
    """
    import yaml

    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name_or_path}.yaml"
        if not path.is_file():
            names = available_competitions()
            raise ProjectError(
                f"there is no competition '{name_or_path}' under conf/competition."
                f"{nearest(str(name_or_path), names)} There are: {', '.join(names)}; copy forkme for yours."
            )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProjectError(f"{shown(path, REPOSITORY)}: could not read it as YAML: {error}") from error
    for dotted, value in (overrides or {}).items():
        target, (*parents, key) = config, dotted.split(".")
        for parent in parents:
            target = target[parent]
        target[key] = value
    return load_competition(config, source=path)


def _root(top: Section) -> Path:
    text = top.text("root", remedy=ROOT_REMEDY)
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # "~nobody"
        top.fail("root", f"'{text}': {error} {ROOT_REMEDY}")
    return Path(os.path.normpath(REPOSITORY / path))  # not resolved: a linked root stays as the user wrote it


def _data(top: Section, root: Path, task: str) -> DataSpec:
    data = top.section("data", DATA_KEYS["csv"])
    layout = data.text("layout", choices=LAYOUTS)
    for key in DATA_KEYS["csv"]:
        if key not in DATA_KEYS[layout] and data.given(key):
            data.fail(key, f"the layout {layout} does not use it. Remove the line, or set it to null.")
    table = layout == "csv"
    target = data.optional_text("target")
    if task == "anomaly" and layout != "mvtec" and (target or not table):
        normal = data.texts("normal", remedy=NORMAL_REMEDY)
    else:
        normal = data.texts("normal", ("good",) if layout == "mvtec" else ())
    spec = DataSpec(
        layout=layout,
        train=_relative(data, "train", root, REQUIRED if table else "train"),
        test=_relative(data, "test", root, REQUIRED if table else "test"),
        images=_relative(data, "images", root, "."),
        id=data.text("id") if table else None,
        path=data.text("path") if table else None,
        target=target,
        normal=normal,
        group=data.optional_text("group"),
        mask=data.optional_text("mask", "ground_truth" if layout == "mvtec" else None),
    )
    _check_template(data, spec)
    if spec.train == spec.test:
        data.fail("test", f"'{spec.test}' is the training data as well. Name what a submission is about.")
    if not table and (_holds(spec.train, spec.test) or _holds(spec.test, spec.train)):
        data.fail("test", f"the folders '{spec.train}' and '{spec.test}' lie in one another. Give two apart.")
    return spec


def _holds(folder: str, path: str) -> bool:
    return folder == "." or path.startswith(f"{folder}/")


def _check_template(data: Section, spec: DataSpec) -> None:
    remedy = 'Write a column, or a template such as "images/{id}.png".'
    try:
        parts = list(string.Formatter().parse(spec.path or ""))
    except ValueError as error:
        data.fail("path", f"'{spec.path}': {error}. {remedy}")
    for _, column, form, conversion in parts:
        if column == "" or form or conversion:
            data.fail("path", f"'{spec.path}': braces hold the name of a column, nothing else. {remedy}")


def _submission(top: Section, root: Path) -> SubmissionSpec:
    from src.submission.formats import FORMATS

    section = top.section("submission", ("format", "columns", "labels"))
    form = section.text("format", choices=FORMATS)
    columns = section.text_map("columns", ("id", "value"), remedy="As in columns: {id: id, value: score}.")
    labels: dict[str, str] = {}
    if form == "label" or section.given("labels"):
        remedy = "As in labels: {normal: normal, anomalous: defect}."
        labels = section.text_map("labels", ("normal", "anomalous"), remedy=remedy)
    sample = _file(top, "sample_submission", root)
    return SubmissionSpec(format=form, columns=columns, labels=labels, sample=sample)


def _metric(top: Section) -> str:
    from src.metrics.registry import get_metric

    name = top.text("metric")
    try:
        return get_metric(name).name
    except ProjectError as error:
        top.fail("metric", str(error))


def _relative(section: Section, key: str, root: Path, default: Any) -> str:
    text = section.text(key, default)
    relative = relative_under(text, str(root))
    if relative is None:
        section.fail(key, f"'{text}' leaves the root {root}. Give a path below the root, or another root.")
    return relative


def _file(section: Section, key: str, root: Path) -> Path | None:
    return locate(root, _relative(section, key, root, REQUIRED)) if section.given(key) else None
