"""The private network namespace."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.interop import netns

CHECKOUT = Path(__file__).parents[3]


@pytest.mark.network
def test_nothing_leaks_and_entering_again_changes_nothing() -> None:
    before = Path("/proc/self/ns/net").readlink()

    netns.enter()

    assert netns.leaks() == []
    assert Path("/proc/self/ns/net").readlink() == before


@pytest.mark.network
def test_a_thread_is_inside_as_well() -> None:
    found: list[Path] = []
    thread = threading.Thread(target=lambda: found.append(Path("/proc/thread-self/ns/net").readlink()))
    thread.start()
    thread.join()

    assert found == [Path("/proc/self/ns/net").readlink()]


def test_any_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo"), (2, "eth0"), (3, "veth1")])
    monkeypatch.setattr(netns, "_is_up", lambda name: name != "veth1")

    with pytest.raises(netns.NotIsolatedError, match="interface eth0 is up"):
        netns.check_isolated()
    netns.check_isolated(allow=["eth0"])


def test_a_refusing_kernel_is_an_error_that_says_what_to_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(netns, "leaks", lambda: ["interface eth0 is up"])
    monkeypatch.setattr(netns, "_unshare", refuse)

    with pytest.raises(netns.NotIsolatedError, match=r"(?s)not permitted.*CAP_SYS_ADMIN.*max_user_namespaces"):
        netns.enter()


@pytest.mark.network
def test_the_command_line_runs_a_command_and_passes_its_exit_code_on() -> None:
    probe = "import sys; from tests.interop import netns; sys.exit(40 + len(netns.leaks()))"
    command = [sys.executable, "-m", "tests.interop.netns", "--", sys.executable, "-c", probe]

    assert subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 40


def test_the_command_line_without_a_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert netns.main(["--"]) == 129
    assert "usage:" in capsys.readouterr().err
