import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.boxes.tiles import merge_tiles, tile_windows
from src.boxes.types import Detections, Truth
from src.errors import ProjectError
from src.metrics.detection import evaluate_boxes


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(10, 150), st.sampled_from([0.0, 0.1, 0.25, 0.7]))
def test_windows_cover_the_image_exactly(width: int, height: int, size: int, overlap: float) -> None:
    windows = tile_windows(width, height, size=size, overlap=overlap)
    seen = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in windows:
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert x2 - x1 == min(size, width) and y2 - y1 == min(size, height)
        seen[y1:y2, x1:x2] = True
    assert seen.all() and len(np.unique(windows, axis=0)) == len(windows)
    columns = np.unique(windows[:, [0, 2]], axis=0)
    assert (columns[1:, 0] <= columns[:-1, 1] - np.floor(overlap * size) + 1).all()


def test_windows_by_hand() -> None:
    assert tile_windows(100, 50, size=200, overlap=0.2).tolist() == [[0, 0, 100, 50]]
    assert tile_windows(180, 100, size=100, overlap=0.2).tolist() == [[0, 0, 100, 100], [80, 0, 180, 100]]
    assert len(tile_windows(200, 100, size=100, overlap=0.0)) == 2
    with pytest.raises(ProjectError, match="overlap=1"):
        tile_windows(200, 100, size=100, overlap=1.0)


def detected(windows: np.ndarray, boxes: np.ndarray, labels: np.ndarray, noise: float, seed: int) -> list:
    """What a detector that sees one window at a time says: every piece of at least 4 pixels, a little off."""
    random = np.random.default_rng(seed)
    parts = []
    for window in windows:
        shift = window[[0, 1, 0, 1]]
        seen = np.hstack([np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])]) - shift
        there = (seen[:, 2:] - seen[:, :2]).min(axis=1) >= 4
        moved = seen[there] + random.uniform(-noise, noise, (there.sum(), 4))
        moved = np.clip(moved, 0, (window[2:] - window[:2])[[0, 1, 0, 1]])
        parts.append((window, Detections(moved, random.uniform(0.4, 0.9, len(moved)), labels[there])))
    return parts


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("noise", [0.0, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_objects_across_edges_are_counted_once(seed: int, noise: float, overlap: float) -> None:
    random = np.random.default_rng(seed)
    # Objects of 10 to 150 pixels, apart from each other, over windows of 128: many straddle edges, some outgrow them.
    grid = np.array([[x, y] for x in range(0, 800, 160) for y in range(0, 640, 160)], float)
    corner, side = grid + random.uniform(2, 6, grid.shape), random.uniform(10, 150, grid.shape)
    truth = np.hstack([corner, corner + side])
    labels = random.integers(0, 2, len(truth))
    windows = tile_windows(810, 650, size=128, overlap=overlap)
    parts = detected(windows, truth, labels, noise, seed)
    assert sum(len(det) for _, det in parts) > 1.5 * len(truth)
    merged = merge_tiles(parts, width=810, height=650)
    assert len(merged) == len(truth)
    assert np.bincount(merged.labels).tolist() == np.bincount(labels).tolist()
    assert evaluate_boxes([merged], [Truth(truth, labels)], classes=["a", "b"])["map50"] > 0.97


def test_neighbours_stay_apart() -> None:
    """Two objects side by side in the strip that both windows see, and one in another's box."""
    windows = tile_windows(180, 100, size=100, overlap=0.2)
    truth = np.array([[60, 10, 92, 40], [93, 10, 125, 40], [40, 50, 140, 95], [82, 60, 98, 80]], float)
    merged = merge_tiles(detected(windows, truth, np.zeros(4, int), 0.0, 0), width=180, height=100)
    assert len(merged) == 4
    np.testing.assert_allclose(merged.boxes[np.lexsort(merged.boxes.T[::-1])], truth[np.lexsort(truth.T[::-1])])


def test_a_whole_box_wins_over_a_surer_piece() -> None:
    windows = [[0, 0, 100, 100], [60, 0, 160, 100]]
    parts = [
        (windows[0], Detections([[70, 10, 100, 40]], [0.95], [0])),  # cut at x = 100
        (windows[1], Detections([[10, 10, 60, 40]], [0.6], [0])),  # x 70 to 120
    ]
    merged = merge_tiles(parts, width=160, height=100)
    assert merged.boxes.tolist() == [[70, 10, 120, 40]] and merged.scores.tolist() == [0.95]
    other = merge_tiles([parts[0], (windows[1], Detections([[10, 10, 60, 40]], [0.6], [1]))], width=160, height=100)
    assert sorted(other.labels) == [0, 1]


def test_an_edge_of_the_image_cuts_nothing() -> None:
    parts = [([0, 0, 100, 100], Detections([[0, 0, 50, 100]], [0.9], [0]))]
    merged = merge_tiles(parts, width=100, height=100)
    assert merged.boxes.tolist() == [[0, 0, 50, 100]]
    assert len(merge_tiles([], width=10, height=10)) == 0
    assert len(merge_tiles([([0, 0, 9, 9], Detections.empty())], width=10, height=10)) == 0
    with pytest.raises(ProjectError, match="outside the image of 90×100"):
        merge_tiles(parts, width=90, height=100)


def test_boxes_of_one_window_are_left_to_the_detector() -> None:
    pair = Detections([[10, 10, 50, 50], [11, 10, 51, 50]], [0.9, 0.8], [0, 0])
    assert len(merge_tiles([([0, 0, 100, 100], pair)], width=200, height=100)) == 2
