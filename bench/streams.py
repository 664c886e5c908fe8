"""Streams beside others' in one run: `python -m bench streams [--runs N] [--size MIB]`.

1 GiB over one stream between two processes on loopback: plain TCP (asyncio's BufferedProtocol, the most that Python
gives), our Noise and our TLS with yamux, each on asyncio and on uvloop, PyPI's `libp2p` and js-libp2p's `/perf/1.0.0`.
Then connects and stream opens one after the other, a line with 50 ms of round trip, and a daemon that holds many.

PyPI's `libp2p` is installed into a virtual environment in the test cache the first time; that needs an index, so run
`python -m bench.pypi_libp2p` outside the private namespace once, which `make bench` does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import daemon_load, pypi_libp2p
from bench.measure import print_table
from tests.interop.helia_peer import HeliaPeer

MIB = 1024 * 1024
_PATIENCE = 600


@dataclass(frozen=True, slots=True)
class Transfer:
    """One run: MiB/s, CPU seconds a GiB and peak MiB of the sender and of the receiver."""

    speed: float
    cpu: tuple[float, float]
    peak: tuple[float, float]


@contextmanager
def worker(*command: str) -> Iterator[list[str]]:
    """Run a process that serves until its stdin ends; yield the words of its first line."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def run(*command: str) -> dict[str, Any]:
    """Run a process to its end and return the JSON that it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def ours(*arguments: str, uvloop: bool = False) -> tuple[str, ...]:
    """Return the command of one of our workers."""
    return (sys.executable, "-m", "bench.stream_worker", *arguments, *(["--uvloop"] if uvloop else []))


def as_transfer(result: dict[str, Any], size: int, idle_cpu: float) -> Transfer:
    """Return what a run took; `idle_cpu` is what its server had used before."""
    gib = size / (1024 * MIB)
    server = result["server"]
    return Transfer(
        size / MIB / result["seconds"],
        (result["cpu"] / gib, (server["cpu"] - idle_cpu) / gib),
        (result["peak"], server["peak"]),
    )


def send_ours(stack: str, size: int, *, uvloop: bool) -> Transfer:
    """Send `size` bytes between two processes of ours."""
    with worker(*ours("serve", stack, uvloop=uvloop)) as (addr, peer):
        small = run(*ours("send", stack, addr, peer, "bulk", str(MIB), uvloop=uvloop))
        result = run(*ours("send", stack, addr, peer, "bulk", str(size), uvloop=uvloop))
    return as_transfer(result, size, small["server"]["cpu"])


def send_pypi(size: int) -> Transfer:
    """Send `size` bytes between two processes of PyPI's libp2p."""
    python, script = str(pypi_libp2p.python()), str(Path(__file__).with_name("pypi_libp2p_worker.py"))
    with worker(python, script, "serve") as (addr,):
        small = run(python, script, "send", addr, str(MIB))
        result = run(python, script, "send", addr, str(size))
    return as_transfer(result, size, small["server"]["cpu"])


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def send_js(size: int, security: str) -> Transfer:
    """Send `size` bytes between two Helia nodes."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(
                HeliaPeer(Path(stack.enter_context(tempfile.TemporaryDirectory())), "--sec", security, "--nomonitor")
            )
            for _ in range(2)
        )
        first.call("dial", addr=second.addrs[0])
        first.call("perf", addr=second.addrs[0], send=MIB)
        pids = [peer.pid for peer in (first, second)]
        before = [cpu_of(pid) for pid in pids]
        answer = first.call("perf", addr=second.addrs[0], send=size, timeout=_PATIENCE)
        gib = size / (1024 * MIB)
        cpu = [(cpu_of(pid) - start) / gib for pid, start in zip(pids, before, strict=True)]
        peaks = [peer.call("mem")["peakRss"] / MIB for peer in (first, second)]
        return Transfer(size / MIB / (answer["ms"] / 1000), (cpu[0], cpu[1]), (peaks[0], peaks[1]))


def median(runs: Sequence[Transfer]) -> Transfer:
    """Return the median of each figure; of memory the most."""
    return Transfer(
        statistics.median(each.speed for each in runs),
        (statistics.median(each.cpu[0] for each in runs), statistics.median(each.cpu[1] for each in runs)),
        (max(each.peak[0] for each in runs), max(each.peak[1] for each in runs)),
    )


def compare_bulk(runs: int, size: int) -> None:
    """Print the table of transfers; all take turns, so that a busy machine hits all."""
    subjects: dict[str, Callable[[], Transfer]] = {
        "plain TCP, asyncio": lambda: send_ours("tcp", size, uvloop=False),
        "plain TCP, uvloop": lambda: send_ours("tcp", size, uvloop=True),
        "**ipvcs Noise + yamux, asyncio**": lambda: send_ours("noise", size, uvloop=False),
        "ipvcs Noise + yamux, uvloop": lambda: send_ours("noise", size, uvloop=True),
        "**ipvcs TLS + yamux, asyncio**": lambda: send_ours("tls", size, uvloop=False),
        "ipvcs TLS + yamux, uvloop": lambda: send_ours("tls", size, uvloop=True),
        "PyPI libp2p Noise + yamux": lambda: send_pypi(size // 8),
        "js-libp2p Noise + yamux": lambda: send_js(size, "noise"),
        "js-libp2p TLS + yamux": lambda: send_js(size, "tls"),
    }
    taken: dict[str, list[Transfer]] = {name: [] for name in subjects}
    for _ in range(runs):
        for name, send in subjects.items():
            taken[name].append(send())
    results = {name: median(each) for name, each in taken.items()}
    plain, pypi = results["plain TCP, asyncio"], results["PyPI libp2p Noise + yamux"]
    rows = [
        [
            name,
            f"{each.speed:.0f}",
            f"{each.cpu[0]:.2f} + {each.cpu[1]:.2f}",
            f"{each.peak[0]:.0f}, {each.peak[1]:.0f}",
            f"{each.speed / plain.speed:.0%}",
            f"{each.speed / pypi.speed:.1f}",
            f"{sum(pypi.cpu) / sum(each.cpu):.1f}",
        ]
        for name, each in results.items()
    ]
    header = ["one stream", "MiB/s", "CPU s a GiB, sender + receiver", "peak MiB", "of plain TCP", "PyPI = 1"]
    print_table(
        f"{size // MIB} MiB (PyPI's libp2p {size // 8 // MIB}), medians of {runs}", [*header, "CPU, PyPI / it"], rows
    )


def compare_small(opens: int, connects: int) -> None:
    """Print connects and opens one after the other."""
    rows = []
    for stack in ("noise", "tls"):
        with worker(*ours("serve", stack)) as (addr, peer):
            connected = run(*ours("send", stack, addr, peer, "connects", str(connects)))
            opened = run(*ours("send", stack, addr, peer, "opens", str(opens)))
        rows.append(
            [
                f"{stack} + yamux",
                f"{connected['median_ms']:.1f}",
                f"{connected['worst_ms']:.1f}",
                f"{opens / opened['seconds']:,.0f}",
            ]
        )
    header = ["", "connect with handshakes: median ms", "worst ms", "streams opened, used and closed a second"]
    print_table(f"{connects} connects and {opens:,} streams, one after the other", header, rows)


def compare_delayed(milliseconds: int, size: int) -> None:
    """Print what one stream carries over a long line."""
    rows = []
    for stack in ("tcp", "noise", "tls"):
        with worker(*ours("serve", stack)) as (addr, peer):
            port = addr.rsplit("/", 1)[1]
            with worker(sys.executable, "-m", "bench.delay_proxy", port, str(milliseconds)) as (proxy,):
                result = run(*ours("send", stack, f"/ip4/127.0.0.1/tcp/{proxy}", peer, "bulk", str(size)))
        megabits = size * 8 / result["seconds"] / 1e6
        rows.append([stack if stack == "tcp" else f"{stack} + yamux", f"{megabits:.0f}"])
    print_table(f"{size // MIB} MiB over one stream with {milliseconds} ms of round trip", ["", "Mbit/s"], rows)


def main(arguments: Sequence[str]) -> None:
    """Run all, or what fits in less."""
    parser = argparse.ArgumentParser(prog="bench streams")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    options = parser.parse_args(arguments)
    compare_bulk(options.runs, options.size * MIB)
    compare_small(10_000, 100)
    compare_delayed(50, 512 * MIB)
    daemon_load.main([])
