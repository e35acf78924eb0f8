"""The caption decision: what OOF rows teach, what is kept without them, and what happens to degenerate texts."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.captions.decision import LEAST_IMAGES, CaptionDecision, Chosen, decide
from src.captions.degenerate import problems_of
from src.captions.editing import Edits
from src.errors import ProjectError
from src.metrics.caption.measure import Frequencies, parse_caption_metric

ANIMALS = ("개", "고양이", "말", "소", "새", "양", "토끼", "곰")
PLACES = ("풀밭을", "모래밭을", "길을", "마당을", "들판을")
COLOURS = ("갈색", "흰색", "검은색", "회색")
OTHERS = ("한 남자가 의자에 앉아 있다", "여자가 우산을 들고 서 있다", "아이들이 물속에서 놀고 있다")


def truth_of(image: int) -> str:
    return f"{COLOURS[image % 4]} {ANIMALS[image % 8]} 한 마리가 {PLACES[image % 5]} 달리고 있다"


def near(image: int, kind: int) -> str:
    """One of three captions close to the truth of an image."""
    animal, place = ANIMALS[image % 8], PLACES[image % 5]
    return (f"{animal} 한 마리가 {place} 달리고 있다", f"{COLOURS[image % 4]} {animal} 한 마리가 {place} 걷고 있다",
            f"{COLOURS[image % 4]} {animal} 한 마리가 달리고 있다")[kind]  # fmt: skip


def rows(images: int = 40) -> tuple[list[list[str]], list[list[float]], list[list[str]]]:
    """Candidates whose first is about something else and whose others agree; scores that say nothing."""
    candidates = [[OTHERS[i % 3], near(i, 0), near(i, 1), near(i, 2)] for i in range(images)]
    return candidates, [[0.0, -0.1, -0.2, -0.3]] * images, [[truth_of(i)] for i in range(images)]


TRAINING = [[truth_of(i), OTHERS[i % 3]] for i in range(30)]


def made(metric: str = "cider_d", *, data=None, images=None, **others) -> CaptionDecision:
    candidates, scores, references = data or rows()
    parsed = parse_caption_metric(metric)
    return decide(candidates, scores, images, references, metric=parsed, training=TRAINING, **others)


def texts_of(decision: CaptionDecision, candidates, scores, images=None) -> list[str]:
    frequencies = Frequencies.of(TRAINING, parse_caption_metric(decision.metric).tokenizer)
    return [chosen.text for chosen in decision.choose_all(candidates, scores, images, frequencies=frequencies)]


@pytest.mark.parametrize("metric", ["cider_d", "rouge_l", "bleu4", "0.5*meteor + 0.5*bleu2@word"])
def test_consensus_is_learnt_where_the_first_candidate_errs(metric: str) -> None:
    decision = made(metric)
    summary = decision.summary
    assert decision.weights["consensus"] > 0 and summary["choice"] in ("consensus", "weighted")
    assert summary["cross_validated"] > summary["first"] and summary["images"] == 40
    candidates, scores, references = rows()
    texts = texts_of(decision, candidates, scores)
    assert not set(texts) & set(OTHERS)
    value = parse_caption_metric(metric).corpus(texts, references)
    assert value == pytest.approx(summary[summary["choice"]]) and value <= summary["oracle"] + 1e-9


def test_the_first_candidate_stays_where_nothing_beats_it() -> None:
    candidates, scores, references = rows()
    best = [[references[i][0], *candidates[i]] for i in range(len(candidates))]
    decision = made(data=(best, [[0.1, *each] for each in scores], references))
    assert decision.weights == {"model": 1.0, "consensus": 0.0, "image": 0.0}
    assert decision.summary["choice"] == "first"
    assert decision.summary["first"] == decision.summary["cross_validated"] == decision.summary["oracle"]


def test_image_scores_are_used_where_they_tell_the_truth() -> None:
    candidates, scores, references = rows()
    for i, texts in enumerate(candidates):
        texts[:] = [*OTHERS[: i % 4], references[i][0], *OTHERS[i % 4 :]]
    known = [[0.9 if text == truth_of(i) else 0.1 for text in texts] for i, texts in enumerate(candidates)]
    decision = made(data=(candidates, scores, references), images=known)
    assert decision.weights["image"] > 0 and decision.summary["image"] == decision.summary["oracle"]
    assert texts_of(decision, candidates, scores, known) == [truth_of(i) for i in range(40)]


def test_weights_that_only_fit_their_own_images_are_not_kept() -> None:
    random = np.random.default_rng(0)
    pairs = [[near(i, 0), near(i, 1)] for i in range(30)]
    references = [[pair[int(random.integers(2))]] for pair in pairs]
    noise = random.normal(size=(30, 2)).tolist()
    decision = made("exact_match", data=(pairs, noise, references), images=random.normal(size=(30, 2)).tolist())
    summary = decision.summary
    assert summary["weighted"] >= summary["first"]
    if summary["choice"] == "weighted":
        assert summary["weighted_cv"] > max(summary["first"], summary["consensus"])
    else:
        assert summary["weighted_cv"] <= max(summary["first"], summary["consensus"])


def test_choice_can_be_fixed() -> None:
    assert made(how="first").weights["model"] == 1.0
    assert made(how="consensus").weights["consensus"] == 1.0
    with pytest.raises(ProjectError, match="Did you mean 'consensus'"):
        made(how="consenus")


def test_edits_are_kept_where_they_help_and_only_there() -> None:
    candidates, scores, references = rows()
    polite = [[text.replace("있다", "있어요") for text in texts] for texts in candidates]
    decision = made(data=(polite, scores, references))
    edits = decision.summary["edits"]
    assert decision.edits == Edits(register="plain").to_dict()  # full stops are no tokens of this metric
    assert edits["register"]["kept"] and edits["register"]["changed"] == 40
    assert edits["register"]["cv"] == edits["register"]["value"] > edits["register"]["before"]
    assert decision.summary["cross_validated"] > decision.summary[decision.summary["choice"]]
    assert all(text.endswith("있다") for text in texts_of(decision, polite, scores))

    worse = [[text.replace("있다", "있어요") for text in texts] for texts in references]
    decision = made(data=(polite, scores, worse))
    assert decision.edits == Edits().to_dict()
    assert decision.summary["edits"]["register"]["value"] < decision.summary["edits"]["register"]["before"]


def test_full_stops_are_learnt_under_a_metric_that_sees_them() -> None:
    candidates, scores, references = rows()
    training = [[f"{text}." for text in texts] for texts in TRAINING]
    ended = [[f"{text}." for text in texts] for texts in references]
    decision = decide(candidates, scores, None, ended, metric=parse_caption_metric("chrf"), training=training)
    assert decision.edits == Edits(punctuation="period").to_dict()
    assert decision.summary["choice"] != "first"


@pytest.mark.parametrize("few", [[], None, "some"])
def test_without_enough_references_nothing_is_tuned(few) -> None:
    candidates, scores, references = rows(LEAST_IMAGES + 10)
    known = None if few is None else [each if few and i < LEAST_IMAGES - 1 else [] for i, each in enumerate(references)]
    single = made(data=(candidates, scores, known))
    assert single.weights["model"] == 1.0 and single.summary["reason"] and single.summary["cross_validated"] is None
    assert single.edits == Edits(register="plain", punctuation="none").to_dict()
    several = made(data=(candidates, scores, known), runs=3)
    assert several.weights["consensus"] == 1.0
    assert not set(texts_of(several, candidates, scores)) & set(OTHERS)


def test_images_without_references_do_not_count() -> None:
    candidates, scores, references = rows()
    hidden = [each if i % 2 else [] for i, each in enumerate(references)]
    half = [list(column[1::2]) for column in (candidates, scores, references)]
    assert made(data=(candidates, scores, hidden)).to_dict() == made(data=half).to_dict()


def test_degenerate_candidates_are_replaced_and_do_not_vote() -> None:
    decision = made(how="first")
    found = decision.choose_all(
        [["개 개 개 개", ", , ,", "개가 달린다"], ["<unk>", ""], [], ["개가 달린다"]], [[1, 2, 3], [1, 2], [], [1]]
    )
    assert found == [
        Chosen("개가 달린다", 2, "candidate", ["repeated"]),
        Chosen(decision.fallback, -1, "fallback", ["unknown"]),
        Chosen(decision.fallback, -1, "fallback", ["empty"]),
        Chosen("개가 달린다", 0, "kept", []),
    ]
    noisy = [["a dog runs in", near(0, 0), "a dog runs in the", "a dog runs in the", near(0, 1), near(0, 2)]]
    assert texts_of(made(how="consensus"), noisy, None)[0] in noisy[0][1::3] + [near(0, 2)]


def test_fallback_is_a_central_training_caption() -> None:
    decision = made()
    assert decision.fallback in {text for texts in TRAINING for text in texts}
    assert problems_of(decision.fallback) == [] and "medoid of 30 training captions" in decision.summary["fallback"]
    metric = parse_caption_metric("rouge_l")
    bare = decide([["개가 달린다", "<unk>"]], None, None, None, metric=metric, training=[])
    assert bare.fallback == "개가 달린다"
    with pytest.raises(ProjectError, match="no text to fall back on"):
        decide([["<unk>"]], None, None, None, metric=metric, training=[[", ,"]])


def test_missing_scores_say_nothing() -> None:
    candidates, scores, references = rows()
    holes = [None if i % 3 == 0 else [None, float("nan"), -0.2, -0.3] for i in range(40)]
    for known in (None, holes):
        decision = made(data=(candidates, known, references))
        assert decision.weights["consensus"] > 0
        assert len(texts_of(decision, candidates, known)) == 40


@pytest.mark.parametrize("how", ["auto", "first", "consensus"])
def test_survives_json_and_does_not_depend_on_the_batch(how: str) -> None:
    decision = made(how=how)
    candidates, scores, _ = rows()
    again = CaptionDecision.from_dict(json.loads(json.dumps(decision.to_dict())))
    assert again == decision
    whole = texts_of(again, candidates, scores)
    alone = [texts_of(decision, candidates[i : i + 1], scores[i : i + 1])[0] for i in range(6)]
    assert whole[:6] == alone


def test_consensus_under_cider_needs_frequencies() -> None:
    with pytest.raises(ProjectError, match="frequencies.json.gz"):
        made(how="consensus").choose_all([["개가 달린다", "소가 달린다"]], [[0.0, 0.0]])


def test_is_seeded() -> None:
    assert made(seed=3).to_dict() == made(seed=3).to_dict()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["개가 달린다", "소가 있어요.", "", ", ,", "개 개 개", "a dog", "흰 개"]), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_a_sound_caption_is_never_replaced_by_the_fallback(candidates: list[list[str]]) -> None:
    decision = CaptionDecision("rouge_l", {"model": 0.5, "consensus": 0.5, "image": 0.0}, {}, "예비 문장이다", {})
    for texts, found in zip(candidates, decision.choose_all(candidates, None), strict=True):
        sound = [text for text in texts if not problems_of(text)]
        assert found.text in (sound or ["예비 문장이다"])
        assert (found.index == -1) == (found.state == "fallback") == (not sound)
        assert (found.state == "kept") == (bool(texts) and texts[0] in sound)
        assert found.index == -1 or texts[found.index] == found.text
