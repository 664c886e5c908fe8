"""Runs of whole processes: wall time, CPU time, peak memory, and tables of their medians."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

IPVCS = (sys.executable, "-m", "ipvcs")


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds on the wall, CPU seconds of user and system, peak resident MiB (None where unknown)."""

    wall: float
    cpu: float
    memory: float | None = None


def run_process(command: Sequence[str | Path], home: Path | None = None, stdout: int = subprocess.DEVNULL) -> Run:
    """Run a command to its end and return what it took; it must succeed. Compiled modules are kept, as in real use."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if home is not None:
        environ["IPVCS_PATH"] = str(home)
    started = time.perf_counter()
    with subprocess.Popen([*map(str, command)], env=environ, stdout=stdout, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bench: {command} failed: {said.decode(errors='replace')}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def time_call(call: Callable[[], object]) -> Run:
    """Time a call in this process: its CPU seconds are this process's."""
    cpu, started = time.process_time(), time.perf_counter()
    call()
    return Run(time.perf_counter() - started, time.process_time() - cpu)


def median(runs: Sequence[Run]) -> Run:
    """Return the median of each figure."""
    memory = [run.memory for run in runs if run.memory is not None]
    return Run(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        max(memory) if memory else None,
    )


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()
