"""Commands that read fetch what their home lacks: through a daemon, one that they start, or a node of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ipvcs.storage.gc import collect
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs
from tests.e2e.daemons import Daemons, Foreground, pid_of, run
from tests.e2e.fetching import (
    MIB,
    NOBODYS,
    Running,
    address_of,
    blocks_in,
    blocks_of,
    bootstrap,
    connect,
    noise,
    peer_of,
    put_noise,
    start_all,
    stat,
    wait_until,
    wait_wants_nothing,
)
from tests.e2e.slow_link import SlowLink

pytestmark = pytest.mark.network
WITHIN = {"IPVCS_NO_DAEMON": "1"}
long_param = partial(pytest.param, marks=pytest.mark.long)


@dataclass(frozen=True)
class Content:
    """What `holder` has: a tree of files, and a node of dag-cbor."""

    holder: Foreground
    tree: Path
    root: str
    node: str

    def words(self, template: str) -> list[str]:
        """Fill a command line in."""
        return template.format(root=self.root, node=self.node).split()

    def expected(self, template: str) -> bytes:
        """Return what the command prints where everything is there."""
        done = run(*self.words(template), "--offline", home=self.holder.home)
        assert done.code == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Content]:
    path = tmp_path_factory.mktemp("holder")
    daemons = Daemons(path)
    try:
        tree = path / "tree"
        (tree / "sub" / "empty").mkdir(parents=True)
        (tree / "file").write_bytes(noise(3 * MIB + 5, 1))
        (tree / "sub" / "small").write_text("small\n")
        (tree / "sub" / "link").symlink_to("../file")
        holder = daemons.start(daemons.make_home("holder"))
        root = Ipvcs(holder.home).ok("put", "-rQ", tree).out.strip()
        value = json.dumps({"n": [1, {"two": 2}], "tree": {"/": root}}).encode()
        node = Ipvcs(holder.home).ok("dag", "put", "--pin", stdin=value).out.strip()
        yield Content(holder, tree, root, node)
    finally:
        daemons.close()


@pytest.fixture(scope="module")
def shared(content: Content, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreground]:
    """A daemon that is connected to the holder. Its home has whatever earlier tests left: use `fetcher`."""
    daemons = Daemons(tmp_path_factory.mktemp("fetcher"))
    try:
        daemon = daemons.start(daemons.make_home("fetcher"))
        connect(daemon, address_of(content.holder))
        yield daemon
    finally:
        daemons.close()


@pytest.fixture
def fetcher(shared: Foreground) -> Foreground:
    """A daemon that is connected to the holder, and has no block."""
    with open_home(shared.home) as home:
        home.pins.remove([pin.cid for pin in home.pins.iter_pins()])
        collect(home)
        assert home.blocks.stat().blocks == 0
    return shared


READING = [
    "cat {root}/file",
    "cat --offset 1000000 --length 3 {root}/file",
    "cat {root}/sub/small {root}/file {root}/sub/small",
    "ls {root}",
    "ls -v --json {root} {root}/sub",
    "refs -r {root}",
    "refs -r -u -e {node}",
    "pin add {root}",
    "pin add --direct {root}/sub/small",
    "dag export {node}",
    "dag get {node}",
    "dag get {node}/n/1/two",
    "dag get {node}/tree/sub",
    "dag stat {root} {node}",
    "dag resolve {node}/tree/sub/small",
    "block get {node}",
    "block stat {root}",
    "object get {root}",
    "object links {root}/sub",
]
"""Command lines that read blocks."""
SHORT = {
    "cat {root}/file",
    "ls {root}",
    "refs -r {root}",
    "pin add {root}",
    "dag export {node}",
    "dag get {node}/tree/sub",
}
"""Of them, what `make test` runs, and in the slower ways the first of these alone."""


def templates(short: set[str]) -> pytest.MarkDecorator:
    """Run a test with every command line, with those that are not in `short` in `make test-long` alone."""
    marks = [[] if each in short else [pytest.mark.long] for each in READING]
    names = [each.replace("{", "").replace("}", "") for each in READING]
    rows = zip(READING, names, marks, strict=True)
    return pytest.mark.parametrize("template", [pytest.param(each, id=name, marks=mark) for each, name, mark in rows])


@templates(SHORT)
def test_a_command_prints_the_same_wherever_the_blocks_are(
    content: Content, fetcher: Foreground, template: str
) -> None:
    done = run(*content.words(template), home=fetcher.home)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == content.expected(template)
    assert blocks_in(fetcher.home) > 0


@templates({"cat {root}/file"})
def test_a_node_within_the_command_fetches_as_well(content: Content, daemons: Daemons, template: str) -> None:
    home = daemons.make_home()
    bootstrap(home, address_of(content.holder))
    done = run(*content.words(template), home=home, env=WITHIN)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == content.expected(template)
    assert not (home / "daemon.log").exists()
    again = run(*content.words(template), "--offline", home=home)
    assert (again.code, again.stdout) == (0, done.stdout)


def test_a_daemon_is_started_to_fetch_if_it_can_join_the_network(content: Content, daemons: Daemons) -> None:
    home = daemons.make_home()
    bootstrap(home, address_of(content.holder))
    first = run("cat", f"{content.root}/file", home=home)
    assert first.code == 0
    assert first.stdout == noise(3 * MIB + 5, 1)
    assert first.stderr == f"started a daemon in the background; `ipvcs --home {home} shutdown` ends it\n"
    assert pid_of(home)
    second = run("cat", f"{content.root}/sub/small", home=home)
    assert (second.code, second.stdout, second.stderr) == (0, b"small\n", "")


@pytest.mark.parametrize(
    "options", [pytest.param([], id="tree"), long_param(["-a"], id="tar"), long_param(["-a", "-C"], id="tar.gz")]
)
def test_get_writes_what_was_put(content: Content, fetcher: Foreground, tmp_path: Path, options: list[str]) -> None:
    fetched, there = tmp_path / "fetched", tmp_path / "there"
    for home, out in ((fetcher.home, fetched), (content.holder.home, there)):
        done = run("get", *options, "-o", out, content.root, home=home, cwd=tmp_path)
        assert done.code == 0, done.stderr
    if options:
        (one,) = tmp_path.glob("fetched*")
        (other,) = tmp_path.glob("there*")
        assert one.read_bytes().replace(b"fetched", b"there") == other.read_bytes()
    else:
        subprocess.run(["diff", "-r", content.tree, fetched], check=True)
        assert (fetched / "sub" / "link").readlink() == Path("../file")


def test_a_part_of_a_file_fetches_a_part_of_its_blocks(content: Content, fetcher: Foreground) -> None:
    words = ["cat", "--offset", "1500000", "--length", "10", f"{content.root}/file"]
    assert run(*words, home=fetcher.home).stdout == noise(3 * MIB + 5, 1)[1_500_000:1_500_010]
    assert blocks_in(fetcher.home) == 3  # the directory, the file and the one leaf


def test_several_roots_are_each_fetched_as_a_whole(daemons: Daemons) -> None:
    """One message for many blocks, and not one request a block for all roots but the first."""
    holder, fetcher = start_all(daemons, "holder", "fetcher")
    connect(fetcher, address_of(holder))
    paths = [daemons.path / f"file-{seed}" for seed in (1, 2, 3)]
    for seed, path in enumerate(paths):
        path.write_bytes(noise(MIB, seed))
    roots = Ipvcs(holder.home).ok("put", "-q", "--chunker", "size-4096", *paths).lines
    done = run("cat", *roots, home=fetcher.home)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == b"".join(path.read_bytes() for path in paths)
    found = stat(fetcher.home)
    assert found["BlocksReceived"] > 768
    assert found["MessagesReceived"] < 80
    assert found["DupBlksReceived"] == 0


# ---- what nobody is asked for, or nobody has ----


@templates({"cat {root}/file", "refs -r {root}", "pin add {root}", "dag export {node}"})
def test_offline_and_without_a_daemon_what_is_missing_is_named_at_once(
    content: Content, daemons: Daemons, template: str
) -> None:
    template = template.replace("dag stat {root} {node}", "dag stat {node}")
    home = daemons.make_home()
    words = content.words(template)
    for options, way_out in (
        (["--offline"], "nobody is asked with --offline"),
        ([], f"no daemon runs that could fetch it: `ipvcs --home {home} daemon` starts one"),
    ):
        began = time.monotonic()
        done = run(*words, *options, home=home)
        assert time.monotonic() - began < 5
        assert done.code == 128
        assert done.stderr.startswith("error: block '")
        assert done.stderr.split("'")[1] == words[-1].partition("/")[0]
        assert done.stderr.endswith(f"\nhint: it is not in this home's store, and {way_out}\n")
    assert not (home / "daemon.log").exists()


def test_offline_asks_nobody_though_a_daemon_could(content: Content, fetcher: Foreground, tmp_path: Path) -> None:
    refused = run("get", "--offline", "-o", tmp_path / "out", content.root, home=fetcher.home)
    assert refused.code == 128
    assert f"block '{content.root}' not found" in refused.stderr
    assert blocks_in(fetcher.home) == 0


@pytest.mark.parametrize(
    "command", ["get", *map(long_param, ("cat", "ls", "refs -r", "pin add", "dag export", "block get"))]
)
def test_what_nobody_has_is_an_error_that_says_which_block_and_who_was_asked(
    fetcher: Foreground, tmp_path: Path, command: str
) -> None:
    missing = "QmPZ9gcCEpqKTo6aq61g2nXGUhM4iCL3ewB6LDXZCtioEB"  # whose links would have to be read
    began = time.monotonic()
    done = run(*command.split(), "--timeout", "1s", missing, home=fetcher.home, cwd=tmp_path)
    assert 1 <= time.monotonic() - began < 5
    assert done.code == 128
    assert f"error: nobody sent block '{missing}' within 1 second" in done.stderr
    assert "1 connected peer" in done.stderr
    assert "no provider was found" in done.stderr
    assert "`ipvcs swarm connect <address>`" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert stat(fetcher.home)["Wantlist"] == []


@pytest.mark.long
def test_a_node_that_reaches_nobody_says_so_in_time(daemons: Daemons) -> None:
    fetcher = daemons.start(daemons.make_home())
    began = time.monotonic()
    done = run("cat", NOBODYS, "--timeout", "1500ms", home=fetcher.home)
    assert 1.4 < time.monotonic() - began < 5
    assert done.code == 128
    assert f"nobody sent block '{NOBODYS}' within 2 seconds: 0 connected peers were asked" in done.stderr


@pytest.mark.parametrize("text", ["3", "-1s", "", "1e3s", "3000000h", "soon"])
def test_what_is_no_duration_is_wrong_usage(daemons: Daemons, text: str) -> None:
    done = run("cat", f"--timeout={text}", NOBODYS, home=daemons.path / "none")
    assert done.code == 129
    assert done.stderr.startswith("error: invalid value for '--timeout': ")


def without_leaf(holder: Foreground, daemons: Daemons) -> tuple[str, str]:
    """Put a directory of which the last leaf of one file is nowhere; return its CID and the leaf's."""
    tree = daemons.path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(noise(MIB, 7))
    (tree / "b").write_bytes(noise(4 * MIB, 8))
    root = Ipvcs(holder.home).ok("put", "-rQ", tree).out.strip()
    leaf = Ipvcs(holder.home).ok("refs", f"{root}/b").lines[-1]
    Ipvcs(holder.home).ok("pin", "rm", root)
    Ipvcs(holder.home).ok("block", "rm", leaf)
    return root, leaf


