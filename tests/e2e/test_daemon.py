"""`ipvcs daemon` as a process: what it prints, how it ends, and that a home has one."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipvcs.client.socket_path import find_socket
from tests.cli_runner import Ipvcs
from tests.e2e.daemons import LOOPBACK, Daemons, Foreground, pid_of, run, wait_gone

pytestmark = pytest.mark.network


def test_it_prints_where_it_listens_and_last_that_it_is_ready(daemons: Daemons) -> None:
    home = daemons.make_home()
    Ipvcs(home).ok("config", "Addresses.Swarm", "--json", '["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]')
    Ipvcs(home).ok("config", "Addresses.API", "--json", LOOPBACK)
    daemon = daemons.start(home)
    patterns = [
        r"Swarm listening on /ip4/127\.0\.0\.1/tcp/[1-9]\d*\n",
        r"Swarm listening on /ip6/::1/tcp/[1-9]\d*\n",
        rf"API server listening on /unix{home}/api\.sock\n",
        r"API server listening on /ip4/127\.0\.0\.1/tcp/[1-9]\d*\n",
        r"Daemon is ready\n",
    ]
    assert len(daemon.lines) == len(patterns)
    for line, pattern in zip(daemon.lines, patterns, strict=True):
        assert re.fullmatch(pattern, line)
    listening = {line.split()[-1] for line in daemon.lines[:2]}
    assert set(run("swarm", "addrs", "listen", home=home).lines) == listening
    code, out, log, _ = daemon.end()
    assert (code, out, log) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_within_5_seconds(daemons: Daemons, number: signal.Signals) -> None:
    home = daemons.make_home()
    daemon = daemons.start(home, env={"PYTHONUNBUFFERED": ""})
    socket = find_socket(home)
    assert socket.is_socket()
    code, out, log, duration = daemon.end(number)
    assert (code, out, log) == (0, "", "")
    assert duration < 5
    assert not socket.exists()
    assert run("swarm", "peers", home=home).code == 128


def test_peers_that_are_connected_and_clients_that_wait_do_not_delay_the_end(daemons: Daemons) -> None:
    one, other = daemons.start(daemons.make_home("one")), daemons.start(daemons.make_home("other"))
    assert run("swarm", "connect", other.address, home=one.home).code == 0
    waiting = subprocess.Popen(
        [sys.executable, "-m", "ipvcs", "--home", str(one.home), "ping", "-n", "1000", other.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert waiting.stdout is not None
        assert waiting.stdout.readline().startswith(b"PING ")
        assert waiting.stdout.readline().startswith(b"Pong received: time=")
        code, out, _, duration = one.end()
        assert (code, out) == (0, "")
        assert duration < 5
        _, errors = waiting.communicate(timeout=30)
        assert b"Traceback" not in errors
        assert waiting.returncode == 128
    finally:
        waiting.kill()
        waiting.communicate()


@pytest.mark.parametrize("how", ["deleted", "moved away"])
def test_it_ends_and_says_why_when_its_home_is_gone(daemons: Daemons, how: str) -> None:
    home = daemons.make_home()
    daemon = daemons.start(home)
    if how == "deleted":
        shutil.rmtree(home)
    else:
        home.rename(home.with_name("elsewhere"))
        home.mkdir()  # another one in its place is not it
    out, log = daemon.process.communicate(timeout=10)
    assert (daemon.process.returncode, out) == (128, "")
    assert "ERROR ipvcs.api.daemon ending, the home is gone\n" in log
    assert f"error: home '{home}' was deleted or moved away while its daemon ran\n" in log
    assert "Traceback" not in log


def test_shutdown_returns_when_it_has_ended(daemons: Daemons) -> None:
    home = daemons.make_home()
    daemon = daemons.start(home)
    assert run("shutdown", "--json", home=home).json == [{"Pid": daemon.process.pid}]
    daemon.process.communicate(timeout=5)
    assert daemon.process.returncode == 0
    stopped = run("shutdown", home=home)
    assert stopped.code == 128
    assert stopped.stderr.startswith("error: no daemon is running at ")
    assert f"hint: start one with `ipvcs --home {home} daemon`" in stopped.stderr


def test_a_second_daemon_says_who_holds_the_home(daemons: Daemons) -> None:
    home = daemons.make_home()
    first = daemons.start(home)
    second = run("daemon", home=home)
    assert second.code == 128
    assert second.stdout == b""
    assert f"already has a daemon (pid {first.process.pid}, since 2" in second.stderr
    assert f"API /unix{home}/api.sock)" in second.stderr
    assert run("swarm", "peers", home=home).code == 0  # the first one's socket is untouched


def test_a_killed_daemon_loses_nothing_and_is_no_obstacle(daemons: Daemons, tmp_path: Path) -> None:
    home = daemons.make_home()
    first = daemons.start(home)
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    root = run("put", "-Q", tmp_path / "file", home=home).out.strip()
    before = run("id", "--json", home=home).json[0]
    first.end(signal.SIGKILL)
    assert run("id", "--json", home=home).json[0]["ID"] == before["ID"]  # though its socket lies there still
    assert run("cat", root, home=home).stdout == b"x" * 300_000
    second = daemons.start(home)
    assert pid_of(home) == second.process.pid
    assert run("id", "--json", home=home).json[0]["PublicKey"] == before["PublicKey"]
    assert run("repo", "verify", home=home).code == 0


def wait_served(home: Path) -> None:
    """Wait until the daemon answers."""
    deadline = time.monotonic() + 30
    while run("swarm", "peers", home=home).code:
        assert time.monotonic() < deadline


def test_an_output_that_nobody_reads_any_more_does_not_end_it(daemons: Daemons, tmp_path: Path) -> None:
    home = daemons.make_home()
    script = f"'{sys.executable}' -m ipvcs --home '{home}' daemon 2>'{tmp_path / 'log'}' | head -1"
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    assert shell.stdout.readline().startswith(b"Swarm listening on ")
    wait_served(home)
    assert run("shutdown", home=home).code == 0
    shell.communicate(timeout=30)
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_output_that_nobody_ever_reads_does_not_keep_it_from_starting(daemons: Daemons, stream: str) -> None:
    home = daemons.make_home()
    process = subprocess.Popen(
        [sys.executable, "-m", "ipvcs", "--home", str(home), "daemon", "--log-level", "debug"],
        stdout=subprocess.PIPE if stream == "stdout" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if stream == "stderr" else subprocess.DEVNULL,
    )
    reader = process.stdout or process.stderr
    assert reader is not None
    reader.close()
    wait_served(home)
    process.terminate()
    assert process.wait(10) == 0


def test_a_full_output_does_not_end_it(daemons: Daemons) -> None:
    home = daemons.make_home()
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen([sys.executable, "-m", "ipvcs", "--home", str(home), "daemon"], stdout=full)
    wait_served(home)
    process.terminate()
    assert process.wait(10) == 0


def test_its_log_is_on_standard_error_and_its_level_changes_at_run_time(daemons: Daemons) -> None:
    home = daemons.make_home()
    daemon = daemons.start(home, "--log-level", "info")
    assert run("log", "level", "error", home=home).out == "Changed log level of '*' to 'error'\n"
    assert "api" in run("log", "ls", home=home).lines
    assert run("log", "level", "api", "info", home=home).code == 0
    assert run("log", "level", "nonsense", home=home).code == 129
    assert run("log", "level", "nonsense", "info", home=home).code == 129
    _, out, log, _ = daemon.end()
    assert out == ""
    assert re.search(r"^\S+Z INFO ipvcs\.api\.daemon ending signal=SIGTERM$", log, re.MULTILINE)


def test_the_level_comes_from_the_environment_too(daemons: Daemons) -> None:
    home = daemons.make_home()
    _, _, log, _ = daemons.start(home, env={"IPVCS_LOG": "error,api=info"}).end()
    assert "INFO ipvcs.api.daemon ending" in log
    wrong = run("daemon", home=home, env={"IPVCS_LOG": "loud"})
    assert wrong.code == 129
    assert wrong.stderr.startswith("error: unknown log level 'loud'\nhint: ")


def test_two_homes_meet(daemons: Daemons) -> None:
    one, other = daemons.start(daemons.make_home("one")), daemons.start(daemons.make_home("other"))
    peer = other.address.rpartition("/")[2]
    assert run("swarm", "connect", other.address, home=one.home).out == f"connect {peer} success\n"
    assert other.address in run("swarm", "peers", home=one.home).out
    about = run("swarm", "peers", "-v", "--json", home=one.home).json[0]["Peers"][0]
    assert (about["Peer"], about["Direction"]) == (peer, 2)
    assert "outbound" in run("swarm", "peers", "--direction", home=one.home).out
    assert peer in run("swarm", "addrs", home=one.home).out
    seen = run("id", "--json", peer, home=one.home).json[0]
    assert list(seen) == ["ID", "PublicKey", "Addresses", "AgentVersion", "Protocols"]
    assert seen["ID"] == peer
    assert seen["AgentVersion"].startswith("ipvcs/")
    assert "/ipfs/ping/1.0.0" in seen["Protocols"]
    for name in (peer, other.address):
        pings = run("ping", "-n", "2", name, home=one.home)
        assert pings.code == 0
        assert [line.split("=")[0] for line in pings.lines[1:3]] == ["Pong received: time"] * 2
        assert pings.lines[-1].startswith("Average latency: ")
    assert run("swarm", "disconnect", f"/p2p/{peer}", home=one.home).out == f"disconnect {peer} success\n"
    assert run("swarm", "disconnect", f"/p2p/{peer}", home=one.home).code == 1
    assert run("swarm", "peers", home=one.home).out == ""


def test_a_peer_that_is_gone_is_a_negative_answer(daemons: Daemons) -> None:
    one, other = daemons.start(daemons.make_home("one")), daemons.start(daemons.make_home("other"))
    address = other.address
    other.end(signal.SIGKILL)
    ping = run("ping", "-n", "1", address, home=one.home)
    assert ping.code == 1
    assert ping.stderr.startswith("error: ")
    connect = run("swarm", "connect", address, home=one.home)
    assert connect.code == 128
    assert f"connect {address.rpartition('/')[2]} failure: " in connect.stderr


def test_an_address_that_is_taken_is_an_error_that_names_it(daemons: Daemons) -> None:
    one = daemons.start(daemons.make_home("one"))
    api = daemons.make_home("other")
    taken = one.lines[0].split()[-1]
    Ipvcs(api).ok("config", "Addresses.API", "--json", f'["{taken}"]')
    failed = run("daemon", home=api)
    assert failed.code == 128
    assert f"cannot listen on '{taken}'" in failed.stderr
    assert "Daemon is ready" not in failed.out
    assert not (api / "api.sock").exists()


def test_who_starts_it_under_nohup_does_not_lose_it(daemons: Daemons) -> None:
    home = daemons.make_home()
    first = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)"
    program = f"{first}\nfrom ipvcs.cli.script import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--home", str(home), "daemon"], stdout=subprocess.PIPE, text=True
    )
    daemon = Foreground.__new__(Foreground)
    daemon.home, daemon.lines, daemon.process = home, [], process
    daemon.wait_ready()
    os.kill(process.pid, signal.SIGHUP)
    os.kill(process.pid, signal.SIGINT)
    assert run("swarm", "peers", home=home).code == 0
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 0
    wait_gone(home)
