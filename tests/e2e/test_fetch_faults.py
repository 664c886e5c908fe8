"""Fetches that go wrong: holders that die, commands and daemons that are killed, full disks, peers that are not served.

Where a fetch is to be met half-way, it goes over a `SlowLink`; what a rate and a size say is how long it would take.
"""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli_runner import Ipvcs
from tests.e2e.crash import CHECKOUT
from tests.e2e.daemons import Daemons, Foreground, run
from tests.e2e.fetch_full_disk_worker import SIZE
from tests.e2e.fetching import (
    MIB,
    Running,
    address_of,
    blocks_in,
    blocks_of,
    bootstrap,
    client_of,
    connect,
    keep_port,
    noise,
    peer_of,
    put_noise,
    restarted,
    start_all,
    stat,
    wait_until,
    wait_wants_nothing,
)
from tests.e2e.slow_link import SlowLink

pytestmark = pytest.mark.network


@pytest.fixture
def pair(daemons: Daemons) -> tuple[Foreground, Foreground]:
    """Two daemons that do not know of each other."""
    holder, fetcher = start_all(daemons, "holder", "fetcher")
    return holder, fetcher


@pytest.fixture
def holder(pair: tuple[Foreground, Foreground]) -> Foreground:
    return pair[0]


@pytest.fixture
def fetcher(pair: tuple[Foreground, Foreground]) -> Foreground:
    return pair[1]


# ---- the holder goes ----


def test_a_holder_that_is_killed_costs_nothing_if_there_is_another(
    daemons: Daemons, holder: Foreground, fetcher: Foreground
) -> None:
    (other,) = start_all(daemons, "other")
    root, data = put_noise(holder.home, 12 * MIB, 1)
    assert put_noise(other.home, 12 * MIB, 1)[0] == root
    out = daemons.path / "out"
    with SlowLink(address_of(holder), 4 * MIB) as one, SlowLink(address_of(other), 4 * MIB) as second:
        connect(fetcher, one.address)
        connect(fetcher, second.address)
        with Running("get", "-o", out, root, home=fetcher.home) as get:
            one.wait_passed(2 * MIB)
            second.wait_passed(MIB)
            holder.end(signal.SIGKILL)
            done = get.end()
        assert (done.code, done.stdout) == (0, b"")
        assert out.read_bytes() == data
        found = stat(fetcher.home)
        assert found["BlocksReceived"] - found["DupBlksReceived"] == blocks_of(other.home, root)
        assert found["DupDataReceived"] < 0.05 * len(data)
        assert second.passed > 4 * MIB


def test_a_fetch_without_its_only_holder_ends_and_goes_on_later_where_it_was(
    daemons: Daemons, holder: Foreground, fetcher: Foreground
) -> None:
    root, data = put_noise(holder.home, 12 * MIB, 1)
    keep_port(holder)
    out = daemons.path / "out"
    with SlowLink(address_of(holder), 6 * MIB) as link:
        connect(fetcher, link.address)
        with Running("get", "--timeout", "2s", "-o", out, root, home=fetcher.home) as get:
            link.wait_passed(8 * MIB)
            holder.end(signal.SIGKILL)
            killed = time.monotonic()
            done = get.end()
        assert time.monotonic() - killed < 6
        assert done.code == 128
        assert done.stderr.startswith("error: nobody sent block '")
        assert " within 2 seconds: 0 connected peers were asked" in done.stderr
        assert "trying again goes on from there" in done.stderr
        assert not [path for path in daemons.path.iterdir() if path.name.startswith((".", "out"))]
        received = stat(fetcher.home)["BlocksReceived"]
        assert blocks_in(fetcher.home) == received >= 2

        holder = daemons.start(holder.home)
        connect(fetcher, address_of(holder))
        assert run("get", "-o", out, root, home=fetcher.home).code == 0
    assert out.read_bytes() == data
    found = stat(fetcher.home)
    assert (found["BlocksReceived"], found["DupBlksReceived"]) == (blocks_of(holder.home, root), 0)
    assert received < found["BlocksReceived"]


