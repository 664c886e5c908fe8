"""Daemons of tests: started as processes, or by commands that need one, and all of them ended by their pids."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ipvcs.client.daemon_lock import holder
from tests.cli_runner import Ipvcs, Result

LOOPBACK = '["/ip4/127.0.0.1/tcp/0"]'
READY = "Daemon is ready\n"
PATIENCE = 60


def run(
    *words: str | Path, home: Path | str | None = None, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """Run a command as a process, and return when it has ended and nobody has its outputs open any more."""
    chosen = [] if home is None else ["--home", str(home)]
    done = subprocess.run(
        [sys.executable, "-m", "ipvcs", *chosen, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    errors = done.stderr.decode()
    assert "Traceback" not in errors, errors
    return Result(done.returncode, done.stdout, errors)


class Foreground:
    """`ipvcs daemon` as a child of ours; `module` is what runs it."""

    def __init__(self, home: Path, *options: str, env: Mapping[str, str] | None = None, module: str = "ipvcs") -> None:
        self.home = home
        self.lines: list[str] = []
        """What it printed until it was ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--home", str(home), "daemon", *options],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> "Foreground":
        """Read its lines until it says that it is ready."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line == READY:
                return self
        assert self.process.stderr is not None
        raise AssertionError(f"the daemon ended: {self.process.stderr.read()}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str, float]:
        """Send it a signal; return exit status, what else it printed, its log, and how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, errors, time.monotonic() - began

    @property
    def address(self) -> str:
        """Where peers reach it, with its id."""
        addresses: list[str] = run("id", "--json", home=self.home).json[0]["Addresses"]
        return next(address for address in addresses if address.startswith("/ip4/127.0.0.1/tcp/"))


class Daemons:
    """What a test has started. `close` ends all of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._homes: list[Path] = []
        self._foreground: list[Foreground] = []

    def make_home(self, name: str = "home") -> Path:
        """Return a new home that listens on loopback."""
        home = self.path / name
        home.parent.mkdir(parents=True, exist_ok=True)
        self._homes.append(home)
        Ipvcs(home).ok("config", "Addresses.Swarm", "--json", LOOPBACK)
        return home

    def start(
        self, home: Path, *options: str, env: Mapping[str, str] | None = None, module: str = "ipvcs"
    ) -> Foreground:
        """Start `ipvcs daemon`, or `module` in its place, and return when it is ready."""
        daemon = Foreground(home, *options, env=env, module=module)
        self._foreground.append(daemon)
        return daemon.wait_ready()

    def close(self) -> None:
        """End every daemon that is left."""
        for daemon in self._foreground:
            if daemon.process.poll() is None:
                daemon.process.kill()
            daemon.process.communicate()
        for home in self._homes:
            if (found := holder(home)) is not None and found.pid is not None:
                os.kill(found.pid, signal.SIGKILL)
                wait_gone(home)


def wait_gone(home: Path, patience: float = PATIENCE) -> None:
    """Wait until the daemon of `home` has ended."""
    deadline = time.monotonic() + patience
    while holder(home) is not None:
        assert time.monotonic() < deadline, "the daemon does not end"
        time.sleep(0.02)


def wait_ended(pid: int, patience: float = 5) -> None:
    """Wait until the process has ended; whether somebody takes note of it is not its affair."""
    deadline = time.monotonic() + patience
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the process does not end"
        time.sleep(0.02)


def pid_of(home: Path) -> int:
    """Return the pid of the daemon that runs."""
    found = holder(home)
    assert found is not None
    assert found.pid is not None
    return found.pid
