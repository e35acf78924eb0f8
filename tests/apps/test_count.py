"""One picture, one Korean question, one number: the rule on made boxes, the whole on a tiny network."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.apps import count as app
from src.apps.count import count_in_image, drop_groups, main, report, resolver_for, understand
from src.apps.drawing import draw
from src.apps.zero_shot import THRESHOLDS, load_detector
from src.boxes.class_rule import ClassRule
from src.boxes.types import Detections
from src.errors import ProjectError
from tests.models.detection.tiny_networks import CONFIGS

IMAGE = np.full((100, 200, 3), 128, np.uint8)


class Fixed:
    """Answers the same boxes of every name it is asked for, and remembers the names."""

    def __init__(self, found: dict[str, list[tuple]], rule: ClassRule | None = None, vocabulary=None) -> None:
        self.found, self.asked, self.vocabulary = found, [], vocabulary
        self.rule = rule or ClassRule(threshold=0.3, nms_iou=0.5, max_area=0.95)

    def detect(self, image: np.ndarray, names: list[str]) -> Detections:
        self.asked.append(list(names))
        rows = [(box, label) for label, name in enumerate(names) for box in self.found.get(name, [])]
        if not rows:
            return Detections.empty()
        return Detections([box[1:] for box, _ in rows], [box[0] for box, _ in rows], [label for _, label in rows])


DOGS = [(0.9, 10, 10, 40, 50), (0.7, 60, 10, 90, 50), (0.35, 120, 20, 150, 60), (0.2, 160, 20, 190, 60)]


def test_a_korean_word_becomes_a_prompt_and_a_count() -> None:
    detector = Fixed({"dog": DOGS})
    answer = count_in_image(IMAGE, "강아지가 몇 마리야?", detector)
    assert detector.asked == [["dog"]]
    assert answer.kind == "counted" and answer.text == "강아지가 3마리 있습니다."
    one = answer.counted[0]
    assert (one.word, one.names, one.counter, one.count) == ("강아지", "dog", "마리", 3)
    assert one.detections.scores.tolist() == [0.9, 0.7, 0.35]


def test_duplicates_and_boxes_of_the_whole_picture_do_not_count() -> None:
    doubled = [*DOGS[:1], (0.6, 11, 11, 41, 51), (0.8, 0, 0, 200, 100), (0.7, 60, 10, 195, 98)]
    answer = count_in_image(IMAGE, "강아지 몇 마리", Fixed({"dog": doubled}))
    assert answer.counted[0].count == 2
    loose = Fixed({"dog": doubled}, ClassRule(threshold=0.3))
    assert count_in_image(IMAGE, "강아지 몇 마리", loose).counted[0].count == 4


def test_a_box_around_a_group_is_none_of_it() -> None:
    boxes = [[10, 10, 40, 50], [60, 10, 90, 50], [120, 20, 150, 60], [5, 5, 160, 65]]
    group = Detections(boxes, [0.9, 0.8, 0.7, 0.95], [0] * 4)
    assert len(drop_groups(group)) == 3 and drop_groups(group).scores.max() == 0.9
    two = group.select(np.array([0, 1, 3]))
    assert len(drop_groups(two)) == 3  # two inside may be a mother and her parts; nothing is said of it


def test_what_is_not_there_is_said() -> None:
    for weak in ([], [(0.35, 10, 10, 40, 50), (0.31, 60, 10, 90, 50)]):  # unsure boxes alone are not enough
        answer = count_in_image(IMAGE, "고양이가 있나요?", Fixed({"cat": weak}))
        assert answer.kind == "absent" and answer.text == "고양이는 사진에 없습니다."
        assert answer.counted[0].count == 0 and len(answer.counted[0].detections) == 0
    assert "highest score 0.35" in report(answer)
    yes = count_in_image(IMAGE, "고양이가 있나요?", Fixed({"cat": DOGS}))
    assert yes.text == "네, 고양이가 3마리 있습니다." or yes.text == "네, 고양이가 3개 있습니다."


def test_several_things_are_asked_for_at_once() -> None:
    detector = Fixed({"apple": DOGS[:2], "banana": DOGS[2:]})
    answer = count_in_image(IMAGE, "사과랑 바나나가 몇 개야?", detector)
    assert detector.asked == [["apple", "banana"]]
    assert [(one.word, one.count) for one in answer.counted] == [("사과", 2), ("바나나", 0)]
    assert answer.text.splitlines() == ["사과가 2개 있습니다.", "바나나는 사진에 없습니다."]


def test_a_word_of_several_meanings_gives_choices_until_one_is_chosen() -> None:
    detector = Fixed({"pear": DOGS})
    answer = count_in_image(IMAGE, "배 찾아줘", detector)
    assert answer.kind == "ambiguous" and not detector.asked
    assert {"pear", "ship"} <= {english for english, _ in answer.choices} and "--as pear" in report(answer)
    chosen = count_in_image(IMAGE, "배 찾아줘", detector, meaning="pear")
    assert chosen.kind == "counted" and detector.asked == [["pear"]] and chosen.text == "배가 3개 있습니다."
    assert count_in_image(IMAGE, "배가 몇 척이야?", Fixed({"ship": DOGS})).counted[0].count == 3  # the counter tells


def test_unknown_and_empty_questions() -> None:
    answer = count_in_image(IMAGE, "꿹뷁 몇 개", Fixed({}))
    assert answer.kind == "unknown" and "--as" in answer.text and "꿹뷁'은" in answer.text
    known, none = understand("꿹뷁 몇 개", meaning="gadget")
    assert none is None and (known[0].word, known[0].terms) == ("꿹뷁", ("gadget",))
    assert count_in_image(IMAGE, "뭐가 있어?", Fixed({})).kind == "nothing"
    with pytest.raises(ProjectError, match="question is empty"):
        count_in_image(IMAGE, " ", Fixed({}))


def test_a_translator_reads_what_the_lexicon_does_not() -> None:
    class Translator:
        def try_translate(self, texts, source, target):
            return ["a gadget"] * len(texts)

    detector = Fixed({"gadget": DOGS})
    answer = count_in_image(IMAGE, "꿹뷁 몇 개", detector, resolver_for(translator=Translator()))
    assert answer.kind == "counted" and detector.asked == [["gadget"]]


def test_a_trained_detector_is_asked_for_its_own_classes() -> None:
    detector = Fixed({"개": DOGS[:1], "고양이": DOGS[1:2], "컵": DOGS[2:]}, vocabulary=["컵", "고양이", "개"])
    assert count_in_image(IMAGE, "강아지가 몇 마리야?", detector).counted[0].count == 1
    assert detector.asked == [["개"]]
    both = count_in_image(IMAGE, "동물이 몇 마리야?", detector).counted[0]
    assert both.count == 2 and set(detector.asked[-1]) == {"고양이", "개"}
    assert count_in_image(IMAGE, "비행기가 몇 대야?", detector).kind == "unknown"


def test_a_rule_of_ones_own() -> None:
    answer = count_in_image(IMAGE, "강아지 몇 마리", Fixed({"dog": DOGS}), rule=ClassRule(threshold=0.1))
    assert answer.counted[0].count == 4


def test_boxes_are_drawn_on_a_copy() -> None:
    answer = count_in_image(IMAGE, "강아지가 몇 마리야?", Fixed({"dog": DOGS}))
    drawn = draw(IMAGE, answer)
    assert drawn.shape == IMAGE.shape and (IMAGE == 128).all()
    assert (drawn[10, 15:40] != 128).any() and (drawn[90:, :] == 128).all()


# -- the whole pipeline -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["grounding_dino", "mm_grounding_dino", "owlv2", "omdet_turbo", "grounded_sam"])
def test_pipelines_run_from_a_korean_word_to_a_count(model: str, tmp_path: Path) -> None:
    from tests.models.detection.tiny_networks import SEGMENTERS

    architecture = {"grounded_sam": "grounding-dino"}.get(model, model.replace("_", "-"))
    changes = {"config": CONFIGS[architecture], "image_size": [96, 96]}
    if model == "grounded_sam":
        changes["segmenter_config"] = SEGMENTERS["sam2"]
    detector = load_detector(model, weights="random", device="cpu", **changes)
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    every = ClassRule(threshold=0.001)
    answer = count_in_image(image, "소방차가 몇 대야?", detector, rule=every)
    one = answer.counted[0]
    assert one.names == "fire truck" and one.counter == "대" and detector.network.class_names == ["fire truck"]
    assert (one.count > 0) == (one.best >= every.threshold + app.PRESENCE)
    found = detector.detect(image, ["fire truck", "dog"])
    assert len(found) and found.boxes[:, 2].max() <= 160 and found.boxes[:, 3].max() <= 90
    assert set(found.labels) <= {0, 1} and detector.network.class_names == ["fire truck", "dog"]
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (sides > 0).all()


def test_boxes_are_of_the_picture_not_of_the_canvas(monkeypatch) -> None:
    import torch

    detector = load_detector("owlv2", weights="random", device="cpu", config=CONFIGS["owlv2"], image_size=[96, 96])
    canvas = torch.tensor([[0.0, 21, 96, 75], [24, 48, 48, 75], [0, 0, 96, 20]])  # the last is in the padding
    seen = []

    def detect(images):
        seen.append(images)
        return [{"boxes": canvas, "scores": torch.tensor([0.9, 0.8, 0.7]), "labels": torch.tensor([0, 0, 0])}]

    monkeypatch.setattr(detector.network, "detect", detect)
    image = np.zeros((90, 160, 3), np.uint8)
    found = detector.detect(image, ["object"])
    assert found.boxes.tolist() == [[0, 0, 160, 90], [40, 45, 80, 90]]
    # black is -mean / std of CLIP; the padding is its mean colour
    assert seen[0].shape == (1, 3, 96, 96)
    assert float(seen[0][0, 0, 48, 48]) == pytest.approx(-0.48145466 / 0.26862954, abs=1e-4)
    assert abs(float(seen[0][0, 0, 2, 48])) < 0.01


def test_detectors_that_words_do_not_ask_are_refused() -> None:
    with pytest.raises(ProjectError, match="Did you mean 'grounding_dino'"):
        load_detector("groundingdino")
    with pytest.raises(ProjectError, match="finds what words name"):
        load_detector("compact")
    assert all(0 < value < 1 for value in THRESHOLDS.values())


def test_command(tmp_path: Path, monkeypatch, capsys) -> None:
    picture, copy = tmp_path / "photo.png", tmp_path / "out" / "counted.png"
    Image.fromarray(IMAGE).save(picture)
    detector = Fixed({"dog": DOGS})
    monkeypatch.setattr("src.apps.zero_shot.load_detector", lambda model, **kwargs: detector)
    assert main([str(picture), "강아지가 몇 마리야?", "--show", str(copy)]) == 0
    out = capsys.readouterr().out
    assert "강아지가 3마리 있습니다." in out and "dog 1: score 0.90, box 10 10 40 50" in out
    assert copy.is_file() and np.asarray(Image.open(picture)).max() == 128
    assert main([str(picture), "강아지가 몇 마리야?", "--threshold", "0.8"]) == 0
    assert "1마리" in capsys.readouterr().out
    assert main([str(picture), "배 찾아줘"]) == 2
    assert "--as ship" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.png", "강아지"], "does not exist"),
        (["photo.png", "강아지", "--show", "photo.png"], "is the picture itself"),
        (["photo.png", "강아지", "--threshold", "2"], "between 0 and 1"),
        (["photo.png", ""], "question is empty"),
        (["photo.png", "강아지", "--weights-dir", "none"], "--weights random"),
        (["photo.png", "강아지", "--model", "yolo"], "finds what words name"),
    ],
)
def test_mistakes_are_answered(arguments, expected, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(IMAGE).save("photo.png")
    assert main(arguments) == 1
    assert expected in capsys.readouterr().err
