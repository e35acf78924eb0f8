"""Finished runs side by side in one table, best first; runs that agree in chosen settings as mean ± standard deviation.

python -m src.compare runs=outputs/anomaly/'*'                                    a row a run
python -m src.compare runs=outputs/anomaly/'*' by=model                           a row a model
python -m src.compare runs=outputs/anomaly/'*' by=[data.shots,model] out=table.md   a few-shot protocol over seeds
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import ProjectError, nearest
from src.finished_runs import Run, find_runs, listed
from src.text_table import TextTable

OPTIONS: dict[str, str | None] = {"runs": None, "by": None, "out": None}
USAGE = """
usage: python -m src.compare runs=<folders> [key=value ...]

  runs=<…>       run folders: a pattern such as outputs/anomaly/'*', a folder of runs, or a list [a,b]
  by=<…>         keys of the runs' configuration; runs that agree in them become one row, mean ± standard
                 deviation over the others: by=model, by=[data.shots,model.name]
  out=<file>     also written there, .csv or .md

OOF is the competition's metric out of fold, graded the same on the test rows where a solution is known. The memory
of runs that one process made in a row (train.py -m) is the process's peak so far.
"""
_NO_SETTINGS = ("run", "resume", "outputs", "logger", "report")  # they do not change what a run learns


@dataclass(frozen=True)
class Row:
    """A line of the table: texts that name it, and (mean, standard deviation or None) of each figure."""

    labels: tuple[str, ...]
    runs: int
    contest: tuple[str, str, str]
    figures: dict[str, tuple[float, float | None] | None]


def tabulate(runs: Sequence[Run], by: Sequence[str] = ()) -> list[Row]:
    """One row a run, or a group of runs that agree in the keys `by`; best OOF value first, unknown ones last.

    Runs of different competitions or metrics are never put into one row. The standard deviation is the sample's
    (n − 1), None for a single run.

    Raises:
        ProjectError: a key that no run has (with the nearest one), or a section without a name.
    """
    known = list(dict.fromkeys(key for run in runs for key in run.keys))
    for key in by:
        if key not in known:
            raise ProjectError(f"by={key}: no run's configuration has this key.{nearest(key, known)}")
    rows = [Row(labels, len(group), contest, _summary(group)) for (contest, labels), group in _grouped(runs, by)]
    return sorted(rows, key=_order)


def _grouped(runs: Sequence[Run], by: Sequence[str]) -> Iterable[tuple[tuple[Any, tuple[str, ...]], list[Run]]]:
    """((contest, labels), runs) of each row."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        labels = tuple(_text(run.setting(key)) for key in by) if by else (run.name,)
        groups.setdefault((run.contest, labels), []).append(run)
    return groups.items()


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _summary(group: Sequence[Run]) -> dict[str, tuple[float, float | None] | None]:
    columns: dict[str, list[float | None]] = {}
    for run in group:
        for name, value in run.figures().items():
            columns.setdefault(name, []).append(value)
    summary: dict[str, tuple[float, float | None] | None] = {}
    for name, values in columns.items():
        known = [float(value) for value in values if value is not None]
        deviation = statistics.stdev(known) if len(known) > 1 else None
        summary[name] = (statistics.fmean(known), deviation) if known else None
    return summary


def _order(row: Row) -> tuple[Any, ...]:
    sign = -1.0 if row.contest[2] == "max" else 1.0
    values = [row.figures[name] for name in ("OOF", "graded")]
    worths = [(value is None, 0.0 if value is None else sign * value[0]) for value in values]
    return (row.contest, *worths, row.labels)


def averaged_over(runs: Sequence[Run], by: Sequence[str]) -> list[str]:
    """Keys in which runs of one row differ: what the standard deviation is over. Sections are told by their keys."""
    found: dict[str, None] = {}
    for _, group in _grouped(runs, by):
        for key in dict.fromkeys(key for run in group for key in run.keys):
            values = [_leaf(run.config, key) for run in group]
            if key.split(".")[0] not in _NO_SETTINGS and any(value != values[0] for value in values):
                found[key] = None
    return list(found)


