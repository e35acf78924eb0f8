"""The lexicon's rows: format, uniqueness, size, and the class names of detectors that they must reach."""

import subprocess
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from src.errors import ProjectError
from src.lexicon import english_of, korean_of, parse_query
from src.lexicon.entries import DATA, Lexicon, english_key, korean_key, lexicon, read_rows
from src.lexicon.names import english_entry
from src.lexicon.senses import broader_terms
from tests.lexicon.class_names import class_names

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def known() -> Lexicon:
    return lexicon()


def test_there_are_enough_things(known: Lexicon) -> None:
    assert len(known.entries) >= 1900
    assert len({entry.korean for entry in known.entries} | set(known.spellings)) >= 4000


def test_words_are_composed_hangul_and_english_is_plain(known: Lexicon) -> None:
    for entry in known.entries:
        for word in (entry.korean, *entry.synonyms):
            assert word == word.strip() and word == unicodedata.normalize("NFC", word), word
            assert all("가" <= c <= "힣" or c in " 0123456789" or (c.isascii() and c.isalpha()) for c in word), word
        for term in entry.english:
            assert term and term == term.lower() == " ".join(term.split()), term
            assert all(c.isascii() for c in term), term


def test_no_thing_stands_twice(known: Lexicon) -> None:
    terms = Counter(entry.english[0] for entry in known.entries)
    assert [term for term, n in terms.items() if n > 1] == []
    for entry in known.entries:
        keys = [korean_key(word) for word in (entry.korean, *entry.synonyms)]
        assert len(keys) == len(set(keys)), entry
        assert len(entry.english) == len(set(entry.english)), entry


def test_a_word_of_several_meanings_is_declared_a_homograph(known: Lexicon) -> None:
    for word, entries in known.korean.items():
        if len(entries) > 1:
            assert {s.entry for s in known.senses.get(word, ()) if s.entry} == set(entries), word


def test_an_english_term_of_several_rows_is_settled(known: Lexicon) -> None:
    rows = defaultdict(list)
    for entry in known.entries:
        for term in entry.english:
            rows[term].append(entry.korean)
    settled = {term for _, (term, _) in read_rows(DATA / "english.tsv", 2)}
    assert {term for term, owners in rows.items() if len(owners) > 1} == settled


def test_what_a_row_refers_to_is_there(known: Lexicon) -> None:
    counters = set().union(*(entry.counters for entry in known.entries))
    assert {
        "마리",
        "대",
        "개",
        "명",
        "송이",
        "그루",
        "권",
        "장",
        "자루",
        "켤레",
        "채",
        "척",
        "병",
        "잔",
        "벌",
    } <= counters
    for entry in known.entries:
        assert not entry.broader or entry.broader in known.english, entry
        assert entry.english[0] not in broader_terms(entry), entry
    for category in known.categories.values():
        assert not category.word or category.word in known.english, category


def test_coco_names_map_one_to_one() -> None:
    coco = class_names("coco")
    korean = [korean_of(name) for name in coco]
    assert None not in korean and len(set(korean)) == len(coco) == 80
    # and back: the Korean of a class finds that class, whether named or asked for
    for name, word in zip(coco, korean, strict=True):
        assert name in english_of(word), (name, word)
        targets = parse_query(f"{word} 찾아줘").targets
        assert len(targets) == 1, (word, targets)
        terms = targets[0].english + tuple(term for choice in targets[0].choices for term in choice.english)
        assert name in terms, (name, word, targets)


@pytest.mark.parametrize(("vocabulary", "n"), [("objects365", 365), ("lvis_frequent", 405)])
def test_names_of_large_vocabularies_are_reached_from_korean(vocabulary: str, n: int) -> None:
    names = class_names(vocabulary)
    assert len(names) == n
    assert [name for name in names if english_entry(name) is None] == []


@pytest.mark.parametrize(
    ("english", "korean"),
    [
        ("mouse_(computer_equipment)", "마우스"),
        ("Other Shoes", "신발"),
        ("Cabinet/shelf", "수납장"),
        ("Potted_Plant", "화분"),
        ("knives", "칼"),
        ("strawberries", "딸기"),
        ("firemen", None),
        ("no such thing", None),
    ],
)
def test_spellings_of_annotation_files(english: str, korean: str | None) -> None:
    assert korean_of(english) == korean


def test_class_names_of_a_competition() -> None:
    assert english_of("사과") == ["apple"]
    assert english_of("Sports_Ball")[0] == "sports ball"
    assert english_of("빨간 사과") == ["red apple"]
    assert english_of("듣도보도못한것") == []
    assert english_of("배", among=["사과", "포도"]) == ["pear"]
    assert english_of("배", among=["사과", "비행기", "자동차", "배"])[0] == "ship"


def test_a_malformed_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("korean\tenglish\n# note\n개\tdog\nbroken\n", encoding="utf-8")
    with pytest.raises(ProjectError, match=r"x\.tsv, row 4: expected 2 cells between tabs, found 1"):
        read_rows(path, 2)


def test_keys() -> None:
    assert korean_key(unicodedata.normalize("NFD", "골든 리트리버")) == "골든리트리버"
    assert korean_key("USB_메모리") == "usb메모리"
    assert english_key("bow_(decorative_ribbons)") == "bow"


def test_start_up_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys, time; import src.lexicon; from src.lexicon.entries import lexicon; "
        "heavy = {'torch', 'pandas', 'numpy', 'transformers'} & set(sys.modules); assert not heavy, heavy; "
        "start = time.perf_counter(); lexicon(); print(time.perf_counter() - start)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    # measured at 30 ms; the bound leaves room for a busy machine
    assert float(out.stdout) < 0.5


def test_a_question_takes_little_time() -> None:
    question = "책상 위에 있는 빨간 사과와 고양이는 각각 몇 개인지 세어 주세요"
    parse_query(question)
    best = min(_timed(question) for _ in range(20))
    assert best < 0.003


def _timed(question: str) -> float:
    start = time.perf_counter()
    parse_query(question)
    return time.perf_counter() - start
