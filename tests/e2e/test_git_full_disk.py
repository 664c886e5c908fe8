"""Disks that fill up during a push or a clone: clear errors, the old state stands, and it works when there is room."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.crash import CHECKOUT

pytestmark = pytest.mark.network


@pytest.mark.parametrize("which", ["push-home", "clone-home", "clone-work", "owner-home"])
def test_a_full_disk_is_a_clear_error_that_changes_nothing(tmp_path: Path, which: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.git_full_disk_worker", tmp_path, which],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    assert list((tmp_path / "small").iterdir()) == [], "the mount was private"
