"""Daemons that commands start in the background, and nodes that live within a command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli_runner import Ipvcs
from tests.e2e.daemons import Daemons, Foreground, pid_of, run, wait_ended, wait_gone

pytestmark = pytest.mark.network


@pytest.fixture
def peer(daemons: Daemons) -> Foreground:
    """Somebody to reach."""
    return daemons.start(daemons.make_home("peer"))


def environ_of(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(word).split("=", 1) for word in words if b"=" in word)


def test_a_command_that_needs_one_starts_it_and_says_how_to_end_it(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    first = run("swarm", "connect", peer.address, home=home)
    assert first.code == 0
    assert first.out.endswith(" success\n")
    assert first.stderr == (f"started a daemon in the background; `ipvcs --home {home} shutdown` ends it\n")
    second = run("ping", "-n", "1", peer.address, home=home)
    assert (second.code, second.stderr) == (0, "")
    assert len(run("swarm", "peers", home=home).lines) == 1  # the connection that the first one made
    pid = pid_of(home)
    assert run("shutdown", home=home).code == 0
    wait_ended(pid)
    assert (home / "daemon.log").read_text().endswith("Daemon is ready\n")
    assert (home / "daemon.log").stat().st_mode & 0o777 == 0o600


def test_it_is_a_process_of_its_own(daemons: Daemons, peer: Foreground, tmp_path: Path) -> None:
    """Session, working directory, descriptors, environment, terminal, parent."""
    home = daemons.make_home()
    with (tmp_path / "held").open("wb") as held:
        os.set_inheritable(held.fileno(), True)
        done = subprocess.run(
            [sys.executable, "-m", "ipvcs", "--home", "home", "swarm", "connect", peer.address],
            cwd=tmp_path,
            env={**os.environ, "GIT_DIR": ".git", "GIT_INDEX_FILE": "index", "GIT_WORK_TREE": ".", "KEPT": "1"},
            close_fds=False,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    pid = pid_of(home)
    process = Path(f"/proc/{pid}")
    assert process.joinpath("cwd").readlink() == Path("/")
    names = [descriptor.readlink() for descriptor in process.joinpath("fd").iterdir()]
    assert tmp_path / "held" not in names
    targets = [str(process.joinpath("fd", str(number)).readlink()) for number in range(3)]
    assert targets == ["/dev/null", str(home / "daemon.log"), str(home / "daemon.log")]
    assert not [name for name in names if "pipe:" in str(name)], names
    environ = environ_of(pid)
    assert not [name for name in environ if name.startswith("GIT_")]
    assert environ["KEPT"] == "1"
    assert environ["IPVCS_PATH"] == str(home)
    parent, _, session, terminal = process.joinpath("stat").read_text().rpartition(")")[2].split()[1:5]
    assert int(session) not in (os.getsid(0), pid)  # nor the leader of its own, so it can't get a terminal
    assert int(terminal) == 0
    assert int(parent) != os.getpid()


@pytest.mark.parametrize("redirect", ["| cat", "2>&1 | cat", "| cat 2>&1", "| head -1"])
def test_a_pipe_does_not_wait_for_the_daemon(daemons: Daemons, peer: Foreground, redirect: str) -> None:
    home = daemons.make_home()
    line = f"'{sys.executable}' -m ipvcs --home '{home}' swarm connect '{peer.address}' {redirect}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=True)
    assert b" success" in done.stdout or redirect == "| head -1"
    assert pid_of(home)


def test_commands_at_once_start_one_daemon(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: run("swarm", "connect", peer.address, home=home), range(6)))
    assert [result.code for result in results] == [0] * 6, [result.stderr for result in results]
    assert sum("started a daemon" in result.stderr for result in results) == 1
    assert (home / "daemon.log").read_text().count("Daemon is ready") == 1


def test_a_home_with_a_long_path_works(daemons: Daemons, peer: Foreground, request: pytest.FixtureRequest) -> None:
    name = "/".join(["x" * 60] * 4)
    home = daemons.make_home(name)
    assert len(str(home)) > 200
    assert run("ping", "-n", "1", peer.address, home=home).code == 0
    assert (home / "api.addr").exists()
    runtime = Path(short := tempfile.mkdtemp(prefix="run-"))  # as runtime directories are; pytest's can be too long
    request.addfinalizer(lambda: shutil.rmtree(short, ignore_errors=True))
    assert run("shutdown", home=home).code == 0
    assert not (home / "api.addr").exists()
    assert run("ping", "-n", "1", peer.address, home=home, env={"XDG_RUNTIME_DIR": str(runtime)}).code == 0
    assert list(runtime.iterdir()), (home / "daemon.log").read_text()  # the socket's directory
    assert run("swarm", "peers", home=home).code == 0  # found without the variable


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_relative_home_works_though_the_daemon_is_elsewhere(
    daemons: Daemons, peer: Foreground, tmp_path: Path, way: str
) -> None:
    daemons.make_home("a/home")
    work = tmp_path / "a"
    if way == "option":
        done = run("swarm", "connect", peer.address, home="home", cwd=work)
        assert "`ipvcs --home home shutdown`" in done.stderr
    else:
        done = run("swarm", "connect", peer.address, cwd=work, env={"IPVCS_PATH": "home"})
        assert "`ipvcs shutdown`" in done.stderr
    assert done.code == 0
    assert pid_of(tmp_path / "a" / "home")
    assert not Path("/home/version").exists()


def test_a_relative_git_dir_does_not_reach_it(daemons: Daemons, peer: Foreground, tmp_path: Path) -> None:
    home = daemons.make_home()
    (tmp_path / "work" / ".git").mkdir(parents=True)
    done = run("ping", "-n", "1", peer.address, home=home, cwd=tmp_path / "work", env={"GIT_DIR": ".git"})
    assert done.code == 0
    assert "GIT_DIR" not in environ_of(pid_of(home))


def test_why_it_did_not_start_is_told(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    taken = peer.lines[0].split()[-1]
    Ipvcs(home).ok("config", "Addresses.API", "--json", json.dumps([taken]))
    failed = run("swarm", "connect", peer.address, home=home)
    assert failed.code == 128
    assert failed.out == ""
    assert failed.stderr.startswith(f"error: cannot start a daemon: cannot listen on '{taken}': ")
    assert "\nhint: choose another port" in failed.stderr
    wait_gone(home, 5)


def test_a_passphrase_in_a_file_with_a_relative_name_reaches_it(
    daemons: Daemons, peer: Foreground, tmp_path: Path
) -> None:
    home = daemons.make_home()
    (tmp_path / "secret").write_text("correct horse\n")
    secret = {"IPVCS_PASSPHRASE_FILE": "secret"}
    assert run("id", home=home, cwd=tmp_path, env=secret).code == 0  # makes the key, encrypted
    locked = run("swarm", "connect", peer.address, home=home)
    assert locked.code == 128
    assert locked.stderr.startswith("error: cannot start a daemon: no passphrase for ")
    assert run("swarm", "connect", peer.address, home=home, cwd=tmp_path, env=secret).code == 0


def test_where_it_is_switched_off_nothing_is_started(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    Ipvcs(home).ok("config", "Daemon.Autostart", "--bool", "false")
    refused = run("swarm", "connect", peer.address, home=home)
    assert refused.code == 128
    assert refused.stderr.startswith("error: no daemon is running at ")
    assert not (home / "daemon.log").exists()


@pytest.mark.parametrize(
    "words",
    [["swarm", "peers"], ["swarm", "addrs"], ["swarm", "addrs", "listen"], ["swarm", "addrs", "local"], ["log", "ls"]],
)
def test_commands_about_a_running_node_start_none(daemons: Daemons, words: list[str]) -> None:
    home = daemons.make_home()
    for extra in ([], ["--json"]):
        result = run(*words, *extra, home=home)
        assert (result.code, result.out) == (128, "")
        assert result.stderr.startswith("error: no daemon is running at ")
    assert not (home / "daemon.log").exists()


@pytest.mark.parametrize("words", [["ping", "nonsense"], ["swarm", "connect", "/ip4/127.0.0.1/tcp/1"]])
def test_a_slip_of_the_pen_starts_none(daemons: Daemons, words: list[str]) -> None:
    home = daemons.make_home()
    assert run(*words, home=home).code in (128, 129)
    assert not (home / "daemon.log").exists()


def test_it_ends_when_nobody_has_needed_it_for_long_enough(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    Ipvcs(home).ok("config", "Daemon.Idle", "--json", "1")
    assert run("swarm", "connect", peer.address, home=home).code == 0
    pid = pid_of(home)
    wait_gone(home, 10)
    assert run("swarm", "connect", peer.address, home=home).code == 0
    assert pid_of(home) != pid
    following = subprocess.Popen(
        [sys.executable, "-m", "ipvcs", "--home", str(home), "ping", "-n", "4", peer.address], stdout=subprocess.DEVNULL
    )
    pid = pid_of(home)
    assert following.wait(30) == 0  # three seconds, and a client all the time
    assert pid_of(home) == pid


def test_one_that_the_user_started_does_not_end_by_itself(daemons: Daemons) -> None:
    home = daemons.make_home()
    Ipvcs(home).ok("config", "Daemon.Idle", "--json", "1")
    daemon = daemons.start(home)
    time.sleep(2.5)
    assert daemon.process.poll() is None


def test_loopback_only_listens_on_nothing_else(daemons: Daemons) -> None:
    home = daemons.make_home()
    Ipvcs(home).ok("config", "Addresses.Swarm", "--json", '["/ip4/0.0.0.0/tcp/0"]')
    daemon = daemons.start(home, "--loopback-only")
    swarm = [line.split()[-1] for line in daemon.lines if line.startswith("Swarm")]
    assert swarm
    assert all(address.startswith(("/ip4/127.0.0.1/", "/ip6/::1/")) for address in swarm)


def test_a_killed_one_is_started_again(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    assert run("swarm", "connect", peer.address, home=home).code == 0
    pid = pid_of(home)
    os.kill(pid, signal.SIGKILL)
    wait_gone(home)
    again = run("swarm", "connect", peer.address, home=home)
    assert again.code == 0
    assert "started a daemon" in again.stderr
    assert pid_of(home) != pid


WITHIN = {"IPVCS_NO_DAEMON": "1"}


def test_a_node_within_the_command_leaves_nothing(daemons: Daemons, peer: Foreground, tmp_path: Path) -> None:
    home = daemons.make_home()
    (tmp_path / "tmp").mkdir()
    pings = run("ping", "-n", "2", peer.address, home=home, env={**WITHIN, "TMPDIR": str(tmp_path / "tmp")})
    assert (pings.code, pings.stderr) == (0, "")
    assert len(pings.lines) == 4
    assert not (home / "daemon.log").exists()
    assert not (home / "api.sock").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (home / "daemon.lock").read_bytes() == b""
    assert run("swarm", "connect", peer.address, home=home, env={"IPVCS_NO_DAEMON": "0"}).code == 0
    assert pid_of(home)


def test_a_node_within_a_command_is_refused_beside_a_daemon(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    daemon = daemons.start(home)
    refused = run("ping", "-n", "1", peer.address, home=home, env=WITHIN)
    assert refused.code == 128
    assert refused.out == ""
    assert f"already has a daemon (pid {daemon.process.pid}, " in refused.stderr
    assert "hint: unset IPVCS_NO_DAEMON" in refused.stderr
    assert run("swarm", "peers", home=home, env=WITHIN).code == 0  # it asks the daemon, and is no host itself


def test_a_daemon_is_refused_beside_a_node_within_a_command(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    command = subprocess.Popen(
        [sys.executable, "-m", "ipvcs", "--home", str(home), "ping", "-n", "100", peer.address],
        env={**os.environ, **WITHIN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert command.stdout is not None
        assert command.stdout.readline().startswith("PING ")
        refused = run("daemon", home=home)
        assert refused.code == 128
        assert f"already has a command with a node of its own (pid {command.pid}, " in refused.stderr
        other = run("ping", "-n", "1", peer.address, home=home, env=WITHIN)
        assert other.code == 128
        assert "one identity can't be in two places" in other.stderr
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=10)
        assert (command.returncode, errors) == (130, "error: interrupted\n")
        wait_gone(home, 1)
    finally:
        command.kill()
        command.communicate()


def test_a_node_within_a_command_tells_what_is_wrong(daemons: Daemons, peer: Foreground) -> None:
    home = daemons.make_home()
    Ipvcs(home).ok("config", "Addresses.Swarm", "--json", '["/ip4/203.0.113.1/tcp/1"]')  # not ours, ever
    failed = run("ping", "-n", "1", peer.address, home=home, env=WITHIN)
    assert failed.code == 128
    assert "cannot listen on '/ip4/203.0.113.1/tcp/1'" in failed.stderr
