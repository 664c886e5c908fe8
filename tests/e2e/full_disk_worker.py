"""What the store does on a disk that is full or read-only: `python -m tests.e2e.full_disk_worker SCENARIO DIRECTORY`.

Each scenario runs in a mount namespace of its own, with a tmpfs at DIRECTORY, and asserts as it goes. tmpfs gives no
page to a write through a memory map when it is full: SIGBUS would end the process, and the test would see it.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ipvcs.objects.block import Block
from ipvcs.storage import gc, verify
from ipvcs.storage.disk import DiskFullError, ReadOnlyError
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.pins import Pin, PinMode
from tests.e2e import mounts
from tests.e2e.mounts import Disk
from tests.unit.storage.segment_check import check_segments

KIB = 1024
MIB = 1024 * KIB


def random_block(size: int) -> Block:
    """Return a new block."""
    return Block.of(os.urandom(size))


def check_sound(home: Home, stored: list[Block]) -> None:
    """Check that nothing is damaged and all of `stored` is there."""
    assert list(verify.iter_damaged(home.blocks)) == []
    check_segments(home)
    for block in stored:
        assert home.blocks.get(block.cid) == block.data


def put_until_full(home: Home, size: int, *, pin: bool = False) -> list[Block]:
    """Put batches of blocks until the disk is full; return those that were reported as stored (and pinned)."""
    stored: list[Block] = []

    def put() -> None:
        while True:
            batch = [random_block(size) for _ in range(max(1, 100_000 // size))]
            home.blocks.put_many(batch)
            if pin:
                home.pins.add(Pin(block.cid, PinMode.DIRECT) for block in batch)
            stored.extend(batch)

    with pytest.raises(DiskFullError, match="no space left on the disk of") as caught:
        put()
    assert "`ipvcs repo gc`" in str(caught.value.hint)
    assert stored
    return stored


def put_large_blocks(disk: Disk) -> None:
    """The segment can't be written."""
    disk.resize(24 * MIB)
    with open_home(disk.path / "home") as home:
        stored = put_until_full(home, 300 * KIB)
        check_sound(home, stored)
        for _ in range(3):
            with pytest.raises(DiskFullError):
                home.blocks.put_many([random_block(MIB)])
        check_sound(home, stored)
        disk.resize(32 * MIB)
        home.blocks.put_many([more := random_block(MIB)])
        check_sound(home, [*stored, more])


def put_small_blocks(disk: Disk) -> None:
    """As much goes into the index as into segments."""
    disk.resize(12 * MIB)
    with open_home(disk.path / "home") as home:
        stored = put_until_full(home, 40)
    with open_home(disk.path / "home") as home:
        check_sound(home, stored)
        disk.resize(20 * MIB)
        home.blocks.put_many([more := random_block(1000)])
        check_sound(home, [*stored, more])


def put_with_every_little_room(disk: Disk) -> None:
    """Whatever the room: for the bytes, but not for the lease, the new segment, the index or one page of it."""
    disk.resize(24 * MIB)
    with open_home(disk.path / "home") as home:
        stored = [random_block(100) for _ in range(3000)]
        home.blocks.put_many(stored)
    refused = 0
    for room in range(0, 480 * KIB, 8 * KIB):
        batch = [random_block(30) for _ in range(800)]
        with open_home(disk.path / "home") as home:
            disk.fill(leave=room)
            try:
                home.blocks.put_many(batch)
            except DiskFullError:
                refused += 1
                assert not any(home.blocks.has(block.cid) for block in batch)
            else:
                stored += batch
            if room % (160 * KIB) == 0:
                check_sound(home, stored)
            disk.empty()
    assert refused >= 10
    assert len(stored) > 3000
    with open_home(disk.path / "home") as home:
        check_sound(home, stored)
        assert list(home.blocks.leases.glob("*.lease")) == []


def make_home_with_every_little_room(disk: Disk) -> None:
    """A home is made whole or not at all, and can be made later."""
    disk.resize(16 * MIB)
    refused = 0
    for number, room in enumerate([*range(0, 200 * KIB, 4 * KIB), *range(200 * KIB, 9 * MIB, 512 * KIB)]):
        path = disk.path / f"home{number}"
        disk.fill(leave=room)
        try:
            open_home(path).close()
        except DiskFullError:
            refused += 1
            assert not (path / "version").exists()
        disk.empty()
        with open_home(path) as home:
            home.blocks.put_many([block := random_block(100)])
            check_sound(home, [block])
        subprocess.run(["rm", "-r", path], check=True)
    assert refused >= 40


def collect_on_a_full_disk(disk: Disk) -> None:
    """Not one byte is free, and garbage must still go: the reserve is for that."""
    disk.resize(40 * MIB)
    with open_home(disk.path / "home") as home:
        keep = [random_block(2 * KIB) for _ in range(100)]
        home.blocks.put_many(keep)
        home.pins.add(Pin(block.cid, PinMode.DIRECT) for block in keep)
        put_until_full(home, 2 * KIB)
        disk.fill()
        assert disk.free == 0
        with pytest.raises(DiskFullError):
            home.blocks.put_many([random_block(MIB)])

        report = gc.collect(home)

        assert report.removed > 5000
        assert disk.free >= 10 * MIB
        assert (home.path / "reserve").stat().st_size == 8 * MIB, "for the next time"
        check_sound(home, keep)
        home.blocks.put_many([more := random_block(MIB)])
        check_sound(home, [*keep, more])


