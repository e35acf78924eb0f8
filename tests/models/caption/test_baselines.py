"""Captions without training: memories against brute force, banks and translation through real classes, small."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from src.captions.decoding import Candidate, Decoding
from src.errors import ProjectError
from src.hub_models import prepare_network
from src.models.caption.agreement import Agreement
from src.models.caption.bank_sentences import fill, fill_bank, read_bank
from src.models.caption.caption_bank import CaptionBank
from src.models.caption.clip_scores import ClipScorer, prepare_scorer
from src.models.caption.constant import ConstantCaption
from src.models.caption.image_text_encoder import FAMILIES
from src.models.caption.nearest import NearestCaption
from src.models.caption.text_memory import TextMemory
from src.models.caption.translated import TranslatedCaptioner, as_sentence, other_decodings, tidy
from src.translation import CachedTranslator
from src.weights import WeightsNotFound
from tests.models.caption.tiny_clip import (
    SENTENCES,
    normalized,
    pictures,
    plain,
    save_clip,
    save_english_blip,
    save_siglip,
    save_translator,
)

CONF = Path(__file__).parents[3] / "conf" / "model" / "caption"
ENGLISH = ["a red ball", "a blue box", "a green leaf"]
ONE = Decoding(candidates=1)


def f_measure(one: str, other: str) -> float:
    """The definition, n-gram by n-gram."""
    counts = []
    for text in (one, other):
        letters = text.replace(" ", "")
        counts.append(Counter(letters[i : i + n] for n in range(1, 5) for i in range(len(letters) - n + 1)))
    total = sum(counts[0].values()) + sum(counts[1].values())
    return 2 * sum((counts[0] & counts[1]).values()) / total if total else 0.0


# texts in buffers, and how alike they are ----------------------------------------------------------------------------
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=6))
@settings(max_examples=50, deadline=None)
def test_any_texts_survive_a_state_dict_of_another_length(texts: list[str]) -> None:
    kept = TextMemory(["앞서", "있던", "것"])
    assert kept.texts() == ["앞서", "있던", "것"]
    kept.load_state_dict(TextMemory(texts).state_dict())
    assert kept.texts() == texts and len(kept) == len(texts)


@given(st.lists(st.text("가나다 .", max_size=9), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_agreement_is_the_f_measure_of_shared_characters(texts: list[str]) -> None:
    expected = np.array([[f_measure(a, b) for b in texts] for a in texts])
    agreement = Agreement(texts)
    assert agreement.among(range(len(texts))) == pytest.approx(expected, abs=1e-6)
    others = [(row.sum() - row[i]) / max(1, len(texts) - 1) for i, row in enumerate(expected)]
    assert agreement.means() == pytest.approx(others, abs=1e-6)


# one sentence for all ------------------------------------------------------------------------------------------------
def constant(captions: Sequence[Sequence[str]], **options) -> ConstantCaption:
    network = ConstantCaption(image_size=[32, 32], **options)
    for start in range(0, len(captions), 2):
        part = captions[start : start + 2]
        network.collect(torch.zeros(len(part), 3, 32, 32), part, ["x"] * len(part))
    network.finish()
    return network


def test_the_medoid_is_the_caption_most_like_all_the_others() -> None:
    captions = [["개가 뛴다.", "개가 풀밭에서 뛴다."], [], ["개가 풀밭에서 논다."], ["하늘이 파랗다.", " "]]
    texts = [text for group in captions for text in group if text.strip()]
    means = {a: np.mean([f_measure(a, b) for b in texts if b != a]) for a in texts}
    network = constant(captions)
    first, second = network.generate(torch.zeros(2, 3, 32, 32), Decoding(candidates=4))
    assert first == second
    assert [each.text for each in first] == sorted(texts, key=lambda text: -means[text])
    assert [each.score for each in first] == pytest.approx(sorted(means.values(), reverse=True), abs=1e-6)

    again = ConstantCaption(image_size=[32, 32])
    again.load_state_dict(network.state_dict())
    assert again.generate(torch.zeros(1, 3, 32, 32), Decoding(candidates=2)) == [first[:2]]


def test_the_most_frequent_caption_has_its_share_as_its_score() -> None:
    network = constant([["가", "나"], ["나"], ["다"]], choice="frequent")
    assert network.generate(torch.zeros(1, 3, 8, 8), ONE) == [[Candidate("나", 0.5)]]


def test_a_large_training_set_is_sampled_by_the_seed() -> None:
    captions = [[f"그림 {i}에 개가 있다."] for i in range(30)]
    chosen = {seed: constant(captions, most=5, seed=seed).sentences.texts() for seed in (0, 1)}
    assert len(chosen[0]) == 5 and chosen[0] != chosen[1]
    assert constant(captions, most=5, seed=1).sentences.texts() == chosen[1]


# the nearest pictures' captions --------------------------------------------------------------------------------------
class Corner(torch.nn.Module):
    """Stands in for a backbone: a picture's vector is its first row of red values."""

    report = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0].float()


