"""`put` and `get` beside Kubo's add and get and hashlib, in one run: `python -m bench put [--runs N] [--size MIB]`.

Whole `ipvcs` processes are timed, the start-up of one that stores an empty file taken off; Kubo is a running node and
is timed inside. Each run stores into a fresh home or repository. Kubo's figures are those of version 0.22.
"""

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import IPVCS, Run, median, print_table, run_process
from tests.interop.kubo_peer import KuboPeer

MIB = 1024 * 1024
KUBO_PROFILE = ("--profile", "unixfs-v0-2015")


def make_file(path: Path, mebibytes: int) -> None:
    """Write random bytes."""
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))


def make_many(path: Path, count: int) -> None:
    """Write `count` files of 4 KiB, a thousand a directory."""
    for index in range(count):
        directory = path / f"{index // 1000:03d}"
        if index % 1000 == 0:
            directory.mkdir(parents=True)
        (directory / f"{index}").write_bytes(os.urandom(4096))


def hash_file(path: Path) -> Run:
    """Read and hash a file in this thread: what no import that hashes in one thread can beat."""
    started, cpu = time.perf_counter(), time.process_time()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(MIB):
            digest.update(data)
    return Run(time.perf_counter() - started, time.process_time() - cpu)


@contextmanager
def fresh(parent: Path, name: str) -> Iterator[Path]:
    """Yield a path that nothing is at, and remove what is made there."""
    path = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=parent))
    try:
        yield path / name
    finally:
        shutil.rmtree(path, ignore_errors=True)


def start_up(parent: Path) -> float:
    """Return the wall seconds of storing an empty file into a home that is there."""
    with fresh(parent, "home") as home:
        empty = parent / "bench-empty"
        empty.write_bytes(b"")
        command = (*IPVCS, "put", "-Q", empty)
        run_process(command, home)
        seconds = median([run_process(command, home) for _ in range(5)]).wall
        empty.unlink()
        return seconds


def put(parent: Path, source: Path, options: tuple[str, ...], *, sync: bool, base: float) -> Run:
    """Store `source` into a fresh home; the start-up `base` is taken off the wall time."""
    with fresh(parent, "home") as home:
        run_process((*IPVCS, "config", "Datastore.Sync", "--bool", str(sync).lower()), home)
        run = run_process((*IPVCS, "put", "-rHQ", *options, source), home)
        return Run(run.wall - base, run.cpu, run.memory)


def get(parent: Path, source: Path, *, base: float) -> Run:
    """Write a stored DAG to the disk."""
    with fresh(parent, "home") as home, fresh(parent, "out") as out:
        printed = home.with_name("root")
        with printed.open("wb") as file:
            run_process((*IPVCS, "put", "-rHQ", source), home, stdout=file.fileno())
        run = run_process((*IPVCS, "get", "-o", out, printed.read_text().strip()), home)
        return Run(run.wall - base, run.cpu, run.memory)


def kubo_add(parent: Path, source: Path, *, sync: bool) -> Run:
    """Add to a fresh Kubo node, and pin."""
    with fresh(parent, "kubo") as directory, KuboPeer(directory, fast=not sync) as kubo:
        before = kubo.call("rss")["cpu_s"]
        started = time.perf_counter()
        kubo.call("add", path=str(source), timeout=3600)
        wall = time.perf_counter() - started
        after = kubo.call("rss")
        return Run(wall, after["cpu_s"] - before, after["peak_mib"])


def kubo_get(parent: Path, source: Path) -> Run:
    """Write a DAG of a Kubo node to the disk."""
    with fresh(parent, "kubo") as directory, fresh(parent, "out") as out, KuboPeer(directory) as kubo:
        cid = kubo.call("add", path=str(source), timeout=3600)
        before = kubo.call("rss")["cpu_s"]
        started = time.perf_counter()
        kubo.get(cid, out, timeout=3600)
        wall = time.perf_counter() - started
        after = kubo.call("rss")
        return Run(wall, after["cpu_s"] - before, after["peak_mib"])


def _row(name: str, run: Run, size: int, best: Run) -> list[str]:
    return [
        name,
        f"{run.wall:.2f}",
        f"{size / run.wall / 1e6:.0f}",
        f"{run.cpu:.2f}",
        "" if run.memory is None else f"{run.memory:.0f}",
        f"{best.wall / run.wall:.2f}",
    ]


def compare(where: str, parent: Path, runs: int, mebibytes: int, files: int) -> None:
    """Print the tables for one file system."""
    base = start_up(parent)
    header = ("", "wall s", "MB/s", "CPU s", "peak MiB", "speed, Kubo = 1")
    with fresh(parent, "large") as large:
        make_file(large, mebibytes)
        size = mebibytes * MIB
        for sync in (True, False):
            # Turn by turn, so that what else the machine does meets all of them alike.
            found: dict[str, list[Run]] = {}
            for _ in range(runs):
                turn = {
                    "Kubo add": kubo_add(parent, large, sync=sync),
                    "ipvcs put, Kubo's profile": put(parent, large, KUBO_PROFILE, sync=sync, base=base),
                    "ipvcs put": put(parent, large, (), sync=sync, base=base),
                    "ipvcs put, cdc-1": put(parent, large, ("--profile", "cdc-1"), sync=sync, base=base),
                    "hashlib sha2-256, one thread": hash_file(large),
                }
                for name, run in turn.items():
                    found.setdefault(name, []).append(run)
            kubo = median(found["Kubo add"])
            title = f"put of {mebibytes} MiB on {where}, sync {'on' if sync else 'off'} (medians of {runs})"
            print_table(title, header, [_row(name, median(some), size, kubo) for name, some in found.items()])
        turns = [(kubo_get(parent, large), get(parent, large, base=base)) for _ in range(runs)]
        kubo, ours = median([turn[0] for turn in turns]), median([turn[1] for turn in turns])
        rows = [_row("Kubo get", kubo, size, kubo), _row("ipvcs get", ours, size, kubo)]
        print_table(f"get of {mebibytes} MiB on {where}", header, rows)
    with fresh(parent, "many") as many:
        make_many(many, files)
        for sync in (True, False):
            turns = [
                (kubo_add(parent, many, sync=sync), put(parent, many, KUBO_PROFILE, sync=sync, base=base))
                for _ in range(min(runs, 2))
            ]
            kubo, ours = median([turn[0] for turn in turns]), median([turn[1] for turn in turns])
            rows = [_row("Kubo add", kubo, files * 4096, kubo), _row("ipvcs put", ours, files * 4096, kubo)]
            title = f"put of {files:,} files of 4 KiB on {where}, sync {'on' if sync else 'off'}"
            print_table(title, header, rows)
        kubo, ours = kubo_get(parent, many), get(parent, many, base=base)
        rows = [_row("Kubo get", kubo, files * 4096, kubo), _row("ipvcs get", ours, files * 4096, kubo)]
        print_table(f"get of {files:,} files of 4 KiB on {where}", header, rows)


def main(words: list[str]) -> None:
    """Print the tables for tmpfs and disk."""
    parser = argparse.ArgumentParser(prog="python -m bench put", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--only", choices=["tmpfs", "disk"])
    arguments = parser.parse_args(words)
    for where in ("tmpfs", "disk"):
        if arguments.only in (None, where):
            compare(where, getattr(arguments, where), arguments.runs, arguments.size, arguments.files)
