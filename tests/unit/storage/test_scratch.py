"""Directories for the while of a command: gone with it, however it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipvcs.storage.scratch import scratch_directory

KILLED = """
import os, signal, sys
from pathlib import Path
from ipvcs.storage.scratch import scratch_directory
with scratch_directory(Path(sys.argv[1]), "push-") as path:
    (path / "pack").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_is_there_while_it_is_used(tmp_path: Path) -> None:
    with scratch_directory(tmp_path, "push-") as path:
        (path / "deep" / "er").mkdir(parents=True)
        (path / "deep" / "file").touch(mode=0o400)
        assert path.parent == tmp_path
        assert path.name.startswith("push-")
    assert list(tmp_path.iterdir()) == []


def test_an_error_removes_it_as_well(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_directory(tmp_path, "push-") as path:
            (path / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob("push-*")
    assert [path.name for path in left.iterdir()] == ["pack"]
    with scratch_directory(tmp_path, "push-") as first, scratch_directory(tmp_path, "push-") as second:
        assert set(tmp_path.iterdir()) == {first, second, tmp_path / "another"}, "one in use stays"
    assert [path.name for path in tmp_path.iterdir()] == ["another"]
