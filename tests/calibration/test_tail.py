"""The tail: scipy's formulas, quantiles invert probabilities, order holds everywhere, intervals keep their word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from src.calibration.tail import fit_tail
from src.errors import ProjectError

FAMILIES = {
    "exponential": stats.expon(),
    "uniform": stats.uniform(),
    "normal": stats.norm(loc=7, scale=0.3),
    "gamma": stats.gamma(4),
    "heavy": stats.t(4),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [30, 100, 1000])
def test_the_tail_is_scipys(family: str, n: int) -> None:
    fit = fit_tail(FAMILIES[family].rvs(n, random_state=n))
    pareto = stats.genpareto(fit.shape, loc=fit.start, scale=fit.scale)
    rates = fit.share * np.array([0.9, 0.3, 0.02])
    rates = rates[rates > 0.01 / (n + 1)]
    found = [fit.quantile(rate) for rate in rates]
    np.testing.assert_allclose(found, pareto.isf(rates / fit.share), rtol=1e-9)
    np.testing.assert_allclose(fit.probability(found), fit.share * pareto.sf(found), rtol=1e-9)


def test_moments_are_those_of_hosking_and_wallis() -> None:
    # On so many excesses the prior of ten hardly counts: the true shape and scale come out.
    for shape in (-0.4, 0.0, 0.25):
        scores = np.r_[np.full(1, -1.0), stats.genpareto(shape, scale=2.0).isf((np.arange(60_000) + 0.5) / 60_000)]
        fit = fit_tail(scores, share=0.2)
        assert fit.shape == pytest.approx(shape, abs=0.02)
        assert fit.scale == pytest.approx(2.0 * 0.2**-shape, rel=0.02)  # of the excesses over the 80% quantile


@pytest.mark.parametrize("n", [30, 100, 500])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_interval_covers_the_true_quantile(family: str, n: int) -> None:
    random = np.random.default_rng(n)
    true = FAMILIES[family].isf(0.01)
    intervals = [fit_tail(FAMILIES[family].rvs(n, random_state=random)).interval(0.01, n=100) for _ in range(100)]
    covered = np.mean([low <= true <= high for low, high in intervals])
    assert covered >= 0.8, f"{covered:.2f} of the 95% intervals hold the true quantile"
    width = np.median([high - low for low, high in intervals]) / FAMILIES[family].std()
    assert width < {30: 9, 100: 5, 500: 2}[n]  # an interval of everything would cover too


def test_the_interval_within_the_data() -> None:
    random = np.random.default_rng(0)
    intervals = [fit_tail(random.normal(size=200)).interval(0.5, n=200) for _ in range(150)]
    assert 0.88 <= np.mean([low <= 0 <= high for low, high in intervals]) <= 1
    assert np.median([high - low for low, high in intervals]) < 0.5


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=5, max_size=60),
    st.integers(0, 10_000),
)
def test_order_is_kept_everywhere(scores: list[float], seed: int) -> None:
    fit = fit_tail(scores)
    spread = max(np.ptp(scores), fit.scale, 1e-3 * abs(scores[0]))
    random = np.random.default_rng(seed)
    asked = np.unique(
        np.r_[scores, random.uniform(min(scores) - 3 * spread, max(scores) + 30 * spread, 50), max(scores) + 1e9]
    )
    asked = asked[np.r_[True, np.diff(asked) > 1e-6 * spread]]
    chances = fit.probability(asked)
    assert (np.diff(chances) < 0).all() and (chances > 0).all() and (chances <= 1).all()


def test_far_beyond_the_data_scores_stay_ordered_and_possible() -> None:
    for family in FAMILIES.values():
        fit = fit_tail(family.rvs(40, random_state=1))
        chances = fit.probability(np.geomspace(10, 1e30, 200))
        assert (np.diff(chances) < 0).all() and chances[-1] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_meet(family: str) -> None:
    fit = fit_tail(FAMILIES[family].rvs(80, random_state=2))
    for score in (fit.values[0], fit.start, fit.quantile(0.01 / 81)):
        step = 1e-9 * FAMILIES[family].std()
        low, at, high = fit.probability([score - step, score, score + step])
        assert low == pytest.approx(at, rel=1e-5) and high == pytest.approx(at, rel=1e-5)
    rates = np.r_[np.geomspace(1e-9, 0.5, 40), 0.9, 0.999]
    np.testing.assert_allclose(fit.probability([fit.quantile(rate) for rate in rates]), rates, rtol=1e-6)


def test_within_the_data_the_scores_speak() -> None:
    fit = fit_tail(np.arange(1.0, 100.0))  # 99 scores
    np.testing.assert_allclose(fit.probability([1, 50, 70]), [0.99, 0.5, 0.3])
    assert fit.n_excess == 20 and fit.start == 79 and fit.share == pytest.approx(0.21)
    assert fit_tail(np.arange(3000.0)).n_excess == 300 and fit_tail(np.arange(12.0)).n_excess == 6


def test_ties_and_constants() -> None:
    fit = fit_tail([1.0] * 20)
    assert fit.quantile(0.01) > 1 and np.isfinite(fit.interval(0.01)).all()
    top = fit_tail([1.0, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5])
    assert top.start == 4 and 5 < top.quantile(0.001) < 50
    low = fit_tail([0.0] * 30 + [1.0, 2.0])
    assert low.start == 0 and low.n_excess == 2 and 1 < low.quantile(0.01) < 20


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = np.random.default_rng(0).normal(size=60)
    assert fit_tail(scores, seed=3).interval(0.01) == fit_tail(scores, seed=3).interval(0.01)
    assert fit_tail(scores, seed=3).interval(0.01) != fit_tail(scores, seed=4).interval(0.01)


def test_refusals() -> None:
    with pytest.raises(ProjectError, match="4 normal scores are too few"):
        fit_tail([1, 2, 3, 4])
    with pytest.raises(ProjectError, match="share=1.5"):
        fit_tail(np.arange(9), share=1.5)
    with pytest.raises(ProjectError, match="rate=0"):
        fit_tail(np.arange(9)).quantile(0)
    with pytest.raises(ProjectError, match="level=2"):
        fit_tail(np.arange(9)).interval(0.1, level=2)
    with pytest.raises(ProjectError, match="nan"):
        fit_tail([1, 2, 3, np.nan, 5])
