"""Processes for test_gc_beside_writers: `python -m tests.e2e.gc_workers ROLE HOME SECONDS SEED`.

Writers share the leaves of their DAGs, so one finds "already there" what another has just given up; roots carry the
writer's number, so nobody unpins what another relies on. Each role prints what it did and exits 1 when it lost a block.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ipvcs.errors import NotFoundError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.storage import gc, session
from ipvcs.storage.closure import IncompleteError, rely_on_closure
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.pins import Pin, PinMode
from tests.e2e.crash_worker import node, say

POOL = [Block.of(random.Random(number).randbytes(50 + 97 * (number % 13))) for number in range(60)]
TREASURE = [Block.of(b"treasure %d" % number * 20) for number in range(100)]


class LostError(Exception):
    """A block went that somebody relied on."""


def read_all(home: Home, root: Cid, blocks: list[Block], when: str) -> None:
    """Check that every block is in the store itself, whatever a session holds back."""
    for block in blocks:
        if home.blocks.try_get(block.cid) != block.data:
            raise LostError(f"block {block.cid} of {root} is gone {when}")


def write(home: Home, deadline: float, seed: int) -> int:
    """Put and pin DAGs, rely on those that may be half swept, and unpin; everything relied on must be there."""
    source = random.Random(seed)
    pinned: dict[Cid, list[Block]] = {}
    known: list[list[Block]] = []
    rounds = relied = 0
    while time.monotonic() < deadline:
        rounds += 1
        if known and source.random() < 0.3:  # "have it already": nothing is put, an unpinned DAG is taken up again
            blocks = source.choice(known)
            with home.blocks.writing() as writing:
                try:
                    rely_on_closure(writing, blocks[-1].cid)
                except IncompleteError:
                    continue
                relied += 1
                read_all(home, blocks[-1].cid, blocks, "while relied on")
                home.pins.add([Pin(blocks[-1].cid, PinMode.RECURSIVE)])
                pinned[blocks[-1].cid] = blocks
        else:
            leaves = source.sample(POOL, 5)
            middle = node(leaves[1:4])
            blocks = [
                *leaves,
                middle,
                node([middle, leaves[0], leaves[4]], f"writer {seed}, {source.random()}".encode()),
            ]
            with home.blocks.writing() as writing:
                for block in blocks:
                    writing.put(block)
                    if source.random() < 0.1:
                        writing.flush()
                writing.flush()
                read_all(home, blocks[-1].cid, blocks, "after the flush")
                home.pins.add([Pin(blocks[-1].cid, PinMode.RECURSIVE)])
            pinned[blocks[-1].cid] = blocks
        for root, held in pinned.items():
            read_all(home, root, held, "though pinned")
        while len(pinned) > 3:
            root = source.choice(list(pinned))
            home.pins.remove([root])
            known = [*known[-5:], pinned.pop(root)]
    home.pins.remove(pinned)
    say("rounds", rounds, "relied", relied)
    return rounds


def collect(home: Home, deadline: float, _seed: int) -> int:
    """Collect garbage without a pause."""
    runs = removed = freed = 0
    while time.monotonic() < deadline:
        report = gc.collect(home)
        runs += 1
        removed += report.removed
        freed += report.freed
    say("runs", runs, "removed", removed, "freed", freed)
    return runs


def read(home: Home, deadline: float, seed: int) -> int:
    """Read blocks that are pinned all the time, and are moved all the time."""
    source = random.Random(seed)
    reads = 0
    while time.monotonic() < deadline:
        for block in source.sample(TREASURE, 20):
            try:
                found = home.blocks.get(block.cid)
            except NotFoundError as exc:
                raise LostError(f"pinned block {block.cid} is gone") from exc
            if found != block.data:
                raise LostError(f"pinned block {block.cid} has other bytes")
            reads += 1
    say("reads", reads)
    return reads


ROLES: dict[str, Callable[[Home, float, int], int]] = {"write": write, "collect": collect, "read": read}


def main() -> int:
    """Play one role."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("home", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    for module in (session, gc):
        vars(module)["SEGMENT_SIZE"] = 20_000
    with open_home(arguments.home) as home:
        try:
            ROLES[arguments.role](home, time.monotonic() + arguments.seconds, arguments.seed)
        except LostError as exc:
            say("LOST", exc)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