@pytest.mark.long
def test_a_fetch_survives_that_its_holder_is_restarted(
    daemons: Daemons, holder: Foreground, fetcher: Foreground
) -> None:
    """The fetcher does not look for it again that soon: the holder comes back by its bootstrap list."""
    root, data = put_noise(holder.home, 12 * MIB, 1)
    bootstrap(holder.home, address_of(fetcher))
    out = daemons.path / "out"
    with SlowLink(address_of(holder), 4 * MIB) as link:
        connect(fetcher, link.address)
        with Running("get", "--timeout", "30s", "-o", out, root, home=fetcher.home) as get:
            link.wait_passed(3 * MIB)
            holder = restarted(daemons, holder, signal.SIGKILL)
            done = get.end()
        assert (done.code, done.stdout) == (0, b""), done.stderr
    assert out.read_bytes() == data
    assert stat(fetcher.home)["DupDataReceived"] < 0.05 * len(data)


# ---- whoever fetches goes ----


LONG = pytest.mark.long


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=LONG)])
@pytest.mark.parametrize(
    "words", [pytest.param(["get", "-o", "out"], id="get"), pytest.param(["pin", "add"], id="pin", marks=LONG)]
)
def test_a_daemon_stops_fetching_for_a_command_that_is_gone(
    daemons: Daemons, holder: Foreground, fetcher: Foreground, number: signal.Signals, words: list[str]
) -> None:
    root, _ = put_noise(holder.home, 40 * MIB, 1)
    out = daemons.path / "work" / "out"
    out.parent.mkdir()
    with SlowLink(address_of(holder), 4 * MIB) as link:
        connect(fetcher, link.address)
        command = [str(out) if word == "out" else word for word in words]
        with Running(*command, root, home=fetcher.home) as fetching:
            link.wait_passed(3 * MIB)
            assert stat(fetcher.home)["Wantlist"]
            done = fetching.end(number)
        wait_wants_nothing(fetcher.home, 3)
        wait_until(lambda: run("bitswap", "wantlist", "-p", peer_of(fetcher), home=holder.home).out == "", "cancels")
        passed = link.passed
    if number == signal.SIGINT:
        assert (done.code, done.stderr) == (130, "error: interrupted\n")
    elif number == signal.SIGTERM:
        assert done.code in (128 + number, 128)
        assert done.stderr.startswith("error: ended by SIGTERM")
    if number != signal.SIGKILL:
        assert list(out.parent.iterdir()) == []
    assert passed < 20 * MIB, "what is on its way comes, and no more"
    assert run("pin", "ls", home=fetcher.home).out == ""
    assert blocks_in(fetcher.home) > 0, "what had come is kept for the next time"
    assert run("repo", "verify", home=fetcher.home).code == 0


def test_a_daemon_that_is_killed_while_it_fetches_keeps_what_was_flushed(
    daemons: Daemons, holder: Foreground, fetcher: Foreground
) -> None:
    root, data = put_noise(holder.home, 16 * MIB, 1)
    out = daemons.path / "out"
    with SlowLink(address_of(holder), 4 * MIB) as link:
        connect(fetcher, link.address)
        with Running("get", "-o", out, root, home=fetcher.home) as get:
            link.wait_passed(8 * MIB)
            fetcher.end(signal.SIGKILL)
            done = get.end(patience=10)
        assert done.code == 128
        assert done.stderr.startswith("error: lost the daemon during 'fetch': ")
        assert not [path for path in daemons.path.iterdir() if path.name.startswith((".", "out"))]
    kept = blocks_in(fetcher.home)
    assert kept >= 4, "two seconds of fetching were not for nothing"
    assert run("repo", "verify", home=fetcher.home).code == 0

    fetcher = daemons.start(fetcher.home)
    connect(fetcher, address_of(holder))
    assert run("get", "-o", out, root, home=fetcher.home).code == 0
    assert out.read_bytes() == data
    assert stat(fetcher.home)["BlocksReceived"] == blocks_of(holder.home, root) - kept


def test_a_daemon_that_serves_and_fetches_ends_within_5_seconds(
    daemons: Daemons, holder: Foreground, fetcher: Foreground
) -> None:
    """Both ways at once, with commands that wait for it and peers that would have it go on."""
    theirs, _ = put_noise(holder.home, 40 * MIB, 1)
    ours, _ = put_noise(fetcher.home, 40 * MIB, 2)
    with SlowLink(address_of(holder), 2 * MIB) as link, SlowLink(address_of(fetcher), 2 * MIB) as back:
        (third,) = start_all(daemons, "third")
        connect(fetcher, link.address)
        connect(third, back.address)
        with (
            Running("pin", "add", theirs, home=fetcher.home) as fetching,
            Running("pin", "add", "--timeout", "1s", ours, home=third.home) as served,
        ):
            link.wait_passed(MIB)
            back.wait_passed(MIB)
            code, out, log, duration = fetcher.end()
            assert (code, out) == (0, "")
            assert duration < 5
            assert "Traceback" not in log
            done = fetching.end(patience=10)
            assert done.code == 128
            assert done.stderr.startswith(("error: the daemon is ending", "error: lost the daemon during 'fetch': "))
            assert served.end(patience=10).code == 128
        assert third.process.poll() is None
    assert run("repo", "verify", home=fetcher.home).code == 0


