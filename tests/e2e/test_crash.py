"""P4: a crash at any instant loses no object that was reported as stored.

Each run continues in the home that the runs before it left, so what one crash leaves behind the next one meets. In
`make test-long` each scenario is killed 200 times, at random and by steps.
"""

import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.storage import gc
from ipvcs.storage.home import open_home
from tests.e2e.crash import Crash, check_after_crash, run_and_kill
from tests.unit.storage.segment_check import check_segments

SCENARIOS = ["put", "pin", "gc", "import"]
COUNTS = [pytest.param(10, id="10 kills"), pytest.param(200, id="200 kills", marks=pytest.mark.long)]
KILLS_PER_HOME = 25  # then a new one: after each kill all that the home holds is checked


def worker(scenario: str, home: Path, *options: object) -> list[str]:
    """Return the command that runs a scenario of the worker."""
    command = [sys.executable, "-m", "tests.e2e.crash_worker", scenario, home]
    return [str(word) for word in [*command, *options]]


class Promises:
    """What the runs so far were told is safe."""

    def __init__(self) -> None:
        self.stored: set[Cid] = set()
        self.pinned: set[Cid] = set()

    def take(self, crash: Crash) -> None:
        """Add what a run was told. What it was about to unpin may be either."""
        for line in crash.lines:
            verb, _, cid = line.partition(" ")
            if verb == "stored":
                self.stored.add(Cid.parse(cid))
            elif verb == "pinned":
                self.pinned.add(Cid.parse(cid))
            elif verb == "unpinning":
                self.pinned.discard(Cid.parse(cid))


@pytest.mark.parametrize("kills", COUNTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_that_was_reported_is_lost_whenever_the_process_is_killed(
    scenario: str, kills: int, tmp_path: Path
) -> None:
    instants = random.Random(scenario)
    for number in range(kills):
        if number % KILLS_PER_HOME == 0:
            home = tmp_path / f"home-{number}"
            promises = Promises()
        crash = run_and_kill(worker(scenario, home, "--seed", number), delay=instants.uniform(0, 0.4))
        assert crash.killed
        promises.take(crash)
        check_after_crash(home, promises.stored, promises.pinned)
        if number % KILLS_PER_HOME == KILLS_PER_HOME - 1 or number == kills - 1:
            assert promises.stored or promises.pinned, "the kills came before anything was done"
            shutil.rmtree(home)


@pytest.mark.parametrize("kills", COUNTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_lost_by_a_kill_at_any_step_between_two_system_calls(
    scenario: str, kills: int, tmp_path: Path
) -> None:
    """The making of the home is among the steps. Of them `kills` are taken, evenly spread, or all if fewer."""
    rounds = 3
    whole = run_and_kill(worker(scenario, tmp_path / "whole", "--rounds", rounds))
    assert not whole.killed
    steps = int(whole.told("steps")[0])
    assert steps > 40
    points = sorted({1 + (steps - 1) * number // (kills - 1) for number in range(kills)})
    for number in points:
        home = tmp_path / f"home-{number}"
        crash = run_and_kill(worker(scenario, home, "--rounds", rounds, "--die-at", number))
        assert crash.killed
        promises = Promises()
        promises.take(crash)
        check_after_crash(home, promises.stored, promises.pinned)

        again = run_and_kill(worker(scenario, home, "--rounds", rounds))
        assert not again.killed, "the same work is done from where it stopped"
        promises.take(again)
        check_after_crash(home, promises.stored, promises.pinned)
        shutil.rmtree(home)


def test_garbage_of_killed_writers_is_collected_and_their_leases_are_dead(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in range(3):
        assert run_and_kill(worker("put", home, "--seed", number), delay=0.15).killed
    with open_home(home) as opened:
        blocks = opened.blocks.stat().blocks
        assert blocks > 0
        assert gc.collect(opened).removed == blocks
        assert list(opened.blocks.leases.glob("*.lease")) == []
        assert opened.blocks.stat().size == 0
        assert len(opened.blocks.index.segment_rows()) <= 3
        check_segments(opened)


def test_several_killed_writers_at_once_leave_a_sound_store(tmp_path: Path) -> None:
    """They die holding different segments, and one of them maybe the lock of the index."""
    home = tmp_path / "home"
    open_home(home).close()
    promises = Promises()
    with ThreadPoolExecutor(4) as threads:
        crashes = threads.map(
            lambda number: run_and_kill(
                worker(SCENARIOS[number % 2], home, "--seed", number), delay=0.2 + number * 0.05
            ),
            range(8),
        )
        for crash in crashes:
            assert crash.killed
            promises.take(crash)
    check_after_crash(home, promises.stored, promises.pinned)
