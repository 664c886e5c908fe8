"""What a push says beside git's own lines, by what became of it and how much the user wants to hear."""

from dataclasses import replace

import pytest

from ipvcs.git_bridge.manifest import PackEntry
from ipvcs.git_bridge.names import Announcement
from ipvcs.git_bridge.push import Published, Pushed
from ipvcs.git_bridge.push_report import report
from ipvcs.git_bridge.ref_updates import FETCH_FIRST, Verdict
from ipvcs.objects.block import Block

ROOT = Block.of(b"root").cid
PACK = PackEntry(f"pack-{'0' * 40}", 12_345, 1_200, ())
GOOD = Published(ROOT, Block.of(b"repository").cid, 7, PACK, Announcement(takers=("12D3Koo1", "12D3Koo2")))
DONE = Pushed((Verdict(b"refs/heads/main"),), GOOD)
LONELY = replace(DONE, published=replace(GOOD, announced=Announcement(trouble="no peer to ask", hidden=True)))
LOST = replace(DONE, verdicts=(Verdict(b"refs/heads/main", FETCH_FIRST),), overtaken=f"/ipfs/{ROOT}")


def said(pushed: Pushed, verbosity: int = 1, *, stays: bool = True) -> list[str]:
    return report(pushed, "/ipns/self", verbosity, stays=stays)


def test_when_all_is_well_nothing_is_said_unless_asked() -> None:
    assert said(DONE) == said(DONE, 0) == []
    lines = said(DONE, 2)
    assert lines == [
        f"published '/ipfs/{ROOT}' with sequence 7",
        f"packed 1,200 objects into 12,345 bytes, {PACK.name}",
        "the record is with 12D3Koo1, 12D3Koo2",
        "the daemon of this home serves it, and renews the record",
    ]
    assert "every object was there already" in said(replace(DONE, published=replace(GOOD, pack=None)), 2)[1]
    many = replace(GOOD, announced=Announcement(takers=tuple(f"peer{number}" for number in range(20))))
    assert (
        said(replace(DONE, published=many), 2)[2] == "the record is with peer0, peer1, peer2, peer3, peer4 and 15 more"
    )


def test_that_nobody_has_it_is_said_with_why_and_what_to_do() -> None:
    trouble, hidden = said(LONELY)
    assert trouble.startswith("warning: nobody else knows of this push yet: no peer to ask; a daemon tries again.")
    assert "`ipvcs swarm connect <address>`" in trouble
    assert "`ipvcs bootstrap add <address>`" in trouble
    assert "Addresses.Swarm" in hidden
    assert said(LONELY, 0) == []
    assert said(LONELY, 2)[:2] == [trouble, hidden]


def test_a_node_within_the_command_promises_nothing() -> None:
    trouble, ends = said(LONELY, stays=False)
    assert trouble == said(LONELY)[0]
    assert ends == "warning: nobody serves '/ipns/self' any more when this command has ended; `ipvcs daemon` does"
    assert said(DONE, stays=False) == [ends]
    assert "the daemon" not in " ".join(said(DONE, 2, stays=False))


@pytest.mark.parametrize("verbosity", [0, 1])
def test_that_another_home_won_is_said_in_any_case_with_where_ours_is(verbosity: int) -> None:
    (line,) = said(LOST, verbosity)
    assert f"this push stays pinned as '/ipfs/{ROOT}'" in line
    assert "fetch, merge, and push again" in line
    (line,) = said(replace(LOST, published=None), verbosity)
    assert f"an earlier push from here stays pinned as '/ipfs/{ROOT}'" in line


def test_a_push_that_did_nothing_says_nothing() -> None:
    assert said(Pushed((Verdict(b"refs/heads/main", "up to date"),)), 2) == []
