"""What was run, read from run.json and config.yaml: identity, submission state, and tables of facts."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.competition import Competition
from src.report import wording

TITLES = {
    "weights": "Weights",
    "git": "Code",
    "seconds": "Time",
    "durations": "Time",
    "time": "Time",
    "peak_memory": "Peak memory",
    "preprocess": "Preprocessing",
    "hardware": "Machine",
    "versions": "Versions",
}
SHOWN_ELSEWHERE = {"submission", "broken_images", "competition", "task", "model", "network"}
UNIT = re.compile(r"_(s|seconds|bytes|gib)$")


def read_yaml(run: Path) -> dict[str, Any]:
    """config.yaml as a dict; empty when the run has none.

    Raises:
        ProjectError: the file is no YAML mapping.
    """
    import yaml

    from src.errors import ProjectError

    path = run / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ProjectError(f"{path} is not readable as YAML: {error}. Restore it from the run's logger.") from error
    return config if isinstance(config, dict) else {}


def config_text(run: Path) -> str | None:
    """config.yaml as it stands, None when there is none."""
    path = run / "config.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def identity(run: Path, record: dict[str, Any]) -> list[str]:
    """The line below the title: model, backbone, when it ran."""
    model = _model(run, record)
    parts = [str(model[key]) for key in ("name", "backbone") if model.get(key)]
    when = record.get("finished") or record.get("started")
    if when:
        parts.append(str(when).replace("T", " ")[:16])
    return parts


def submission(run: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Name, rows, state ("valid", "invalid", "unchecked", "absent") and problems or warnings."""
    known = record.get("submission")
    known = {"path": known} if isinstance(known, str) else known if isinstance(known, dict) else {}
    path = Path(known["path"]) if known.get("path") else run / "submission.csv"
    problems = [str(problem) for problem in known.get("problems") or []]
    warnings = [str(warning) for warning in known.get("warnings") or []]
    if problems or known.get("valid") is False:
        state = "invalid"
    elif known.get("valid"):
        state = "valid"
    else:
        state = "unchecked" if (path if path.is_absolute() else run / path.name).is_file() else "absent"
    return {"name": path.name, "rows": known.get("rows"), "state": state, "remarks": problems or warnings}


def blocks(
    run: Path,
    record: dict[str, Any],
    competition: Competition,
    manifest: pd.DataFrame,
    *,
    facts: Sequence[tuple[str, Any]],
) -> list[dict[str, Any]]:
    """Titled lists of (name, text, full text or None): model, data, then everything that run.json holds.

    `facts` are what the task has to say of the training data.
    """
    train = manifest[manifest["split"] == "train"]
    data = [
        ("competition", competition.name),
        ("training images", f"{len(train):,}"),
        *facts,
        ("test images", f"{int((manifest['split'] == 'test').sum()):,}"),
        ("metric", competition.metric),
    ]
    loose = {k: v for k, v in record.items() if not isinstance(v, dict) and k not in SHOWN_ELSEWHERE}
    data += [(key.replace("_", " "), loose.pop(key)) for key in ("data_hash", "fold_hash") if key in loose]
    found = [
        {"title": "Model", "rows": [_row(key, value) for key, value in _model(run, record).items()]},
        {"title": "Data", "rows": [_row(key, value) for key, value in data]},
    ]
    for key, value in record.items():
        if isinstance(value, dict) and key not in SHOWN_ELSEWHERE:
            timed = TITLES.get(key) == "Time"
            rows = [_row(f"{name}_s" if timed and wording.is_number(v) else name, v) for name, v in value.items()]
            found.append({"title": TITLES.get(key, wording.metric_name(key).capitalize()), "rows": rows})
    found.append({"title": "Run", "rows": [_row(key, value) for key, value in loose.items()]})
    return [block for block in found if block["rows"]]


def _model(run: Path, record: dict[str, Any]) -> dict[str, Any]:
    model = read_yaml(run).get("model") or record.get("model") or {}
    if isinstance(model, str):
        model = {"name": model}
    # what was built differs from what was asked for where the built-in features took the place of missing weights
    model = {**model, **(record.get("network") or {})}
    return {key: value for key, value in model.items() if value is not None and value != {}}


def _row(key: str, value: Any) -> dict[str, Any]:
    text = wording.fact(key, value)
    short = re.sub(r"\b(?=[0-9a-f]*\d)([0-9a-f]{12})[0-9a-f]{20,}\b", r"\1…", text)
    return {
        "name": UNIT.sub("", key).replace("_", " "),
        "text": short,
        "full": text if short != text else None,
    }
