"""A fetching home on a disk that fills up: `python -m tests.e2e.fetch_full_disk_worker DISK ADDRESS ROOT WAY`.

WAY is "daemon", or "within" for a node within the command. ADDRESS is a holder's, ROOT a file of `SIZE` bytes that it
has. Runs in a mount namespace of its own, with a tmpfs at DISK.
"""

import sys
from pathlib import Path

from tests.e2e import mounts
from tests.e2e.daemons import Daemons, run
from tests.e2e.fetching import MIB, blocks_in, bootstrap, connect, stat, wait_wants_nothing

SIZE = 8 * MIB


def check(path: Path, address: str, root: str, way: str) -> None:
    """Fetch onto a disk that has room for half of it, and again when it has room."""
    disk = mounts.Disk(path, 64 * MIB)
    daemons = Daemons(path)
    env = {} if way == "daemon" else {"IPVCS_NO_DAEMON": "1"}
    try:
        home = daemons.make_home()
        bootstrap(home, address)
        if way == "daemon":
            daemon = daemons.start(home)
            connect(daemon, address)
        disk.fill(leave=SIZE // 2)
        for words in (["pin", "add", root], ["cat", root]):
            done = run(*words, home=home, env=env)
            assert done.code == 128, words
            assert "no space left on the disk of" in done.stderr, done.stderr
            assert str(home) in done.stderr
            assert "\nhint: " in done.stderr
            assert len(done.stdout) < SIZE
        assert run("pin", "ls", home=home).out == ""
        verified = run("repo", "verify", home=home)
        assert (verified.code, verified.stderr) == (0, "")
        there = set(run("refs", "local", home=home).lines)
        for cid in there:
            assert run("block", "get", "--offline", cid, home=home).code == 0
        if way == "daemon":
            assert daemon.process.poll() is None, "a full disk is no reason to end"
            wait_wants_nothing(home)
            before = stat(home)["BlocksReceived"]
        disk.empty()
        done = run("pin", "add", root, home=home, env=env)
        assert (done.code, done.stderr) == (0, ""), done.stderr
        assert len(run("cat", "--offline", root, home=home).stdout) == SIZE
        assert run("pin", "verify", home=home).code == 0
        if way == "daemon":
            assert stat(home)["BlocksReceived"] - before == blocks_in(home) - len(there), "what was there stayed"
            code, out, log, duration = daemon.end()
            assert (code, out) == (0, ""), log
            assert "Traceback" not in log
            assert duration < 5
    finally:
        daemons.close()


if __name__ == "__main__":
    mounts.enter()
    check(Path(sys.argv[1]), *sys.argv[2:])
