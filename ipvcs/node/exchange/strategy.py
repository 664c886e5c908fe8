"""Strategies: whom to serve, given what went to and fro (white paper §3.4.2).

A strategy answers one question a turn, with yes or no. On a no the engine ignores the peer for the strategy's cooldown,
so that a peer gains nothing by asking more often. Chance is an argument.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ipvcs.errors import UsageError
from ipvcs.node.exchange.ledger import Ledger

IGNORE_COOLDOWN: Final = 10.0
"""Seconds. "In case a node chooses not to send to a peer, it ignores it for an ignore_cooldown timeout (10s)"."""

Chance = Callable[[], float]
"""Returns a random number, at least 0 and below 1, as `random.random` does."""


class UnknownStrategyError(UsageError):
    """The settings name a strategy that there is not."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"unknown Bitswap strategy '{name}'",
            hint=f"set `ipvcs config Bitswap.Strategy` to one of: {', '.join(STRATEGIES)}",
        )
        self.name = name


class Strategy(Protocol):
    """Decides whether a peer that wants something gets its next answer."""

    @property
    def ignore_cooldown(self) -> float:
        """Seconds for which a peer that was refused is not asked about again."""

    def serves(self, ledger: Ledger) -> bool:
        """Tell whether the peer with this ledger is served now. Called once for each answer that is due."""


class AlwaysServe:
    """Serves everybody, as Kubo does: fairness is in the order alone."""

    ignore_cooldown = IGNORE_COOLDOWN

    def serves(self, _ledger: Ledger) -> bool:
        """Return True."""
        return True


class DebtRatioSigmoid:
    """The white paper's: the deeper in debt, the less likely, falling steeply between debt ratios of 1 and 3.

    Its first answer to a stranger is free, and a stranger that gives nothing gets little more: with a ratio of bytes,
    one block makes a debt that only a block in return takes away. So it suits networks whose members trade.
    """

    ignore_cooldown = IGNORE_COOLDOWN

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    @staticmethod
    def probability(debt_ratio: float) -> float:
        """Return how likely a peer is served: 0.9975 at 0, 0.95 at 1, one half at 2, 0.05 at 3."""
        return 1 - 1 / (1 + math.exp(6 - 3 * debt_ratio))

    def serves(self, ledger: Ledger) -> bool:
        """Toss the coin."""
        return self._chance() < self.probability(ledger.debt_ratio)


STRATEGIES: Final[Mapping[str, Callable[[Chance], Strategy]]] = {
    "always": lambda _chance: AlwaysServe(),
    "sigmoid": DebtRatioSigmoid,
}
"""By their names in the settings (`Bitswap.Strategy`)."""


def make_strategy(name: str, chance: Chance) -> Strategy:
    """Return the strategy that goes by `name`.

    Raises:
        UnknownStrategyError: none does.
    """
    try:
        return STRATEGIES[name](chance)
    except KeyError:
        raise UnknownStrategyError(name) from None