def _leaf(config: Any, key: str) -> str:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return "" if isinstance(config, dict) else str(config)


def text_table(rows: Sequence[Row], by: Sequence[str]) -> TextTable:
    """The rows as people read them. Columns that no row has a value for are left out."""
    contests = {row.contest for row in rows}
    metric = next(iter(contests))[1] if len(contests) == 1 else "metric"
    several = ["competition", "metric"] if len(contests) > 1 else []
    names = _known_figures(rows)
    figures = [f"{metric} {name}" if name in ("OOF", "graded") else name for name in names]
    return TextTable(
        header=[*several, *(by or ["run"]), *(["runs"] if by else []), *figures],
        cells=[
            [
                *row.contest[: len(several)],
                *row.labels,
                *([str(row.runs)] if by else []),
                *(_shown(name, row.figures.get(name)) for name in names),
            ]
            for row in rows
        ],
        labels=len(several) + max(1, len(by)),
    )


def _known_figures(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.figures)
    return [name for name in names if any(row.figures.get(name) is not None for row in rows)]


def _shown(name: str, value: tuple[float, float | None] | None) -> str:
    if value is None:
        return "-"
    digits = 1 if name.endswith(" s") else 2 if name.endswith(" GiB") else 4
    mean, deviation = value
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def csv_text(rows: Sequence[Row], by: Sequence[str]) -> str:
    """The table for a spreadsheet: whole numbers and means as they are, standard deviations in columns of their own."""
    import csv
    import io

    names = _known_figures(rows)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    deviations = ["", " std"] if by else [""]
    writer.writerow(
        ["competition", "metric", *(by or ["run"]), "runs", *(f"{name}{end}" for name in names for end in deviations)]
    )
    for row in rows:
        pairs = [row.figures.get(name) or (None, None) for name in names]
        numbers = [value for pair in pairs for value in pair[: len(deviations)]]
        shown = ["" if value is None else f"{value:.6g}" for value in numbers]
        writer.writerow([*row.contest[:2], *row.labels, row.runs, *shown])
    return buffer.getvalue()


def read_arguments(arguments: Sequence[str]) -> dict[str, str | None]:
    """`key=value` texts over OPTIONS.

    Raises:
        ProjectError: a text without "=", an unknown key (with the nearest one), no `runs`, or an `out` of another kind.
    """
    options = dict(OPTIONS)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ProjectError(f"'{argument}' is not key=value. For example: runs=outputs/anomaly/'*' by=model")
        if key not in options:
            raise ProjectError(f"unknown key '{key}'.{nearest(key, options)} Known: {', '.join(options)}.")
        options[key] = value
    if not options["runs"]:
        raise ProjectError("no runs are given. Add runs=outputs/<task>/'*', or a list of run folders.")
    if options["out"] is not None and not options["out"].endswith((".csv", ".md")):
        raise ProjectError(f"out={options['out']}: give a file that ends in .csv or .md.")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 a table, 1 an error."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE.strip())
        return 0 if arguments else 1
    try:
        _run(read_arguments(arguments))
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: dict[str, str | None]) -> None:
    by = listed(options["by"] or "")
    runs, left_out = find_runs(options["runs"] or "")
    rows = tabulate(runs, by)
    table = text_table(rows, by)
    table.print()
    over = averaged_over(runs, by) if by else []
    if over:
        print(f"± is the standard deviation over: {', '.join(over)}")
    for reason in left_out:
        print(f"left out  {reason}", file=sys.stderr)
    if options["out"] is not None:
        from src.atomic import write_text

        target = Path(options["out"])
        write_text(target, csv_text(rows, by) if target.suffix == ".csv" else table.markdown())
        print(f"written: {target}")


if __name__ == "__main__":
    sys.exit(main())
