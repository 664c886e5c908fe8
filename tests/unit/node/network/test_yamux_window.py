"""What a window lets through over a distance: a sender that always has more to send, and a reader that takes all."""

from collections import deque
from typing import Final

import pytest

from ipvcs.node.network.yamux_frames import INITIAL_WINDOW
from ipvcs.node.network.yamux_window import GrowthBudget, ReceiveWindow

KIB: Final = 1024
MIB: Final = 1024 * KIB
RTT: Final = 0.2
CHUNK: Final = 4 * 65_519 - 12


def bytes_in_flight(maximum: int, *, seconds: float, budget: int = 64 * MIB) -> tuple[float, int]:
    """Return how many bytes a round trip carries once the window has grown, and how many updates that took."""
    window = ReceiveWindow(maximum, GrowthBudget(budget), 0.0)
    credit, updates, carried = INITIAL_WINDOW, 0, 0
    to_reader: deque[tuple[float, int]] = deque()
    to_sender: deque[tuple[float, int]] = deque()
    step = RTT / 200
    for tick in range(round(seconds / step)):
        now = tick * step
        while to_sender and to_sender[0][0] <= now:
            credit += to_sender.popleft()[1]
        while credit:
            size = min(credit, CHUNK)
            credit -= size
            to_reader.append((now + RTT / 2, size))
        while to_reader and to_reader[0][0] <= now:
            size = to_reader.popleft()[1]
            assert window.receive(size)
            if now >= seconds / 2:
                carried += size
            if delta := window.consume(size, now, RTT):
                updates += now >= seconds / 2
                to_sender.append((now + RTT / 2, delta))
    return carried / (seconds / 2 / RTT), updates


@pytest.mark.parametrize("maximum", [4 * MIB, 16 * MIB, 20 * MIB])
def test_nearly_all_of_a_grown_window_is_on_its_way(maximum: int) -> None:
    # All but what the reader may keep back until it is worth a frame.
    in_flight, updates = bytes_in_flight(maximum, seconds=40.0)
    assert in_flight >= maximum - 2 * MIB
    assert updates <= 20.0 / RTT * maximum / MIB  # no more than one a megabyte


def test_a_window_that_may_not_grow_carries_half_of_itself_at_least() -> None:
    in_flight, _updates = bytes_in_flight(INITIAL_WINDOW, seconds=40.0)
    assert INITIAL_WINDOW / 2 <= in_flight <= INITIAL_WINDOW


def test_what_the_reader_may_keep_back_is_never_more_than_it_promised() -> None:
    budget = GrowthBudget(0)
    window = ReceiveWindow(16 * MIB, budget, 0.0)
    assert window.receive(INITIAL_WINDOW)
    assert not window.receive(1)
    assert window.consume(INITIAL_WINDOW // 2 - 1, 0.1, RTT) == 0
    assert window.consume(1, 0.1, RTT) == INITIAL_WINDOW // 2
    assert window.receive(INITIAL_WINDOW // 2)
    assert not window.receive(1)
