"""How many of something are in a picture: a Korean question, a picture, a number with boxes.

python -m src.apps.count photo.jpg "강아지가 몇 마리야?"
python -m src.apps.count photo.jpg "배가 몇 척이야?" --model owlv2 --show counted.jpg
python -m src.apps.count photo.jpg "배가 몇 개야?" --as pear           the meaning, where a word has several
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from src.errors import ProjectError

if TYPE_CHECKING:
    import numpy as np

    from src.boxes.class_rule import ClassRule
    from src.boxes.types import Detections

Kind = Literal["counted", "absent", "ambiguous", "unknown", "nothing"]
GROUP_MEMBERS, GROUP_INSIDE = 3, 0.8  # a box with so many of its kind inside, each by this share, is their group
PRESENCE = 0.1  # above the threshold: what the surest box must reach before anything counts as there


class Detector(Protocol):
    """Finds what names say; `rule` is how its boxes are counted where the caller brings no rule.

    vocabulary: the class names that a trained detector knows, Korean or English; None of an open one, which is asked in
    English.
    """

    rule: ClassRule
    vocabulary: Sequence[str] | None

    def detect(self, image: np.ndarray, names: Sequence[str]) -> Detections: ...


@dataclass(frozen=True)
class Counted:
    """One asked-for thing: its Korean word, the detector's names for it, the counter, its boxes in picture pixels.

    count: boxes that passed the rule; 0 where the thing is absent. best: the highest score before any rule.
    """

    word: str
    names: str
    counter: str
    count: int
    best: float
    detections: Detections


@dataclass(frozen=True)
class Answer:
    """The answer to a question about a picture. `text` is a Korean sentence a line; choices are (English, meaning)."""

    query: str
    kind: Kind
    text: str
    counted: tuple[Counted, ...] = ()
    choices: tuple[tuple[str, str], ...] = ()


def count_in_image(
    image: np.ndarray | str | Path,
    query: str,
    detector: Detector,
    resolver: Callable[[str], Any] | None = None,
    rule: ClassRule | None = None,
    *,
    meaning: str | None = None,
) -> Answer:
    """Count what a question names.

    Args:
        image: H×W×3 uint8 RGB, or a picture's path.
        query: a question in Korean or English, such as "강아지가 몇 마리야?".
        detector: see `Detector`; `src.apps.zero_shot.load_detector` makes one.
        resolver: question → `src.lexicon.Resolution`; None is `src.lexicon.resolve` with the detector's vocabulary.
        rule: which boxes count; None is the detector's.
        meaning: English name that overrides the first target's, where its word has several meanings or none known.

    Raises:
        ProjectError: an empty question. ImageError: a picture that cannot be read.
    """
    closed = detector.vocabulary is not None
    resolver = resolver or resolver_for(detector.vocabulary)
    names, unanswered = understand(query, resolver, meaning=meaning, closed=closed)
    if unanswered is not None:
        return unanswered
    if isinstance(image, str | Path):
        from src.data.images import read_image

        image = read_image(image)
    rule = rule or detector.rule
    terms = list(dict.fromkeys(term for name in names for term in name.terms))
    found = detector.detect(image, terms)
    size = (int(image.shape[1]), int(image.shape[0]))
    counted = tuple(_count(name, found, [terms.index(term) for term in name.terms], rule, size) for name in names)
    kind: Kind = "counted" if any(one.count for one in counted) else "absent"
    text = "\n".join(_sentence(one, name) for one, name in zip(counted, names, strict=True))
    return Answer(query, kind, text, counted)


@dataclass(frozen=True)
class Name:
    """One asked-for thing: the word as said, what the detector is asked for, its counter (마리, 개), the intent.

    terms: one English name for an open detector; of a vocabulary all classes that are meant (동물: 개, 고양이).
    """

    word: str
    terms: tuple[str, ...]
    counter: str
    intent: str


def resolver_for(vocabulary: Sequence[str] | None = None, translator: Any = None) -> Callable[[str], Any]:
    """How a question is read: by `src.lexicon`, and for words that it does not know by a translator, where one is."""

    def ask(query: str) -> Any:
        from src.lexicon import resolve

        return resolve(query, vocabulary=vocabulary, translator=translator)

    return ask


def understand(
    query: str, resolver: Callable[[str], Any] | None = None, *, meaning: str | None = None, closed: bool = False
) -> tuple[list[Name], Answer | None]:
    """The things that a question names; or, where it cannot be asked of a detector yet, the answer that says why.

    closed: the terms are classes of a vocabulary, all of which are meant; else they are synonyms, the best first.
    """
    if not query.strip():
        raise ProjectError('the question is empty: ask, for example, "강아지가 몇 마리야?".')
    asked = (resolver or resolver_for())(query)
    intent = asked.query.intent
    if not asked.objects:
        if meaning is None:
            return [], Answer(query, "nothing", '무엇을 셀지 알 수 없습니다. 예: "강아지가 몇 마리야?"')
        return [Name(meaning, (meaning,), asked.query.counter or "개", intent)], None
    names = []
    for index, found in enumerate(asked.objects):
        word = found.target.word
        terms = tuple(found.terms if closed else found.terms[:1])
        choices = tuple((choice.english[0], choice.meaning) for choice in found.choices if choice.english)
        if index == 0 and meaning is not None:
            terms = (meaning,)
        elif len(choices) > 1:
            listed = ", ".join(english for english, _ in choices)
            text = f"'{word}'에는 여러 뜻이 있습니다: {listed}. 하나를 골라 주세요."
            return [], Answer(query, "ambiguous", text, choices=choices)
        elif not terms:
            text = f"'{word}'{_topic(word)} 모르는 낱말입니다. 영어 이름을 알려 주세요 (--as)."
            return [], Answer(query, "unknown", text)
        names.append(Name(word, terms, found.target.counter or "개", intent))
    return names, None


def _count(name: Name, found: Detections, labels: list[int], rule: ClassRule, size: tuple[int, int]) -> Counted:
    import numpy as np

    from src.boxes.count_rule import CountRule
    from src.boxes.types import Detections

    mine = found.select(np.isin(found.labels, labels))
    mine = replace(mine, labels=mine.labels * 0)  # several classes that a word means are one thing here
    best = float(mine.scores.max()) if len(mine) else 0.0
    counting = CountRule((name.word,), (rule,))
    kept = Detections.empty()
    if best >= min(rule.threshold + PRESENCE, 1.0):
        kept = drop_groups(counting.keep(mine, size))
    number = int(counting.count(kept, size)[0]) if len(kept) else 0
    return Counted(name.word, ", ".join(name.terms), name.counter, number, best, kept)


def drop_groups(found: Detections) -> Detections:
    """Detections of one class, already suppressed, without boxes around a whole group.

    Open-vocabulary detectors like to box many small objects at once: a box with at least three others of its kind
    inside, each no more than half its size, is none of them.
    """
    import numpy as np

    boxes = found.boxes
    if len(boxes) <= GROUP_MEMBERS:
        return found
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    inside = (areas[None] > 0) & (shared >= GROUP_INSIDE * areas[None]) & (areas[None] <= areas[:, None] / 2)
    return found.select(inside.sum(axis=1) < GROUP_MEMBERS)


def _final(word: str) -> bool:
    """Whether a Korean word ends in a consonant, which decides the form of its particle."""
    from src.lexicon.hangul import final_of

    return bool(word) and final_of(word[-1]) > 0


def _topic(word: str) -> str:
    return "은" if _final(word) else "는"


def _subject(word: str) -> str:
    return "이" if _final(word) else "가"


def _sentence(one: Counted, name: Name) -> str:
    if not one.count:
        return f"{one.word}{_topic(one.word)} 사진에 없습니다."
    number = f"{one.count}{one.counter}"
    if name.intent == "exists":
        return f"네, {one.word}{_subject(one.word)} {number} 있습니다."
    return f"{one.word}{_subject(one.word)} {number} 있습니다."


def report(answer: Answer) -> str:
    """The answer as the command prints it: the sentences, then every box."""
    lines = [answer.text]
    lines += [f"  --as {english:16} {meaning}" for english, meaning in answer.choices]
    for one in answer.counted:
        for number, (box, score) in enumerate(zip(one.detections.boxes, one.detections.scores, strict=True), start=1):
            corners = " ".join(f"{value:.0f}" for value in box)
            lines.append(f"  {one.names} {number}: score {score:.2f}, box {corners}")
        if not one.count:
            lines.append(f"  {one.names}: highest score {one.best:.2f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0 answered, 1 an error, 2 a question that needs another word."""
    parser = argparse.ArgumentParser(
        prog="python -m src.apps.count", description="Count what a Korean question names in one picture."
    )
    parser.add_argument("picture", type=Path, help="an image file")
    parser.add_argument("question", help='such as "강아지가 몇 마리야?"')
    parser.add_argument("--model", default="grounding_dino", help="an open-vocabulary detector (default: %(default)s)")
    parser.add_argument("--weights", default="auto", help="auto | pretrained | random | a checkpoint's folder")
    parser.add_argument("--weights-dir", type=Path, default=Path("weights"), help="looked into before the hub")
    parser.add_argument("--as", dest="meaning", help="English name of what is meant, where a word has several meanings")
    parser.add_argument("--translator", help="for unknown words: papago, or an NLLB checkpoint")
    parser.add_argument("--threshold", type=float, help="lowest score of an object (default: the detector's)")
    parser.add_argument("--show", type=Path, help="write a copy of the picture with the boxes here")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except ProjectError as error:
        print("error: " + str(error).replace("model.weights=", "--weights "), file=sys.stderr)
        return 1


