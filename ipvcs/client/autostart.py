"""Starts a daemon in the background for a command that needs one, once, whoever else wants one at that moment.

The daemon is a process of its own in every respect: another session, the working directory `/`, no descriptor of the
command's but the pipe on which it says that it is ready, no `GIT_*` variable (git runs hooks and helpers with a
GIT_DIR that may be relative, and with its own idea of index and objects), signals and their mask as at login. So a
shell that waits for the command's output to end is not kept waiting by the daemon.

    command                       launcher                    daemon
    lock daemon.start
    start the launcher ──────────▶ fork, exit ───────────────▶ its pid into the pipe
    read the pipe, with a deadline                             open home and node, serve the API
    unlock, go on ◀────────────────────────────────────────── {"ready": true} or {"error": …, "hint": …}
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipvcs.client.daemon_lock import DaemonRunningError, holder
from ipvcs.errors import UnavailableError
from ipvcs.storage.disk import disk_errors

LOG_NAME: Final = "daemon.log"
_LOCK_NAME: Final = "daemon.start"
START_TIMEOUT: Final = 30.0
"""Seconds. A start takes about one; a disk that must first be woken or a machine under load takes more."""
MAX_LOG: Final = 1024 * 1024
"""Bytes. A longer log becomes `daemon.log.old`, when a daemon starts and while it runs."""
_MAX_ANSWER: Final = 64 * 1024
"""Bytes read of what the daemon says: two lines, of which an error's message may be long."""
_SHOWN_LOG: Final = 2000
"""Bytes of the log's end that are searched for a reason when a daemon dies without giving one."""

_LAUNCHER: Final = """\
import os, signal, sys
pipe, root = int(sys.argv.pop(1)), sys.argv.pop(1)
if os.fork():
    os._exit(0)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
os.set_inheritable(pipe, False)
os.write(pipe, b"%d\\n" % os.getpid())
sys.path.append(root)
from ipvcs.cli.script import main
main()
"""
"""Forks once more, so that the daemon leads no session, can never get a terminal, and is nobody's child to wait for.
It imports from where this package lies, wherever that is: `python -m ipvcs` in a checkout is good enough."""


class AutostartError(UnavailableError):
    """No daemon could be started. The message says why, as the daemon itself did."""

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot start a daemon: {reason}", hint=hint)


@dataclass(frozen=True, slots=True)
class Autostart:
    """How to start the daemon of `home`, an absolute path to a home that exists."""

    home: Path
    environ: Mapping[str, str]
    """The command's; relative paths in it must have been made absolute."""
    options: Sequence[str] = ()
    """Further options of `ipvcs daemon`."""
    timeout: float = START_TIMEOUT

    def ensure(self, is_running: Callable[[], bool]) -> int | None:
        """Return with a daemon that runs: None if there was one, or its pid if this call has started it.

        `is_running` asks whether the API answers. Another command that is just starting a daemon is waited for, and
        so is a daemon that is just starting, or ending.

        Raises:
            AutostartError: the daemon gave up, or was not ready in time; it has been ended then.
            DaemonRunningError: somebody else runs this home's node, but serves no API in time.
        """
        assert self.home.is_absolute()
        deadline = time.monotonic() + self.timeout
        with self._start_lock(deadline):
            while not is_running():
                found = holder(self.home)
                if found is None:
                    return self._start(deadline)
                if time.monotonic() >= deadline:
                    raise DaemonRunningError(self.home, found)
                time.sleep(0.05)
        return None

    @contextmanager
    def _start_lock(self, deadline: float) -> Iterator[None]:
        path = self.home / _LOCK_NAME
        with disk_errors(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    # The other one has a deadline too, a little before this one's.
                    if time.monotonic() >= deadline + 1:
                        raise AutostartError(
                            "another command has been starting one for too long", hint=f"see '{self.home / LOG_NAME}'"
                        ) from None
                time.sleep(0.02)
            yield
        finally:
            os.close(fd)

    def _start(self, deadline: float) -> int:
        reading, writing = os.pipe()  # both close-on-exec
        try:
            with self._open_log() as log:
                launcher = subprocess.Popen(
                    self._command(writing),
                    cwd="/",
                    env=daemon_environment(self.environ, self.home),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    close_fds=True,
                    pass_fds=(writing,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        try:
            answer = _read_answer(reading, deadline)
        finally:
            os.close(reading)
            launcher.wait()
        return self._judge(answer)

    def _command(self, pipe: int) -> list[str]:
        if not sys.executable:
            raise AutostartError("Python does not know its own interpreter", hint="start `ipvcs daemon` yourself")
        root = str(Path(__file__).resolve().parents[2])
        words = ["--home", str(self.home), "daemon", "--ready-fd", str(pipe), *self.options]
        return [sys.executable, "-P", "-c", _LAUNCHER, str(pipe), root, *words]

    @contextmanager
    def _open_log(self) -> Iterator[int]:
        path = self.home / LOG_NAME
        with disk_errors(path):
            with suppress(FileNotFoundError):
                if path.stat().st_size > MAX_LOG:
                    put_log_aside(path)
            log = open_log(path)
        try:
            yield log
        finally:
            os.close(log)

    def _judge(self, answer: "_Answer") -> int:
        if answer.pid is not None and answer.said.get("ready") is True:
            return answer.pid
        log = self.home / LOG_NAME
        if isinstance(error := answer.said.get("error"), str):
            hint = answer.said.get("hint")
            raise AutostartError(error, hint=hint if isinstance(hint, str) else None)
        if answer.ended:
            last = _last_line(log)
            raise AutostartError(
                f"it ended before it was ready{f': {last}' if last else ''}", hint=f"'{log}' may say more"
            )
        if answer.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(answer.pid, signal.SIGTERM)
        raise AutostartError(
            f"it was not ready within {self.timeout:.0f} s",
            hint=f"'{log}' may say why; `ipvcs daemon` in another terminal may have more time",
        )


def open_log(path: Path) -> int:
    """Return a descriptor that appends to the log at `path`, which only its owner may read: it says who met whom."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def put_log_aside(path: Path) -> None:
    """Make the log at `path` the old one; the one before is lost."""
    path.replace(path.with_name(f"{path.name}.old"))


def daemon_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment of a daemon in the background: nothing of git's, and this home."""
    kept = {key: value for key, value in environ.items() if not key.startswith("GIT_")}
    kept.pop("IPVCS_NO_DAEMON", None)
    return kept | {"IPVCS_PATH": str(home), "PWD": "/"}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came through the pipe: `ended` when the daemon closed it, else the time was up."""

    pid: int | None
    said: dict[str, Any]
    ended: bool


def _read_answer(fd: int, deadline: float) -> _Answer:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    ended = False
    while data.count(b"\n") < 2 and len(data) < _MAX_ANSWER:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if not poll.poll(left * 1000):
            continue
        more = os.read(fd, _MAX_ANSWER)
        if not more:
            ended = True
            break
        data += more
    first, _, rest = data.partition(b"\n")
    try:
        said = json.loads(rest)
    except (ValueError, RecursionError):
        said = {}
    return _Answer(int(first) if first.isdigit() else None, said if isinstance(said, dict) else {}, ended)


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _SHOWN_LOG))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
