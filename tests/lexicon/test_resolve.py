"""The chain lexicon, translator, similarity, with small random CLIP networks of the real class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from src.errors import ProjectError
from src.lexicon import ClipEmbedder, nearest_classes, resolve
from tests.lexicon.class_names import class_names

COCO = class_names("coco")


class Dictionary:
    """A translator that knows a few words and counts what it is asked."""

    name = "dictionary"

    def __init__(self, words: dict[str, str]) -> None:
        self.words, self.asked = words, []

    def try_translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        assert (source, target) == ("ko", "en")
        self.asked += texts
        return [self.words.get(text) for text in texts]

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        return [answer or "" for answer in self.try_translate(texts, source, target)]


class Letters:
    """An embedder that counts letters, so that likeness is easy to foresee."""

    name = "letters"
    reads_korean = False

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[text.count(chr(97 + i)) + 1e-3 for i in range(26)] for text in texts])


def test_an_open_detector_gets_terms_and_the_step() -> None:
    resolution = resolve("강아지와 빨간 사과가 몇 개야?")
    assert [r.terms[0] for r in resolution.objects] == ["dog", "red apple"]
    assert [r.step for r in resolution.objects] == ["lexicon", "lexicon"]
    assert resolution.unresolved == () and resolution.query.intent == "count"


@pytest.mark.parametrize(
    ("text", "terms", "broader"),
    [
        ("멍멍이 몇 마리", ("dog",), False),
        ("소파 찾아줘", ("couch",), False),
        ("골든리트리버 있어?", ("dog",), True),
        ("배 두 척", ("boat",), False),
        ("빨간 사과", ("apple",), False),
        ("마우스", ("mouse",), False),
        ("쥐 두 마리", (), False),
        ("택시 몇 대", ("car",), True),
        ("스패너", (), False),
    ],
)
def test_a_closed_vocabulary(text: str, terms: tuple[str, ...], broader: bool) -> None:
    (resolved,) = resolve(text, vocabulary=COCO).objects
    assert (resolved.terms, resolved.broader) == (terms, broader)
    assert resolved.step == ("lexicon" if terms else "none")


def test_a_general_word_means_every_kind_of_it() -> None:
    animals = resolve("사진 속 동물의 종류별 개수를 알려줘", vocabulary=COCO).terms
    assert " ".join(animals) == "bird cat dog horse sheep cow elephant bear zebra giraffe"
    fruits = resolve("과일 몇 개", vocabulary=["사과", "컵", "바나나", "고양이"]).terms
    assert fruits == ("사과", "바나나")
    assert set(resolve("결함", vocabulary=["scratch", "crack", "screw"]).terms) == {"scratch", "crack"}


def test_a_vocabulary_settles_an_open_homograph() -> None:
    (open_,) = resolve("배가 있어?").objects
    assert len(open_.choices) == 3
    (boat,) = resolve("배가 있어?", vocabulary=COCO).objects
    assert boat.terms == ("boat",) and boat.choices == ()
    (pear,) = resolve("배가 있어?", vocabulary=["apple", "pear"]).objects
    assert pear.terms == ("pear",) and pear.choices == ()
    (both,) = resolve("배가 있어?", vocabulary=["ship", "pear"]).objects
    assert both.terms == ("ship",) and len(both.choices) == 3


def test_a_korean_vocabulary() -> None:
    names = ["사과", "강아지", "머그컵"]
    assert resolve("멍멍이가 몇 마리야?", vocabulary=names).terms == ("강아지",)
    assert resolve("dog 몇 마리", vocabulary=names).terms == ("강아지",)
    assert resolve("컵 몇 개", vocabulary=names).terms == ("머그컵",)


def test_a_translator_is_asked_only_for_what_is_unknown() -> None:
    translator = Dictionary({"트리케라톱스": "A triceratops."})
    resolution = resolve("강아지와 트리케라톱스가 몇 마리야?", translator=translator)
    assert [(r.terms[0], r.step) for r in resolution.objects] == [("dog", "lexicon"), ("triceratops", "translator")]
    assert translator.asked == ["트리케라톱스"]


def test_a_bare_word_that_is_refused_is_tried_in_a_sentence() -> None:
    translator = Dictionary({"이것은 트리케라톱스입니다.": "This is a Triceratops."})
    assert resolve("트리케라톱스 찾아줘", translator=translator).terms == ("triceratops",)
    refused = resolve("트리케라톱스 찾아줘", translator=Dictionary({}))
    assert refused.terms == () and refused.unresolved == ("트리케라톱스",) and refused.objects[0].step == "none"


def test_a_translated_compound_keeps_its_half_as_a_fallback() -> None:
    translator = Dictionary({"뿌용 머핀": "poof muffin"})
    (resolved,) = resolve("뿌용머핀 몇 개", translator=translator).objects
    assert resolved.terms == ("poof muffin", "muffin") and resolved.step == "translator"


def test_similarity_comes_last() -> None:
    translator = Dictionary({"트리케라톱스": "zebrra"})
    (resolved,) = resolve("트리케라톱스", vocabulary=COCO, translator=translator, embedder=Letters()).objects
    assert resolved.terms == ("zebra",) and resolved.step == "similarity"
    assert resolved.similar[0][0] == "zebra" and len(resolved.similar) == 5
    scores = [score for _, score in resolved.similar]
    assert scores == sorted(scores, reverse=True) and scores[0] <= 1.0
    # without a translation an English-only embedder would be comparing Hangul: it is not asked
    assert resolve("트리케라톱스", vocabulary=COCO, embedder=Letters()).objects[0].step == "none"


def test_speech_is_no_horse_even_for_similarity() -> None:
    (resolved,) = resolve("말 몇 마디", vocabulary=COCO, embedder=Letters()).objects
    assert resolved.terms == () and resolved.choices


def test_nearest_classes() -> None:
    classes = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    found = nearest_classes(np.array([0.0, 5.0]), classes, ["a", "b", "c"], top=2)
    assert [name for name, _ in found] == ["b", "c"]
    assert found[0][1] == pytest.approx(1.0) and found[1][1] == pytest.approx(2**-0.5)
    with pytest.raises(ValueError, match="expected 2 class embeddings of length 2"):
        nearest_classes(np.zeros(2), classes, ["a", "b"])
    with pytest.raises(ValueError, match="zero or not finite"):
        nearest_classes(np.zeros(2), classes, ["a", "b", "c"])


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIPModel with a tokenizer of single letters, saved as the hub's checkpoints are."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    symbols = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[])
    text = {
        "vocab_size": len(symbols),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "eos_token_id": len(symbols) - 1,
        "bos_token_id": len(symbols) - 2,
        "pad_token_id": len(symbols) - 1,
    }
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    tokenizer.model_max_length = 32
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_clip_embeds_texts(clip_folder: Path) -> None:
    embedder = ClipEmbedder.load(str(clip_folder))
    vectors = embedder.embed(["dog", "cat", "dog"])
    assert vectors.shape == (3, 8) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-6) and np.abs(vectors[0] - vectors[1]).max() > 1e-4
    # a longer neighbour in the batch pads the shorter text, which must not change it
    padded = embedder.embed(["dog", "a much longer name"])
    assert padded[0] == pytest.approx(vectors[0], abs=1e-5)
    assert embedder.embed([]).shape == (0, 8)


def test_clip_gives_the_vector_of_get_text_features(clip_folder: Path) -> None:
    import torch

    embedder = ClipEmbedder.load(str(clip_folder))
    encoded = embedder.tokenizer(["a photo of a dog"], return_tensors="pt")
    with torch.no_grad():
        pooled = embedder.model.text_model(**encoded).pooler_output
        expected = torch.nn.functional.normalize(embedder.model.text_projection(pooled), dim=-1)[0].numpy()
    assert embedder.embed(["dog"])[0] == pytest.approx(expected, abs=1e-5)


def test_a_korean_clip_reads_the_word_itself(clip_folder: Path) -> None:
    embedder = ClipEmbedder.load(str(clip_folder), reads_korean=True)
    assert embedder.template == "{}"
    (resolved,) = resolve("트리케라톱스", vocabulary=["트리케라톱스류", "사과"], embedder=embedder).objects
    assert resolved.step == "similarity" and resolved.terms[0] in ("트리케라톱스류", "사과")


def test_a_template_needs_its_place(clip_folder: Path) -> None:
    embedder = ClipEmbedder.load(str(clip_folder))
    with pytest.raises(ProjectError, match="a template needs"):
        ClipEmbedder(embedder.model, embedder.tokenizer, template="a photo")