def test_a_dag_that_nobody_has_whole_leaves_nothing_half_written(daemons: Daemons, full_counts: bool) -> None:
    holder, fetcher = start_all(daemons, "holder", "fetcher")
    connect(fetcher, address_of(holder))
    root, leaf = without_leaf(holder, daemons)
    work = daemons.path / "work"
    work.mkdir()
    commands = [["get"], ["pin", "add"]]
    if full_counts:
        commands += [["get", "-a", "-C"], ["dag", "export", "-o", "out"], ["pin", "add", "--json"]]
    for words in commands:
        done = run(*words, "--timeout", "1s", root, home=fetcher.home, cwd=work)
        assert (done.code, done.stdout) == (128, b""), words
        assert f"nobody sent block '{leaf}' within 1 second" in done.stderr
        assert list(work.iterdir()) == []
    assert run("pin", "ls", home=fetcher.home).out == ""
    kept = stat(fetcher.home)
    assert kept["BlocksReceived"] == blocks_in(fetcher.home) == 6  # asked again and again, received once
    assert kept["Wantlist"] == []


# ---- pins and garbage ----


def test_what_is_pinned_from_the_network_outlives_a_collection(content: Content, fetcher: Foreground) -> None:
    Ipvcs(fetcher.home).ok("pin", "add", "--name", "theirs", content.node)
    whole = blocks_in(fetcher.home)
    assert whole == blocks_of(content.holder.home, content.node)
    assert run("repo", "gc", "-q", home=fetcher.home).out == ""
    assert blocks_in(fetcher.home) == whole
    assert run("pin", "ls", "--names", "-t", "recursive", home=fetcher.home).lines == [
        f"{content.node} recursive theirs"
    ]
    assert run("pin", "verify", home=fetcher.home).code == 0
    assert run("cat", "--offline", f"{content.root}/file", home=fetcher.home).stdout == noise(3 * MIB + 5, 1)


