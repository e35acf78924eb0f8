"""Subwords: every caption comes back exactly, the same captions give the same tokenizer, nothing known is unknown."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import ProjectError
from src.models.caption.subwords import SPECIALS, Codec, train_subwords

CAPTIONS = [
    "빨간 원 두 개가 왼쪽에 있다.",
    "파란 사각형 하나가 오른쪽에 있습니다.",
    '간판에 "환영합니다!"라고 적혀 있다 (밤).',
    "A dog, 3.5 m 앞에서 뛴다…",
    "두  칸 띄어쓰기와 , 쉼표 .",
    "글자 <unk> 와 <eos> 가 적힌 종이 🙂",
]


@pytest.mark.parametrize("size", [5, 60, 200, 5000])
def test_training_captions_come_back_exactly(size: int) -> None:
    codec = Codec(train_subwords(CAPTIONS, vocab_size=size))
    for text in CAPTIONS:
        ids = codec.encode(text, 1000)
        assert codec.decode(ids) == text
        assert not {codec.pad, codec.bos, codec.eos, codec.unk} & set(ids)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="▁")), min_size=1))
def test_any_text_comes_back(texts: list[str]) -> None:
    texts = [" ".join(text.split()) for text in texts]
    if not any(texts):
        with pytest.raises(ProjectError, match="no training caption"):
            train_subwords(texts, vocab_size=100)
        return
    codec = Codec(train_subwords(texts, vocab_size=100))
    assert [codec.decode(codec.encode(text, 10_000)) for text in texts] == texts


def test_words_become_few_tokens_and_the_limit_cuts() -> None:
    captions = [f"{colour} {thing} 하나가 있다." for colour in ("빨간", "파란") for thing in ("사과", "우산", "컵")]
    codec = Codec(train_subwords(captions, vocab_size=200))
    assert len(codec.encode(captions[0], 99)) == 4  # a word each
    assert codec.decode(codec.encode(captions[0], 2)) == "빨간 사과"
    small = Codec(train_subwords(captions, vocab_size=27))
    assert len(small.encode(captions[0], 99)) > 4
    assert small.size <= 27 < codec.size


def test_the_same_captions_in_any_order_give_the_same_text() -> None:
    shuffled = random.Random(0).sample(CAPTIONS, len(CAPTIONS))
    first = train_subwords(CAPTIONS, vocab_size=100)
    assert first == train_subwords(shuffled, vocab_size=100)
    assert json.loads(first)["model"]["vocab"]["<eos>"] == SPECIALS.index("<eos>")


def test_unseen_letters_are_unknown_and_vanish_from_the_text() -> None:
    codec = Codec(train_subwords(["가나다"], vocab_size=50))
    assert codec.unk in codec.encode("가힣", 9)
    assert codec.decode([codec.bos, *codec.encode("가", 9), codec.unk, codec.eos, codec.pad]) == "가"


def test_mistakes_are_named() -> None:
    with pytest.raises(ProjectError, match="no training caption"):
        train_subwords(["", "  "], vocab_size=100)
    for size in (4, 10.5, True):
        with pytest.raises(ProjectError, match="vocab_size"):
            train_subwords(["가"], vocab_size=size)
    with pytest.raises(ProjectError, match="no tokenizer"):
        Codec("{}")
    other = json.loads(train_subwords(["가나"], vocab_size=50))
    other["added_tokens"] = [token for token in other["added_tokens"] if token["content"] != "<bos>"]
    other["model"]["vocab"] = {k: v for k, v in other["model"]["vocab"].items() if k != "<bos>"}
    with pytest.raises(ProjectError, match="<bos>"):
        Codec(json.dumps(other))
