"""Where `get` and `dag export` write is full or read-only: an error that names it, and nothing left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_runner import Ipvcs
from tests.e2e.crash import CHECKOUT

INSIDE = """
import sys
from pathlib import Path
from tests.e2e import mounts
mounts.enter()
disk = mounts.Disk(Path(sys.argv[1]), 1 << 20)
if sys.argv[2] == "read-only":
    disk.set_read_only(True)
from ipvcs.cli.main import run
code = run(sys.argv[3:])
print(*Path(sys.argv[1]).iterdir())
sys.exit(code)
"""
"""Runs a command where the first argument is a disk of 1 MiB."""


@pytest.mark.parametrize("command", [["get"], ["get", "-a"], ["get", "-a", "-C"], ["dag", "export"]])
@pytest.mark.parametrize(
    ("state", "said"), [("full", "no space left on the disk of"), ("read-only", "is on a read-only")]
)
def test_an_output_that_can_not_be_written_leaves_nothing(
    tmp_path: Path, command: list[str], state: str, said: str
) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(3):
        (tmp_path / "tree" / f"{number}").write_bytes(bytes(range(256)) * 4000 + b"%d" % number)
    (tmp_path / "tree" / "noise").write_bytes(os.urandom(2 << 20))
    root = Ipvcs(tmp_path / "home").ok("put", "-rQ", tmp_path / "tree").out.strip()
    disk = tmp_path / "disk"
    disk.mkdir()
    words = [disk, state, "--home", tmp_path / "home", *command, "-o", disk / "out", root]
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, *map(str, words)],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (128, "\n"), done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert f"{disk}/" in done.stderr
