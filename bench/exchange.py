"""Fetching by Bitswap between running nodes, beside Kubo and Helia: `python -m bench exchange [options]`.

Each run has fresh homes and repositories on one file system, both nodes up and connected; what is timed is fetch and
pin: `ipvcs pin add` less the start-up of a command, Kubo's pin inside its process, Helia's reading of the file. The
subjects take turns, so that what else the machine does meets all of them alike. CPU seconds are the two nodes' (and of
ours the command's), memory is the most that a node had.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measure import IPVCS, print_table
from bench.put import MIB, fresh, make_file, make_many
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer

KUBO_PROFILE: Final = ("--profile", "unixfs-v0-2015")
PATIENCE: Final = 120.0
"""Seconds for Kubo to fetch; beyond, the run counts as not finished. Two Kubos and a directory of 5,000 files sit idle,
most likely as one asks for more than the 1,024 blocks that the other takes wants for."""
LISTEN: Final = json.dumps(["/ip4/127.0.0.1/tcp/0"])


class Node:
    """An `ipvcs daemon` in a home of its own."""

    def __init__(self, home: Path, *, sync: bool) -> None:
        self.environ = {**os.environ, "IPVCS_PATH": str(home)}
        self.run("config", "Addresses.Swarm", "--json", LISTEN)
        self.run("config", "Datastore.Sync", "--bool", str(sync).lower())
        self.process = subprocess.Popen(
            [*IPVCS, "daemon"], env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        while "ready" not in (line := self.process.stdout.readline()):
            assert line, "the daemon did not start"
        self.addr: str = json.loads(self.run("id", "--json"))["Addresses"][0]

    def run(self, *words: str | Path) -> str:
        """Run a command and return what it printed."""
        done = subprocess.run([*IPVCS, *map(str, words)], env=self.environ, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode()

    def put(self, source: Path, *options: str) -> str:
        """Store a file or directory."""
        return self.run("put", "-rHQ", *options, source).strip()

    def connect(self, addr: str) -> None:
        """Connect to a peer."""
        self.run("swarm", "connect", addr)

    @property
    def cpu(self) -> float:
        """CPU seconds so far, of processes that it started and that have ended, too."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> float:
        """The peak of resident memory, MiB; LMDB's mapped pages, which are the kernel's cache, counted as well."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

    def stat(self) -> dict[str, int]:
        """Return what Bitswap has moved."""
        found: dict[str, int] = json.loads(self.run("bitswap", "stat", "--json"))
        return found

    def close(self) -> None:
        """End the daemon."""
        self.process.terminate()
        self.process.wait()


class Kubo:
    """A Kubo node, with what `Node` has."""

    def __init__(self, directory: Path, *, sync: bool) -> None:
        self.peer = KuboPeer(directory, fast=not sync)
        self.addr = self.peer.addrs[0]

    def put(self, source: Path, *_options: str) -> str:
        return self.peer.add(source) if source.is_file() else str(self.peer.call("add", path=str(source), timeout=3600))

    def connect(self, addr: str) -> None:
        self.peer.connect(addr)

    @property
    def cpu(self) -> float:
        return float(self.peer.call("rss")["cpu_s"])

    @property
    def memory(self) -> float:
        return float(self.peer.call("rss")["peak_mib"])

    def close(self) -> None:
        self.peer.close()


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch: wall seconds, CPU seconds and peak MiB of holder and fetcher, messages received for each block."""

    wall: float
    cpu: tuple[float, float]
    memory: tuple[float, float]
    messages: float | None = None


def pin_with(node: "Node | Kubo", cid: str, base: float) -> float:
    """Fetch and pin; return the wall seconds, `inf` when Kubo does not end within `PATIENCE`."""
    if isinstance(node, Kubo):
        started = time.perf_counter()
        try:
            node.peer.pin(cid, timeout=PATIENCE)
        except TimeoutError:
            return math.inf
        return time.perf_counter() - started
    started = time.perf_counter()
    node.run("pin", "add", cid)
    return time.perf_counter() - started - base


