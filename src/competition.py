"""The competition spec as typed dataclasses: tables, ids, target, metric, grammar, rules; validated on load.

A spec is a YAML file under conf/competition/ (`forkme.yaml` is the commented minimum). Whatever is wrong with
one is a ProjectError that names the file, the dotted key, what was found and what to type.
"""

import os.path
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.competition_files import ROOT_REMEDY, check_files
from src.data_section import file_below, read_data
from src.data_spec import DataSpec
from src.errors import ProjectError, nearest
from src.listing import locate, nfc
from src.section import Section, kind, shown

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "conf" / "competition"
TASKS = ("anomaly", "detection", "caption")
RULES = ("dacon", "kaggle", "none")
SAMPLE_PREFIX = "sample_"  # the competitions that this project makes itself

KEYS = ("name", "task", "root", "bundled", "data", "metric", "submission", "rules")
KEYS += ("sample_submission", "solution")


@dataclass(frozen=True, kw_only=True)
class SubmissionSpec:
    """Grammar of a submission row.

    columns: {"id": header, "value": header}, in the order in which they are written. The format `counts` has
        {"id": header} and may name a header a class (without one a class is its own header); `coco` has none.
    labels: {"normal": text, "anomalous": text}; what the format `label` writes.
    sample: absolute path of the competition's sample submission, or None: rows in test-table order.
    options: what the format may be told beside (`src.submission.formats`); only what was given.
    """

    format: str
    columns: dict[str, str]
    labels: dict[str, str]
    sample: Path | None
    options: dict[str, Any] = field(default_factory=dict)


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
    data = read_data(top, root, task)
    _check_class_format(top, task, data)
    if data.layout in ("voc", "yolo") and top.given("solution"):
        where = "the annotation files of its test images, beside those of training"
        top.fail("solution", f"the layout {data.layout} is graded by {where}. Set it to null.")
    spec = Competition(
        name=name,
        task=task,
        root=root,
        data=data,
        metric=_metric(top, task, data),
        submission=_submission(top, root, data),
        solution=file_below(top, "solution", root),
        rules=top.text("rules", "none", choices=RULES),
        bundled=bundled,
        source=Path(source),
    )
    _check_pixels(top, spec)
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


def _submission(top: Section, root: Path, data: DataSpec) -> SubmissionSpec:
    from src.submission import formats

    section = top.section("submission", ("format", "columns", "labels", "options"))
    form = section.text("format", choices=formats.FORMATS)
    labels: dict[str, str] = {}
    if form == "label" or section.given("labels"):
        remedy = "As in labels: {normal: normal, anomalous: defect}."
        labels = section.text_map("labels", ("normal", "anomalous"), remedy=remedy)
    options = section.value("options", {})
    if not isinstance(options, dict):
        section.fail("options", f"expected keys with values, found {kind(options)}.")
    columns = _columns(section, form, data)
    options = formats.check_options(form, options, section.fail)
    formats.check_together(form, columns, options, section.fail)
    return SubmissionSpec(
        format=form,
        columns=columns,
        labels=labels,
        sample=file_below(top, "sample_submission", root),
        options=options,
    )


def _columns(section: Section, form: str, data: DataSpec) -> dict[str, str]:
    """Role → header: an id and a value for most formats; `counts` may name classes, `coco` needs none."""
    from src.submission import formats

    grammar = formats.FORMATS[form]
    remedy = "As in columns: {id: id, value: score}."
    if not grammar.named_columns and not grammar.optional_roles:
        columns = section.text_map("columns", grammar.roles, remedy=remedy)
    elif not section.given("columns") and not grammar.roles:
        columns = {}
    else:
        columns = {nfc(key): header for key, header in section.open_map("columns", remedy=remedy).items()}
    formats.check_columns(form, columns, section.fail)
    if grammar.named_columns and isinstance(data.classes, tuple):
        for name in columns:
            if name not in (*grammar.roles, *data.classes):
                known = f"Classes: {', '.join(data.classes)}."
                section.fail(f"columns.{name}", f"no class of that name.{nearest(name, data.classes)} {known}")
    return columns


def _metric(top: Section, task: str, data: DataSpec) -> str:
    from src.metrics.registry import METRICS, get_metric

    name = top.text("metric")
    try:
        metric = get_metric(name)
    except ProjectError as error:
        top.fail("metric", str(error))
    if _task_of(metric) != task:
        names = ", ".join(known for known, other in METRICS.items() if _task_of(other) == task)
        top.fail("metric", f"'{name}' is for the task {_task_of(metric)}. For {task}: {names or 'none yet'}.")
    if metric.needs == "boxes" and data.layout == "csv" and data.boxes is None:
        counting = ", ".join(known for known, other in METRICS.items() if other.needs == "counts")
        problem = f"'{name}' compares boxes, and the data give counts alone. Name data.boxes, or count: {counting}."
        top.fail("metric", problem)
    return metric.name


def _check_class_format(top: Section, task: str, data: DataSpec) -> None:
    """The format `class`: of the task anomaly, with targets to write and a metric that compares texts."""
    from src.metrics.registry import get_metric
    from src.submission.formats.class_label import CLASS_METRICS

    section = top.values.get("submission")
    if not isinstance(section, dict) or section.get("format") != "class":
        return
    if task != "anomaly":
        top.fail("submission.format", f"'class' is a format of the task anomaly; this is {task}. Choose another.")
    if data.layout == "csv" and data.target is None:
        top.fail("submission.format", "'class' writes the values of data.target, which is not given. Name that column.")
    metric = get_metric(_metric(top, task, data))
    usable = ", ".join(CLASS_METRICS)
    if metric.needs != "label":
        problem = f"'{metric.name}' needs {metric.needs}s, and the format class writes labels."
        top.fail("metric", f"{problem} Choose {usable}, or another submission.format.")
    if metric.name not in CLASS_METRICS:
        problem = f"'{metric.name}' compares two classes, normal and anomalous, and the format class has many."
        top.fail("metric", f"{problem} Choose {usable}, or submission.format: label.")


def _check_pixels(top: Section, spec: Competition) -> None:
    """Formats of pixels as far as the task has any, and metrics of masks with a format that holds masks."""
    from src.metrics.registry import get_metric

    form, options = spec.submission.format, spec.submission.options
    if form == "map_folder" and spec.task != "anomaly":
        top.fail("submission.format", f"'{form}' is a format of the task anomaly; this is {spec.task}. Choose another.")
    if form == "rle" and spec.task == "anomaly" and options.get("rows", "image") != "image":
        remedy = "Write rows: image, with a pattern such as '{id}_1' where ids name the one class of defects."
        top.fail("submission.options.rows", f"an anomaly map knows no classes and no single objects. {remedy}")
    holds_masks = form == "rle" or (form == "map_folder" and options.get("write") != "maps")
    if get_metric(spec.metric).needs == "mask" and not holds_masks:
        what = "write: maps leaves the masks out" if form == "map_folder" else f"the format '{form}' holds none"
        top.fail("metric", f"'{spec.metric}' compares masks, and {what}. Choose submission.format rle or map_folder.")


def _task_of(metric: Any) -> str:
    return getattr(metric, "task", "anomaly")
