"""What pushes leave pinned, and for how long."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvcs.git_bridge import kept_roots
from ipvcs.git_bridge.kept_roots import KEPT_ROOTS, KeptRoots
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.objects.codec_registry import links_of
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
    """Return what is pinned, without the lists."""
    pins = [pin for pin in home.pins.iter_pins() if pin.cid.codec != codecs.DAG_CBOR]
    return {pin.cid: (pin.mode, pin.name.rpartition(" ")[2]) for pin in pins}


def lists(home: Home) -> list[list[Cid]]:
    """Return what the pinned lists name."""
    found = []
    for pin in home.pins.iter_pins():
        if pin.cid.codec == codecs.DAG_CBOR:
            assert pin.mode is PinMode.RECURSIVE
            found.append(links_of(pin.cid, home.blocks.get(pin.cid)))
    return found


def pin(
    home: Home, path: tuple[bytes, ...], root: str, tips: list[str], trees: list[str], number: int, *,
    complete: bool = True,
) -> None:  # fmt: skip
    """Publish what these texts stand for, as a push to `path` does."""
    kept = KeptRoots(home, NAME, path)
    with home.blocks.writing() as writer:
        kept.pin(writer, cid(root), list(map(cid, tips)), list(map(cid, trees)), number, complete=complete)
    kept.unpin_old()


def test_roots_and_tips_keep_what_they_reach_and_trees_are_pinned_to_be_found(home: Home) -> None:
    pin(home, (b"team", b"project"), "root", ["commit", "blob"], ["tree", "blob"], 3, complete=False)
    assert pinned(home) == {
        cid("root"): (PinMode.RECURSIVE, "3"),
        cid("commit"): (PinMode.RECURSIVE, "3"),
        cid("blob"): (PinMode.RECURSIVE, "3"),
        cid("tree"): (PinMode.DIRECT, "3"),
    }
    assert {each.name for each in home.pins.iter_pins()} == {f"git {NAME.to_base36()}/team/project 3"}
    assert not home.pins.get(cid("root")).complete
    (listed,) = lists(home)
    assert set(listed) == {cid("root"), cid("commit"), cid("blob")}


def test_what_no_later_push_renews_goes_after_ten(home: Home) -> None:
    for number in range(KEPT_ROOTS + 2):
        pin(home, (), f"root{number}", ["same"], ["tree", f"tree{number}"], number)
    there = pinned(home)
    for number in range(KEPT_ROOTS + 2):
        for kind in ("root", "tree"):
            assert (cid(f"{kind}{number}") in there) == (number >= 2), (kind, number)
    assert there[cid("same")][1] == there[cid("tree")][1] == str(KEPT_ROOTS + 1)
    assert len(lists(home)) == KEPT_ROOTS


def test_pushes_to_other_places_do_not_count(home: Home) -> None:
    pin(home, (b"a",), "old", [], [], 0)
    for number in range(1, 30):
        pin(home, (b"b",), f"root{number}", [], [], number)
    pin(home, (b"a",), "new", [], [], 30)
    assert {cid("old"), cid("new")} <= pinned(home).keys()


def test_what_two_places_have_in_common_stays_as_long_as_one_has_it(home: Home) -> None:
    pin(home, (b"a",), "root a", ["common"], [], 0)
    pin(home, (b"b",), "root b", ["common"], [], 1)
    for number in range(2, 30):
        pin(home, (b"b",), f"root{number}", [], [], number)
    assert cid("common") not in pinned(home)
    assert [cid("common")] == [each for listed in lists(home) for each in listed if each == cid("common")]


def test_long_lists_are_cut(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_roots, "_LISTED", 10)
    tips = [f"tip{number}" for number in range(25)]
    pin(home, (), "root", tips, [], 0)
    assert sorted(map(len, lists(home))) == [6, 10, 10]
    assert {each for listed in lists(home) for each in listed} == {cid("root"), *map(cid, tips)}


def test_a_pin_of_the_users_stays_the_users(home: Home) -> None:
    mine = [Pin(cid("root"), PinMode.RECURSIVE, "mine"), Pin(cid("tree"), PinMode.RECURSIVE),
            Pin(cid("other tree"), PinMode.DIRECT, "mine"), Pin(cid("tip"), PinMode.DIRECT, "mine")]  # fmt: skip
    home.pins.add(mine)
    for number in range(KEPT_ROOTS + 5):
        names = ("root", ["tip"], ["tree", "other tree"]) if number == 0 else ("another", [], [])
        pin(home, (), *names, number)
    assert {each for each in home.pins.iter_pins() if not each.name.startswith("git ")} == set(mine)


def test_other_names_are_left_alone(home: Home) -> None:
    pin(home, (), "root", [], [], 0)
    for number in range(30):
        KeptRoots(home, key_of("bob").peer_id, ()).unpin_old()
        pin(home, (b"x",), f"x{number}", [], [], number)
    assert cid("root") in pinned(home)


def test_places_whose_names_begin_alike_keep_their_own(home: Home) -> None:
    long = b"x" * 120
    pin(home, (long, b"one"), "mine", [], [], 1)
    for number in range(2, 2 + KEPT_ROOTS):
        pin(home, (long, b"two"), f"other {number}", [], [], number)
    assert cid("mine") in pinned(home)
    assert any(cid("mine") in each for each in lists(home))
