"""How sure the threshold and the metric at it are, in words and as a small figure."""

from typing import Any

import numpy as np

from src.report import wording
from src.report.anomaly.answers import Rules
from src.report.anomaly.evidence import ScoredSet

WIDTH, HEIGHT, BARS = 240, 52, 40  # of the small figure: pixels and number of bars
NEAR, FEW = 2, 0.35  # shares above the threshold of the share below it; scores that may lie beyond


def read_certainty(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What metrics.json promises of new images (`src.calibration.certainty`); None where it promises nothing.

    Runs that answer by class are not decided by the threshold that it is about.
    """
    found = metrics.get("certainty")
    if not found or metrics.get("class_rule") or not all(wording.is_number(found.get(k)) for k in ("low", "high")):
        return None
    return found


def threshold_interval(rules: Rules, certainty: dict[str, Any] | None) -> tuple[float, float] | None:
    """Between which values the threshold may as well lie: from resampled images, or from a fitted tail."""
    if rules.threshold is None or rules.class_rule is not None:
        return None
    ends = (certainty or {}).get("threshold_low"), (certainty or {}).get("threshold_high")
    if not all(map(wording.is_number, ends)):
        ends = tuple(rules.threshold.get("interval") or (None, None))
    return (float(ends[0]), float(ends[1])) if all(map(wording.is_number, ends)) else None


def short_name(metric: str) -> str:
    """A metric's name inside a sentence: 'F1', 'Image AUROC'."""
    return wording.metric_name(metric).split(",")[0].removesuffix(" at the threshold")


def promise(
    certainty: dict[str, Any] | None, rules: Rules, oof: ScoredSet | None, *, target: float | None
) -> dict[str, Any] | None:
    """What may be expected of new images: {expect, assumes}, sentences; None where nothing is known of that.

    `target` is the false-alarm rate that a threshold from normal images alone was aimed at.
    """
    if oof is None:
        return None
    if certainty is None:
        return _normal_promise(rules, target)
    name, level = short_name(certainty["metric"]), f"{100 * certainty.get('level', 0.95):g}%"
    sizes = tuple(
        certainty.get(key) or len(rows)
        for key, rows in (("test_normal", oof.normal), ("test_anomalous", oof.defective))
    )
    low, high = wording.metric_value(certainty["low"]), wording.metric_value(certainty["high"])
    shared = "With one threshold for all categories, on" if rules.own else "On"
    expect = f"{shared} new images like these expect {name} between {low} and {high} ({level})."
    if low == high:
        expect = f"{shared} new images like these expect {name} of about {low}."
    decided = wording.is_number(certainty.get("threshold_low"))
    held_out = f"resamples of the {len(oof.known):,} held-out images"
    sets = f"new sets of {sizes[0]:,} normal and {sizes[1]:,} defective images were drawn"
    made = f"From {held_out} {sets}"
    if decided:
        made = f"The threshold was tuned anew on {held_out}, what tuning flatters was taken off, and {sets}"
    assumes = (
        f"{made}; the middle {level} of their {name} is the promise. It assumes images of the same source with the "
        f"same share of defects, {wording.percent(sizes[1], sum(sizes))}"
    )
    steady = certainty["metric"] in ("auroc", "balanced_accuracy", "recall")
    assumes += ": another share leaves it as it is, " if steady else f": with another share {name} shifts, "
    assumes += "and smaller sets scatter more."
    return {"expect": expect, "assumes": assumes}


def _normal_promise(rules: Rules, target: float | None) -> dict[str, Any] | None:
    """Of a threshold that no labelled defect has tuned."""
    threshold = rules.threshold or {}
    interval, bound = threshold_interval(rules, None), threshold.get("false_alarm_bound")
    if threshold.get("source") != "normal_quantile" or interval is None or rules.class_rule is not None:
        return None
    expect = "How many defects it finds, normal images alone cannot say."
    if wording.is_number(bound):
        expect = f"Expect up to {100 * bound:.2g}% of new normal images to reach the threshold. {expect}"
    aimed = "The score for the rate asked for" if target is None else f"The score that {100 * target:g}% of them reach"
    assumes = (
        f"{aimed} lies between {_pair(interval)} (95%, by a tail fitted to the held-out normal scores). Both assume "
        "new images of the same source; a change of light or material moves normal scores too."
    )
    return {"expect": expect, "assumes": assumes}


def origin(rules: Rules, interval: tuple[float, float] | None, target: float | None) -> list[str]:
    """Sentences that say where the threshold comes from and how sure it is."""
    if rules.class_rule is not None:
        if rules.class_rule.kind == "gated":
            return ["From this score on an image gets its likeliest defect class, below it the likeliest normal one."]
        return ["Each image gets the class of the highest probability; no score decides."]
    threshold = rules.threshold
    if threshold is None:
        return ["No training image was held out to set one."]
    reach = "Scores at or above it count as defective."
    if rules.own:
        having = wording.count(len(rules.own), "category has its", "categories have their")
        reach = f"{having} own; this is the others'."
    if threshold.get("source") == "normal_quantile":
        return [*_from_normal(threshold, target), reach]
    if threshold.get("source") == "oof":
        metric = short_name(str(threshold.get("metric") or ""))
        score = threshold.get("score")
        there = f" ({wording.metric_value(score)} there)" if wording.is_number(score) else ""
        said = [f"Tuned on out-of-fold scores{f' for {metric}' if metric else ''}{there}."]
    else:
        source = threshold.get("source")
        said = [f"{source}." if source else "Its source was not recorded."]
    if interval is not None:
        said.append(f"On resampled images it comes out between {_pair(interval)} (95%).")
    return [*said, reach]


def _from_normal(threshold: dict[str, Any], target: float | None) -> list[str]:
    """Where a threshold lies that no labelled defect has tuned."""
    n, bound = threshold.get("n_normal"), threshold.get("false_alarm_bound")
    of = f", of {n:,} images" if isinstance(n, int) else ""
    aim = "" if target is None else f", aimed at {100 * target:g}% false alarms"
    said = [f"From normal scores only{of}{aim}."]
    if threshold.get("method") == "tail":
        said.append("It stands above all of them, where a tail fitted to them says.")
    elif threshold.get("method") == "order_statistic" and isinstance(n, int) and wording.is_number(bound):
        above = n - round((1 - bound) * (n + 1))  # see `src.calibration.threshold.normal_quantile`
        said.append(f"It leaves {above:,} of them above it." if above > 0 else "It stands above all of them.")
    return said


def _pair(interval: tuple[float, float]) -> str:
    return f"{wording.score(interval[0])} and {wording.score(interval[1])}"


def small_figure(
    oof: ScoredSet | None, line: float | None, interval: tuple[float, float] | None
) -> dict[str, Any] | None:
    """Held-out scores as bars with the threshold and its interval, as the template draws them; None without a line.

    Bars of both kinds are scaled to their own highest, so that few defects show beside many normal images. Scores
    far beyond the threshold are gathered in the last bar: what matters here is near it.
    """
    if oof is None or line is None or not len(oof.known):
        return None
    scores = oof.known["score"].to_numpy()
    low, high = min(scores.min(), line), max(scores.max(), line)
    if interval is not None:
        room = (high - low) / 4
        low, high = min(low, max(interval[0], low - room)), max(high, min(interval[1], high + room))
    if not high > low:
        return None
    near = max(line + NEAR * (line - low), low if interval is None else min(high, interval[1]))
    cut = bool(low < line and near < high and (scores > near).mean() < FEW)
    high = near if cut else high

    def x(value: float) -> float:
        return round(float(np.clip((value - low) / (high - low), 0, 1)) * WIDTH, 1)

    edges = np.linspace(low, high, BARS + 1)
    bars = []
    for colour, values in (("normal", oof.normal), ("defect", oof.defective)):
        counts = np.histogram(np.minimum(values, high), edges)[0]
        tall = np.maximum(2, np.minimum(1, counts / max(1, counts[: BARS - cut].max())) * (HEIGHT - 4))
        path = "".join(
            f"M{x(edges[i])} {HEIGHT}v{-tall[i]:.1f}h{WIDTH / BARS:g}V{HEIGHT}z" for i in np.flatnonzero(counts)
        )
        bars.append({"colour": colour, "path": path})
    band = None if interval is None else (x(interval[0]), round(max(1.5, x(interval[1]) - x(interval[0])), 1))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "bars": bars,
        "line": x(line),
        "band": band,
        "ends": (wording.score(float(low)), wording.score(float(high)) + " and more" * cut),
    }
