"""Weights and edits of a caption decision, tuned on images of known captions and kept only where that generalises."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from src.captions.editing import Edits
from src.captions.evidence import Evidence, chosen, spread
from src.captions.statistics import Places, Statistics, parted

FOLDS = 5
STEP = 0.1  # of the weights, which sum to 1
TEMPERATURES = (None, 1.0, 0.5)  # of votes, in spreads of the model's scores; None: equal votes
EDITED_IMAGES = 2000  # images that edits are judged on: their analysis takes longer than all else
MARGIN = 1e-9  # gains below it are rounding


class Setting(NamedTuple):
    """Weights of the terms, which sum to 1, and the temperature of the votes."""

    model: float
    consensus: float
    image: float
    temperature: float | None = None

    @property
    def weights(self) -> dict[str, float]:
        return {"model": self.model, "consensus": self.consensus, "image": self.image}


MODEL, CONSENSUS, IMAGE = Setting(1.0, 0.0, 0.0), Setting(0.0, 1.0, 0.0), Setting(0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Tuned:
    """The kept choice: its setting, its places (N,), and the values of all that were compared."""

    choice: str
    setting: Setting
    scales: dict[str, float]
    places: Places
    values: dict[str, float]


def tune_weights(evidence: Evidence, statistics: Statistics, *, seed: int, how: str = "auto") -> Tuned:
    """The first candidate, the consensus of equal votes or the tuned sum, whichever is best under cross-validation.

    statistics: of the candidates at their places, and of the fallback sentence at the last.
    how: "auto", or "first" or "consensus" whatever the values say.

    Of equals the simpler stays. The sum's own value there is that of captions chosen by weights from other images.
    """
    options, scales = _options(evidence)
    settings = list(options)
    folds = parted(len(evidence.sound), folds=FOLDS, seed=seed)
    # Many settings choose the same candidates: each choice is measured once.
    measured = {places.tobytes(): (statistics.value(places), statistics.elsewhere(places, folds)) for places in
                options.values()}  # fmt: skip
    whole = np.array([measured[options[setting].tobytes()][0] for setting in settings])
    outside = np.stack([measured[options[setting].tobytes()][1] for setting in settings])
    best = settings[_first_best(whole)]
    held_out = np.empty(len(evidence.sound), dtype=np.int64)
    for fold, rows in enumerate(folds):
        held_out[rows] = options[settings[_first_best(outside[:, fold])]][rows]

    values = {
        "first": statistics.value(options[MODEL]),
        "consensus": statistics.value(options[CONSENSUS]),
        "weighted": statistics.value(options[best]),
        "weighted_cv": statistics.value(held_out),
        "oracle": statistics.value(_oracle(statistics, evidence.sound)),
    }
    if IMAGE in options:
        values["image"] = statistics.value(options[IMAGE])
    choice = how
    if how == "auto":
        choice = "consensus" if values["consensus"] > values["first"] + MARGIN else "first"
        choice = "weighted" if values["weighted_cv"] > values[choice] + MARGIN else choice
    kept = {"first": MODEL, "consensus": CONSENSUS, "weighted": best}[choice]
    return Tuned(choice, kept, scales, options[kept], values)


def tune_edits(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    usual: Edits,
    *,
    metric: Any,
    apply: Callable[[Sequence[str], Edits], list[str]],
    seed: int,
) -> tuple[Edits, dict[str, Any]]:
    """Edits that help: one after another on top of those kept, each judged with and without.

    texts: the chosen captions (N,). usual: register and punctuation of most training captions. Of more than
    EDITED_IMAGES images so many are drawn by `seed`.

    Returns:
        the kept edits, and for each edit {"to", "changed" (texts), "before", "value" (all edited), "cv" (edited
        where the other images say that it helps), "kept"}.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(texts))[:EDITED_IMAGES])
    texts, references = [texts[row] for row in drawn], [references[row] for row in drawn]
    folds = parted(len(texts), folds=FOLDS, seed=seed)
    old, new = np.zeros(len(texts), dtype=np.int64), np.ones(len(texts), dtype=np.int64)
    kept, found, current = Edits(), {}, texts
    aims = {"punctuation": usual.punctuation, "register": usual.register, "spacing": True, "latin": True}
    for name, aim in aims.items():
        if aim is None:
            continue
        trial = Edits(**{**asdict(kept), name: aim})
        edited = apply(texts, trial)
        changed = sum(after != before for after, before in zip(edited, current, strict=True))
        if not changed:
            found[name] = {"to": aim, "changed": 0, "kept": False}
            continue
        statistics = Statistics.of(metric, [current, edited], references)
        helps = statistics.elsewhere(new, folds) > statistics.elsewhere(old, folds) + MARGIN
        mixed = old.copy()
        for fold, rows in enumerate(folds):
            mixed[rows] = helps[fold]
        before, value, cv = (statistics.value(places) for places in (old, new, mixed))
        keep = min(value, cv) > before + MARGIN
        found[name] = {"to": aim, "changed": changed, "before": before, "value": value, "cv": cv, "kept": keep}
        if keep:
            kept, current = trial, edited
    return kept, found


def _options(evidence: Evidence) -> tuple[dict[Setting, Places], dict[str, float]]:
    """The places (N,) that each setting chooses, simplest first, and the scale of each term."""
    sound = evidence.sound
    scales = {"model": spread(evidence.model, sound), "image": spread(evidence.image, sound)}
    agreed = {temperature: evidence.consensus(temperature, scales["model"]) for temperature in TEMPERATURES}
    scales["consensus"] = spread(agreed[None], sound)
    terms = {"model": evidence.model / scales["model"], "image": evidence.image / scales["image"]}
    present = [name for name in ("model", "consensus", "image") if name == "consensus" or terms[name].any()]
    options = {MODEL: evidence.first()}
    for setting in _settings(present):
        if setting != MODEL:
            consensus = agreed[setting.temperature] / scales["consensus"]
            options[setting] = chosen({**terms, "consensus": consensus}, setting.weights, sound)
    return options, scales


def _settings(present: Sequence[str]) -> Iterator[Setting]:
    """All weights of the present terms, those closest to the model alone first."""
    steps = round(1 / STEP)
    grid = [
        dict(zip(present, parts, strict=True))
        for parts in itertools.product(range(steps + 1), repeat=len(present))
        if sum(parts) == steps
    ]
    for parts in sorted(grid, key=lambda parts: -parts.get("model", 0)):
        weights = [round(parts.get(name, 0) * STEP, 6) for name in ("model", "consensus", "image")]
        for temperature in TEMPERATURES if parts["consensus"] and "model" in present else (None,):
            yield Setting(*weights, temperature)


def _first_best(values: npt.NDArray[np.float64]) -> int:
    return int(np.argmax(np.round(values, 9)))


def _oracle(statistics: Statistics, sound: npt.NDArray[np.bool_]) -> Places:
    values = np.where(sound, statistics.alone()[:, :-1], -np.inf)
    return np.where(sound.any(axis=1), values.argmax(axis=1), -1)
