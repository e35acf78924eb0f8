"""Which candidate becomes the caption of an image: the decision that OOF rows teach, applied to any rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from src.captions.consensus import medoid
from src.captions.editing import Edits, majority
from src.captions.evidence import TERMS, chosen, evidence_of
from src.captions.soundness import Soundness
from src.captions.statistics import Statistics
from src.captions.tuning import CONSENSUS, MODEL, tune_edits, tune_weights
from src.errors import ProjectError, nearest

CHOICES = ("auto", "first", "consensus")
LEAST_IMAGES = 20  # with fewer images of known captions, tuning would follow chance
CLEAR_MAJORITY = 0.8  # of training captions, where no OOF row can say whether an edit helps
FALLBACK_SAMPLE = 500  # training captions among which the fallback sentence is sought


@dataclass(frozen=True)
class Chosen:
    """The caption of one image.

    index: of the candidate that it was made from, -1 for the fallback sentence.
    state: "kept" (the first candidate is sound) | "candidate" (a sound candidate replaced a degenerate first one) |
        "fallback" (no candidate is sound).
    problems: of the first candidate, where it was refused (see src.captions.degenerate); "empty" if there was none.
    """

    text: str
    index: int
    state: str
    problems: list[str]


@dataclass(frozen=True)
class CaptionDecision:
    """How a caption is chosen among an image's sound candidates, and how it is edited.

    metric: the CaptionMetric's name, the utility of the consensus.
    weights: of "model", "consensus" and "image" in the sum that ranks the candidates, each term taken as its deviation
        from the image's mean and divided by its entry of `scales`; the model alone takes the first sound candidate.
    temperature: of the candidates' votes in the consensus (src.captions.consensus.votes); None: equal votes.
    edits: Edits.to_dict(). fallback: the sentence of images without any sound candidate.
    soundness: Soundness.to_dict(). summary: what led to the decision, see decide().
    """

    metric: str
    weights: dict[str, float]
    edits: dict[str, Any]
    fallback: str
    summary: dict[str, Any]
    temperature: float | None = None
    scales: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 1.0))
    soundness: dict[str, Any] = field(default_factory=lambda: Soundness().to_dict())

    def choose_all(
        self,
        candidates: Sequence[Sequence[str]],
        scores: Sequence[Any] | None,
        image_scores: Sequence[Any] | None = None,
        *,
        frequencies: Any = None,
    ) -> list[Chosen]:
        """One caption an image; an image's caption depends on its own candidates alone.

        candidates: of each image, best first; may be empty. scores, image_scores: parallel to them, None where unknown.
        frequencies: document frequencies of the training captions, for metrics that weigh n-grams.

        Raises:
            ProjectError: a consensus under such a metric without frequencies.
        """
        asks = self.weights["consensus"] > 0
        metric = None
        if asks:
            from src.metrics.caption.measure import parse_caption_metric

            metric = parse_caption_metric(self.metric)
            if frequencies is None and any(name.startswith("cider") for name in metric.parts):
                raise ProjectError(
                    f"the consensus under {self.metric} weighs n-grams by their frequency in the training captions, "
                    "and none is given. The folder of the run should hold frequencies.json.gz; train again if not."
                )
        soundness = Soundness.from_dict(self.soundness)
        evidence = evidence_of(
            candidates, scores, image_scores, soundness=soundness, metric=metric, frequencies=frequencies
        )
        if self.weights["model"] == 1.0:
            places = evidence.first()
        else:
            terms = {"model": evidence.model / self.scales["model"], "image": evidence.image / self.scales["image"]}
            if asks:
                agreed = evidence.consensus(self.temperature, self.scales["model"])
                terms["consensus"] = agreed / self.scales["consensus"]
            places = chosen(terms, self.weights, evidence.sound)
        raw = [self.fallback if at < 0 else candidates[row][at] for row, at in enumerate(places)]
        texts = edited_soundly(raw, Edits.from_dict(self.edits), soundness)
        results = []
        for row, at in enumerate(places):
            refused = evidence.problems[row][0] if evidence.problems[row] else ["empty"]
            if at < 0:
                results.append(Chosen(self.fallback, -1, "fallback", refused))
            else:
                results.append(Chosen(texts[row], int(at), "candidate" if refused else "kept", refused))
        return results

    def to_dict(self) -> dict[str, Any]:
        names = ("metric", "weights", "temperature", "scales", "edits", "fallback", "soundness", "summary")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CaptionDecision":
        return cls(**values)


def decide(
    candidates: Sequence[Sequence[str]],
    scores: Sequence[Any] | None,
    image_scores: Sequence[Any] | None,
    references: Sequence[Sequence[str]] | None,
    *,
    metric: Any,
    training: Sequence[Sequence[str]],
    frequencies: Any = None,
    seed: int = 0,
    how: str = "auto",
    runs: int = 1,
) -> CaptionDecision:
    """The decision that scores best on OOF rows under cross-validation.

    references: of each image, empty or None where unknown. training: the captions of each training image.
    metric: a CaptionMetric. frequencies: of `training` where None.
    how: "auto" is what follows; "first" and "consensus" (of equal votes) fix the choice.
    runs: how many models the candidates come from.

    Candidates: the first one, equal-vote consensus, and a weighted sum of model score, consensus and image score are
    compared; the weights' value is that of captions chosen for each fifth of the images by weights tuned on the others.
    Edits: towards the majority of the training captions, each kept where such a comparison says that it helps.

    With fewer than LEAST_IMAGES images of known references nothing can be tuned. Candidates of one model then keep
    the model's order: they come from one search, resemble each other, and the consensus of a beam is near its best. Of
    several models the consensus is taken: their scores are not comparable, and what models agree on that err
    differently is more often right. Register and punctuation are then edited where CLEAR_MAJORITY of the training
    captions agree.

    The fallback sentence is the medoid under the metric of up to FALLBACK_SAMPLE sound training captions, drawn by
    `seed`, one an image.

    summary: "images" (with references), "choice" (first | consensus | weighted), "cross_validated" (value of the
        decision as a whole, not tuned on the images that it is measured on), "first", "consensus", "weighted" (tuned
        and measured on the same images), "weighted_cv", "image" where image scores are known, "oracle" (the best
        sound candidate of each image by its own value), "edits" {name: {"to", "changed", "before", "value", "cv",
        "kept"}}, "fallback" (how it was found), "reason" where nothing was tuned.
    """
    if how not in CHOICES:
        raise ProjectError(f"choice={how!r} is not known.{nearest(str(how), CHOICES)} Known: {', '.join(CHOICES)}.")
    flat = [text for texts in training for text in texts]
    if frequencies is None and flat:
        from src.metrics.caption.measure import Frequencies

        frequencies = Frequencies.of(training, metric.tokenizer)
    soundness = Soundness.of(flat)
    fallback, found_by = _fallback(candidates, training, soundness, metric, frequencies, seed)
    shared = {"metric": metric.name, "fallback": fallback, "soundness": soundness.to_dict()}
    usual = majority(flat)
    rows = [row for row, texts in enumerate(references if references is not None else ()) if texts]
    if len(rows) < LEAST_IMAGES:
        few = f"{len(rows)} image(s) with known captions, fewer than {LEAST_IMAGES}" if rows else "no known captions"
        choice = how if how != "auto" else "consensus" if runs > 1 else "first"
        summary = {"images": len(rows), "choice": choice, "cross_validated": None}
        weights = (CONSENSUS if choice == "consensus" else MODEL).weights
        edits = majority(flat, share=CLEAR_MAJORITY).to_dict()
        return CaptionDecision(
            weights=weights, edits=edits, summary={**summary, "fallback": found_by, "reason": few}, **shared
        )
    known = [list(candidates[row]) for row in rows]
    evidence = evidence_of(
        known,
        None if scores is None else [scores[row] for row in rows],
        None if image_scores is None else [image_scores[row] for row in rows],
        soundness=soundness,
        metric=metric,
        frequencies=frequencies,
    )
    known_references = [list(references[row]) for row in rows]
    width = evidence.sound.shape[1]
    columns = [[texts[at] if at < len(texts) else fallback for texts in known] for at in range(width + 1)]
    tuned = tune_weights(evidence, Statistics.of(metric, columns, known_references), how=how, seed=seed)
    texts = [fallback if at < 0 else given[at] for given, at in zip(known, tuned.places, strict=True)]
    kept, found = tune_edits(
        texts,
        known_references,
        usual,
        metric=metric,
        apply=lambda given, edits: edited_soundly(given, edits, soundness),
        seed=seed,
    )
    value = tuned.values["weighted_cv"] if tuned.choice == "weighted" else tuned.values[tuned.choice]
    # The gain of edits is measured on texts chosen in-sample; the choice's own value has no such optimism in it.
    value += sum(entry["cv"] - entry["before"] for entry in found.values() if entry["kept"])
    summary = {"images": len(rows), "choice": tuned.choice, "cross_validated": value, **tuned.values}
    return CaptionDecision(
        weights=tuned.setting.weights,
        temperature=tuned.setting.temperature,
        scales=tuned.scales,
        edits=kept.to_dict(),
        summary={**summary, "edits": found, "fallback": found_by},
        **shared,
    )


def edited_soundly(texts: Sequence[str], edits: Edits, soundness: Soundness) -> list[str]:
    """Edited texts; a sound text whose edited form is not sound keeps its form."""
    after = edits.apply(texts)
    return [
        old if new != old and soundness.problems(new) and not soundness.problems(old) else new
        for old, new in zip(texts, after, strict=True)
    ]


def _fallback(
    candidates: Sequence[Sequence[str]],
    training: Sequence[Sequence[str]],
    soundness: Soundness,
    metric: Any,
    frequencies: Any,
    seed: int,
) -> tuple[str, str]:
    """The fallback sentence and a line on how it was found."""
    for source, what in ((training, "training captions"), (candidates, "candidates, as no caption is known")):
        rng = np.random.default_rng(seed)
        sample: list[str] = []
        for image in rng.permutation(len(source)):
            pool = [text for text in source[image] if not soundness.problems(text)]
            if pool:
                sample.append(pool[rng.integers(len(pool))])
            if len(sample) == FALLBACK_SAMPLE:
                break
        if sample:
            return medoid(metric, sample, frequencies), f"the medoid of {len(sample)} {what}, one an image"
    raise ProjectError(
        "no training caption and no candidate is a sound sentence, so there is no text to fall back on. "
        "Check the competition's caption columns (data.captions) and the model's output."
    )
