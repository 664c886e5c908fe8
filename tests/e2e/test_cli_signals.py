"""Commands that are interrupted, ended and killed, and commands beside each other."""

import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs, environment
from tests.e2e.crash import check_after_crash

FLUSH_OFTEN = "import ipvcs.storage.session as s; s.WRITE_SIZE = 1; s.FLUSH_COUNT = 50"
"""So that lines appear, and are to be believed, long before the end."""
UNBUFFERED = "import ipvcs.cli.ui as ui, os; ui.Ui.raw = lambda self, data: os.write(1, data)"
AS_IN_A_TERMINAL = (
    "import signal as g; g.signal(g.SIGINT, g.default_int_handler); "
    "g.signal(g.SIGHUP, g.SIG_DFL); g.signal(g.SIGTERM, g.SIG_DFL)"
)
"""Whatever started the tests, `nohup` or a shell's `&`, may ignore them, and children inherit that."""
MAIN = "from ipvcs.cli.script import main; main()"
SLOWLY = (
    "import ipvcs.storage.disk_export as e, time; w = e.write_all; e.write_all = lambda *a: (time.sleep(.01), w(*a))"
)
"""So that a `get` is in the middle when the signal comes."""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A tree of 1,500 small files."""
    root = tmp_path / "many"
    for directory in range(15):
        (root / f"{directory}").mkdir(parents=True)
        for number in range(100):
            (root / f"{directory}" / f"{number}").write_bytes(b"%d %d" % (directory, number) * 300)
    return root


def start(home: Path, *words: str | Path, first: str = "") -> "subprocess.Popen[bytes]":
    """Start a command, which runs the statement `first` before anything else."""
    command = [sys.executable, "-c", f"{AS_IN_A_TERMINAL}\n{first}\n{MAIN}", *map(str, words)]
    return subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, b"error: interrupted\n"),
        (signal.SIGTERM, 143, b"error: ended by SIGTERM\n"),
        (signal.SIGHUP, 129, b"error: ended by SIGHUP\n"),
    ],
)
def test_a_get_that_is_ended_leaves_nothing(
    many: Path, tmp_path: Path, number: signal.Signals, status: int, said: bytes
) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    root = Ipvcs(home).ok("put", "-rQ", many).out.strip()
    process = start(home, "get", "-o", out / "copy", root, first=SLOWLY)
    while not any(out.iterdir()):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, said)
    assert list(out.iterdir()) == []


def test_a_get_that_is_killed_leaves_a_hidden_part_at_most(many: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    root = Ipvcs(home).ok("put", "-rQ", many).out.strip()
    process = start(home, "get", "-o", out / "copy", root, first=SLOWLY)
    while not any(out.iterdir()):
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert [path.name[:6] + path.suffix for path in out.iterdir()] == [".copy..part"]
    Ipvcs(home).ok("get", "-o", out / "copy", root)


def test_signals_that_were_ignored_stay_ignored(many: Path, tmp_path: Path) -> None:
    """As under nohup(1), or for a shell's background jobs."""
    home = tmp_path / "home"
    root = Ipvcs(home).ok("put", "-rQ", many).out.strip()
    ignore = "from signal import *; signal(SIGHUP, SIG_IGN); signal(SIGINT, SIG_IGN)"
    process = start(home, "get", "-o", tmp_path / "copy", f"{root}/3", first=f"{ignore}\n{SLOWLY}")
    while not any(tmp_path.glob(".copy*")):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.communicate()
    assert len(list((tmp_path / "copy").iterdir())) == 100


