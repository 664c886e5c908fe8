"""Whom the strategies serve."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.exchange.ledger import Ledger
from ipvcs.node.exchange.strategy import (
    STRATEGIES,
    AlwaysServe,
    DebtRatioSigmoid,
    Strategy,
    UnknownStrategyError,
    make_strategy,
)

DEEP_IN_DEBT = Ledger(bytes_sent=2**63)


def test_always_is_always() -> None:
    assert AlwaysServe().serves(DEEP_IN_DEBT)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0, 0.997527), (0.5, 0.989013), (1, 0.952574), (1.5, 0.817574), (2, 0.5), (2.5, 0.182426), (3, 0.047426)],
)
def test_the_sigmoid_falls_as_the_white_paper_says(ratio: float, expected: float) -> None:
    assert DebtRatioSigmoid.probability(ratio) == pytest.approx(expected, abs=1e-6)


@given(ratios=st.lists(st.floats(0, 2.0**64), min_size=2))
def test_more_debt_is_never_better_whatever_the_sizes(ratios: list[float]) -> None:
    found = [DebtRatioSigmoid.probability(ratio) for ratio in sorted(ratios)]
    assert all(0 <= after <= before < 1 for before, after in pairwise(found))


def test_chance_decides_as_often_as_the_probability_says() -> None:
    strategy = DebtRatioSigmoid(random.Random(7).random)
    ledger = Ledger(bytes_sent=150, bytes_received=99)
    served = sum(strategy.serves(ledger) for _ in range(10_000))
    assert 8000 < served < 8350


def test_who_is_hopelessly_in_debt_is_not_served_even_with_the_best_of_luck() -> None:
    assert not DebtRatioSigmoid(lambda: 0.0).serves(DEEP_IN_DEBT)
    assert DebtRatioSigmoid(lambda: 0.0).serves(Ledger())


@pytest.mark.parametrize(("name", "kind"), [("always", AlwaysServe), ("sigmoid", DebtRatioSigmoid)])
def test_settings_name_strategies(name: str, kind: type[Strategy]) -> None:
    strategy = make_strategy(name, lambda: 0.5)
    assert type(strategy) is kind
    assert strategy.ignore_cooldown == 10.0


@pytest.mark.parametrize("name", ["", "Always", "tit-for-tat"])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownStrategyError, match=f"unknown Bitswap strategy '{name}'") as caught:
        make_strategy(name, lambda: 0.5)
    assert caught.value.exit_code == 129
    assert all(known in (caught.value.hint or "") for known in STRATEGIES)
