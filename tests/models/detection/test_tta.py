"""Views come back to the pixels that they were made of, and agreeing views are one answer."""

import pytest
import torch

from src.errors import ProjectError
from src.models.detection.tta import merge_views, views


def brightest(images: torch.Tensor, level: float = 0.5) -> torch.Tensor:
    """B×4 xyxy: the extent of what is above `level` in the first channel."""
    boxes = []
    for picture in images[:, 0]:
        rows, columns = torch.nonzero((picture > level).any(1)), torch.nonzero((picture > level).any(0))
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return torch.tensor(boxes, dtype=torch.float32)


def test_every_view_finds_the_object_where_it_was():
    images = torch.zeros(2, 3, 64, 96)
    images[0, :, 8:24, 16:56] = 1
    images[1, :, 40:60, 2:30] = 1
    truth = brightest(images)
    found = views(images, flip=True, scales=[1.0, 2.0, 1.34])
    assert [tuple(view.shape[2:]) for view, _ in found] == [(64, 96)] * 2 + [(128, 192)] * 2 + [(96, 128)] * 2
    for view, back in found:
        assert (back(brightest(view)) - truth).abs().max() <= 0.75
    assert found[0][0] is images and torch.equal(found[1][0].flip(3), images)


def test_boxes_go_back_exactly():
    boxes = torch.tensor([[0.0, 0.0, 128.0, 96.0], [10.0, 20.0, 30.0, 50.0]])
    (_, plain), (_, mirrored) = views(torch.zeros(1, 3, 64, 96), flip=True, scales=[1.34])
    assert torch.allclose(plain(boxes), torch.tensor([[0, 0, 96, 64], [7.5, 40 / 3, 22.5, 100 / 3]]), atol=1e-5)
    assert torch.allclose(mirrored(boxes)[1], torch.tensor([73.5, 40 / 3, 88.5, 100 / 3]), atol=1e-5)
    assert mirrored(torch.empty(0, 4)).shape == (0, 4)


def test_agreeing_views_become_one_box_and_a_lonely_one_loses():
    def answer(boxes: list, scores: list) -> list[dict]:
        n = len(scores)
        return [
            {
                "boxes": torch.tensor(boxes).float().reshape(-1, 4),
                "scores": torch.tensor(scores),
                "labels": torch.ones(n).long(),
            }
        ]

    (_, plain), (_, mirrored) = views(torch.zeros(1, 3, 64, 96), flip=True)
    merged = merge_views(
        [
            (answer([[10, 10, 30, 30], [50, 40, 60, 60]], [0.8, 0.6]), plain),
            (answer([[66, 10, 86, 32]], [0.8]), mirrored),
        ],
        canvas=(64, 96),
        iou=0.5,
    )
    assert len(merged) == 1 and set(merged[0]) == {"boxes", "scores", "labels"}
    assert torch.allclose(merged[0]["boxes"], torch.tensor([[10, 10, 30, 31], [50, 40, 60, 60]]).float(), atol=1e-3)
    assert torch.allclose(merged[0]["scores"], torch.tensor([0.8, 0.3]), atol=1e-5)
    assert merged[0]["labels"].tolist() == [1, 1]


def test_nothing_found_is_an_empty_answer():
    nothing = [{"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0).long()}]
    merged = merge_views([(nothing, lambda boxes: boxes)] * 2, canvas=(8, 8), iou=0.5)[0]
    assert merged["boxes"].shape == (0, 4) and merged["labels"].dtype == torch.int64


@pytest.mark.parametrize("scales", [[], [0.1], ["1"], [True]])
def test_scales_are_checked(scales):
    with pytest.raises(ProjectError, match=r"tta\.scales"):
        views(torch.zeros(1, 3, 8, 8), scales=scales)