def fetch(
    parent: Path,
    source: Path,
    holder: type["Node | Kubo"],
    fetcher: type["Node | Kubo"],
    *,
    sync: bool,
    base: float,
    options: Sequence[str] = KUBO_PROFILE,
    delay: float = 0.0,
) -> Fetch:
    """Let a fresh `holder` store `source`, and a fresh `fetcher` fetch and pin it."""
    with ExitStack() as stack:
        nodes = []
        for kind, name in ((holder, "holder"), (fetcher, "fetcher")):
            node = kind(stack.enter_context(fresh(parent, name)), sync=sync)
            stack.callback(node.close)
            nodes.append(node)
        near, far = nodes
        cid = near.put(source, *options)
        addr = stack.enter_context(delayed(near.addr, delay)) if delay else near.addr
        far.connect(addr)
        time.sleep(0.5)  # identify and the DHT have had their say
        cpu = near.cpu, far.cpu
        wall = pin_with(far, cid, base)
        messages = None
        if isinstance(far, Node):
            found = far.stat()
            messages = found["MessagesReceived"] / max(1, found["BlocksReceived"])
        return Fetch(wall, (near.cpu - cpu[0], far.cpu - cpu[1]), (near.memory, far.memory), messages)


@contextmanager
def delayed(addr: str, milliseconds: float, megabytes: float = 0.0) -> Iterator[str]:
    """Yield the address of a proxy in front of `addr` that adds to the round trip, and maybe limits the speed."""
    port = addr.split("/tcp/")[1].split("/")[0]
    command = [sys.executable, "-m", "bench.delay_proxy", port, str(milliseconds), str(megabytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield addr.replace(f"/tcp/{port}", f"/tcp/{proxy.stdout.readline().strip()}")
        finally:
            proxy.kill()


def fetch_by_helia(parent: Path, source: Path, *, base: float) -> Fetch:
    """Let a fresh ipvcs node store `source`, and Helia read it."""
    del base
    with ExitStack() as stack:
        node = Node(stack.enter_context(fresh(parent, "holder")), sync=False)
        stack.callback(node.close)
        cid = node.put(source, *KUBO_PROFILE)
        helia = stack.enter_context(HeliaPeer(stack.enter_context(fresh(parent, "helia")), "--kad", "none"))
        helia.dial(node.addr)
        cpu = node.cpu
        started = time.perf_counter()
        helia.call("cat", cid=cid, hash=True, timeout=600)
        return Fetch(time.perf_counter() - started, (node.cpu - cpu, float("nan")), (node.memory, float("nan")))


def fetch_from_helia(parent: Path, size: int, *, base: float) -> Fetch:
    """Let Helia hold a file of `size` bytes in memory, and a fresh ipvcs node fetch and pin it."""
    with ExitStack() as stack:
        node = Node(stack.enter_context(fresh(parent, "fetcher")), sync=False)
        stack.callback(node.close)
        helia = stack.enter_context(HeliaPeer(stack.enter_context(fresh(parent, "helia")), "--kad", "none"))
        cid = str(helia.call("addBytes", size=size, genSeed="bench", chunk=256 * 1024, timeout=600)["cid"])
        helia.dial(node.addr)
        time.sleep(0.5)
        cpu = node.cpu
        wall = pin_with(node, cid, base)
        return Fetch(wall, (float("nan"), node.cpu - cpu), (float("nan"), node.memory))


def start_up(parent: Path) -> float:
    """Return the wall seconds of `ipvcs pin add` of what is pinned already, a daemon up."""
    with fresh(parent, "base") as home:
        node = Node(home, sync=False)
        try:
            empty = parent / "bench-empty"
            empty.write_bytes(b"")
            cid = node.put(empty)
            times = []
            for _ in range(5):
                started = time.perf_counter()
                node.run("pin", "add", cid)
                times.append(time.perf_counter() - started)
            empty.unlink()
            return statistics.median(times)
        finally:
            node.close()


def _row(name: str, runs: Sequence[Fetch], size: int, kubo: Sequence[Fetch] | None) -> list[str]:
    wall = statistics.median(run.wall for run in runs)
    ratio = "" if kubo is None else _ratio(statistics.median(run.wall for run in kubo), wall)
    cpu = [statistics.median(run.cpu[side] for run in runs) for side in (0, 1)]
    memory = [max(run.memory[side] for run in runs) for side in (0, 1)]
    messages = runs[0].messages
    return [
        name,
        f"{wall:.2f}" if wall < math.inf else f"not in {PATIENCE:.0f}",
        f"{size / wall / 1e6:.0f}",
        f"{cpu[0]:.2f} + {cpu[1]:.2f}",
        f"{memory[0]:.0f}, {memory[1]:.0f}",
        "" if messages is None else f"{messages:.2f}",
        ratio,
    ]


def _ratio(kubo: float, wall: float) -> str:
    if wall == math.inf:
        return ""
    return f"{kubo / wall:.2f}" if kubo < math.inf else f"over {PATIENCE / wall:.0f}"


_HEADER: Final = (
    "holder → fetcher", "wall s", "MB/s", "CPU s, both", "peak MiB, both", "messages a block", "speed, first row = 1",
)  # fmt: skip


def _compare(
    title: str, size: int, runs: int, subjects: dict[str, Callable[[], Fetch]], kubo: str = "Kubo → Kubo"
) -> None:
    found: dict[str, list[Fetch]] = {name: [] for name in subjects}
    for _ in range(runs):
        for name, measure in subjects.items():
            found[name].append(measure())
    base = found.get(kubo)
    print_table(f"{title} (medians of {runs})", _HEADER, [_row(name, some, size, base) for name, some in found.items()])


def compare_sizes(parent: Path, where: str, runs: int, mebibytes: int, base: float) -> None:
    """One large file, sync on and off."""
    with fresh(parent, "large") as large:
        make_file(large, mebibytes)
        size = mebibytes * MIB

        def run(holder: type[Node | Kubo], fetcher: type[Node | Kubo], **options: object) -> Fetch:
            return fetch(parent, large, holder, fetcher, base=base, **options)  # type: ignore[arg-type]

        for sync in (True, False):
            subjects: dict[str, Callable[[], Fetch]] = {
                "Kubo → Kubo": lambda sync=sync: run(Kubo, Kubo, sync=sync),  # type: ignore[misc]
                "ipvcs → ipvcs": lambda sync=sync: run(Node, Node, sync=sync, options=()),  # type: ignore[misc]
                "ipvcs → ipvcs, Kubo's profile": lambda sync=sync: run(Node, Node, sync=sync),  # type: ignore[misc]
                "Kubo → ipvcs": lambda sync=sync: run(Kubo, Node, sync=sync),  # type: ignore[misc]
                "ipvcs → Kubo": lambda sync=sync: run(Node, Kubo, sync=sync),  # type: ignore[misc]
            }
            if not sync and mebibytes <= 400:
                subjects["ipvcs → Helia"] = lambda: fetch_by_helia(parent, large, base=base)
                subjects["Helia → ipvcs"] = lambda: fetch_from_helia(parent, size, base=base)
            _compare(f"Fetch of {mebibytes} MiB on {where}, sync {'on' if sync else 'off'}", size, runs, subjects)


def compare_many(parent: Path, where: str, runs: int, count: int, base: float) -> None:
    """Many small files."""
    with fresh(parent, "many") as many:
        make_many(many, count)
        subjects: dict[str, Callable[[], Fetch]] = {
            f"{one} → {other}": lambda a=a, b=b: fetch(parent, many, a, b, sync=False, base=base)  # type: ignore[misc]
            for one, a, other, b in (
                ("Kubo", Kubo, "Kubo", Kubo),
                ("ipvcs", Node, "ipvcs", Node),
                ("Kubo", Kubo, "ipvcs", Node),
                ("ipvcs", Node, "Kubo", Kubo),
            )
        }
        _compare(f"Fetch of {count:,} files of 4 KiB on {where}, sync off", count * 4096, runs, subjects)


def compare_distance(parent: Path, runs: int, mebibytes: int, base: float) -> None:
    """Round trips of 20 and 200 ms, with the proxy and without any delay in it."""
    with fresh(parent, "far") as large:
        make_file(large, mebibytes)

        def measure(delay: float) -> Fetch:
            return fetch(parent, large, Node, Node, sync=False, base=base, options=(), delay=delay)

        subjects = {
            "no delay": lambda: measure(0.001),
            "20 ms": lambda: measure(20.0),
            "200 ms": lambda: measure(200.0),
        }
        title = f"Fetch of {mebibytes} MiB, ipvcs → ipvcs, through a proxy that adds to the round trip"
        _compare(title, mebibytes * MIB, runs, subjects, kubo="no delay")


def compare_holders(parent: Path, runs: int, mebibytes: int, megabytes: float, base: float) -> None:
    """One holder and four, each behind a line of limited speed."""

    def measure(source: Path, count: int) -> Fetch:
        with ExitStack() as stack:
            fetcher = Node(stack.enter_context(fresh(parent, "fetcher")), sync=False)
            stack.callback(fetcher.close)
            holders = []
            for _ in range(count):
                holder = Node(stack.enter_context(fresh(parent, "holder")), sync=False)
                stack.callback(holder.close)
                cid = holder.put(source)
                fetcher.connect(stack.enter_context(delayed(holder.addr, 5.0, megabytes)))
                holders.append(holder)
            time.sleep(0.5)
            cpu = sum(each.cpu for each in holders), fetcher.cpu
            wall = pin_with(fetcher, cid, base)
            found = fetcher.stat()
            print(f"{count} holders: {found['DupBlksReceived']} duplicates of {found['BlocksReceived']} blocks")
            used = sum(each.cpu for each in holders) - cpu[0], fetcher.cpu - cpu[1]
            return Fetch(wall, used, (max(each.memory for each in holders), fetcher.memory))

    with fresh(parent, "shared") as large:
        make_file(large, mebibytes)
        subjects: dict[str, Callable[[], Fetch]] = {
            "1 holder": lambda: measure(large, 1),
            "4 holders": lambda: measure(large, 4),
        }
        title = f"Fetch of {mebibytes} MiB from holders behind lines of {megabytes:g} MB/s each and 5 ms"
        _compare(title, mebibytes * MIB, runs, subjects, kubo="1 holder")


def main(arguments: Sequence[str]) -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(prog="bench exchange")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[400, 1024], metavar="MIB")
    parser.add_argument("--files", type=int, nargs="*", default=[3_000, 10_000])
    parser.add_argument("--where", type=Path, default=Path("/dev/shm"), help="where homes lie: a directory on tmpfs")
    parser.add_argument("--only", choices=("sizes", "many", "distance", "holders"))
    options = parser.parse_args(arguments)
    parent = Path(tempfile.mkdtemp(prefix="bench-exchange-", dir=options.where))
    try:
        base = start_up(parent)
        print(f"\nstart-up of a command, taken off: {base:.3f} s")
        if options.only in (None, "sizes"):
            for size in options.sizes:
                compare_sizes(parent, str(options.where), options.runs, size, base)
        if options.only in (None, "many"):
            for count in options.files:
                compare_many(parent, str(options.where), options.runs, count, base)
        if options.only in (None, "distance"):
            compare_distance(parent, options.runs, 400, base)
        if options.only in (None, "holders"):
            compare_holders(parent, options.runs, 200, 25.0, base)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
