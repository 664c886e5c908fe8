"""The table of pins."""

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.pins import NotPinnedError, Pin, PinConflictError, PinMode
from tests.unit.storage.dags import LEFT, RIGHT, ROOT

RECURSIVE, DIRECT = PinMode.RECURSIVE, PinMode.DIRECT


def test_pins_come_back_with_mode_name_and_completeness_after_reopening(home: Home) -> None:
    pins = [
        Pin(ROOT.cid, RECURSIVE, "dataset: Größe"),
        Pin(LEFT.cid, DIRECT),
        Pin(RIGHT.cid, RECURSIVE, complete=False),
    ]
    home.pins.add(pins)
    with open_home(home.path) as again:
        assert sorted(again.pins.iter_pins(), key=lambda pin: pin.cid) == sorted(pins, key=lambda pin: pin.cid)
        assert again.pins.get(ROOT.cid) == pins[0]
        assert again.pins.get_many([LEFT.cid, ROOT.cid, Cid.of(bytes(32))]) == {LEFT.cid: pins[1], ROOT.cid: pins[0]}


def test_a_recursive_pin_replaces_a_direct_one_but_not_the_reverse(home: Home) -> None:
    home.pins.add([Pin(ROOT.cid, DIRECT, "one")])
    home.pins.add([Pin(ROOT.cid, RECURSIVE, "all")])
    assert home.pins.get(ROOT.cid) == Pin(ROOT.cid, RECURSIVE, "all")

    with pytest.raises(PinConflictError, match="already pinned recursively"):
        home.pins.add([Pin(LEFT.cid, DIRECT), Pin(ROOT.cid, DIRECT)])
    assert home.pins.try_get(LEFT.cid) is None, "all or none"


def test_what_is_not_pinned_is_said_to_be(home: Home) -> None:
    assert home.pins.try_get(ROOT.cid) is None
    with pytest.raises(NotPinnedError, match="is not pinned") as caught:
        home.pins.get(ROOT.cid)
    assert caught.value.cid == ROOT.cid


def test_pins_are_removed_all_or_none(home: Home) -> None:
    home.pins.add([Pin(ROOT.cid, RECURSIVE), Pin(LEFT.cid, DIRECT)])

    with pytest.raises(NotPinnedError):
        home.pins.remove([ROOT.cid, RIGHT.cid])
    with pytest.raises(PinConflictError, match="is pinned recursively"):
        home.pins.remove([LEFT.cid, ROOT.cid], recursive=False)
    assert len(list(home.pins.iter_pins())) == 2

    assert [pin.mode for pin in home.pins.remove([ROOT.cid, LEFT.cid])] == [RECURSIVE, DIRECT]
    assert list(home.pins.iter_pins()) == []


@pytest.mark.parametrize(("new_name", "expected"), [("", "data"), ("other", "other")])
def test_an_update_moves_a_pin_in_one_step(home: Home, new_name: str, expected: str) -> None:
    home.pins.add([Pin(LEFT.cid, RECURSIVE, "data")])

    home.pins.update(LEFT.cid, Pin(RIGHT.cid, RECURSIVE, new_name))

    assert list(home.pins.iter_pins()) == [Pin(RIGHT.cid, RECURSIVE, expected)]


def test_an_update_may_keep_the_old_pin_and_may_go_nowhere(home: Home) -> None:
    home.pins.add([Pin(LEFT.cid, RECURSIVE, "data")])
    home.pins.update(LEFT.cid, Pin(LEFT.cid, RECURSIVE))
    assert list(home.pins.iter_pins()) == [Pin(LEFT.cid, RECURSIVE, "data")]

    home.pins.update(LEFT.cid, Pin(RIGHT.cid, RECURSIVE), unpin=False)
    assert {pin.cid for pin in home.pins.iter_pins()} == {LEFT.cid, RIGHT.cid}


@pytest.mark.parametrize("there", [[], [Pin(LEFT.cid, DIRECT)]])
def test_only_a_recursive_pin_is_updated(home: Home, there: list[Pin]) -> None:
    home.pins.add(there)
    with pytest.raises(NotPinnedError):
        home.pins.update(LEFT.cid, Pin(RIGHT.cid, RECURSIVE))
    assert list(home.pins.iter_pins()) == there


def test_v0_and_v1_are_pins_of_their_own(home: Home) -> None:
    v0: Cid = ROOT.cid.to_v0()
    home.pins.add([Pin(ROOT.cid, RECURSIVE), Pin(v0, DIRECT)])
    assert {pin.cid for pin in home.pins.iter_pins()} == {ROOT.cid, v0}
