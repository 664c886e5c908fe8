"""A process for the crash tests to kill: `python -m tests.e2e.crash_worker SCENARIO HOME [options]`.

It prints "ready" and then, after each thing that the store reported as done, a line: `stored CID`, `pinned CID`,
`unpinning CID` (before) and `unpinned CID`, `collected N`.

With `--die-at N` it kills itself at its Nth *step*. Steps are the instants that a crash can tell apart: before, after
and, for a write, half-way through each system call by which the store changes the disk, and before and after the commit
of each LMDB transaction. Run to the end, it prints `steps N`.
"""

import argparse
import io
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block
from ipvcs.objects.car_writer import write_car
from ipvcs.storage import gc, session
from ipvcs.storage.car_import import import_cars
from ipvcs.storage.closure import rely_on_closure
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.pins import Pin, PinMode

_CALLS = ("writev", "fdatasync", "fsync", "ftruncate", "pwrite", "posix_fallocate")
"""Functions of `os` by which the store changes the disk. Names come and go by `os.open`, `unlink` and `replace`."""
_NAMES = ("open", "unlink", "replace", "mkdir")


def say(*words: object) -> None:
    """Print one line with one write, so that it is there whole or not at all."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Steps:
    """Counts the instants at which a crash may come, and crashes at one of them."""

    def __init__(self, die_at: int) -> None:
        self.count = 0
        self._die_at = die_at

    def step(self) -> bool:
        """Count one; True when this is the one to die at."""
        self.count += 1
        return self.count == self._die_at

    def step_or_die(self) -> None:
        """Count one, and die if it is the one."""
        if self.step():
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Count the system calls of `os` and the transactions of `Datastore` from here on."""
        for name in (*_CALLS, *_NAMES):
            setattr(os, name, self._counting(getattr(os, name), name))
        real_write = Datastore.write
        steps = self

        @contextmanager
        def write(store: Datastore) -> Iterator[lmdb.Transaction]:
            with real_write(store) as txn:
                yield txn
                steps.step_or_die()
            steps.step_or_die()

        Datastore.write = write  # type: ignore[method-assign,assignment]

    def _counting(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & (os.O_CREAT | os.O_TRUNC):
                return real(*args, **options)
            self.step_or_die()
            if name == "writev" and self.step():
                data = b"".join(args[1])
                os.write(args[0], data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **options)
            self.step_or_die()
            return result

        return call


def leaf(source: random.Random) -> Block:
    """Return a block of one byte to some KiB, small ones more often."""
    return Block.of(source.randbytes(int(2 ** source.uniform(0, 14))))


def node(children: list[Block], data: bytes = b"") -> Block:
    """Return a dag-pb node that links to `children`."""
    links = tuple(dag_pb.PBLink(child.cid, str(number).encode()) for number, child in enumerate(children))
    return Block.of(dag_pb.encode(dag_pb.PBNode(links, data)), codecs.DAG_PB)


def put(home: Home, source: random.Random, rounds: int) -> None:
    """Put batches of blocks, most new, some known already."""
    known: list[Block] = []
    for _ in range(rounds):
        with home.blocks.writing() as writing:
            batch = [leaf(source) for _ in range(source.randint(1, 30))] + known[:5]
            for block in batch:
                writing.put(block)
            writing.flush()
            for block in batch:
                say("stored", block.cid)
            known = batch


def pin(home: Home, source: random.Random, rounds: int) -> None:
    """Put small DAGs, pin them, move pins from one to the next, and drop some."""
    pinned: list[Cid] = []
    for _ in range(rounds):
        leaves = [leaf(source) for _ in range(4)]
        root = node([node(leaves[:2]), node(leaves[1:])])
        with home.blocks.writing() as writing:
            for block in [*leaves, node(leaves[:2]), node(leaves[1:]), root]:
                writing.put(block)
            writing.flush()
            rely_on_closure(writing, root.cid)
            choice = source.random()
            if pinned and choice < 0.3:
                old = pinned.pop(source.randrange(len(pinned)))
                say("unpinning", old)
                home.pins.update(old, Pin(root.cid, PinMode.RECURSIVE))
                say("unpinned", old)
            else:
                home.pins.add([Pin(root.cid, PinMode.RECURSIVE)])
            say("pinned", root.cid)
            pinned.append(root.cid)
        if len(pinned) > 5 and choice > 0.7:
            old = pinned.pop(0)
            say("unpinning", old)
            home.pins.remove([old])
            say("unpinned", old)


def collect(home: Home, source: random.Random, rounds: int) -> None:
    """Put garbage around a few pinned blocks and collect, so that segments are swept, dropped and compacted."""
    for _ in range(rounds):
        leaves = [leaf(source) for _ in range(40)]
        keep = node(source.sample(leaves, 3))
        with home.blocks.writing() as writing:
            for block in [*leaves, keep]:
                writing.put(block)
            writing.flush()
            rely_on_closure(writing, keep.cid)
            home.pins.add([Pin(keep.cid, PinMode.RECURSIVE)])
            say("pinned", keep.cid)
        report = gc.collect(home)
        say("collected", report.removed)


def import_car(home: Home, source: random.Random, rounds: int) -> None:
    """Import CARs of some hundred blocks, one after the other."""
    for _ in range(rounds):
        leaves = [leaf(source) for _ in range(300)]
        root = node(leaves)
        file = io.BytesIO()
        write_car([root.cid], [root, *leaves], file.write)
        file.seek(0)
        import_cars(home, [file])
        say("pinned", root.cid)


SCENARIOS: dict[str, Callable[[Home, random.Random, int], None]] = {
    "put": put,
    "pin": pin,
    "gc": collect,
    "import": import_car,
}


def main() -> None:
    """Run a scenario."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("home", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1_000_000)
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--segment-size", type=int, default=150_000, help="bytes; small, for many segments")
    parser.add_argument("--write-size", type=int, default=30_000)
    parser.add_argument("--flush-size", type=int, default=400_000)
    arguments = parser.parse_args()
    for module in (session, gc):
        vars(module)["SEGMENT_SIZE"] = arguments.segment_size
    vars(session)["WRITE_SIZE"] = arguments.write_size
    vars(session)["FLUSH_SIZE"] = arguments.flush_size
    steps = Steps(arguments.die_at)
    say("ready")
    steps.install()
    with open_home(arguments.home) as home:
        SCENARIOS[arguments.scenario](home, random.Random(arguments.seed), arguments.rounds)
    say("steps", steps.count)


if __name__ == "__main__":
    main()
