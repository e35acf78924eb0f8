"""Caption metrics side by side with pycocoevalcap's Java-free parts and sacrebleu: time, ratio, and how far apart.

    pip install pycocoevalcap sacrebleu
    python benchmarks/caption_metrics.py                     5,000 captions with 5 references each
    python benchmarks/caption_metrics.py --images 1000 --tokenizer word

Both sides get the same tokens: ours as lists, the peer's as texts with spaces between. Each line is one metric: the
median of our times and of the peer's (processor time, so that other work on the machine counts less), their ratio,
and the largest difference, over the images where the peer has values for each. Then what the project asks for at
once: the whole panel with intervals, and the scores among the candidates of each image. Every repeat starts from
tokens or texts, so that nothing counted before is at hand.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.captions.tokenizers import get_tokenizer
from src.metrics.caption import bleu, chrf, cider, rouge
from src.metrics.caption.comparison import Comparison
from src.metrics.caption.measure import Frequencies, evaluate_captions, intervals, parse_caption_metric
from src.metrics.caption.names import NAMES

# The parts of a caption, a line each: look, who, wear, where, colour, thing, act, hold, end, many.
PARTS = [
    line.split("/")
    for line in """\
빨간/파란/노란/하얀/검은/작은/커다란/젊은/늙은/귀여운/젖은/마른/밝은/어두운/낡은
남자/여자/아이/소년/소녀/사람/노인/선수/강아지/고양이/말/새/소/양/곰/원숭이/군인/학생/요리사/가수
모자를/셔츠를/외투를/장갑을/안경을/신발을/가방을/목도리를/헬멧을/조끼를
공원/해변/거리/운동장/부엌/숲/강가/시장/역/교실/무대/풀밭/눈밭/다리/수영장/마당
빨간/파란/노란/하얀/검은/작은/커다란/동그란/네모난/긴/낡은/새로운
공/책/자전거/의자/꽃/우산/컵/전화기/기타/상자/연/접시/사과/빵/나무/풍선
달리/걷/뛰/앉아/서/놀/자/웃/노래하/춤추/기다리/쉬
들/보/만지/던지/옮기/그리/찾/닦
고 있다/고 있습니다/고 있는 모습/는 장면
한 명/두 명/세 마리/네 명/여러 마리""".splitlines()
]


def subject(word: str) -> str:
    return word + ("이" if (ord(word[-1]) - 0xAC00) % 28 else "가")


def scene(draw: random.Random) -> list[str]:
    """What a picture shows, in words that its captions share."""
    return [draw.choice(words) for words in PARTS]


def caption(of: list[str], draw: random.Random) -> str:
    """One caption: some of its words are others', some parts are left out."""
    words = [word if draw.random() < 0.75 else draw.choice(others) for word, others in zip(of, PARTS, strict=True)]
    look, who, wear, where, colour, thing, act, hold, end, many = words
    dressed = f"{wear} 쓴 " if draw.random() < 0.5 else ""
    counted = f"{who} {subject(many)}" if draw.random() < 0.4 else subject(who)
    place = f"{where}에서 " if draw.random() < 0.7 else ""
    what = f"{colour} {thing}을 {hold}{end}" if draw.random() < 0.5 else f"{act}{end}"
    return f"{dressed}{look} {counted} {place}{what}{'.' if draw.random() < 0.5 else ''}"


