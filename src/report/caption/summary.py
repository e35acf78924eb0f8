"""What the caption page says in words and tables: the headline, metrics with intervals, the decision, replacements."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from src.captions.decision import CaptionDecision
from src.report import wording
from src.report.caption.evidence import CaptionSet
from src.report.scoreboard import read_graded, read_main, strip

UNITS = {"morpheme": "morphemes", "char": "characters", "word": "words", "mecab": "morphemes"}
TOKENS = {"char": "characters", "word": "words", "mecab": "mecab morphemes"}  # kiwi's morphemes go without saying
PROBLEMS = {
    "empty": "empty",
    "punctuation": "punctuation alone",
    "digits": "digits alone",
    "unknown": "marks of the tokenizer",
    "jamo": "broken syllables",
    "repeated": "repeated words",
    "latin": "Latin words left over",
    "foreign": "letters of other scripts",
    "cut": "cut off",
    "long": "without an end",
}
EDITS = {"register": "speech level", "punctuation": "final punctuation", "spacing": "spacing", "latin": "Latin glosses"}
STEPS = (
    ("first", "The model's first caption"),
    ("consensus", "Consensus of the candidates"),
    ("weighted", "Weighted sum"),
)


def metric_title(metric: Any) -> str:
    """"CIDEr-D", "CIDEr-D, characters", "0.5 CIDEr-D + 0.2 BLEU-4"."""
    alone = len(metric.parts) == 1
    terms = [
        wording.metric_name(name) if alone and weight == 1 else f"{weight:g} {wording.metric_name(name)}"
        for name, weight in metric.parts.items()
    ]
    tokens = TOKENS.get(metric.tokenizer)
    return " + ".join(terms) + (f", {tokens}" if tokens else "")


def headline(metrics: dict[str, Any], sets: Sequence[CaptionSet], metric: Any) -> dict[str, Any]:
    """The competition's metric: name, out-of-fold value with interval and signature, graded value, and the values of
    the model's first caption and of one sentence for all images."""
    name, value = read_main(metrics)
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    graded = read_graded(metrics, name)
    interval = None if value is None or oof is None else metric_interval(metrics, value, oof, metric)
    panel = metrics.get("oof") or {}
    shown = [each for each in (value, graded, *(interval or ())) if each is not None]
    return {
        "name": metric_title(metric),
        "value": value,
        "interval": interval,
        "graded": graded,
        "signature": (metrics.get("metric") or {}).get("signature") or metric.signature,
        "n": 0 if oof is None else len(oof.known),
        "n_references": 0 if oof is None else sum(len(oof.references[i]) for i in oof.known),
        # CIDEr goes to 10 and chrF to 100: such an axis ends at the next round number, as that of an error does
        "strip": strip(value, interval, graded, error=any(each > 1 for each in shown)),
        "first": _number(panel.get("first")),
        "constant": _number(panel.get("constant")),
    }


def metric_interval(
    metrics: dict[str, Any], value: float, oof: CaptionSet, metric: Any
) -> tuple[float, float] | None:
    """95% bootstrap interval over images of the out-of-fold value: the kept one, else one made of the set's captions.

    It is laid around `value`, which may be cross-validated and so a little lower than the captions' own.
    """
    panel = metrics.get("oof") or {}
    kept = (panel.get("intervals") or {}).get(metric.name)
    if not len(oof.known):
        return None if kept is None else (float(kept[0]), float(kept[1]))
    texts, references = oof.pairs()
    own = metric.corpus(texts, references)
    if kept is None:
        from src.metrics.caption.measure import intervals

        kept = intervals(texts, references, names=[metric.name], tokenizer=metric.tokenizer, resamples=500)[metric.name]
    low, high = (float(end) + value - own for end in kept)
    return max(0.0, low), high


def metric_table(metrics: dict[str, Any], metric: Any) -> dict[str, Any]:
    """Columns (out of fold, each fold, test graded afterwards) and one row a metric, with intervals where known."""
    folds = metrics.get("folds") or []
    panels = [("Out of fold", metrics.get("oof") or {})]
    if len(folds) > 1 or not _measured(panels[0][1]):
        panels += [(f"Fold {fold.get('fold', position)}", fold) for position, fold in enumerate(folds)]
    panels.append(("Test, graded afterwards", metrics.get("graded") or {}))
    panels = [(title, panel) for title, panel in panels if _measured(panel)]
    if not panels:
        return {"columns": [], "rows": []}
    alone = next(iter(metric.parts)) if len(metric.parts) == 1 and metric.name in metric.parts else None
    known = dict.fromkeys(
        key for _, panel in panels for key, value in panel.items() if _number(value) is not None and key != "fold"
    )
    order = [name for name in wording.METRIC_NAMES if name in known and name != alone]
    rows = [{"name": metric_title(metric), "main": True, "cells": [_cell(p, "metric", metric.name) for _, p in panels]}]
    rows += [
        {"name": wording.metric_name(name), "main": False, "cells": [_cell(p, name, name) for _, p in panels]}
        for name in order
    ]
    for key, name in (("first", "The model's first caption"), ("constant", "One sentence for all images")):
        if key in known:
            title = f"{metric_title(metric)}: {name[0].lower()}{name[1:]}"
            rows.append({"name": title, "main": False, "cells": [_cell(p, key, key) for _, p in panels]})
    unit = UNITS.get(metric.tokenizer, "tokens").capitalize()
    for key, name in (("mean", f"{unit} in a caption"), ("references", f"{unit} in a reference")):
        values = [(p.get("length") or {}).get(key) for _, p in panels]
        if any(map(wording.is_number, values)):
            cells = [f"{value:.1f}" if wording.is_number(value) else "–" for value in values]
            rows.append({"name": name, "main": False, "cells": cells})
    rows.append({"name": "Images", "main": False, "cells": [wording.metric_value(p.get("n")) for _, p in panels]})
    return {"columns": [title for title, _ in panels], "rows": rows}