DURING_A_CALLBACK = f"""
{AS_IN_A_TERMINAL}
import os, time, weakref
from ipvcs.cli.main import exit_after, guarded

class Thing: pass

def action():
    thing = Thing()
    callback = weakref.ref(thing, lambda _: os.kill(os.getpid(), {{number}}))
    del thing
    time.sleep(30)
    return 0

exit_after(lambda: guarded(action))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_not_lost_in_a_callback_that_swallows_its_exception(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DURING_A_CALLBACK.format(number=int(number))],
        capture_output=True,
        check=False,
        timeout=20,
    )
    said = b"interrupted" if number == signal.SIGINT else b"ended by SIGTERM"
    assert (done.returncode, done.stderr) == (128 + number, b"error: " + said + b"\n")


@pytest.mark.parametrize("count", [pytest.param(10, id="10"), pytest.param(200, id="200", marks=pytest.mark.long)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_put_that_is_ended_at_any_time_prints_no_traceback(
    many: Path, tmp_path: Path, number: signal.Signals, count: int
) -> None:
    instants = random.Random(number)
    stored: list[Cid] = []
    for _ in range(count):
        process = start(tmp_path / "home", "put", "-rq", many, first=f"{FLUSH_OFTEN}\nprint(flush=True)")
        assert process.stdout is not None
        process.stdout.readline()  # from here on Python itself has started
        time.sleep(instants.uniform(0.05, 0.6))
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert b"Traceback" not in errors, errors.decode()
        assert process.returncode in (0, 128 + number, -number), errors.decode()
        stored += [Cid.parse(line) for line in output.decode().rpartition("\n")[0].split()]  # whole lines count
    check_after_crash(tmp_path / "home", stored)


@pytest.mark.parametrize("kills", [pytest.param(10, id="10"), pytest.param(200, id="200", marks=pytest.mark.long)])
def test_what_put_has_printed_is_stored_whenever_it_is_killed(many: Path, tmp_path: Path, kills: int) -> None:
    instants = random.Random(1)
    began = time.monotonic()
    whole_run = start(tmp_path / "whole", "put", "-rq", many, first=f"{FLUSH_OFTEN}\n{UNBUFFERED}")
    told = len(whole_run.communicate(timeout=60)[0].split())
    duration = time.monotonic() - began
    for kill in range(kills):
        home = tmp_path / f"home{kill // 20}"
        options = ["--chunker", f"size-{1000 + kill}"]  # other blocks each time
        process = start(home, "put", "-rq", *options, many, first=f"{FLUSH_OFTEN}\n{UNBUFFERED}")
        time.sleep(instants.uniform(0.3, 1.1) * duration)
        process.kill()
        output, _ = process.communicate(timeout=60)
        whole = output.decode().rpartition("\n")[0].split()
        told += len(whole)
        if (home / "version").exists():
            check_after_crash(home, map(Cid.parse, whole))
    assert told >= 1516


@pytest.mark.parametrize("kills", [pytest.param(8, id="8"), pytest.param(200, id="200", marks=pytest.mark.long)])
def test_an_import_that_is_killed_leaves_a_sound_home_and_no_pin(many: Path, tmp_path: Path, kills: int) -> None:
    source = Ipvcs(tmp_path / "source")
    car = tmp_path / "many.car"
    source.ok("dag", "export", "-o", car, source.ok("put", "-rQ", many).out.strip())
    instants = random.Random(2)
    home = tmp_path / "home"
    for _ in range(kills):
        process = start(home, "dag", "import", car, first=FLUSH_OFTEN)
        time.sleep(instants.uniform(0.2, 0.6))
        process.kill()
        output, _ = process.communicate(timeout=60)
        if (home / "version").exists():
            with open_home(home) as opened:
                pins = list(opened.pins.iter_pins())
            check_after_crash(home, [], [pin.cid for pin in pins])
            assert pins or not output
    Ipvcs(home).ok("dag", "import", car)
    assert Ipvcs(home).run("repo", "verify").code == 0


def test_ten_puts_make_one_home_together(tmp_path: Path) -> None:
    ipvcs = Ipvcs(tmp_path / "home")
    for number in range(10):
        (tmp_path / f"{number}").write_bytes(b"%d" % number * 50_000)
    with ThreadPoolExecutor(10) as pool:
        cids = list(pool.map(lambda number: ipvcs.ok("put", "-Q", tmp_path / f"{number}").out.strip(), range(10)))
    assert sorted(ipvcs.ok("pin", "ls", "-q", "-t", "recursive").lines) == sorted(cids)
    for number, cid in enumerate(cids):
        assert ipvcs.ok("cat", cid).stdout == b"%d" % number * 50_000
    assert ipvcs.ok("repo", "verify").code == 0


def test_what_is_put_while_garbage_is_collected_is_there(many: Path, tmp_path: Path) -> None:
    """Again and again the same files, unpinned in between, so that collections have what they could wrongly take."""
    ipvcs = Ipvcs(tmp_path / "home")
    ipvcs.ok("repo", "stat")
    collector = start(
        ipvcs.home,
        "repo",
        "gc",
        "--silent",
        first="import sys\nfrom ipvcs.cli.main import run\nfor _ in range(40): assert run(sys.argv[1:]) == 0",
    )
    for number in range(6):
        root = ipvcs.ok("put", "-rQ", many / f"{number % 3}").out.strip()
        ipvcs.ok("get", "-o", tmp_path / f"copy{number}", root)
        ipvcs.ok("pin", "rm", root)
    output, errors = collector.communicate(timeout=100)
    assert (collector.returncode, errors) == (0, b""), output
    assert ipvcs.ok("repo", "verify").code == 0


@pytest.mark.parametrize("size", [300 << 20, pytest.param(2 << 30, marks=pytest.mark.long)])
def test_a_file_of_any_size_takes_little_memory(tmp_path: Path, size: int) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(size)
    # Not getrusage: its peak begins with the parent's memory, and a worker that ran other tests has much.
    usage = "import re, sys\nfrom ipvcs.cli.main import run\nassert run(sys.argv[1:]) == 0\n"
    usage += "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]); sys.exit()"
    for words in (["put", "-Q", "--chunker", "fastcdc"], ["put", "-Q"]):
        process = start(tmp_path / "home", *words, tmp_path / "sparse", first=usage)
        output, errors = process.communicate(timeout=110)
        assert process.returncode == 0, errors.decode()
        assert int(output.split()[1]) < 200 * 1024, "KiB"
    cid = output.split()[0].decode()
    process = start(tmp_path / "home", "get", "-o", tmp_path / "copy", cid, first=usage)
    assert int(process.communicate(timeout=110)[0].split()[0]) < 200 * 1024
    assert (tmp_path / "copy").stat().st_size == size


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_when_all_is_done_prints_no_traceback(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    late = f"import ipvcs.cli.main as m, os; r = m.run; m.run = lambda a: (r(a), os.kill(os.getpid(), {number:d}))[0]"
    process = start(tmp_path / "home", "version", first=late)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, b"")
    assert output.startswith(b"ipvcs version")
