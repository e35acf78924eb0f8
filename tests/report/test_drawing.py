"""Boxes on pictures: file names, colours told apart, letters that a font has."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from src.boxes.types import Detections
from src.report import fonts, palette
from src.report.drawing import write_pictures

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHTS = {
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(code: str, sight: str) -> np.ndarray:
    """CIELAB of a colour as a kind of sight has it."""
    from skimage.color import rgb2lab

    value = np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(SIGHTS[sight]) @ linear, 0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK])
def test_colours_are_told_apart(colours: tuple[str, ...], sight: str) -> None:
    assert len(set(colours)) == 12
    seen = [lab(code, sight) for code in colours]
    least = min(np.linalg.norm(one - other) for i, one in enumerate(seen) for other in seen[:i])
    assert least > 12  # two just noticeable differences are some 5


def test_colours_repeat_with_other_dashes_and_the_frequent_keep_theirs() -> None:
    assert palette.variable(13) == palette.variable(1) and palette.dashes(13) != palette.dashes(1) == ()
    assert palette.places([5, 1, 9]) == [0, 1, 2]
    places = palette.places([*range(20)])
    assert sorted(places) == list(range(20)) and places[19] == 0 and places[0] == 19


def test_names_that_no_font_has_are_drawn_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "hangul_font", lambda: None)
    names, path = fonts.drawn_names(["사과", "wine glass", "뷁뷁"])
    assert names == ["apple", "wine glass", "class 2"]
    assert all(fonts.writes(path, name) for name in names)


def test_names_that_a_font_has_stand_as_they_are() -> None:
    names, path = fonts.drawn_names(["사과", "cup"])
    assert fonts.writes(path, "".join(names))
    assert names == (["사과", "cup"] if fonts.hangul_font() else ["apple", "cup"])


def test_write_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "사진.png"
    source.write_bytes(cv2.imencode(".png", np.full((100, 200, 3), 128, np.uint8))[1].tobytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = Detections([[100.0, 40.0, 180.0, 90.0], [10.0, 40.0, 60.0, 90.0]], [0.9, 0.6], [1, 13])
    names = ["사과", "컵"] * 7
    target = tmp_path / "boxes"
    rows = [
        ("a/b c", source, found),
        ("../../x", tmp_path / "broken.png", found),
        ("한글" * 100, source, Detections.empty()),
    ]
    written = write_pictures(rows, target=target, classes=names)
    assert [path.name for path in written] == ["001_a_b_c.jpg", f"003_{'한글' * 30}.jpg"]
    assert "no picture of ../../x" in capsys.readouterr().out
    drawn = cv2.imdecode(np.fromfile(written[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert drawn.shape == (100, 200, 3)

    def near(pixels: np.ndarray, label: int) -> np.ndarray:
        return np.abs(pixels - np.array(palette.rgb(label))).max(axis=-1) < 60

    assert near(drawn[60:80, 179:182], 1).any(axis=1).all()  # the solid right side
    dashed = near(drawn[42:88, 9:12], 13).any(axis=1)
    assert 0.4 < dashed.mean() < 1  # strokes and gaps
    write_pictures(rows[:1], target=target, classes=names)
    assert [path.name for path in target.iterdir()] == ["001_a_b_c.jpg"]
