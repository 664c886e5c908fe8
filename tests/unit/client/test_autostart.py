"""Starting a daemon in the background, with a stand-in for the daemon: what it is given, and what it may do wrong."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipvcs.client import autostart
from ipvcs.client.autostart import Autostart, AutostartError, daemon_environment
from ipvcs.client.daemon_lock import DaemonLock, DaemonRunningError, holder

SAY = "import json; say = lambda value: os.write(pipe, json.dumps(value).encode() + b'\\n')\n"
NEVER: Callable[[], bool] = lambda: False  # noqa: E731


@pytest.fixture
def daemon_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace the daemon by a program, in which `pipe` is the pipe and `say` writes an object into it."""
    launcher, end, _ = autostart._LAUNCHER.partition("from ipvcs.cli.script")
    assert end

    def replace(program: str) -> None:
        monkeypatch.setattr(autostart, "_LAUNCHER", launcher + SAY + program)

    return replace


@pytest.fixture
def mask_and_handlers() -> Iterator[None]:
    """Block and ignore signals, as whoever started us may."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]), signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before[0])
    signal.signal(signal.SIGINT, before[1])


def seen_by(home: Path, **environ: str) -> dict[str, Any]:
    """Return what the stand-in of a daemon wrote down about itself."""
    started = Autostart(home, {**os.environ, **environ}, ["--some-option"])
    pid = started.ensure(NEVER)
    found: dict[str, Any] = json.loads((home / "seen").read_text())
    assert found["pid"] == pid
    return found


LOOK = """
import threading
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
seen = dict(pid=os.getpid(), ppid=os.getppid(), session=os.getsid(0), cwd=os.getcwd(), argv=sys.argv[1:],
    environ=dict(os.environ), blocked=int(status["SigBlk"], 16), ignored=int(status["SigIgn"], 16),
    fds={fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
         if os.path.exists(f"/proc/self/fd/{fd}")}, package=__import__("ipvcs").__file__)