def images_of(vectors: torch.Tensor) -> torch.Tensor:
    images = torch.zeros(len(vectors), 3, 2, vectors.shape[1])
    images[:, 0, 0] = vectors
    return images


def nearest(vectors: torch.Tensor, captions: Sequence[Sequence[str]], **options) -> NearestCaption:
    network = NearestCaption(image_size=[64, 64], backbone="filter_bank", **options)
    network.features = Corner()
    for start in range(0, len(vectors), 3):
        part = slice(start, start + 3)
        network.collect(images_of(vectors[part]), captions[part], list("abc"))
    network.finish()
    return network


WORDS = st.lists(st.sampled_from(["개가", "고양이가", "뛴다", "논다", "풀밭에서"]), min_size=1, max_size=4)


@given(st.lists(st.lists(WORDS.map(" ".join), max_size=3), min_size=2, max_size=8), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_consensus_agrees_with_brute_force(captions: list[list[str]], seed: int) -> None:
    if not any(captions):
        captions[0] = ["개가 뛴다"]
    generator = torch.Generator().manual_seed(seed)
    vectors, query = torch.randn(len(captions), 4, generator=generator), torch.randn(1, 4, generator=generator)
    neighbors, closest = seed % 4 + 2, [None, 1, 2][seed % 3]
    network = nearest(vectors, captions, neighbors=neighbors, closest=closest)

    known = [(v, texts) for v, texts in zip(vectors, captions, strict=True) if texts]
    center = torch.stack([v for v, _ in known]).mean(0)
    if len(known) == 1:  # a single memory is its own mean: no direction is left, its captions stand as written
        assert network.generate(images_of(query), ONE)[0][0].text == known[0][1][0]
        return
    cosine = torch.nn.functional.cosine_similarity
    ranked = sorted(known, key=lambda row: -float(cosine(row[0] - center, query[0] - center, dim=0)))[:neighbors]
    pool = [(text, number) for number, (_, texts) in enumerate(ranked) for text in texts]
    expected: dict[str, float] = {}
    for text, number in pool:
        alike = sorted((f_measure(text, other) for other, owner in pool if owner != number), reverse=True)[:closest]
        expected[text] = max(expected.get(text, 0.0), sum(alike) / max(1, len(alike)))
    found = network.generate(images_of(query), Decoding(candidates=50))[0]
    assert {each.text: each.score for each in found} == pytest.approx(expected, abs=1e-5)
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)


def test_one_neighbour_gives_its_captions_as_written_and_the_cosine() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    network = nearest(vectors, [["둘째", "첫째", "둘째"], ["위"], ["아래"]], neighbors=1)
    up, right = network.generate(images_of(torch.tensor([[0.0, 2.0], [3.0, 0.0]])), Decoding(candidates=5))
    assert up == [Candidate("위", pytest.approx(1.0))]
    assert [each.text for each in right] == ["둘째", "첫째"]


