"""Garbage is collected in a loop while several processes put the same blocks again and again, rely on them and read."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvcs.storage import gc, verify
from ipvcs.storage.home import open_home
from ipvcs.storage.pins import Pin, PinMode
from tests.e2e.crash import CHECKOUT
from tests.e2e.gc_workers import TREASURE
from tests.unit.storage.segment_check import check_segments

_MEMORY = Path("/dev/shm")


@pytest.fixture(params=["memory", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory where a sync costs nothing, so that much happens, and one where it costs what it costs."""
    if request.param == "disk" or not _MEMORY.is_dir():
        yield tmp_path / "home"
        return
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY) as directory:
        yield Path(directory) / "home"


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(4, id="4s"), pytest.param(180, id="180s", marks=pytest.mark.long)],
)
def test_nothing_relied_on_disappears(path: Path, seconds: float) -> None:
    with open_home(path) as home:
        home.blocks.put_many(TREASURE)
        home.pins.add(Pin(block.cid, PinMode.DIRECT) for block in TREASURE)

    roles = ["write", "write", "write", "collect", "read"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.gc_workers", role, path, str(seconds), str(number)],
            cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number, role in enumerate(roles)
    ]  # fmt: skip
    told: dict[str, int] = {}
    try:
        for process, role in zip(processes, roles, strict=True):
            output, errors = process.communicate(timeout=seconds + 60)
            assert process.returncode == 0, f"{role}: {output}{errors}"
            words = output.split()
            for name, count in zip(words[::2], words[1::2], strict=True):
                told[name] = told.get(name, 0) + int(count)
    finally:
        for process in processes:
            process.kill()
            process.wait()

    print(path, told)
    assert told["runs"] >= 5, "collections went on beside the writers"
    assert told["removed"] > 0
    assert told["freed"] > 0
    assert told["relied"] > 0
    with open_home(path) as home:
        assert list(verify.iter_damaged(home.blocks)) == []
        check_segments(home)
        assert list(home.blocks.leases.glob("*.lease")) == []
        gc.collect(home)
        assert set(home.blocks.iter_cids()) == {block.cid for block in TREASURE}
        check_segments(home)
