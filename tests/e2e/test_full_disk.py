"""Full and read-only disks: a clear error, nothing half visible, and on it goes when there is room again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import mounts
from tests.e2e.crash import CHECKOUT
from tests.e2e.full_disk_worker import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_store_keeps_its_promises(scenario: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.full_disk_worker", scenario, tmp_path],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    assert list(tmp_path.iterdir()) == [], "the mount was private"


def test_a_refusing_kernel_is_an_error_that_says_what_to_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_flags: int) -> None:
        raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(mounts, "_unshare", refuse)
    with pytest.raises(mounts.NoMountsError, match=r"(?s)not permitted.*CAP_SYS_ADMIN.*max_user_namespaces"):
        mounts.enter()
