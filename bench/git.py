"""Pushes and clones of a real repository, beside git's own: `python -m bench git REPOSITORY… [--runs N]`.

REPOSITORY is a bare one with full history; none is part of this project, and without one nothing is measured. Publisher
and reader, and an owner and a pusher without its key, have fresh homes on tmpfs, sync on, and daemons on loopback that
are connected. Beside them stand `git clone --no-local` and `git push file://` of the same repository, in the same turn.
CPU is git's, its helper's and what they start; that of the daemons is apart. Memory is that of the largest process.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.exchange import Node, delayed
from bench.measure import Run, print_table, run_process
from bench.put import fresh

_FAULTS: Final = ("hasDotgit", "missingEmail", "missingNameBeforeEmail", "zeroPaddedDate")
"""That the histories measured have, and owners refuse unless told otherwise."""
_URL: Final = "ipfs::/ipns/{name}/repository"


class Turn:
    """One turn: everything once, with homes of its own."""

    def __init__(self, parent: Path, repository: Path, delay: float, *, by_objects: bool) -> None:
        self.parent = parent
        self.repository = repository
        self.delay = delay
        self.by_objects = by_objects
        self.runs: dict[str, Run] = {}
        self.daemons: dict[str, tuple[float, float]] = {}
        self.blocks = ""
        self.received: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        """Measure all of it."""
        with ExitStack() as stack:
            publisher, reader, slow, owner, pusher = (
                self._node(stack, name) for name in ("publisher", "reader", "graph", "owner", "pusher")
            )
            owner.run("access", "add", pusher.addr.rpartition("/")[2], "repository", "--rights", "all")
            pusher.connect(owner.addr)
            mirrors = Path(owner.environ["IPVCS_PATH"], "repositories")
            mirrors.mkdir()
            for fault in _FAULTS:
                setting = ("config", "-f", mirrors / "config", f"receive.fsck.{fault}", "ignore")
                subprocess.run(["git", *setting], check=True)
            address = stack.enter_context(delayed(publisher.addr, self.delay)) if self.delay else publisher.addr
            url = _URL.format(name=publisher.addr.rpartition("/")[2])
            owned = _URL.format(name=owner.addr.rpartition("/")[2])
            nodes = {"publisher": publisher, "reader": reader}
            pushing = {"publisher": owner, "reader": pusher}
            directory = stack.enter_context(fresh(self.parent, "git"))
            directory.mkdir()
            self._git(
                "git clone --no-local", "clone", "-q", "--bare", "--no-local", self.repository, directory / "plain"
            )
            refspecs = ("refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")
            plain = f"file://{directory / 'pushed'}"
            subprocess.run(["git", "init", "-q", "--bare", directory / "pushed"], check=True)
            self._git("git push file://", "-C", self.repository, "push", "-q", plain, *refspecs)
            self._git("first push", "-C", self.repository, "push", "-q", url, *refspecs, home=publisher, nodes=nodes)
            self.blocks = publisher.run("repo", "stat")
            first = ("-C", self.repository, "push", "-q", owned, *refspecs)
            self._git("first push to an owner", *first, home=pusher, nodes=pushing)
            for node in (reader, slow):
                node.connect(address)
            self._git("clone by packs", "clone", "-q", "--bare", url, directory / "packs", home=reader, nodes=nodes)
            shallow = ("clone", "-q", "--bare", "--depth", "1", url, directory / "shallow")
            self._git("clone of one generation (`--depth 1`)", *shallow, home=slow, nodes={**nodes, "reader": slow})
            if self.by_objects:
                os.environ["IPVCS_FETCH"] = "objects"
                whole = ("clone", "-q", "--bare", url, directory / "objects")
                self._git("clone by objects", *whole, home=slow, nodes={**nodes, "reader": slow})
                del os.environ["IPVCS_FETCH"]
            work = directory / "work"
            subprocess.run(["git", "clone", "-q", self.repository, work], check=True)
            branch = subprocess.run(
                ["git", "-C", work, "symbolic-ref", "--short", "HEAD"], check=True, capture_output=True, text=True
            ).stdout.strip()
            (work / "one more file").write_text("x")
            who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
            subprocess.run(["git", "-C", work, "add", "one more file"], check=True)
            subprocess.run(["git", "-C", work, *who, "commit", "-q", "-m", "one more"], check=True)
            self._git("git push file:// of one commit", "-C", work, "push", "-q", plain, branch)
            self._git(
                "push of one commit to an owner", "-C", work, "push", "-q", owned, branch, home=pusher, nodes=pushing
            )
            self._git("push of one commit", "-C", work, "push", "-q", url, branch, home=publisher, nodes=nodes)
            self._git("ls-remote", "ls-remote", url, home=reader, nodes=nodes)
            fetched = f"{branch}:refs/heads/fetched"
            packs = directory / "packs"
            self._git("fetch of one commit", "-C", packs, "fetch", "-q", url, fetched, home=reader, nodes=nodes)
            heads = [
                subprocess.run(["git", "-C", path, "rev-parse", name], check=True, capture_output=True).stdout
                for path, name in ((work, "HEAD"), (packs, "fetched"))
            ]
            assert heads[0] == heads[1], "what was fetched is what was pushed"

    def _node(self, stack: ExitStack, name: str) -> Node:
        node = Node(stack.enter_context(fresh(self.parent, name)), sync=True)
        stack.callback(node.close)
        return node

    def _git(
        self, title: str, *words: str | Path, home: Node | None = None, nodes: dict[str, Node] | None = None
    ) -> None:
        before = {name: node.cpu for name, node in (nodes or {}).items()}
        path = None if home is None else Path(home.environ["IPVCS_PATH"])
        time.sleep(0.5)
        came = nodes["reader"].stat() if nodes else {}
        self.runs[title] = run_process(["git", *words], path)
        for name, node in (nodes or {}).items():
            self.daemons[f"{title}: {name}"] = node.cpu - before[name], node.memory
        if nodes:
            now = nodes["reader"].stat()
            self.received[title] = (
                now["BlocksReceived"] - came["BlocksReceived"], now["DataReceived"] - came["DataReceived"]
            )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Measure each repository that is named."""
    parser = argparse.ArgumentParser(prog="bench git")
    parser.add_argument("repositories", type=Path, nargs="*", metavar="REPOSITORY")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--where", type=Path, default=Path("/dev/shm"), help="where homes and clones lie")
    parser.add_argument("--without-objects", action="store_true", help="no clone from the object graph alone")
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="added to the round trip of clones")
    options = parser.parse_args(arguments)
    if not options.repositories:
        print("\nno repository was named: `python -m bench git some.git`")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for git to find its helper
    parent = Path(tempfile.mkdtemp(prefix="bench-git-", dir=options.where))
    try:
        for repository in options.repositories:
            turns = [
                Turn(parent, repository.absolute(), options.delay, by_objects=not options.without_objects)
                for _ in range(options.runs)
            ]
            for turn in turns:
                turn.run()
            _print(repository.name, turns)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _print(name: str, turns: Sequence[Turn]) -> None:
    def middle(title: str, figure: Callable[[Run], float]) -> float:
        return statistics.median(figure(turn.runs[title]) for turn in turns)

    rows = []
    base = middle("git clone --no-local", lambda run: run.wall)
    for title in turns[0].runs:
        wall = middle(title, lambda run: run.wall)
        cpu = middle(title, lambda run: run.cpu)
        memory = max(turn.runs[title].memory or 0 for turn in turns)
        used = []
        for node in ("publisher", "reader"):
            found = [turn.daemons[f"{title}: {node}"] for turn in turns if f"{title}: {node}" in turn.daemons]
            if found:
                used.append(
                    f"{statistics.median(cpu for cpu, _ in found):.2f} s, {max(most for _, most in found):.0f} MiB"
                )
        blocks, size = turns[0].received.get(title, (0, 0))
        rows.append([
            title, f"{wall:.2f}", f"{wall / base:.2f}", f"{cpu:.2f}", f"{memory:.0f}", "; ".join(used),
            f"{blocks:,}, {size / 1e6:.1f} MB" if blocks else "",
        ])  # fmt: skip
    header = ("", "wall s", "git's clone = 1", "CPU s", "peak MiB", "daemons: publisher; reader", "blocks received")
    print_table(f"{name} (medians of {len(turns)})", header, rows)
    print(f"\npublisher after the first push: {' '.join(turns[0].blocks.split())}")