@pytest.mark.parametrize("way", ["daemon", pytest.param("within", marks=LONG)])
def test_a_disk_that_fills_up_is_a_clear_error_and_no_damage(daemons: Daemons, tmp_path: Path, way: str) -> None:
    (holder,) = start_all(daemons, "holder")
    root, _ = put_noise(holder.home, SIZE, 1)
    (disk := tmp_path / "disk").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.fetch_full_disk_worker", disk, address_of(holder), root, way],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    assert list(disk.iterdir()) == [], "the mount was private"


# ---- what is remembered ----


@pytest.mark.long  # in short by `test_node.py`, within one process
def test_ledgers_outlive_restarts_on_both_sides(daemons: Daemons, holder: Foreground, fetcher: Foreground) -> None:
    root, _ = put_noise(holder.home, 3 * MIB, 1)
    connect(fetcher, address_of(holder))
    assert run("pin", "add", root, home=fetcher.home).code == 0
    one, other = peer_of(holder), peer_of(fetcher)
    theirs, ours = ledger(fetcher, one), ledger(holder, other)
    assert theirs["Recv"] == ours["Sent"] > 3 * MIB
    assert theirs["Exchanged"] == ours["Exchanged"] == blocks_of(holder.home, root)
    assert (theirs["Sent"], ours["Recv"]) == (0, 0)
    assert theirs["Value"] == 0
    assert ours["Value"] == ours["Sent"]
    holder, fetcher = restarted(daemons, holder), restarted(daemons, fetcher)
    assert ledger(fetcher, one) == theirs
    assert ledger(holder, other) == ours
    assert stat(fetcher.home)["BlocksReceived"] == 0, "counts since the start are another thing"
    connect(fetcher, address_of(holder))
    more, _ = put_noise(holder.home, 1000, 2)
    assert run("cat", more, home=fetcher.home).code == 0
    assert ledger(fetcher, one)["Recv"] == theirs["Recv"] + 1000


def ledger(daemon: Foreground, peer: str) -> dict[str, int]:
    """Return what was exchanged with a peer."""
    return client_of(daemon.home).call("bitswap/ledger", peer)


def announced(daemon: Foreground) -> int:
    """Return how many announcements it has made since it started, to the network of the machine."""
    count: int = run("stats", "provide", "--json", home=daemon.home).json[0]["TotalReprovides"]
    return count


@pytest.mark.long
def test_what_was_announced_is_not_announced_again_before_its_time(
    daemons: Daemons, holder: Foreground, fetcher: Foreground
) -> None:
    connect(holder, address_of(fetcher))
    for seed in (1, 2):
        put_noise(holder.home, 1000, seed)
    wait_until(lambda: announced(holder) == 2, "announcing two roots")
    holder = restarted(daemons, holder)
    connect(holder, address_of(fetcher))
    root, _ = put_noise(holder.home, 1000, 3)
    wait_until(lambda: announced(holder) > 0, "announcing the new one")
    assert peer_of(holder) in run("routing", "findprovs", root, home=fetcher.home).out
    time.sleep(8)  # two looks and what a retry would wait
    assert announced(holder) == 1


# ---- who is served ----


@pytest.mark.long  # in short by `test_node.py`
def test_a_home_that_serves_nobody_sends_nothing_and_fetches_as_before(daemons: Daemons) -> None:
    with ThreadPoolExecutor() as pool:
        one = pool.submit(start_all, daemons, "holder", Bitswap_Server=False)
        (fetcher,) = start_all(daemons, "fetcher")
        (holder,) = one.result()
    root, _ = put_noise(holder.home, MIB, 1)
    ours, data = put_noise(fetcher.home, MIB, 2)
    connect(fetcher, address_of(holder))
    began = time.monotonic()
    done = run("cat", "--timeout", "1s", root, home=fetcher.home)
    assert time.monotonic() - began < 4
    assert (done.code, done.stdout) == (128, b"")
    assert f"nobody sent block '{root}'" in done.stderr
    assert stat(holder.home)["BlocksSent"] == 0
    assert run("cat", ours, home=holder.home).stdout == data