def test_a_memory_is_rebuilt_from_options_and_a_state_dict() -> None:
    options = {"image_size": [64, 64], "backbone": "resnet10t", "neighbors": 2, "closest": None}
    torch.manual_seed(0)
    network = NearestCaption(**options).train()
    assert not any(module.training for module in network.features.modules())
    images = torch.rand(5, 3, 64, 64)
    network.collect(images, [["개"], ["고양이", "고양이 한 마리"], [], ["새"], ["말"]], list("abcde"))
    network.finish()
    again = NearestCaption(**plain(options))
    again.load_state_dict(network.state_dict())
    wanted = network.generate(images, Decoding(candidates=3))
    assert again.generate(images, Decoding(candidates=3)) == wanted
    alone = [again.generate(image[None], Decoding(candidates=3))[0] for image in images]
    for one, other in zip(alone, wanted, strict=True):
        assert [each.text for each in one] == [each.text for each in other]


def test_real_photographs_find_their_kind(shared_data: Path) -> None:
    import pandas as pd

    from src.data.images import read_resized
    from src.data.transforms import PreprocessSpec

    folder = shared_data / "korean_captions"
    table = pd.read_csv(folder / "train.csv")
    groups = {name: list(group["caption"]) for name, group in table.groupby("image_id", sort=False)}
    names = list(groups)[:24]
    spec = PreprocessSpec(height=128, width=128, resize="letterbox", mean=(0.5,) * 3, std=(0.5,) * 3)
    batch = np.stack([read_resized(folder / "images" / name, spec)[0] for name in names])
    images = spec.normalize(torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous())
    network = NearestCaption(
        image_size=[128, 128],
        backbone_args={"pad_type": "same"},
        neighbors=1,
        weights=str(shared_data / "weights" / "mobilenetv2_100_same.safetensors"),
    )
    assert network.report is not None and not network.report.missing
    network.collect(images, [groups[name] for name in names], names)
    network.finish()
    answers = network.generate(images, ONE)
    assert [each[0].text for each in answers] == [groups[name][0] for name in names]
    assert all(each[0].score > 0.999 for each in answers)


def test_memories_without_captions_and_wrong_options_are_refused() -> None:
    for network in (ConstantCaption(image_size=[32, 32]), NearestCaption(image_size=[64, 64], backbone="filter_bank")):
        with pytest.raises(ProjectError, match="train it"):
            network.generate(torch.zeros(1, 3, 64, 64), ONE)
        network.collect(torch.zeros(2, 3, 64, 64), [[], [" "]], ["a", "b"])
        with pytest.raises(ProjectError, match="no captions"):
            network.finish()
    with pytest.raises(ProjectError, match="Did you mean 'medoid'"):
        ConstantCaption(image_size=[32, 32], choice="medoids")
    with pytest.raises(ProjectError, match="model.neighbors=0"):
        NearestCaption(image_size=[64, 64], backbone="filter_bank", neighbors=0)
    with pytest.raises(ProjectError, match="resnet10t refuses"):
        NearestCaption(image_size=[64, 64], backbone="resnet10t", backbone_args={"no_such": 1})


# sentences of a bank -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("template", "name", "sentence"),
    [
        ("이것은 {}(이)다.", "사과", "이것은 사과다."),
        ("이것은 {}(이)다.", "책", "이것은 책이다."),
        ("이것은 {} 이다.", "사과", "이것은 사과이다."),
        ("{}이(가) 있다.", "고양이", "고양이가 있다."),
        ("{}이(가) 있다.", "연필", "연필이 있다."),
        ("{}은(는) 크다.", "공", "공은 크다."),
        ("{}을(를) 본다.", "나무", "나무를 본다."),
        ("{}과(와) 사람", "개", "개와 사람"),
        ("{}(으)로 간다.", "산", "산으로 간다."),
        ("{}(으)로 간다.", "교실", "교실로 간다."),
        ("{}(으)로 간다.", "바다", "바다로 간다."),
        ("{}이(가) 있다.", "CD", "CD가 있다."),
        ("{}을(를) 본다.", "USB 3", "USB 3을 본다."),
        ("사진에 {} 하나", "꽃", "사진에 꽃 하나"),
    ],
)
def test_particles_follow_the_last_sound(template: str, name: str, sentence: str) -> None:
    assert fill(template, name) == sentence


