"""How long a command takes that does next to nothing: `python -m bench start`."""

import sys
import tempfile
from pathlib import Path

from bench.measure import IPVCS, median, print_table, run_process

_RUNS = 20


def main(_words: list[str]) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        empty = Path(directory) / "empty"
        empty.write_bytes(b"")
        commands = {
            "python -c pass": (sys.executable, "-c", "pass"),
            "ipvcs version": (*IPVCS, "version"),
            "ipvcs pin ls, empty home": (*IPVCS, "pin", "ls"),
            "ipvcs put of an empty file": (*IPVCS, "put", "-Q", empty),
        }
        rows = []
        for name, command in commands.items():
            run_process(command, home)
            run = median([run_process(command, home) for _ in range(_RUNS)])
            rows.append([name, f"{run.wall:.3f}", f"{run.cpu:.3f}", f"{run.memory or 0:.0f}"])
    print_table(f"start-up (medians of {_RUNS})", ("", "wall s", "CPU s", "peak MiB"), rows)