def _translator(name: str | None, weights_dir: Path) -> Any:
    if name is None:
        return None
    from src.translation import NllbTranslator, PapagoTranslator

    return PapagoTranslator() if name == "papago" else NllbTranslator.load(name, weights_dir=weights_dir)


def _run(options: argparse.Namespace) -> int:
    if not options.picture.is_file():
        raise ProjectError(f"the picture {options.picture} does not exist.")
    if options.threshold is not None and not 0 < options.threshold < 1:
        raise ProjectError(f"--threshold {options.threshold}: give a score between 0 and 1.")
    if options.show is not None and options.show.resolve() == options.picture.resolve():
        raise ProjectError(f"--show {options.show} is the picture itself: give the copy another name.")
    resolver = resolver_for(translator=_translator(options.translator, options.weights_dir))
    _, unanswered = understand(options.question, resolver, meaning=options.meaning)
    if unanswered is not None:  # said before a detector is loaded
        print(report(unanswered))
        return 2
    from src.apps.zero_shot import load_detector
    from src.data.images import read_image

    image = read_image(options.picture)
    detector = load_detector(options.model, weights=options.weights, weights_dir=options.weights_dir)
    rule = detector.rule if options.threshold is None else replace(detector.rule, threshold=options.threshold)
    answer = count_in_image(image, options.question, detector, resolver, rule, meaning=options.meaning)
    print(report(answer))
    if options.show is not None:
        from PIL import Image

        from src.apps.drawing import draw

        options.show.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(image, answer)).save(options.show)
        print(f"boxes drawn: {options.show}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
