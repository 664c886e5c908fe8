"""What pushes leave pinned, and for how long."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvcs.git_bridge.kept_roots import KEPT_ROOTS, KeptRoots
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.pins import Pin, PinMode
from tests.fakes.memory_network import key_of

NAME = key_of("alice").peer_id


def cid(text: str) -> Cid:
    return Block.of(text.encode()).cid


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home") as opened:
        yield opened


def pinned(home: Home) -> dict[Cid, tuple[PinMode, str]]:
    return {pin.cid: (pin.mode, pin.name.rpartition(" ")[2]) for pin in home.pins.iter_pins()}


def test_roots_and_tips_keep_what_they_reach_and_trees_are_pinned_to_be_found(home: Home) -> None:
    kept = KeptRoots(home, NAME, (b"team", b"project"))
    kept.pin(cid("root"), [cid("commit"), cid("blob")], [cid("tree"), cid("blob")], 3, complete=False)
    assert pinned(home) == {
        cid("root"): (PinMode.RECURSIVE, "3"),
        cid("commit"): (PinMode.RECURSIVE, "3"),
        cid("blob"): (PinMode.RECURSIVE, "3"),
        cid("tree"): (PinMode.DIRECT, "3"),
    }
    assert home.pins.get(cid("root")).name == f"git {NAME.to_base36()}/team/project 3"
    assert not home.pins.get(cid("root")).complete


def test_what_no_later_push_renews_goes_after_ten(home: Home) -> None:
    kept = KeptRoots(home, NAME, ())
    for number in range(KEPT_ROOTS + 2):
        kept.pin(cid(f"root{number}"), [cid("same")], [cid("tree"), cid(f"tree{number}")], number, complete=True)
        kept.unpin_old(number)
    there = pinned(home)
    for number in range(KEPT_ROOTS + 2):
        for kind in ("root", "tree"):
            assert (cid(f"{kind}{number}") in there) == (number >= 2), (kind, number)
    assert there[cid("same")][1] == there[cid("tree")][1] == str(KEPT_ROOTS + 1)


def test_a_pin_of_the_users_stays_the_users(home: Home) -> None:
    mine = [Pin(cid("root"), PinMode.RECURSIVE, "mine"), Pin(cid("tree"), PinMode.RECURSIVE),
            Pin(cid("other tree"), PinMode.DIRECT, "mine")]  # fmt: skip
    home.pins.add(mine)
    kept = KeptRoots(home, NAME, ())
    kept.pin(cid("root"), [], [cid("tree"), cid("other tree")], 0, complete=True)
    kept.unpin_old(100)
    assert sorted(home.pins.iter_pins(), key=str) == sorted(mine, key=str)


def test_other_places_and_names_are_left_alone(home: Home) -> None:
    KeptRoots(home, NAME, ()).pin(cid("root"), [], [], 0, complete=True)
    KeptRoots(home, NAME, (b"x",)).unpin_old(100)
    KeptRoots(home, key_of("bob").peer_id, ()).unpin_old(100)
    assert cid("root") in pinned(home)