def test_what_was_fetched_and_not_pinned_is_garbage(content: Content, fetcher: Foreground, tmp_path: Path) -> None:
    Ipvcs(fetcher.home).ok("get", "-o", tmp_path / "out", content.root)
    count = blocks_in(fetcher.home)
    assert count == blocks_of(content.holder.home, content.root)
    assert len(run("repo", "gc", "-q", home=fetcher.home).lines) == count
    assert blocks_in(fetcher.home) == 0


def test_collections_take_nothing_that_a_command_is_still_reading(daemons: Daemons) -> None:
    holder, fetcher = start_all(daemons, "holder", "fetcher")
    root, data = put_noise(holder.home, 6 * MIB, 1)
    out = daemons.path / "out"
    spared = []
    with SlowLink(address_of(holder), 3 * MIB) as link:
        connect(fetcher, link.address)
        with Running("get", "-o", out, root, home=fetcher.home) as get:
            while get.process.poll() is None:
                line = run("repo", "gc", home=fetcher.home).stderr
                if not out.exists():  # else it may have begun when all was read, and the command about to end
                    spared.append(line)
            assert get.end().code == 0
    assert out.read_bytes() == data
    assert all(line.startswith("0 blocks removed, ") for line in spared), spared
    assert sum(not line.startswith("0 blocks removed, 0 kept") for line in spared) >= 2, spared
    Ipvcs(fetcher.home).ok("repo", "gc", "--silent")
    assert blocks_in(fetcher.home) == 0
    assert stat(fetcher.home)["DupBlksReceived"] == 0


