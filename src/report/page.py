"""report.html of a run: the parts that all tasks share, and the task's own contents in its template."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.atomic import write_text
from src.competition import Competition
from src.report import charts, record_view, wording
from src.runs import shown_path

MAX_SET_ASIDE = 200  # rows of the table of unreadable images


def build_report(
    run: Path,
    *,
    competition: Competition,
    manifest: pd.DataFrame,
    oof: pd.DataFrame | None,
    test: pd.DataFrame | None,
    solution: pd.DataFrame | None,
    metrics: dict[str, Any],
    record: dict[str, Any],
    broken: Sequence[dict[str, Any]],
) -> Path:
    """Write `<run>/report.html`, one self-contained file, and the task's figures as `<run>/figures/*.png`.

    Any of `oof`, `test` and `solution` may be None, and every part of `metrics` (metrics.json) and `record`
    (run.json) may be missing: the page then says what it cannot show. A figure that cannot be drawn is not
    written, and an older one of that name is removed. `broken` holds {id, path, reason, split} of images that
    could not be read.

    Returns:
        The path of report.html.

    Raises:
        ProjectError: predictions of ids outside the manifest, scores that are not finite, a full disk.
    """
    broken = [{**item, "path": _below(item["path"], competition.root)} for item in broken]
    template, contents = _page_of(competition.task)
    own = contents(
        run,
        competition=competition,
        manifest=manifest,
        oof=oof,
        test=test,
        solution=solution,
        metrics=metrics,
        record=record,
        broken=broken,
    )
    context = {
        "title": f"{competition.name} · {run.name}",
        "competition": competition,
        "run": run.name,
        "identity": record_view.identity(run, record),
        "submission": record_view.submission(run, record),
        "broken": broken[:MAX_SET_ASIDE],
        "n_broken": len(broken),
        "blocks": record_view.blocks(run, record, competition, manifest, facts=own.pop("facts")),
        "config": record_view.config_text(run),
        "run_path": shown_path(run),
        "light": charts.LIGHT | own.pop("light", {}),
        "dark": charts.DARK | own.pop("dark", {}),
        **own,
    }
    target = run / "report.html"
    write_text(target, render(template, context))
    return target


def _page_of(task: str) -> tuple[str, Callable[..., dict[str, Any]]]:
    """The template of a task's page and the function that fills it."""
    if task == "detection":
        from src.report.detection import page
    elif task == "caption":
        from src.report.caption import page
    else:
        from src.report.anomaly import page
    return page.TEMPLATE, page.contents


def render(template: str, context: dict[str, Any]) -> str:
    """A template of this package, filled; whatever it shows is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=wording.score, metric=wording.metric_value, percent=wording.percent, number="{:,}".format
    )
    return environment.get_template(template).render(context)


def _below(path: str, root: Path) -> str:
    """The path as the competition's tables give it, below the root where it lies there."""
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else str(path)