def test_templates_are_filled_with_names_and_read_in_english_where_asked() -> None:
    sentences, readings = fill_bank(["이것은 {}(이)다."], ["사과", "강아지", "사과"], "a photo of a {}")
    assert sentences == ["이것은 사과다.", "이것은 강아지다."]
    assert readings[0] == "a photo of a apple" and readings[1].startswith("a photo of a ")
    whole, read = fill_bank(["{}이(가) 있다."])
    assert whole == read and "고양이가 있다." in whole and len(whole) > 1000
    with pytest.raises(ProjectError, match="no English term for '쀍쀍이'"):
        fill_bank(["{}"], ["쀍쀍이"], "a photo of a {}")
    with pytest.raises(ProjectError, match="has no {} where"):
        fill_bank(["사과가 있다."], ["사과"])
    with pytest.raises(ProjectError, match="model.names is empty"):
        fill_bank(["{}"], [" "])


def test_a_bank_file_is_lines(tmp_path: Path) -> None:
    path = tmp_path / "bank.txt"
    path.write_bytes("\ufeff개가 뛴다.\r\n\r\n   \n개가\u00a0뛴다.\n고양이가 잔다.".encode())
    assert read_bank(path) == ["개가 뛴다.", "고양이가 잔다."]
    path.write_text("\n \n", encoding="utf-8")
    with pytest.raises(ProjectError, match="holds no sentence"):
        read_bank(path)
    path.write_bytes("개".encode("cp949"))
    with pytest.raises(ProjectError, match="no UTF-8"):
        read_bank(path)


# a bank under CLIP ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"), taught=SENTENCES)


def options_of(name: str, **changes) -> dict:
    """The network's options of a shipped YAML."""
    rest = ("_target_", "name", "start_from", "weights", "image_size", "resize", "interpolation", "mean", "std")
    shipped = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    options = {key: value for key, value in shipped.items() if key not in rest}
    return {**options, **({"seed": 0} if "seed" in options else {}), **changes}


def bank_of(folder: Path, *, model: str = "koclip_bank", **changes) -> tuple[CaptionBank, dict]:
    prepared = prepare_network(
        CaptionBank, options_of(model, **changes), weights=str(folder), weights_dir=None, bundled=False, class_names=[]
    )
    options = plain({**prepared.options, "image_size": [32, 32]})
    return CaptionBank(**options, **prepared.initial), options


def texts(found: list[list[Candidate]]) -> list[list[str]]:
    return [[each.text for each in group] for group in found]


def test_the_training_captions_that_fit_best_are_chosen(clip_folder: Path) -> None:
    network, options = bank_of(clip_folder, bank="training")
    assert network.kind == "memory" and not network.zero_shot
    captions = [[SENTENCES[1], SENTENCES[0]], [], [SENTENCES[2], SENTENCES[0]]]
    network.collect(pictures(), captions, list("abc"))
    network.finish()
    found = network.generate(normalized(pictures()), Decoding(candidates=2))
    assert [group[0] for group in texts(found)] == SENTENCES
    assert all(len(set(group)) == 2 for group in texts(found))
    assert all(1 >= group[0].score > group[1].score >= -1 for group in found)

    again = CaptionBank(**options)  # no folder, no tokenizer files on disk
    again.load_state_dict(network.state_dict())
    assert again.generate(normalized(pictures()), Decoding(candidates=2)) == found
    with pytest.raises(ProjectError, match="bank is empty"):
        CaptionBank(**options).generate(normalized(pictures()), ONE)