def decisions(metrics: dict[str, Any], decision: CaptionDecision | None, metric: Any) -> dict[str, Any] | None:
    """What was decided out of fold: the steps of the choice, the edits that were tried, the fallback sentence."""
    if decision is None:
        return None
    found = decision.summary
    chosen = found.get("choice") or ("first" if decision.weights.get("model") == 1.0 else "weighted")
    steps = []
    for key, name in STEPS:
        value = found.get("weighted_cv", found.get("weighted")) if key == "weighted" else found.get(key)
        if wording.is_number(value):
            steps.append({"name": name, "value": wording.metric_value(value), "chosen": key == chosen})
    edits = [
        {
            "name": EDITS.get(name, name),
            "to": "yes" if entry.get("to") is True else str(entry.get("to")),
            "changed": entry.get("changed"),
            "before": wording.metric_value(entry.get("before")),
            "after": wording.metric_value(entry.get("cv", entry.get("value"))),
            "kept": bool(entry.get("kept")),
        }
        for name, entry in (found.get("edits") or {}).items()
    ]
    made = {EDITS.get(name, name): value for name, value in decision.edits.items() if value}
    return {
        "metric": metric_title(metric),
        "images": found.get("images") or 0,
        "reason": found.get("reason"),
        "chosen": dict(STEPS).get(chosen, chosen),
        "steps": steps,
        "in_sample": wording.metric_value(found.get("weighted")) if chosen == "weighted" else None,
        "oracle": wording.metric_value(found["oracle"]) if wording.is_number(found.get("oracle")) else None,
        "formula": _formula(decision),
        "edits": edits,
        "made": ", ".join(f"{name}: {value if isinstance(value, str) else 'yes'}" for name, value in made.items()),
        "fallback": decision.fallback,
        "how": found.get("fallback"),
    }


def replaced(metrics: dict[str, Any], sets: Sequence[CaptionSet]) -> dict[str, Any] | None:
    """How many captions were decoded again and replaced, a column a split, and the kinds of problems; None if none
    was. What metrics.json does not say is counted from the captions."""
    known = metrics.get("degenerate") or {}
    by_key = {scored.key: scored for scored in sets}
    columns = []
    for key, title in (("oof", "Out of fold"), ("test", "Test")):
        counts = known.get(key) or (_counted(by_key[key]) if key in by_key else None)
        if counts:
            columns.append((title, counts))
    if not any(each.get(name) for _, each in columns for name in ("retried", "replaced", "fallback")):
        return None
    kinds = dict.fromkeys(kind for _, each in columns for kind in each.get("kinds") or {})
    rows = [
        (name, [f"{each.get(key) or 0:,}" for _, each in columns])
        for key, name in (
            ("images", "captions"),
            ("retried", "decoded again"),
            ("replaced", "another candidate took the place"),
            ("fallback", "the fallback sentence took the place"),
        )
    ]
    return {
        "columns": [title for title, _ in columns],
        "rows": rows,
        "kinds": [
            (PROBLEMS.get(kind, kind), [f"{(each.get('kinds') or {}).get(kind, 0):,}" for _, each in columns])
            for kind in kinds
        ],
    }


def _counted(scored: CaptionSet) -> dict[str, Any]:
    kinds: dict[str, int] = {}
    for each in scored.chosen:
        for problem in each.problems:
            kinds[problem] = kinds.get(problem, 0) + 1
    return {
        "images": len(scored.ids),
        "retried": sum("retried" in flags for flags in scored.flags),
        "replaced": sum(each.state == "candidate" for each in scored.chosen),
        "fallback": sum(each.state == "fallback" for each in scored.chosen),
        "kinds": kinds,
    }


def _formula(decision: CaptionDecision) -> str:
    """"0.6 model + 0.4 consensus", the weights in use."""
    names = {"model": "model's score", "consensus": "consensus", "image": "likeness of picture and caption"}
    weights = [(names.get(name, name), weight) for name, weight in decision.weights.items() if weight]
    return weights[0][0] if len(weights) == 1 else " + ".join(f"{weight:.2g} × {name}" for name, weight in weights)


def _measured(panel: Mapping[str, Any]) -> bool:
    return any(_number(panel.get(key)) is not None for key in ("metric", *wording.METRIC_NAMES))


def _cell(panel: Mapping[str, Any], key: str, name: str) -> str:
    value, n = _number(panel.get(key)), int(panel.get("n") or 0)
    ends = (panel.get("intervals") or {}).get(name)
    text = wording.metric_value(value, n)
    if value is None or not ends or key in ("first", "constant"):
        return text
    low, high = (wording.metric_value(float(end), n) for end in ends)
    return Markup("{}<small>{} to {}</small>").format(text, low, high)


def _number(value: Any) -> float | None:
    return float(value) if wording.is_number(value) else None
