"""The Korean lexicon measured: coverage of CLDR's names, of detectors' classes, right answers to questions, time.

    python benchmarks/lexicon.py                                    the names in ../shared/data/cldr, seconds
    python benchmarks/lexicon.py --cldr /data/en_ko_names.tsv       elsewhere

Which CLDR rows count as concrete objects, fixed before measuring: the character is one emoji (a variation selector
aside) of the blocks of pictographs (U+1F300 to 1F5FF, 1F680 to 1F6FF, 1F900 to 1F9FF, 1FA70 to 1FAFF), and its English
name has none of the words in NO_OBJECT, which mark faces, gestures, people at an action, buttons, shapes, hearts, hours
and phases of the moon. What remains are animals, plants, food, vehicles, places, weather, clothes, tools and the like.

name: the row's Korean name is known as it stands, as one entry of the lexicon. parsed: it is known, or is put together
from attributes and nouns that are ("흰 장갑"). any word: the name or one of the row's Korean keywords is known. agrees:
of the parsed ones, those whose English shares a word with the row's English name.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.lexicon import english_of, parse_query
from src.lexicon.entries import korean_key, lexicon

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCKS = ((0x1F300, 0x1F5FF), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x1FA70, 0x1FAFF))
NO_OBJECT = frozenset((
    "face", "faces", "hand", "hands", "finger", "fingers", "person", "people", "man", "men", "woman", "women",
    "gesture", "button", "symbol", "sign", "arrow", "heart", "hearts", "square", "circle", "triangle", "diamond",
    "moon", "o’clock", "o'clock", "thirty", "tone", "skin", "flag", "prohibited", "no", "speech", "thought",
    "bubble", "anger", "input", "emoji", "hair", "mark", "mouth", "thumbs", "fist", "palm", "palms", "pregnant",
    "role", "mahjong",
))  # fmt: skip


def concrete(character: str, english: str) -> bool:
    """The rule of the module's docstring."""
    points = [ord(c) for c in character if ord(c) != 0xFE0F]
    in_block = len(points) == 1 and any(first <= points[0] <= last for first, last in BLOCKS)
    return in_block and not NO_OBJECT & set(english.lower().replace("-", " ").split())


def coverage(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        every = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = [row for row in every if concrete(row["char"], row["en"])]
    known = lexicon().korean
    named = parsed = any_word = agrees = 0
    for row in rows:
        words = [word.strip() for word in row["ko_keywords"].split("|")]
        terms = english_of(row["ko"])
        named += korean_key(row["ko"]) in known
        parsed += bool(terms)
        any_word += bool(terms) or any(korean_key(word) in known for word in words)
        agrees += bool({w for term in terms for w in term.split()} & set(row["en"].lower().split()))
    n = len(rows)
    print(f"CLDR, {n} concrete names")
    table = (("name", named, n), ("parsed", parsed, n), ("any word", any_word, n), ("agrees", agrees, parsed))
    for label, count, of in table:
        print(f"  {label:<10} {count:5d} of {of:5d}   {count / max(of, 1):6.1%}")


def read_questions(path: Path) -> list[tuple[str, list[list[str]], str]]:
    """(question, for each object the answers that are right, intent)."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    rows = [line.split("\t") for line in lines[1:]]
    return [(q, [part.split("/") for part in english.split(" + ")] if english else [], i) for q, english, i in rows]


def right(question: str, english: list[list[str]], intent: str) -> bool:
    query = parse_query(question)
    found = [target.english[0] if target.english else "" for target in query.targets]
    same = len(found) == len(english) and all(term in terms for term, terms in zip(found, english, strict=True))
    return same and query.intent == intent


def questions(path: Path) -> None:
    rows = read_questions(path)
    wrong = [question for question, english, intent in rows if not right(question, english, intent)]
    print(f"{path.name}: {len(rows) - len(wrong)} of {len(rows)} right, {1 - len(wrong) / len(rows):.1%}")
    for question in wrong:
        print(f"  wrong: {question}")
    times = []
    for question, *_ in rows:
        tries = []
        for _ in range(3):
            start = time.perf_counter()
            parse_query(question)
            tries.append(time.perf_counter() - start)
        times.append(min(tries) * 1e3)
    print(f"  a question takes {statistics.median(times):.2f} ms (median), {max(times):.2f} ms (longest)")


def start_up() -> None:
    code = (
        "import time; from src.lexicon.entries import lexicon; a=time.perf_counter(); lexicon(); "
        "b=time.perf_counter(); from src.lexicon import parse_query; parse_query('강아지'); c=time.perf_counter(); "
        "print((b-a)*1e3, (c-b)*1e3)"
    )
    runs = []
    for _ in range(5):
        out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        runs.append([float(value) for value in out.stdout.split()])
    load, first = (min(values) for values in zip(*runs, strict=True))
    print(f"reading the rows {load:.0f} ms, the rest up to the first answer {first:.0f} ms (best of 5 processes)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cldr", type=Path, default=REPOSITORY.parent / "shared/data/cldr/en_ko_names.tsv")
    arguments = parser.parse_args()
    entries = lexicon()
    print(
        f"{len(entries.entries)} things, {len(entries.korean)} Korean spellings, {len(entries.english)} English terms"
    )
    start_up()
    for name in ("queries.tsv", "queries_later.tsv"):
        questions(REPOSITORY / "tests/lexicon" / name)
    if arguments.cldr.is_file():
        coverage(arguments.cldr)
    else:
        print(f"no CLDR names at {arguments.cldr}: give --cldr")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