def unpin_and_collect_on_a_full_disk(disk: Disk) -> None:
    """All is pinned: the way out begins with `pin rm`, which writes, too; by a process that starts on the full disk."""
    disk.resize(24 * MIB)
    with open_home(disk.path / "home") as home:
        stored = put_until_full(home, KIB, pin=True)
        check_sound(home, stored)
    disk.fill()
    assert disk.free == 0
    with open_home(disk.path / "home") as home:
        with home.spare_space():
            home.pins.remove(block.cid for block in stored[50:])
        gc.collect(home)
        check_sound(home, stored[:50])
        assert home.blocks.stat().blocks == 50
        assert disk.free >= 4 * MIB


def collect_where_a_copy_does_not_fit(disk: Disk) -> None:
    """More is live in the one segment than there is room for: what can't be compacted stays, all is sound."""
    disk.resize(64 * MIB)
    with open_home(disk.path / "home") as home:
        blocks = [random_block(64 * KIB) for _ in range(700)]
        home.blocks.put_many(blocks)
        keep = blocks[::3]
        home.pins.add(Pin(block.cid, PinMode.DIRECT) for block in keep)
        disk.fill()

        report = gc.collect(home)
        assert report.removed == 700 - len(keep)
        assert report.wasted > 20 * MIB
        check_sound(home, keep)

        disk.empty()
        disk.resize(96 * MIB)
        assert gc.collect(home).wasted == 0
        check_sound(home, keep)


def read_on_a_full_disk(disk: Disk) -> None:
    """Reading needs no room, by however many readers, new ones included."""
    disk.resize(16 * MIB)
    with open_home(disk.path / "home") as home:
        stored = [random_block(500) for _ in range(100)]
        home.blocks.put_many(stored)
        disk.fill()
        check_sound(home, stored)
        readers = [
            home.datastore.env.begin() for _ in range(900)
        ]  # each takes a slot in the memory map of the lock file
        code = (
            "import pathlib; from ipvcs.storage.home import open_home; from ipvcs.multiformats.cid import Cid\n"
            f"home = open_home(pathlib.Path({os.fspath(home.path)!r}))\n"
            f"assert len(home.blocks.get(Cid.parse('{stored[5].cid}'))) == 500"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        for reader in readers:
            reader.abort()


def out_of_inodes(disk: Disk) -> None:
    """There is room, but for no new name: not for a lease, not for a segment."""
    disk.resize(64 * MIB, inodes=30)
    with open_home(disk.path / "home") as home:
        home.blocks.put_many([block := random_block(1000)])
        with suppress(OSError):
            for number in range(100):
                (disk.path / str(number)).touch()
        with pytest.raises(DiskFullError):
            home.blocks.put_many([random_block(1000)])
        check_sound(home, [block])
        gc.collect(home)
        for path in disk.path.glob("[0-9]*"):
            path.unlink()
        home.blocks.put_many([block])
        check_sound(home, [block])


def set_configuration_on_a_full_disk(disk: Disk) -> None:
    """The old configuration stays."""
    disk.resize(16 * MIB)
    with open_home(disk.path / "home") as home:
        home.config.set("Import.Profile", "unixfs-v0-2015")
        disk.fill()
        with pytest.raises(DiskFullError):
            home.config.set("Bootstrap", ["x" * 5000])
        disk.empty()
    with open_home(disk.path / "home") as home:
        assert home.config.get("Import.Profile") == "unixfs-v0-2015"
        assert home.config.get("Bootstrap") == []


def read_only(disk: Disk) -> None:
    """Refused before anything is tried; writable again, everything is there."""
    with open_home(disk.path / "home") as home:
        home.blocks.put_many([block := random_block(1000)])
    before = sorted((path, path.stat().st_mtime_ns) for path in disk.path.rglob("*"))
    disk.set_read_only(True)

    for name in ("home", "new"):
        with pytest.raises(ReadOnlyError, match=rf"'{disk.path}/{name}.*' is on a read-only file system") as caught:
            open_home(disk.path / name)
        assert "IPVCS_PATH" in str(caught.value.hint)

    disk.set_read_only(False)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in disk.path.rglob("*"))
    with open_home(disk.path / "home") as home:
        check_sound(home, [block])
        home.blocks.put_many([more := random_block(1000)])
        check_sound(home, [block, more])


SCENARIOS: dict[str, Callable[[Disk], None]] = {
    scenario.__name__: scenario
    for scenario in (
        put_large_blocks, put_small_blocks, put_with_every_little_room, make_home_with_every_little_room,
        collect_on_a_full_disk, unpin_and_collect_on_a_full_disk, collect_where_a_copy_does_not_fit,
        read_on_a_full_disk, out_of_inodes, set_configuration_on_a_full_disk, read_only,
    )
}  # fmt: skip


def main(name: str, directory: str) -> int:
    """Run a scenario on a disk of its own."""
    try:
        mounts.enter()
    except mounts.NoMountsError as exc:
        print(exc, file=sys.stderr)
        return 128
    SCENARIOS[name](Disk(Path(directory), 16 * MIB))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
