"""What a reader of the caption page must know before trusting its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.captions.register import REGISTERS
from src.report import wording
from src.report.caption.evidence import CaptionSet
from src.report.caption.summary import metric_title
from src.report.caption.words import REGISTER_NAMES, Words
from src.report.scoreboard import code_caveats, disagreement, weight_caveats

FEW_IMAGES = 50  # with references: a metric of captions then moves with a handful of them
COLLAPSED = 0.1  # of the images that share one sentence
MANY_COPIED = 0.5


def caveats(
    metrics: dict[str, Any],
    sets: Sequence[CaptionSet],
    counted: Mapping[str, Words | None],
    top: Mapping[str, Any],
    metric: Any,
    record: dict[str, Any],
    broken: Sequence[Mapping[str, Any]],
    reports: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Sentences, the gravest first; `counted`: set's key → its words."""
    found: list[str] = []
    oof = next((scored for scored in sets if scored.key == "oof"), None)
    for scored in sets:
        found += _of_captions(scored, counted.get(scored.key))
    value = top["value"]
    if value is not None and top["constant"] is not None and value <= top["constant"]:
        found.append(
            f"One and the same sentence for every image would reach {wording.metric_value(top['constant'])}: the "
            "captions do not yet say more about a picture than what most pictures have in common."
        )
    found += weight_caveats(record, "It may still learn a few frequent sentences, but hardly what a picture shows.")
    if oof is None:
        found.append("There are no out-of-fold predictions: nothing says how the model does on images it never saw.")
    elif not len(oof.known):
        found.append("No image predicted out of fold has a reference: there is no metric, and nothing was tuned.")
    elif len(oof.known) < FEW_IMAGES:
        found.append(
            f"Only {wording.count(len(oof.known), 'image')} with references stand behind the numbers: a handful of "
            "captions moves them a lot."
        )
    if oof is not None and len(oof.known):
        found += _of_references(oof, metric)
    decision = metrics.get("decision") or {}
    if (decision.get("summary") or {}).get("choice") == "weighted":
        found.append(
            "The weights of the choice were tuned on the out-of-fold images shown here. Their value under “What was "
            "decided” is cross-validated; the captions and pictures use the final weights and may look a little better."
        )
    found += disagreement(top["interval"], top["graded"])
    if reports:
        found.append(
            f"{wording.count(len(reports), 'caption')} of the files were mended or set aside; they are listed under "
            "“Captions of the files”."
        )
    in_test = sum(1 for item in broken if item.get("split") == "test")
    if in_test:
        found.append(
            f"{wording.count(in_test, 'test image')} cannot be read and got the fallback sentence; they are listed "
            "under “Set aside”."
        )
    return found + code_caveats(record)


def _of_captions(scored: CaptionSet, words: Words | None) -> list[str]:
    """What is odd about the captions of one set, whatever they score."""
    found = []
    if words is not None:
        found += _of_words(scored.title, words)
    fallback = sum(each.state == "fallback" for each in scored.chosen)
    if fallback:
        found.append(
            f"{scored.title}: {wording.count(fallback, 'image')} of {len(scored.chosen):,} got the fallback sentence, "
            "as no candidate could stand."
        )
    return found


def _of_words(title: str, words: Words) -> list[str]:
    """One sentence for many images, copies, lengths and speech levels unlike the references'."""
    found = []
    n = len(words.captions.texts)
    text, count = next(iter(words.captions.repeated), ("", 0))
    if n > 1 and count == n:
        found.append(
            f"{title}: every image has the same caption, “{_short(text)}”. It says nothing of the picture."
        )
    elif n >= 10 and count >= max(3, COLLAPSED * n):
        found.append(
            f"{title}: one sentence stands for {count:,} of {n:,} images (“{_short(text)}”). The model falls "
            "back on what fits most pictures: train longer, or with a stronger encoder."
        )
    if n >= 10 and words.copied >= MANY_COPIED and words.copied > 2 * words.others_copied:
        found.append(
            f"{title}: {wording.percent(round(words.copied * n), n)} of the captions are a caption of another "
            "training image, word for word. That is what a nearest neighbour does; a model that writes has learned "
            "sentences by heart."
        )
    mean, other = float(words.captions.lengths.mean()), float(words.others.lengths.mean())
    if n >= 10 and other and not 0.75 <= mean / other <= 1.33:
        found.append(
            f"{title}: captions have {mean:.1f} tokens on average, "
            f"“{words.others.title}” {other:.1f}. BLEU and CIDEr-D punish that: "
            "change decoding.length_penalty, or decoding.min_tokens and max_tokens."
        )
    levels = [entry for entry in words.registers if entry[0] in REGISTERS]
    usual = max(levels, key=lambda entry: entry[2], default=None)
    if n >= 10 and usual is not None and usual[2] > 0.5 and usual[1] < usual[2] - 0.25:
        found.append(
            f"{title}: {100 * usual[2]:.0f}% of what the captions are held against ends in {REGISTER_NAMES[usual[0]]}, "
            f"and {100 * usual[1]:.0f}% of the captions do."
        )
    return found


def _of_references(oof: CaptionSet, metric: Any) -> list[str]:
    found = []
    mean = float(np.mean([len(oof.references[i]) for i in oof.known]))
    if mean < 1.5:
        found.append(
            f"There {'is one reference' if mean == 1 else f'are {mean:.1f} references'} an image: a good caption in "
            "other words scores low, so look at the pictures too."
        )
    lacking = len(oof.ids) - len(oof.known)
    if lacking:
        images = wording.count(lacking, "out-of-fold image")
        found.append(f"{images} without references are left out of {metric_title(metric)}.")
    return found


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