open(os.environ["IPVCS_PATH"] + "/seen", "w").write(json.dumps(seen))
say({"ready": True})
"""


def test_it_is_started_by_its_own_rules(daemon_is: Callable[[str], None], tmp_path: Path) -> None:
    daemon_is(LOOK)
    seen = seen_by(tmp_path, GIT_DIR="here", GIT_WORK_TREE=".", IPVCS_NO_DAEMON="1", OTHER="kept")
    assert seen["cwd"] == "/"
    assert seen["session"] not in (os.getsid(0), seen["pid"])
    assert seen["ppid"] != os.getpid()
    assert {name: seen["fds"].get(name) for name in "012"} == {
        "0": "/dev/null",
        "1": str(tmp_path / "daemon.log"),
        "2": str(tmp_path / "daemon.log"),
    }
    rest = [target for name, target in seen["fds"].items() if name not in "012"]
    assert len(rest) == 1
    assert rest[0].startswith("pipe:")
    assert seen["argv"][:3] == ["--home", str(tmp_path), "daemon"]
    assert seen["argv"][3] == "--ready-fd"
    assert seen["argv"][5:] == ["--some-option"]
    assert seen["environ"]["OTHER"] == "kept"
    assert not [name for name in seen["environ"] if name.startswith("GIT_") or name == "IPVCS_NO_DAEMON"]
    assert Path(seen["package"]).samefile(Path(autostart.__file__).parents[1] / "__init__.py")


@pytest.mark.usefixtures("mask_and_handlers")
def test_signals_reach_it_whatever_they_did_to_the_command(daemon_is: Callable[[str], None], tmp_path: Path) -> None:
    daemon_is(LOOK)
    seen = seen_by(tmp_path)
    wanted = sum(1 << number - 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    assert seen["blocked"] & wanted == 0
    assert seen["ignored"] & wanted == 0


@pytest.mark.parametrize(
    ("program", "message", "hint"),
    [
        ("say({'error': 'no luck', 'hint': 'try again'})", "cannot start a daemon: no luck", "try again"),
        ("say({'error': 'no luck', 'hint': None})", "cannot start a daemon: no luck", None),
        ("sys.exit('the reason')", "it ended before it was ready: the reason", "may say more"),
        ("raise ValueError('odd')", "it ended before it was ready: ValueError: odd", "may say more"),
        ("os._exit(0)", "it ended before it was ready", "may say more"),
        ("os.write(pipe, b'nonsense' * 10_000 + b'\\n')", "it ended before it was ready|not ready within", "may say"),
        ("say([1])", "not ready within|ended before", "may say"),
    ],
)
def test_why_it_failed_is_told(
    daemon_is: Callable[[str], None], tmp_path: Path, program: str, message: str, hint: str | None
) -> None:
    daemon_is(program)
    with pytest.raises(AutostartError, match=message) as caught:
        Autostart(tmp_path, os.environ, timeout=5).ensure(NEVER)
    assert (caught.value.hint is None) if hint is None else (hint in str(caught.value.hint))
    assert caught.value.exit_code == 128


def test_one_that_is_not_ready_in_time_is_ended(daemon_is: Callable[[str], None], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    daemon_is(f"import time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(AutostartError, match="not ready within 1 s"):
        Autostart(tmp_path, os.environ, timeout=1).ensure(NEVER)
    assert time.monotonic() - began < 5
    assert_ends(int(pid_file.read_text()))


def assert_ends(pid: int) -> None:
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(500):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} does not end")


def test_where_one_runs_none_is_started(daemon_is: Callable[[str], None], tmp_path: Path) -> None:
    daemon_is("sys.exit('started')")
    assert Autostart(tmp_path, os.environ).ensure(lambda: True) is None
    assert not (tmp_path / "daemon.log").exists()


def test_one_that_is_just_starting_or_ending_is_waited_for(daemon_is: Callable[[str], None], tmp_path: Path) -> None:
    daemon_is("say({'ready': True})")
    lock = DaemonLock.acquire(tmp_path)
    runs = threading.Event()
    threading.Timer(0.2, runs.set).start()
    assert Autostart(tmp_path, os.environ).ensure(runs.is_set) is None  # it became ready

    threading.Timer(0.2, lock.release).start()
    assert Autostart(tmp_path, os.environ).ensure(NEVER) is not None  # it ended


def test_one_that_holds_the_home_but_never_answers_is_named(tmp_path: Path) -> None:
    with DaemonLock.acquire(tmp_path), pytest.raises(DaemonRunningError, match=f"pid {os.getpid()}"):
        Autostart(tmp_path, os.environ, timeout=0.3).ensure(NEVER)
    assert holder(tmp_path) is None


def test_several_commands_at_once_start_one(daemon_is: Callable[[str], None], tmp_path: Path) -> None:
    daemon_is(f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); say({{'ready': True}})")
    results: list[int | None] = []
    commands = [
        threading.Thread(
            target=lambda: results.append(Autostart(tmp_path, os.environ).ensure((tmp_path / "runs").exists))
        )
        for _ in range(5)
    ]
    for command in commands:
        command.start()
    for command in commands:
        command.join()
    assert (tmp_path / "runs").read_text() == "x"
    assert len(results) == 5
    assert len([pid for pid in results if pid is not None]) == 1


def test_a_long_log_is_put_aside(daemon_is: Callable[[str], None], tmp_path: Path) -> None:
    daemon_is("print('new', flush=True); say({'ready': True})")
    (tmp_path / "daemon.log").write_bytes(b"old\n")
    Autostart(tmp_path, os.environ).ensure(NEVER)
    assert (tmp_path / "daemon.log").read_bytes() == b"old\nnew\n"
    (tmp_path / "daemon.log").write_bytes(b"x" * (1 << 20) + b"\n")
    Autostart(tmp_path, os.environ).ensure(NEVER)
    assert (tmp_path / "daemon.log").read_bytes() == b"new\n"
    assert (tmp_path / "daemon.log.old").stat().st_size == (1 << 20) + 1


def test_no_variable_of_gits_is_passed_on(tmp_path: Path) -> None:
    environ = {"GIT_DIR": "x", "GIT_": "y", "HOME": "/h", "LEGIT_": "z", "PWD": "/somewhere", "IPVCS_PATH": "rel"}
    assert daemon_environment(environ, tmp_path) == {
        "HOME": "/h",
        "LEGIT_": "z",
        "PWD": "/",
        "IPVCS_PATH": str(tmp_path),
    }
