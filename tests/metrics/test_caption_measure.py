"""Caption metrics by name: grammar, registry, values, single scores, pairs, frequencies, intervals, errors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import ProjectError
from src.metrics.caption.measure import Frequencies, evaluate_captions, intervals, parse_caption_metric
from src.metrics.caption.names import NAMES, read_expression, write_expression
from src.metrics.ranking import UndefinedMetric
from src.metrics.registry import METRICS, get_metric

CANDIDATES = ["개가 풀밭을 달린다.", "두 남자가 길을 걷고 있다", "빨간 공", "", "고양이가 의자 위에서 잔다"]
REFERENCES = [
    ["갈색 개가 풀밭에서 달린다", "개 한 마리가 달리고 있다."],
    ["남자 두 명이 길을 걷고 있다"],
    ["빨간 공이 있다", "빨간 공", "파란 상자 옆의 빨간 공"],
    ["바다 위의 배"],
    ["의자 위에서 자는 고양이", "고양이가 의자에서 잔다"],
]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cider_d", "cider_d"),
        ("CIDEr-D", "cider_d"),
        ("cider_d@morpheme", "cider_d"),
        ("bleu-4 @ char", "bleu4@char"),
        ("0.5*cider_d + 0.3*meteor + 0.2*bleu4 @ char", "0.5*cider_d+0.3*meteor+0.2*bleu4@char"),
        ("rouge + 2 * chrf", "rouge_l+2*chrf"),
        ("chrf@word", "chrf"),
        ("1e-3*bleu1", "0.001*bleu1"),
    ],
)
def test_text_has_one_canonical_name(text: str, name: str) -> None:
    metric = parse_caption_metric(text)
    assert metric.name == name and parse_caption_metric(name) == metric
    assert get_metric(text).name == name and get_metric(text).task == "caption" and get_metric(text).needs == "caption"


@given(
    st.dictionaries(st.sampled_from(list(NAMES)), st.floats(1e-300, 1e300), min_size=1),
    st.sampled_from(["morpheme", "char", "word"]),
)
def test_names_read_back_to_the_same_weights(parts: dict[str, float], tokenizer: str) -> None:
    found, read = read_expression(write_expression(parts, tokenizer))
    assert found == parts and (read == tokenizer or set(parts) <= {"chrf", "exact_match"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5*cidr", "'cidr' is no caption metric. Did you mean 'cider'"),
        ("cider_d@chars", "'chars' is not known. Did you mean 'char'"),
        ("cider_d@char@word", "one @tokenizer"),
        ("bleu4 + 0.5*bleu-4", "bleu4 stands there twice"),
        ("-1*bleu4", "'-1' is no weight"),
        ("x*bleu4", "'x' is no weight"),
        ("inf*bleu4", "'inf' is no weight"),
        ("bleu4+", "'' is no caption metric"),
        ("0.5*map50", "'map50' is no caption metric"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message.replace("+", r"\+")):
        get_metric(text)


def test_registry_knows_every_caption_metric_and_stays_light() -> None:
    assert [name for name, metric in METRICS.items() if metric.task == "caption"] == list(NAMES)
    assert get_metric("map@50").task == "detection"
    heavy = "import sys, src.metrics.registry; print([m for m in ('kiwipiepy', 'pandas', 'scipy') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", heavy], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert found.stdout.strip() == "[]"


def test_panel_agrees_with_the_metrics_by_name() -> None:
    panel = evaluate_captions(CANDIDATES, REFERENCES)
    for name in NAMES:
        assert panel[name] == get_metric(name).value(CANDIDATES, REFERENCES), name
        assert panel[name] == parse_caption_metric(name).corpus(CANDIDATES, REFERENCES)
    assert panel["exact_match"] == 0.2 and 0 < panel["bleu4"] < panel["bleu1"] < 1 and 0 < panel["cider_d"] < 10
    assert panel["length"]["min"] == 0 and panel["length"]["distinct"] == 1.0
    assert panel["signature"].startswith("captions|morpheme:kiwipiepy-") and "exact+lemma" in panel["signature"]
    assert evaluate_captions(CANDIDATES, REFERENCES, tokenizer="char")["bleu1"] != panel["bleu1"]


def test_corpus_equals_pycocoevalcap_on_the_same_morphemes() -> None:
    from pycocoevalcap.cider.cider import Cider

    from src.captions.tokenizers import get_tokenizer

    tokens = get_tokenizer("morpheme").tokens
    references = {i: [" ".join(tokens(text)) for text in group] for i, group in enumerate(REFERENCES)}
    candidates = {i: [" ".join(tokens(text))] for i, text in enumerate(CANDIDATES)}
    mean, single = Cider().compute_score(references, candidates)
    metric = parse_caption_metric("cider_d")
    assert metric.corpus(CANDIDATES, REFERENCES) == pytest.approx(mean, abs=1e-9)
    np.testing.assert_allclose(metric.per_image(CANDIDATES, REFERENCES), single, atol=1e-9)


def test_perfect_captions() -> None:
    perfect = [group[0] for group in REFERENCES]
    panel = evaluate_captions(perfect, REFERENCES)
    for name in ("rouge1", "rouge2", "rouge_l", "exact_match", "bleu1", "bleu4"):
        assert panel[name] == pytest.approx(1.0), name
    assert panel["chrf"] == pytest.approx(100.0)


def test_missing_full_stop_and_unicode_form_cost_nothing() -> None:
    import unicodedata

    other = [unicodedata.normalize("NFD", text.rstrip(".") + " .") for text in CANDIDATES]
    for name in ("bleu4", "rouge_l", "meteor", "cider_d", "rouge1@word", "bleu2@char"):
        metric = parse_caption_metric(name)
        assert metric.corpus(other, REFERENCES) == metric.corpus(CANDIDATES, REFERENCES), name
    assert parse_caption_metric("exact_match").corpus([unicodedata.normalize("NFD", " 빨간  공")], [["빨간 공"]]) == 1


def test_korean_stems_count_in_meteor() -> None:
    metric = parse_caption_metric("meteor")
    other_particle, other_noun = metric.per_image(
        ["책을 읽는다", "책을 읽는다"], [["신문을 읽는다"], ["공책을 읽는다"]]
    )
    assert other_particle == other_noun
    joined, exact = metric.per_image(["강아지를 본다", "강아지를 본다"], [["책상을 본다"], ["책상에 본다"]])
    assert joined > exact  # 를 and 을 are one particle


def test_weighted_sum_is_the_sum_of_its_parts() -> None:
    metric = parse_caption_metric("0.5*cider_d+0.3*meteor+0.2*bleu4@char")
    parts = {name: parse_caption_metric(f"{name}@char") for name in metric.parts}

    def summed(values: dict) -> object:
        return sum(weight * values[name] for name, weight in metric.parts.items())

    of_corpus = {name: part.corpus(CANDIDATES, REFERENCES) for name, part in parts.items()}
    assert metric.corpus(CANDIDATES, REFERENCES) == pytest.approx(summed(of_corpus))
    single = {name: part.per_image(CANDIDATES, REFERENCES) for name, part in parts.items()}
    np.testing.assert_allclose(metric.per_image(CANDIDATES, REFERENCES), summed(single))
    first, second = metric.pairwise([CANDIDATES[:3], CANDIDATES[3:]])
    expected = {name: part.pairwise([CANDIDATES[:3], CANDIDATES[3:]])[0] for name, part in parts.items()}
    np.testing.assert_allclose(first, summed(expected))
    assert second.shape == (2, 2)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_per_image_scores_with_the_other_as_reference(name: str) -> None:
    metric, frequencies = parse_caption_metric(name), Frequencies.of(REFERENCES)
    groups = [CANDIDATES[:3], [], CANDIDATES[3:], REFERENCES[2]]
    for group, table in zip(groups, metric.pairwise(groups, frequencies), strict=True):
        assert table.shape == (len(group), len(group))
        for i, candidate in enumerate(group):
            for j, reference in enumerate(group):
                alone = metric.per_image([candidate], [[reference]], frequencies=frequencies)[0]
                assert table[i, j] == pytest.approx(alone, abs=1e-12)
    assert metric.pairwise([]) == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("bleu") and name != "chrf"])
def test_mean_of_images_is_the_corpus(name: str) -> None:
    metric = parse_caption_metric(name)
    single = metric.per_image(CANDIDATES, REFERENCES)
    assert single.shape == (5,) and single.mean() == pytest.approx(metric.corpus(CANDIDATES, REFERENCES))


@pytest.mark.parametrize("name", ["cider", "cider_d@char"])
def test_frequencies_of_the_references_change_nothing(name: str, tmp_path: Path) -> None:
    metric = parse_caption_metric(name)
    frequencies = Frequencies.of([*REFERENCES, []], metric.tokenizer)
    assert frequencies.images == 5
    own = metric.per_image(CANDIDATES, REFERENCES)
    np.testing.assert_allclose(metric.per_image(CANDIDATES, REFERENCES, frequencies=frequencies), own, atol=1e-12)
    frequencies.to_file(tmp_path / "frequencies.json.gz")
    again = Frequencies.from_file(tmp_path / "frequencies.json.gz")
    np.testing.assert_allclose(metric.per_image(CANDIDATES, REFERENCES, frequencies=again), own, atol=1e-12)
    first = (tmp_path / "frequencies.json.gz").read_bytes()
    again.to_file(tmp_path / "frequencies.json.gz")
    assert (tmp_path / "frequencies.json.gz").read_bytes() == first
    assert min(frequencies.counts.values()) > 1  # n-grams of one image weigh as unknown ones


def test_frequencies_refuse_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="'char' tokens and the metric is of 'morpheme' tokens"):
        parse_caption_metric("cider_d").pairwise([CANDIDATES], Frequencies.of(REFERENCES, "char"))
    with pytest.raises(UndefinedMetric, match="no image has one"):
        Frequencies.of([[], []])
    with pytest.raises(ProjectError, match="does not exist"):
        Frequencies.from_file(tmp_path / "none.json.gz")
    (tmp_path / "bad.json.gz").write_bytes(b"no gzip")
    with pytest.raises(ProjectError, match="does not hold n-gram frequencies"):
        Frequencies.from_file(tmp_path / "bad.json.gz")


def test_intervals_hold_the_value_and_are_repeatable() -> None:
    candidates, references = CANDIDATES * 8, REFERENCES * 8
    names = ["cider_d", "bleu1", "chrf", "0.5*meteor+rouge_l@char", "exact_match"]
    found = intervals(candidates, references, names=names, tokenizer="word", resamples=300, seed=1)
    assert list(found) == names
    for name, (low, high) in found.items():
        value = parse_caption_metric(name if "@" in name else f"{name}@word").corpus(candidates, references)
        assert low < value < high, name
    assert found == intervals(candidates, references, names=names, tokenizer="word", resamples=300, seed=1)
    assert found != intervals(candidates, references, names=names, tokenizer="word", resamples=300, seed=2)
    narrow = intervals(candidates, references, names=["bleu1"], tokenizer="word", resamples=300, level=0.5)["bleu1"]
    assert narrow[1] - narrow[0] < found["bleu1"][1] - found["bleu1"][0]


def test_interval_of_a_mean_is_the_bootstrap_of_the_mean() -> None:
    draws = np.random.default_rng(0).multinomial(5, np.full(5, 0.2), size=200).astype(float)
    single = parse_caption_metric("rouge_l").per_image(CANDIDATES, REFERENCES)
    expected = np.quantile(draws @ single / 5, [0.025, 0.975])
    found = intervals(CANDIDATES, REFERENCES, names=["rouge_l"], resamples=200)["rouge_l"]
    np.testing.assert_allclose(found, expected)


def test_what_cannot_be_scored_is_named() -> None:
    metric = parse_caption_metric("bleu1@char")
    with pytest.raises(UndefinedMetric, match="there are none"):
        metric.corpus([], [])
    assert get_metric("bleu1@char").value([], []) is None
    with pytest.raises(ProjectError, match="image number 2 of 3 and 1 more has no reference"):
        metric.corpus(["a", "b", "c"], [["a"], [], []])
    with pytest.raises(ProjectError, match="2 captions and 1 lists"):
        metric.per_image(["a", "b"], [["a"]])
    with pytest.raises(ProjectError, match="references of image number 1 are 'a'"):
        metric.corpus(["a"], ["a"])
    with pytest.raises(ProjectError, match="caption number 2 is None"):
        metric.corpus(["a", None], [["a"], ["b"]])  # type: ignore[list-item]
    with pytest.raises(ProjectError, match="reference number 1 is nan"):
        parse_caption_metric("chrf").corpus(["a"], [[float("nan")]])  # type: ignore[list-item]
    with pytest.raises(ProjectError, match="resamples=0"):
        intervals(["a"], [["a"]], names=["bleu1"], resamples=0)
