"""Portions and turns: nothing is lost or reordered, costly bytes come in small portions, and everybody gets a turn."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.network.turns import MAX_WAITING, Portions, Turns

MOST, LEAST = 64 * 1024, 1024


@given(
    st.lists(st.sampled_from([0, 1, 1000, 1024, 1025, 5000, 65519]).map(random.Random(1).randbytes), max_size=5),
    st.lists(st.sampled_from([0.0, 0.0007, 0.1]), min_size=1, max_size=20),
)
def test_portions_are_what_was_added_in_order(added: list[bytes], seconds: list[float]) -> None:
    portions = Portions()
    taken = b""
    rounds = put = 0
    for data in added:
        portions.add(data)
        put += len(data)
        for _ in range(3):  # some are added while others wait
            if portions.size:
                portion = portions.take()
                assert 0 < len(portion) <= MOST
                taken += portion
                portions.adapt(len(portion), seconds[rounds % len(seconds)])
                rounds += 1
        assert portions.size == put - len(taken)
    while portions.size:
        taken += portions.take()
    assert taken == b"".join(added)


def take_all(portions: Portions, seconds: float) -> list[int]:
    """Take every portion, each of which is said to take so long, and return their sizes."""
    sizes = []
    while portions.size:
        sizes.append(len(portions.take()))
        portions.adapt(sizes[-1], seconds)
    return sizes


def test_the_first_portion_is_small_and_cheap_ones_grow_to_whole_messages() -> None:
    portions = Portions()
    for _ in range(20):
        portions.add(bytes(65519))
    sizes = take_all(portions, 0.0001)
    assert sizes[:4] == [1024, 2048, 4096, 8192]
    assert sizes[-10:] == [65519] * 10


def test_portions_that_take_long_shrink_and_stay_small() -> None:
    portions = Portions()
    portions.add(bytes(65519))
    take_all(portions, 0.0001)
    for _ in range(3):
        portions.add(bytes(65519))
    sizes = take_all(portions, 0.1)
    assert sizes[:7] == [65519, 32759, 16379, 8189, 4094, 2047, 1024]
    assert max(sizes[6:]) == LEAST


def test_a_small_message_among_large_portions_teaches_nothing() -> None:
    portions = Portions()
    portions.add(b"x" * 100)
    portions.adapt(len(portions.take()), 0.00001)
    portions.add(bytes(10_000))
    assert len(portions.take()) == LEAST


def test_cleared_portions_hold_nothing() -> None:
    portions = Portions()
    portions.add(bytes(5000))
    portions.take()
    portions.clear()
    assert portions.size == 0
    portions.add(b"new")
    assert portions.take() == b"new"


class Clerk:
    """Has so many turns' work, and writes down when it did some."""

    def __init__(self, name: str, turns: int, book: list[str]) -> None:
        self.name = name
        self.left = turns
        self.book = book

    def work_on(self) -> bool:
        self.book.append(self.name)
        self.left -= 1
        return self.left > 0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_all_that_wait_take_turns_and_others_run_between_any_two() -> None:
    turns, book = Turns(), []  # type: ignore[var-annotated]
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        assert turns.wait(Clerk(name, count, book), 1000)
    while book.count("a") < 3:
        await asyncio.sleep(0)
        book.append(".")
    assert "".join(book).replace("..", ".").strip(".") == "a.b.c.a.c.a"


@pytest.mark.anyio
async def test_what_waits_is_bounded_and_makes_room_again() -> None:
    turns, book = Turns(), []  # type: ignore[var-annotated]
    assert turns.wait(Clerk("a", 2, book), MAX_WAITING - 10)
    assert not turns.wait(Clerk("b", 1, book), 11)
    assert turns.wait(Clerk("c", 1, book), 10)
    while len(book) < 3:
        await asyncio.sleep(0)
    assert book == ["a", "c", "a"]
    assert turns.wait(Clerk("d", 1, book), MAX_WAITING)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert book[-1] == "d"
