"""Weights and edits of a caption decision, tuned on images of known captions and kept only where that generalises."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from src.captions.editing import Edits
from src.captions.evidence import Evidence, chosen, spread

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

FOLDS = 5
STEP = 0.1  # of the weights, which sum to 1
TEMPERATURES = (None, 1.0, 0.5)  # of votes, in spreads of the model's scores; None: equal votes
FINALISTS = 4  # settings compared by a metric that is no mean over images, after its sentence level chose them
MARGIN = 1e-9  # gains below it are rounding


@dataclass(frozen=True)
class Setting:
    """Weights of the terms and the temperature of the votes."""

    weights: dict[str, float]
    temperature: float | None = None


@dataclass(frozen=True)
class Truth:
    """Candidates of N images measured against their references.

    values: (N, C + 1) sentence metric of each candidate; the last column is the fallback sentence's, so that place -1
        has its value; NaN is padding.
    additive: the corpus metric is the mean of the sentence metric.
    """

    candidates: list[list[str]]
    references: list[list[str]]
    metric: Any
    fallback: str
    values: Array
    additive: bool

    @classmethod
    def of(
        cls, candidates: list[list[str]], references: list[list[str]], *, metric: Any, fallback: str
    ) -> "Truth":
        """Measure all candidates, with the references' own document frequencies as the corpus metric has them."""
        from src.metrics.caption.measure import Frequencies

        frequencies = Frequencies.of(references, metric.tokenizer)
        width = max([1, *map(len, candidates)])
        rows = [row for row, texts in enumerate(candidates) for _ in range(len(texts) + 1)]
        texts = [text for texts in candidates for text in (*texts, fallback)]
        found = metric.per_image(texts, [references[row] for row in rows], frequencies=frequencies)
        values = np.full((len(candidates), width + 1), np.nan)
        ends = np.cumsum([len(texts) + 1 for texts in candidates])
        for row, (end, given) in enumerate(zip(ends, candidates, strict=True)):
            values[row, : len(given)] = found[end - len(given) - 1 : end - 1]
            values[row, -1] = found[end - 1]
        first = np.array([0 if texts else -1 for texts in candidates])
        whole = metric.corpus([texts[0] if texts else fallback for texts in candidates], references)
        mean = float(np.mean(values[np.arange(len(first)), first]))
        additive = abs(mean - whole) <= 1e-6 * max(1.0, abs(whole))
        return cls(candidates, references, metric, fallback, values, additive)

    def texts(self, places: Places) -> list[str]:
        pairs = zip(self.candidates, places, strict=True)
        return [self.fallback if at < 0 else texts[at] for texts, at in pairs]

    def at(self, places: Places) -> Array:
        """Sentence values (N,) of the chosen candidates."""
        return self.values[np.arange(len(places)), places]

    def corpus(self, places: Places, rows: npt.NDArray[np.int64] | None = None) -> float:
        """The corpus metric of the chosen candidates, of all images or of `rows`."""
        texts = self.texts(places)
        rows = np.arange(len(texts)) if rows is None else rows
        return float(self.metric.corpus([texts[row] for row in rows], [self.references[row] for row in rows]))


@dataclass(frozen=True)
class Tuned:
    """The kept choice: its setting, its places (N,), and the values of all that were compared."""

    choice: str
    weights: dict[str, float]
    temperature: float | None
    scales: dict[str, float]
    places: Places
    values: dict[str, float]


def tune_weights(evidence: Evidence, truth: Truth, *, seed: int, how: str = "auto") -> Tuned:
    """The first candidate, the consensus of equal votes or the tuned sum, whichever is best under cross-validation.

    how: "auto", or "first" or "consensus" whatever the values say.

    Of equals the simpler stays. The sum's own value there is that of captions chosen by weights from other images.
    """
    sound = evidence.sound
    scales = {"model": spread(evidence.model, sound), "image": spread(evidence.image, sound)}
    equal = evidence.consensus(None, scales["model"])
    scales["consensus"] = spread(equal, sound)
    agreed = {None: equal} | {t: evidence.consensus(t, scales["model"]) for t in TEMPERATURES if t is not None}
    terms = {"model": evidence.model / scales["model"], "image": evidence.image / scales["image"]}
    present = [name for name in ("model", "consensus", "image") if name == "consensus" or terms[name].any()]
    settings = list(_settings(present))
    options = []
    for setting in settings:
        if setting.weights["model"] == 1.0:
            options.append(evidence.first())
            continue
        all_terms = {**terms, "consensus": agreed[setting.temperature] / scales["consensus"]}
        options.append(chosen(all_terms, setting.weights, sound))
    unique, where = np.unique(np.stack(options), axis=0, return_inverse=True)
    where = where.reshape(-1)
    search = _Search(unique, where, truth)

    alone = settings.index(Setting({"model": 0.0, "consensus": 1.0, "image": 0.0}))
    all_rows = np.arange(len(sound))
    best = search.best(all_rows)
    held_out = np.empty(len(sound), dtype=np.int64)
    for rows, others in _folds(len(sound), seed):
        held_out[rows] = options[search.best(others)][rows]
    values = {
        "first": truth.corpus(options[0]),
        "consensus": truth.corpus(options[alone]),
        "weighted": truth.corpus(options[best]),
        "weighted_cv": truth.corpus(held_out),
        "oracle": truth.corpus(_oracle(truth, sound)),
    }
    if "image" in present:
        values["image"] = truth.corpus(options[settings.index(Setting({"model": 0.0, "consensus": 0.0, "image": 1.0}))])
    choice = how
    if how == "auto":
        choice = "consensus" if values["consensus"] > values["first"] + MARGIN else "first"
        choice = "weighted" if values["weighted_cv"] > values[choice] + MARGIN else choice
    kept = {"first": 0, "consensus": alone, "weighted": best}[choice]
    setting = settings[kept]
    return Tuned(choice, dict(setting.weights), setting.temperature, scales, options[kept], values)