# ---- finding ----


@pytest.mark.long  # in short by `test_node.py`, within one process
def test_a_provider_record_leads_to_a_holder_that_is_not_connected(daemons: Daemons) -> None:
    """The router has the record and no block; what the DHT made of connections before is ended."""
    router, holder, fetcher = start_all(daemons, "router", "holder", "fetcher")
    root, data = put_noise(holder.home, MIB, 1)
    connect(holder, address_of(router))
    peer = peer_of(holder)
    wait_until(lambda: peer in run("routing", "findprovs", root, home=router.home).out, "the root is not announced")
    connect(fetcher, address_of(router))
    run("swarm", "disconnect", f"/p2p/{peer}", home=fetcher.home)
    assert peer not in run("swarm", "peers", home=fetcher.home).out
    done = run("cat", root, home=fetcher.home)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == data
    assert run("bitswap", "ledger", peer, home=fetcher.home).lines[2] == "Exchanges:\t1"
    assert blocks_in(router.home) == 0


# ---- names ----


def test_paths_that_start_at_a_name_are_fetched(content: Content, daemons: Daemons, shared: Foreground) -> None:
    """By NodeId in each of its forms, by a key's name where the key is, with a daemon and without."""
    (publisher,) = start_all(daemons, "publisher")
    connect(publisher, address_of(content.holder))
    Ipvcs(publisher.home).ok("pin", "add", content.root)
    Ipvcs(publisher.home).ok("key", "gen", "mine")
    published = run("name", "publish", "--key", "mine", content.root, home=publisher.home)
    assert published.code == 0, published.stderr
    name = published.out.split()[2].rstrip(":")
    own = run("name", "publish", f"/ipns/{name}", home=publisher.home)
    assert own.code == 0, own.stderr
    node_id = peer_of(publisher)

    for each in (name, node_id):
        done = run("cat", f"/ipns/{each}/sub/small", home=shared.home)
        assert (done.code, done.stdout, done.stderr) == (0, b"small\n", "")
    assert (
        run("ls", f"/ipns/{name}/sub", home=shared.home).out == run("ls", f"{content.root}/sub", home=shared.home).out
    )
    for each in ("mine", "self"):
        assert run("cat", f"/ipns/{each}/sub/small", home=publisher.home).stdout == b"small\n"

    publisher.end()
    for each, options in (("mine", []), (node_id, []), ("self", ["--offline"])):
        done = run("cat", *options, f"/ipns/{each}/sub/small", home=publisher.home)
        assert (done.code, done.stdout, done.stderr) == (0, b"small\n", "")
    stranger = daemons.make_home("stranger")
    for options, reason in (([], f"`ipvcs --home {stranger} daemon` starts one"), (["--offline"], "--offline")):
        done = run("cat", *options, f"/ipns/{name}/sub/small", home=stranger)
        assert done.code == 128
        assert done.stderr.startswith(f"error: cannot resolve '/ipns/{name}': it is not published by this home, and ")
        assert reason in done.stderr
    bootstrap(stranger, address_of(content.holder))
    done = run("cat", f"/ipns/{name}/sub/small", home=stranger, env=WITHIN)
    assert (done.code, done.stdout, done.stderr) == (0, b"small\n", "")


