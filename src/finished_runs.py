"""Finished runs found by a pattern, and what their files say: settings, figures, seconds and memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from src.cli import flat_keys
from src.errors import ProjectError
from src.runs import RunFolder, in_repository, read_config, read_record, shown_path


@dataclass(frozen=True)
class Run:
    """What a finished run's files say."""

    name: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    record: dict[str, Any]

    @cached_property
    def keys(self) -> list[str]:
        """The dotted keys of its configuration."""
        return flat_keys(self.config)

    @property
    def contest(self) -> tuple[str, str, str]:
        """(competition, metric, which of its values is better: max or min): figures of others are not comparable."""
        metric = self.metrics["metric"]
        return str(self.record["competition"]), metric["name"], metric["mode"]

    def setting(self, key: str) -> Any:
        """A value of the configuration as a table shows it; a section is told by its name; None where it is absent."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, dict):
            if "name" not in value:
                inside = ", ".join(f"{key}.{name}" for name in value)
                raise ProjectError(f"by={key} is a section of the configuration: name one of its keys ({inside}).")
            value = value["name"]
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def figures(self) -> dict[str, float | None]:
        """The numbers of the run by column; None where it has none."""
        oof, graded = self.metrics.get("oof") or {}, self.metrics.get("graded") or {}
        seconds, memory = self.record.get("seconds", {}), self.record.get("peak_memory", {})
        found = {"OOF": self.metrics["metric"]["value"], "graded": graded.get("metric")}
        if self.config.get("task") == "anomaly":
            others = [name for name in ("auroc", "f1") if name != self.metrics["metric"]["name"]]
            found |= {f"{name} OOF": oof.get(name) for name in others}
            found |= {f"{name} graded": graded.get(name) for name in others}
        return found | {
            "fit s": seconds.get("fit"),
            "predict s": seconds.get("predict"),
            "memory GiB": memory.get("process_gib"),
            "GPU GiB": memory.get("cuda_gib"),
        }


def find_runs(text: str) -> tuple[list[Run], list[str]]:
    """The finished runs that `runs=` names, and why each of the others is left out.

    Raises:
        ProjectError: it names no run folder, or none that is finished.
    """
    folders = list(dict.fromkeys(folder for each in listed(text) for folder in _folders(each)))
    names = [folder.name for folder in folders]
    runs, left_out = [], []
    for folder, name in zip(folders, names, strict=True):
        shown = name if names.count(name) == 1 else shown_path(folder)
        try:
            records = (read_record(folder / "metrics.json"), read_record(folder / "run.json"))
            runs.append(Run(shown, read_config(RunFolder(folder)), *records))
        except (ProjectError, ValueError) as error:  # a file is missing, or was cut short
            left_out.append(f"{shown}: {error}")
    if not runs:
        raise ProjectError("none of these runs is finished:\n  " + "\n  ".join(left_out))
    return runs, left_out


def listed(text: str) -> list[str]:
    """`[a,b]` or `a,b` as a list."""
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [part.strip() for part in inside.split(",") if part.strip()]


def _folders(pattern: str) -> list[Path]:
    for place in (Path(pattern).expanduser(), in_repository(pattern)):
        whole = place.absolute()
        met = [whole] if whole.is_dir() else sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))
        found = [folder for folder in met if (folder / "config.yaml").is_file()]
        if len(met) == 1 and not found:
            found = sorted(path.parent for path in met[0].glob("*/config.yaml"))
        if found:
            return [folder.resolve() for folder in found]
    known = sorted({shown_path(path.parents[1]) + "/*" for path in in_repository("outputs").glob("*/*/config.yaml")})
    raise ProjectError(
        f"runs={pattern} names no run folder (one with a config.yaml)."
        + (f" Runs lie in {', '.join(known)}." if known else " Train one first: python train.py task=anomaly")
    )