def tune_edits(
    texts: list[str], truth: Truth, usual: Edits, *, apply: Callable[[Sequence[str], Edits], list[str]], seed: int
) -> tuple[Edits, dict[str, Any]]:
    """Edits that help: one after another on top of those kept, each judged with and without.

    texts: the chosen captions (N,). usual: register and punctuation of most training captions.

    Returns:
        the kept edits, and for each edit {"to", "changed" (texts), "before", "value" (all edited), "cv" (edited
        where the other images say that it helps), "kept"}.
    """
    from src.metrics.caption.measure import Frequencies

    frequencies = Frequencies.of(truth.references, truth.metric.tokenizer)
    kept, found, current = Edits(), {}, texts
    aims = {"punctuation": usual.punctuation, "register": usual.register, "spacing": True, "latin": True}
    for name, aim in aims.items():
        if aim is None:
            continue
        trial = Edits(**{**asdict(kept), name: aim})
        edited = apply(texts, trial)
        changed = sum(new != old for new, old in zip(edited, current, strict=True))
        if not changed:
            found[name] = {"to": aim, "changed": 0, "kept": False}
            continue
        before = truth.metric.corpus(current, truth.references)
        gains = truth.metric.per_image(edited, truth.references, frequencies=frequencies)
        gains = gains - truth.metric.per_image(current, truth.references, frequencies=frequencies)
        mixed = list(current)
        for rows, others in _folds(len(texts), seed):
            if gains[others].mean() > MARGIN:
                for row in rows:
                    mixed[row] = edited[row]
        value, cv = (truth.metric.corpus(given, truth.references) for given in (edited, mixed))
        keep = min(value, cv) > before + MARGIN
        found[name] = {"to": aim, "changed": changed, "before": before, "value": value, "cv": cv, "kept": keep}
        if keep:
            kept, current = trial, edited
    return kept, found


class _Search:
    """Mean sentence values of many settings, many of which choose the same candidates."""

    def __init__(self, unique: npt.NDArray[np.int64], where: Places, truth: Truth) -> None:
        self.unique, self.where, self.truth = unique, where, truth
        self.values = np.stack([truth.at(places) for places in unique])

    def best(self, rows: npt.NDArray[np.int64]) -> int:
        """The setting of the largest metric on `rows`; of equals the earlier."""
        means = np.round(self.values[:, rows].mean(axis=1), 9)
        if not self.truth.additive:
            finalists = np.argsort(-means, kind="stable")[:FINALISTS]
            finalists = np.union1d(finalists, self.where[:1])
            whole = np.full(len(means), -np.inf)
            for at in finalists:
                whole[at] = round(self.truth.corpus(self.unique[at], rows), 9)
            means = whole
        return int(np.argmax(means[self.where]))


def _settings(present: Sequence[str]) -> Iterator[Setting]:
    """All weights of the present terms, the model alone first, then those closest to it."""
    steps = round(1 / STEP)
    grid = [
        dict(zip(present, parts, strict=True))
        for parts in itertools.product(range(steps + 1), repeat=len(present))
        if sum(parts) == steps
    ]
    if "model" not in present:
        yield Setting({"model": 1.0, "consensus": 0.0, "image": 0.0})
    for parts in sorted(grid, key=lambda parts: -parts.get("model", 0)):
        weights = {name: round(parts.get(name, 0) * STEP, 6) for name in ("model", "consensus", "image")}
        for temperature in TEMPERATURES if weights["consensus"] and "model" in present else (None,):
            yield Setting(weights, temperature)


def _oracle(truth: Truth, sound: npt.NDArray[np.bool_]) -> Places:
    values = np.where(sound, truth.values[:, :-1], -np.inf)
    return np.where(sound.any(axis=1), values.argmax(axis=1), -1)


def _folds(count: int, seed: int) -> Iterator[tuple[Places, Places]]:
    """Rows of a part and rows of all other parts, FOLDS times."""
    order = np.random.default_rng(seed).permutation(count)
    for part in np.array_split(order, min(FOLDS, count)):
        yield part, np.setdiff1d(np.arange(count), part)