def test_a_fixed_bank_needs_no_training_set_and_embeds_once(clip_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bank.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    network, options = bank_of(clip_folder, bank=str(path))
    assert network.zero_shot
    untouched = CaptionBank(**options)
    untouched.load_state_dict(network.state_dict())  # saved before the first picture: sentences without embeddings
    calls = []
    embed = network.encoder.embed_texts
    network.encoder.embed_texts = lambda *args, **kwargs: calls.append(1) or embed(*args, **kwargs)
    with torch.inference_mode():
        found = network.generate(normalized(pictures()), ONE)
    assert [group[0] for group in texts(found)] == SENTENCES
    assert network.generate(normalized(pictures()), ONE) == found and calls == [1]
    path.unlink()
    again = CaptionBank(**options)
    again.load_state_dict(network.state_dict())
    assert again.generate(normalized(pictures()), ONE) == found
    assert untouched.generate(normalized(pictures()), ONE) == found


def test_a_bank_of_one_sentence_and_a_missing_bank(clip_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("개가 뛴다.", encoding="utf-8")
    network, _ = bank_of(clip_folder, bank=str(path))
    assert texts(network.generate(normalized(pictures()), Decoding(candidates=5))) == [["개가 뛴다."]] * 3
    with pytest.raises(ProjectError, match="no such file. Did you mean 'templates'"):
        bank_of(clip_folder, bank="template")
    with pytest.raises(ProjectError, match="model.prompt belongs to"):
        bank_of(clip_folder, bank=str(path), prompt="a photo of a {}")
    network, _ = bank_of(clip_folder, bank="training")
    network.collect(pictures(), [[], [], []], list("abc"))
    with pytest.raises(ProjectError, match="no captions"):
        network.finish()


def test_a_clip_that_reads_english_answers_in_korean(tmp_path: Path) -> None:
    prompts = ["a photo of a apple", "a photo of a whale", "a photo of a tree"]
    folder = save_clip(tmp_path / "clip", taught=prompts)
    network, _ = bank_of(folder, model="clip_bank", names=["고래", "나무", "사과"])
    found = network.generate(normalized(pictures()), ONE)
    assert texts(found) == [["이것은 사과다."], ["이것은 고래다."], ["이것은 나무다."]]


def test_siglip_goes_through_the_same_class(tmp_path: Path) -> None:
    folder = save_siglip(tmp_path / "siglip")
    path = tmp_path / "bank.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    network, options = bank_of(folder, bank=str(path))
    assert CaptionBank.normalization(options) == {"mean": [0.5] * 3, "std": [0.5] * 3}
    from transformers import AutoModel, AutoTokenizer

    rows = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding="max_length", max_length=16, return_tensors="pt")
    images = normalized(pictures(), [0.5] * 3, [0.5] * 3)
    with torch.no_grad():
        out = AutoModel.from_pretrained(folder)(input_ids=rows["input_ids"], pixel_values=images)
    cosines = out.image_embeds @ out.text_embeds.T  # of length 1 already
    found = network.generate(images, Decoding(candidates=3))
    for row, group in zip(cosines, found, strict=True):
        assert {each.text: each.score for each in group} == pytest.approx(
            dict(zip(SENTENCES, row.tolist(), strict=True)), abs=1e-5
        )


def test_no_untrained_image_text_model_is_taken_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsNotFound, match="fetch Bingsu/clip-vit-base-patch32-ko"):
        prepare_network(
            CaptionBank, options_of("koclip_bank"), weights="auto", weights_dir=tmp_path, bundled=True, class_names=[]
        )


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_is_built_with_random_weights_and_rebuilt(model_type: str) -> None:
    config = {"model_type": model_type, "vision_config": {"image_size": 64}}
    if model_type == "vision-text-dual-encoder":
        config = {
            "model_type": model_type,
            "text_config": {"model_type": "clip_text_model"},
            "vision_config": {"model_type": "clip_vision_model", "image_size": 64},
        }
    options, initial, resolved = prepare_scorer("Bingsu/clip-vit-base-patch32-ko", "random", config=config)
    assert resolved.kind == "random"
    scorer = ClipScorer(**options, **initial)
    images = pictures((50, 70))
    long = "아주 긴 문장이다. " * 100
    found = scorer.scores(images, [[SENTENCES[0], long, ""], [], [SENTENCES[0]]])
    assert [len(group) for group in found] == [3, 0, 1] and all(-1 <= s <= 1 for group in found for s in group)
    again = ClipScorer(**plain(options))
    again.load_state_dict(scorer.state_dict())
    assert again.scores(images[2:], [[SENTENCES[0]]])[0] == pytest.approx(found[2], abs=1e-5)