def captions(images: int, references: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    draw = random.Random(seed)
    scenes = [scene(draw) for _ in range(images)]
    return [caption(of, draw) for of in scenes], [[caption(of, draw) for _ in range(references)] for of in scenes]


def timed(function: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """The value and the median processor time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        value = function()
        times.append(time.process_time() - start)
    return value, statistics.median(times)


def compare(
    name: str, ours: Callable[[], Any], peer_name: str, peer: Callable[[], Any], *, repeats: int, least: float = 0.0
) -> bool:
    """Print one line; false when values are further apart than 1e-6, or the ratio is below `least`."""
    ours()  # imports and first touches of memory
    our_value, our_time = timed(ours, repeats)
    peer_value, peer_time = timed(peer, max(1, repeats // 2))
    difference = float(np.max(np.abs(np.subtract(our_value, peer_value))))
    good = difference <= 1e-6 and peer_time >= least * our_time
    print(
        f"{name:<34} {our_time:7.3f} s   {peer_name:<16} {peer_time:8.3f} s   {peer_time / our_time:6.1f}×   "
        f"differ by {difference:.1e}{'' if good else '   NOT AS REQUIRED'}",
        flush=True,
    )
    return good


def peers(candidates: list[str], references: list[list[str]], tokenizer: str, repeats: int) -> list[bool]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from sacrebleu.metrics import CHRF

    tokens = get_tokenizer(tokenizer)
    flat, seconds = timed(lambda: tokens.tokens_of([*candidates, *(text for group in references for text in group)]), 1)
    print(
        f"{tokens.signature}: {len(flat)} texts in {seconds:.1f} s, {np.mean([len(t) for t in flat]):.1f} tokens each"
    )
    mine, rest = flat[: len(candidates)], iter(flat[len(candidates) :])
    theirs = [[next(rest) for _ in group] for group in references]
    as_ours = lambda: Comparison.of_images(mine, theirs)  # noqa: E731
    gts = {index: [" ".join(text) for text in group] for index, group in enumerate(theirs)}
    res = {index: [" ".join(text)] for index, text in enumerate(mine)}
    columns = [list(column) for column in zip(*references, strict=True)]

    def ours_chrf() -> float:
        return chrf.corpus_chrf(
            Comparison.of_images(chrf.characters(candidates), [chrf.characters(group) for group in references])
        )

    return [
        compare("BLEU-1 to 4, corpus", lambda: bleu.corpus_bleu(as_ours()), "pycocoevalcap",
                lambda: Bleu(4).compute_score(gts, res, verbose=0)[0], repeats=repeats, least=5),
        compare("ROUGE-L, per image", lambda: rouge.rouge_l(as_ours()), "pycocoevalcap",
                lambda: Rouge().compute_score(gts, res)[1], repeats=repeats, least=5),
        compare("CIDEr-D, per image", lambda: cider.cider_d(as_ours()), "pycocoevalcap",
                lambda: Cider().compute_score(gts, res)[1], repeats=repeats, least=5),
        compare("chrF, corpus", ours_chrf, "sacrebleu",
                lambda: CHRF().corpus_score(candidates, columns).score, repeats=repeats),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--tokenizer", default="morpheme")
    parser.add_argument("--repeats", type=int, default=5, help="of ours; the peer is timed half as often")
    options = parser.parse_args()
    candidates, references = captions(options.images, options.references)
    print(f"{options.images} captions, {options.references} references each, e.g. '{candidates[0]}'")
    agree = peers(candidates, references, options.tokenizer, options.repeats)

    panel = lambda: evaluate_captions(candidates, references, tokenizer=options.tokenizer)  # noqa: E731
    _, seconds = timed(panel, 3)
    print(f"{f'all {len(NAMES)} metrics':<34} {seconds:7.3f} s   tokens at hand")
    _, seconds = timed(lambda: intervals(candidates, references, names=list(NAMES), tokenizer=options.tokenizer), 1)
    print(f"{'their intervals, 1000 resamples':<34} {seconds:7.3f} s   tokens at hand")
    draw = random.Random(1)
    groups = [[caption(of, draw) for _ in range(15)] for of in (scene(draw) for _ in range(1000))]
    frequencies = Frequencies.of(references, options.tokenizer)
    get_tokenizer(options.tokenizer).tokens_of([text for group in groups for text in group])
    for name in ("cider_d", "bleu4", "rouge_l", "meteor", "chrf"):
        metric = parse_caption_metric(f"{name}@{options.tokenizer}")
        _, seconds = timed(lambda metric=metric: metric.pairwise(groups, frequencies), 3)
        print(f"{f'1000 × 15² pairs, {name}':<34} {seconds:7.3f} s   tokens at hand")
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
