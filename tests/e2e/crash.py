"""Kill a process at an instant, and check what it left: for tests of promise P4 with any command.

The command prints what it has been told is safe, a line each, unbuffered. Only whole lines count.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.storage import closure, verify
from ipvcs.storage.home import Home, open_home
from tests.unit.storage.segment_check import check_segments

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Crash:
    """How a run ended: whether our signal ended it, and the whole lines it had printed."""

    killed: bool
    lines: list[str]

    def told(self, verb: str) -> list[str]:
        """Return what followed `verb` on each line that begins with it."""
        return [line[len(verb) + 1 :] for line in self.lines if line.startswith(verb + " ")]


def run_and_kill(
    command: Sequence[str | os.PathLike[str]],
    *,
    delay: float | None = None,
    ready: str | None = "ready",
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Crash:
    """Run `command` and send SIGKILL to it and its children `delay` seconds after it printed `ready`.

    Args:
        command: started in the checkout, in a session of its own.
        delay: None to let it end, or kill itself, alone.
        ready: its first line, left out of the result; None to count from the start.
        env: its environment; None for this process's.
        timeout: seconds after which a run that `delay` did not end has failed.
    """
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    first = process.stdout.readline() if ready is not None else b""
    timer = threading.Timer(delay if delay is not None else timeout, _kill_group, [process.pid])
    timer.start()
    try:
        output, errors = process.communicate()
    finally:
        timer.cancel()
        timer.join()
    assert ready is None or first == ready.encode() + b"\n", errors.decode()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    assert delay is not None or process.returncode == 0 or first is not None
    whole, _, _ = output.rpartition(b"\n")
    return Crash(process.returncode != 0, whole.decode().splitlines())


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def check_after_crash(path: Path, stored: Iterable[Cid], pinned: Iterable[Cid] = ()) -> None:
    """Check that a home is sound after a crash.

    Nothing is damaged, every CID of `stored` is there, all that those of `pinned` reach is there and they are pinned,
    files and tables agree, and writing goes on.
    """
    with open_home(path) as home:
        assert [f"{problem.cid}: {problem.reason}" for problem in verify.iter_damaged(home.blocks)] == []
        check_segments(home)
        assert [cid for cid in stored if not home.blocks.has(cid)] == [], "reported as stored, and lost"
        for cid in pinned:
            assert home.pins.get(cid).cid == cid
            assert list(closure.iter_problems(home.blocks, [cid])) == []
        _write_and_read(home)


def _write_and_read(home: Home) -> None:
    block = Block.of(os.urandom(64))
    home.blocks.put_many([block])
    assert home.blocks.get(block.cid) == block.data
    home.blocks.delete([block.cid])
