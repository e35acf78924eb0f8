"""The batched farthest-point selection makes the plain loop's choices, point by point."""

import numpy as np
import pytest
import torch
from anomalib.models.components.sampling import KCenterGreedy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from src.errors import ProjectError
from src.models.anomaly import coreset
from src.models.anomaly.coreset import covering_radius, farthest_points, project, projected_dimension


def plain_loop(features: Tensor, count: int, start: int) -> list[int]:
    """Greedy k-center as it is written in the literature, one pass over all points a choice."""
    chosen = [start]
    nearest = torch.linalg.norm(features - features[start], ord=2, dim=1)
    while len(chosen) < count and nearest.max() > 0:
        pick = int(np.argmax(nearest.numpy()))
        chosen.append(pick)
        nearest = torch.minimum(nearest, torch.linalg.norm(features - features[pick], ord=2, dim=1))
    return chosen


def anomalib_loop(features: Tensor, ratio: float, monkeypatch: pytest.MonkeyPatch, start: int) -> list[int]:
    """anomalib's own selection on the features as they are (a third axis keeps it from projecting them)."""
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([start]))
    try:
        return KCenterGreedy(embedding=features.unsqueeze(2), sampling_ratio=ratio).select_coreset_idxs()
    finally:
        monkeypatch.undo()


def clustered(rows: int, width: int, seed: int = 0) -> Tensor:
    """Points as patch features lie: few directions of variance, clumps of all sizes, a large common offset."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(max(1, rows // 20), width, generator=generator)
    spread = torch.rand(len(centers), 1, generator=generator) ** 3
    which = torch.randint(len(centers), (rows,), generator=generator)
    noise = torch.randn(rows, width, generator=generator) * spread[which] * torch.linspace(1, 0.01, width)
    return centers[which] + noise + 20


@pytest.mark.parametrize("width", [1, 7, 64, 268])
def test_same_choices_as_anomalib(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = clustered(3000, width)
    expected = anomalib_loop(features, 0.1, monkeypatch, start=17)
    chosen = farthest_points(features, 300, start=17)
    assert chosen.tolist() == expected
    assert covering_radius(features, chosen) == pytest.approx(covering_radius(features, torch.tensor(expected)))


def test_same_choices_as_anomalib_on_gaussians(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(4000, 128, generator=torch.Generator().manual_seed(1))
    assert farthest_points(features, 400, start=3).tolist() == anomalib_loop(features, 0.1, monkeypatch, start=3)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 120),
    width=st.integers(1, 9),
    share=st.floats(0, 1),
    levels=st.sampled_from([1, 2, 5, 10**6]),
    seed=st.integers(0, 10**6),
)
def test_any_size_with_ties_and_copies(rows: int, width: int, share: float, levels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randint(levels, (rows, width), generator=generator).float()  # few levels: ties and copies abound
    count = 1 + int(share * (rows - 1))
    start = int(torch.randint(rows, (1,), generator=generator))
    original = coreset._CANDIDATES
    coreset._CANDIDATES = 7  # many rounds, so that their borders are crossed too
    try:
        chosen = farthest_points(features, count, start=start).tolist()
    finally:
        coreset._CANDIDATES = original
    assert chosen == plain_loop(features, count, start)


def test_copies_are_chosen_once() -> None:
    distinct = torch.randn(5, 8)
    chosen = farthest_points(distinct.repeat(40, 1), 50)
    assert len(chosen) == 5
    assert covering_radius(distinct.repeat(40, 1), chosen) == 0


def test_all_points_and_one_point() -> None:
    features = clustered(300, 12)
    assert sorted(farthest_points(features, 300).tolist()) == list(range(300))
    assert farthest_points(features[:1], 1).tolist() == [0]
    assert farthest_points(features, 1, start=9).tolist() == [9]


def test_covering_radius() -> None:
    features = clustered(500, 20)
    chosen = farthest_points(features, 25)
    expected = torch.cdist(features.double(), features[chosen].double()).amin(1).max()
    assert covering_radius(features, chosen) == pytest.approx(float(expected), rel=1e-5)
    assert covering_radius(features, farthest_points(features, 100)) < covering_radius(features, chosen)


def test_float16_and_global_precision_do_not_matter() -> None:
    features = clustered(2000, 48).half()
    expected = farthest_points(features.float(), 200)
    assert torch.equal(farthest_points(features, 200), expected)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(farthest_points(features, 200), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_progress_reaches_the_total() -> None:
    calls: list[tuple[int, int]] = []
    farthest_points(clustered(3000, 16), 900, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (900, 900)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    with coreset.progress_bar("coreset") as update:
        update(3, 10)


@pytest.mark.parametrize(("count", "start"), [(0, 0), (11, 0), (2, 10), (2, -1)])
def test_bad_requests(count: int, start: int) -> None:
    with pytest.raises(ProjectError, match="cannot choose"):
        farthest_points(torch.randn(10, 3), count, start=start)


def test_not_a_number() -> None:
    features = torch.randn(10, 3)
    features[4, 1] = torch.nan
    with pytest.raises(ProjectError, match="NaN"):
        farthest_points(features, 3)


def test_projection_only_shrinks() -> None:
    narrow = torch.randn(1000, projected_dimension(1000))
    assert project(narrow) is narrow
    wide = torch.randn(1000, 1536)
    projected = project(wide, seed=3)
    assert projected.shape == (1000, projected_dimension(1000))
    assert torch.equal(projected, project(wide, seed=3))
    ratio = torch.pdist(projected[:200]) / torch.pdist(wide[:200])
    assert 0.95 < ratio.mean() < 1.05
    assert ratio.std() < 0.1