def test_scores_are_the_cosines_that_transformers_gives(clip_folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    options, initial, _ = prepare_scorer("openai/clip-vit-base-patch32", str(clip_folder))
    scorer = ClipScorer(**options, **initial)
    assert scorer.report.missing == () and not any(p.requires_grad for p in scorer.parameters())
    model, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(**encoded, pixel_values=normalized(pictures()))
    expected = (out.image_embeds @ out.text_embeds.T).tolist()
    found = scorer.scores(pictures(), [SENTENCES] * 3)
    assert found == [pytest.approx(row, abs=1e-5) for row in expected]
    shuffled = scorer.scores(pictures(), [[SENTENCES[2], SENTENCES[0]], [SENTENCES[1]], []])
    assert shuffled[0] == pytest.approx([expected[0][2], expected[0][0]], abs=1e-5)
    assert scorer.scores(pictures(), [[], [], []]) == [[], [], []]
    with pytest.raises(ValueError, match="uint8"):
        scorer.scores(normalized(pictures()), [[], [], []])


# English, then Korean ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> tuple[TranslatedCaptioner, dict]:
    folder = tmp_path_factory.mktemp("translated")
    save_english_blip(folder / "blip", ENGLISH)
    save_translator(folder / "nllb", {as_sentence(e): k for e, k in zip(ENGLISH, SENTENCES, strict=True)})
    options = options_of("blip_translated", translator=str(folder / "nllb"), translations=str(folder / "cache.jsonl"))
    prepared = prepare_network(
        TranslatedCaptioner, options, weights=str(folder / "blip"), weights_dir=None, bundled=False, class_names=[]
    )
    assert set(prepared.resolved) == {"weights", "translator"}
    options = plain({**prepared.options, "image_size": [32, 32]})
    return TranslatedCaptioner(**options, **prepared.initial).eval(), options


def test_an_english_captioner_and_a_translator_answer_in_korean(translated: tuple[TranslatedCaptioner, dict]) -> None:
    network, options = translated
    assert network.zero_shot and network.report is not None
    images = normalized(pictures())
    found = network.generate(images, Decoding(candidates=3))
    assert [group[0] for group in texts(found)] == SENTENCES
    for group in texts(found):
        assert 1 <= len(group) <= 3 and len(set(group)) == len(group)
        assert not any(letter.isascii() and letter.isalpha() for text in group for letter in text)
    assert isinstance(network.translator, CachedTranslator) and Path(options["translations"]).is_file()
    again = TranslatedCaptioner(**options).eval()
    again.load_state_dict(network.state_dict())
    assert again.generate(images, Decoding(candidates=3)) == found
    assert not any(name.startswith("translator") for name in network.state_dict())


class Written(torch.nn.Module):
    """Stands in for the captioner: what it writes at each try, and how it was asked."""

    def __init__(self, tries: list[dict[int, list[str]]]) -> None:
        super().__init__()
        self.tries, self.asked = tries, []

    def generate(self, images: torch.Tensor, decoding: Decoding, *, seeds=None) -> list[list[Candidate]]:
        answers = self.tries[len(self.asked)]
        self.asked.append((decoding, [int(image.flatten()[0]) for image in images], seeds))
        return [[Candidate(text, -1.0 - i) for i, text in enumerate(answers[int(im.flatten()[0])])] for im in images]


class Dictionary:
    name = "dictionary"

    def __init__(self, known: dict[str, str | None]) -> None:
        self.known, self.asked = known, []

    def try_translate(self, sentences: Sequence[str], source: str, target: str) -> list[str | None]:
        self.asked += sentences
        return [self.known[sentence] for sentence in sentences]


def test_what_failed_in_english_or_korean_is_captioned_again(
    translated: tuple[TranslatedCaptioner, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _ = translated
    tries = [
        {0: ["a dog", "dog dog dog dog dog", "the dog"], 1: [", , ,", "a cat cat cat cat"], 2: ["a bird", "a tree"]},
        {1: ["a cat"], 2: ["a bird"]},
        {2: ["a crow"]},
    ]
    captioner = Written(tries)
    dictionary = Dictionary(
        {"A dog.": "개가  있다 .", "The dog.": "개가 있다.", "A cat.": "고양이가 있다..", "A bird.": "bird 새가 있다.",
         "A tree.": ", , ,", "A crow.": None}
    )  # fmt: skip
    monkeypatch.setattr(network, "captioner", captioner)
    monkeypatch.setattr(network, "translator", dictionary)
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    found = network.generate(images, Decoding(candidates=3), seeds=[5, 6, 7])
    assert found[0] == [Candidate("개가 있다.", -1.0)]  # the same Korean twice, the repeated English never asked for
    assert found[1] == [Candidate("고양이가 있다.", -1.0)]
    assert found[2] == [Candidate("", 0.0)]  # English left over, punctuation, refused: nothing is made up
    assert "Dog dog dog dog dog." not in dictionary.asked
    assert [asked[1:] for asked in captioner.asked] == [([0, 1, 2], [5, 6, 7]), ([1, 2], [6, 7]), ([2], [7])]
    assert [asked[0].method for asked in captioner.asked] == ["beam", "beam", "nucleus"]
    assert captioner.asked[1][0] == other_decodings(Decoding(candidates=3))[0]
    assert captioner.asked[1][0].no_repeat_ngram == 2


def test_sentences_before_and_after_translation() -> None:
    assert as_sentence(" a dog  runs ") == "A dog runs."
    assert as_sentence("arafed man in a suit") == "A man in a suit."
    assert as_sentence("Is it?") == "Is it?" and as_sentence("") == ""
    assert tidy(" 개가\u200b 뛴다 .. ") == "개가 뛴다."


def test_papago_is_taken_where_its_keys_are(
    translated: tuple[TranslatedCaptioner, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, options = translated
    for name in ("NCP_CLIENT_ID", "NCP_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    asked = {**options_of("blip_translated"), "translator": "auto"}
    assert TranslatedCaptioner.checkpoints(asked, "auto")["translator"][0] == "facebook/nllb-200-distilled-600M"
    with pytest.raises(ProjectError, match="NCP_CLIENT_ID"):
        TranslatedCaptioner.find(
            {**asked, "translator": "papago", "files": options["files"]}, "random", weights_dir=None, bundled=False
        )
    for name in ("NCP_CLIENT_ID", "NCP_CLIENT_SECRET"):
        monkeypatch.setenv(name, "x")
    assert set(TranslatedCaptioner.checkpoints(asked, "auto")) == {"weights"}


@pytest.mark.parametrize("name", ["nearest", "template", "clip_bank", "koclip_bank", "blip_translated"])
def test_every_option_of_a_network_stands_in_its_yaml(name: str) -> None:
    import inspect

    from src.tasks.create import split_options
    from src.tasks.networks import network_class

    shipped = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    network, preprocess, _ = split_options(shipped)
    kind = network_class(network.pop("_target_"))
    only_first = {"self", "image_size", "weights", "sentences", "readings", "translator_folder"}
    expected = set(inspect.signature(kind.__init__).parameters) - only_first - set(getattr(kind, "filled_in", ()))
    assert set(network) == expected
    assert len(preprocess) == 5 and "start_from" in shipped