def test_the_name_of_nobody_is_an_error(fetcher: Foreground) -> None:
    done = run("cat", "/ipns/no-such-key/x", home=fetcher.home)
    assert done.code in (1, 128)
    assert done.stderr.startswith("error: ")
    assert "no.such.key" in done.stderr


# ---- many at once, and outputs that can't be written ----


def test_a_directory_that_nobody_may_write_is_named_and_what_was_fetched_stays(
    content: Content, fetcher: Foreground
) -> None:
    done = run("get", "-o", "/proc/nobody/out", f"{content.root}/file", home=fetcher.home)
    assert done.code == 128
    assert done.stderr.startswith("error: ")
    assert "/proc/nobody" in done.stderr
    wait_wants_nothing(fetcher.home)
    assert run("cat", f"{content.root}/file", home=fetcher.home).stdout == noise(3 * MIB + 5, 1)


def test_commands_at_once_share_what_they_fetch(daemons: Daemons) -> None:
    holder, fetcher = start_all(daemons, "holder", "fetcher")
    root, data = put_noise(holder.home, 8 * MIB, 1)
    with SlowLink(address_of(holder), 8 * MIB) as link:
        connect(fetcher, link.address)
        outs = [daemons.path / "one", daemons.path / "other"]
        with (
            Running("get", "-o", outs[0], root, home=fetcher.home) as one,
            Running("get", "-o", outs[1], root, home=fetcher.home) as other,
        ):
            assert (one.end().code, other.end().code) == (0, 0)
        assert [out.read_bytes() == data for out in outs] == [True, True]
        # What one has and has not flushed (every half second) when the other looks comes again; the rest is shared.
        assert stat(fetcher.home)["DataReceived"] < 1.6 * len(data)
        assert link.passed < 1.7 * len(data)


def test_a_crowd_of_readers_is_served(content: Content, fetcher: Foreground, full_counts: bool) -> None:
    count = 50 if full_counts else 10
    with ThreadPoolExecutor(count) as pool:
        results = list(pool.map(lambda _: run("cat", f"{content.root}/file", home=fetcher.home), range(count)))
    assert [(each.code, each.stderr) for each in results] == [(0, "")] * count
    assert {each.stdout for each in results} == {noise(3 * MIB + 5, 1)}
    wait_wants_nothing(fetcher.home)


def test_a_reader_that_closes_the_pipe_ends_the_fetch(daemons: Daemons) -> None:
    holder, fetcher = start_all(daemons, "holder", "fetcher")
    root, _ = put_noise(holder.home, 16 * MIB, 1)
    with SlowLink(address_of(holder), 4 * MIB) as link:
        connect(fetcher, link.address)
        line = f"'{sys.executable}' -m ipvcs --home '{fetcher.home}' cat {root} | head -c 100"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, timeout=30, check=False)
        assert (done.returncode, len(done.stdout), done.stderr) == (141, 100, b"")
        wait_wants_nothing(fetcher.home)
        assert link.passed < 12 * MIB


def test_standard_output_that_is_full_is_an_error_and_one_that_is_closed_none(
    content: Content, fetcher: Foreground
) -> None:
    words = [sys.executable, "-m", "ipvcs", "--home", str(fetcher.home), "cat", f"{content.root}/file"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    assert done.returncode == 128
    assert done.stderr.startswith(b"error: cannot write to standard output: ")
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *words], capture_output=True, timeout=30, check=False, env=dict(os.environ)
    )
    assert (closed.returncode, closed.stderr) == (0, b"")  # what is closed on purpose leads nowhere
    wait_wants_nothing(fetcher.home)