@pytest.fixture
def traders(daemons: Daemons) -> list[Foreground]:
    """A daemon that serves by what it gets, and one that serves everybody."""
    return [*start_all(daemons, "trader", Bitswap_Strategy="sigmoid"), *start_all(daemons, "fetcher")]


def test_who_trades_starves_who_only_takes(traders: list[Foreground]) -> None:
    trader, fetcher = traders
    root, _ = put_noise(trader.home, 16 * MIB, 1)
    connect(fetcher, address_of(trader))
    done = run("pin", "add", "--timeout", "1s", root, home=fetcher.home)
    assert done.code == 128
    assert "nobody sent block" in done.stderr
    assert 0 < ledger(trader, peer_of(fetcher))["Sent"] < 12 * MIB
    assert 0 < blocks_in(fetcher.home) < 16


@pytest.mark.long
def test_who_pays_its_debt_is_served_again_after_the_cooldown(traders: list[Foreground]) -> None:
    trader, fetcher = traders
    root, data = put_noise(trader.home, 16 * MIB, 1)
    ours, _ = put_noise(fetcher.home, 32 * MIB, 2)
    connect(fetcher, address_of(trader))
    with Running("cat", "--timeout", "50s", root, home=fetcher.home) as cat:
        wait_until(lambda: ledger(trader, peer_of(fetcher))["Sent"] > 0, "the first, which is free")
        time.sleep(1)
        assert cat.process.poll() is None
        assert run("pin", "add", ours, home=trader.home).code == 0
        began = time.monotonic()
        done = cat.end(patience=40)
        assert time.monotonic() - began < 25, "the cooldown is 10 seconds"
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == data


# ---- settings ----


WRONG = [
    ("Bitswap.Strategy", "generous", "unknown Bitswap strategy 'generous'"),
    ("Bitswap.Server", "yes", 'takes true or false, not "yes"'),
    ("Reprovider.Strategy", "some", "unknown strategy 'some'"),
    ("Routing.Type", "gossip", "unknown routing type 'gossip'"),
    ("Bootstrap", ["/ip4/127.0.0.1/tcp/1"], "'/ip4/127.0.0.1/tcp/1' does not say which peer"),
    ("Reprovider.Interval", "1h", 'takes a whole number, not "1h"'),
    ("DNS.Nameservers", {"a": 1}, "takes a list of strings"),
]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [pytest.param(*row, id=row[0], marks=[] if row is WRONG[0] else LONG) for row in WRONG],
)
def test_a_wrong_setting_is_not_taken_and_one_that_is_in_the_file_is_named(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    home = tmp_path / "home"
    refused = run("config", key, "--json", json.dumps(value), home=home)
    assert refused.code == 129
    assert key in refused.stderr
    assert said in refused.stderr
    home.mkdir(exist_ok=True)
    (home / "config").write_text(json.dumps({key: value}))
    failed = run("daemon", home=home)
    assert (failed.code, failed.stdout) == (129, b"")
    assert said in failed.stderr
    assert "\nhint: " in failed.stderr


# ---- memory ----


def peak_of(daemon: Foreground) -> int:
    """Return the most memory in bytes that the process has had at one time (proc(5), VmHWM)."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.parametrize(
    "size", [pytest.param(300 * MIB, id="300MiB", marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
def test_a_large_fetch_takes_little_memory_on_either_side(
    daemons: Daemons, holder: Foreground, fetcher: Foreground, size: int
) -> None:
    with (daemons.path / "large").open("wb") as file:
        for number in range(size // (10 * MIB)):
            file.write(noise(10 * MIB, number))
    root = Ipvcs(holder.home).ok("put", "-Q", daemons.path / "large").out.strip()
    connect(fetcher, address_of(holder))
    assert run("pin", "add", root, home=fetcher.home).code == 0
    assert stat(fetcher.home)["DataReceived"] > size
    for daemon in (holder, fetcher):
        assert peak_of(daemon) < 200 * MIB, json.dumps(peak_of(daemon))
