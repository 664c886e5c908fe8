"""Pushers who lie to the owner of a name, flood it, or go away at any step: its state stands, and others push."""

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ipvcs.cli.app import App
from ipvcs.git_bridge.push_replies import Answer, FailureCode, Progress, Reply, decode_reply
from ipvcs.git_bridge.push_requests import Offer, encode_request
from ipvcs.git_bridge.ref_updates import Asked
from ipvcs.git_bridge.remote_owner import PushRefusedError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.network.delimited import DelimitedReader, encode_delimited
from ipvcs.node.network.interface import PeerInfo, Stream
from ipvcs.node.node import Node, open_node
from ipvcs.objects.block import Block
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.access import AccessList, Right, parse_repository_path
from ipvcs.storage.closure import iter_closure
from ipvcs.storage.home import Home, open_home
from tests.e2e.fetching import client_of
from tests.e2e.git_liar import Liar, pack_of
from tests.e2e.git_team import ALL, Team
from tests.e2e.git_user import GitUser
from tests.e2e.slow_link import SlowLink

pytestmark = pytest.mark.network
MAIN = b"refs/heads/main"
PUSH = "/ipvcs/push/1.0.0"


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    made = Team(tmp_path_factory.mktemp("team"))
    yield made
    made.daemons.close()


class Scene:
    """A place with a commit of alice's that bob has pushed on, and what must not change about it."""

    def __init__(self, team: Team, path: Path) -> None:
        self.team = team
        self.place = f"lies/{path.name}"
        self.alice = GitUser(path / "alice", team.alice).init()
        self.alice("remote", "add", "origin", team.url(self.place))
        for home in (team.alice, team.bob):
            team.grant(home, self.place)
        self.alice.commit("file", "one")
        self.alice("push", "-q", "origin", "main", "main:others")
        self.new = self.alice.commit("dir/file", "two")
        self.bob = GitUser(path / "bob", team.bob)
        GitUser(path, team.bob)("clone", "-q", team.url(self.place), "bob")
        self.liar = Liar(team, self.alice, self.place)
        self.refs = self.alice.remote_refs("origin")
        self.before = self.state()

    def state(self) -> tuple[bytes, list[str]]:
        """Return where the owner's name leads, and what lies about in its home."""
        with open_home(self.team.owner) as home:
            known = NameStore(home.datastore).try_get(PeerId.parse(self.team.name))
            assert known is not None
            assert known.own is not None
            return known.own.record.value, [each.name for each in home.temporary.iterdir()]

    def honest(self) -> Offer:
        """Return what an honest push of the new commit offers."""
        return self.liar.honest(Asked(MAIN, ObjectId.parse(self.new)))

    def stands(self) -> None:
        """Check that nothing has changed, and that bob can push."""
        wait_until(lambda: self.state() == self.before)
        self.bob("pull", "-q")
        self.bob.commit("bob", str(time.monotonic_ns()))
        self.bob("push", "-q", "origin", "HEAD:bob")
        self.bob("push", "-q", "origin", ":bob")

    def refuses(self, offer: Offer, code: FailureCode, words: str) -> None:
        """Check that `offer` is refused in `words`."""
        with pytest.raises(PushRefusedError) as caught:
            self.liar.send(offer)
        assert caught.value.code is code, caught.value
        assert words in str(caught.value)
        assert self.state() == self.before


@pytest.fixture
def scene(team: Team, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(team, tmp_path)
    yield made
    made.liar.close()


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_no_lie_is_accepted(scene: Scene) -> None:
    """Or the tests below would show nothing."""
    answer = scene.liar.send(scene.honest())
    assert [each.refusal for each in answer.results] == [None]
    assert scene.alice.remote_refs("origin")["refs/heads/main"] == scene.new


def test_packs_that_lack_objects_or_have_others_are_refused(scene: Scene) -> None:
    asked = Asked(MAIN, ObjectId.parse(scene.new))
    tree, inner, blob = (scene.alice("rev-parse", f"main{name}").strip() for name in ("^{tree}", ":dir", ":dir/file"))
    for lacking in ([scene.new], [scene.new, tree], [scene.new, tree, inner], [tree, inner, blob], [scene.new, blob]):
        scene.refuses(scene.liar.honest(asked, objects=lacking), FailureCode.UNTRUE, "")
    other = scene.alice("hash-object", "-w", "--stdin", stdin=b"another").strip()
    scene.refuses(scene.liar.honest(asked, objects=[other]), FailureCode.UNTRUE, "objects are missing")
    without = replace(scene.honest(), pack=None)
    scene.refuses(without, FailureCode.UNTRUE, "objects are missing")
    scene.stands()


def test_nodes_tables_and_packs_that_are_not_what_they_should_be_are_refused(scene: Scene) -> None:
    offer = scene.honest()
    pack = pack_of(offer)
    wrong = scene.liar.put(b"wrong")
    update = offer.updates[0]
    node = Cid.of(wrong.digest, codecs.DAG_PB)
    lies: list[tuple[Offer, str]] = [
        (replace(offer, updates=(replace(update, cid=node),)), "was offered as"),
        (scene.liar.forge_table(offer, lambda oid, _cid, size: (oid, node, size)), "the table of commits"),
        (scene.liar.forge_table(offer, lambda oid, cid, size: (oid, cid, size + 1)), "the table of commits"),
        (replace(offer, pack=replace(pack, commits=wrong)), "what was offered as the table of commits"),
        (replace(offer, pack=replace(pack, commits=pack.pack)), "what was offered as the table of commits"),
        (replace(offer, pack=replace(pack, pack=scene.liar.put_oddly(pack.pack))), ".pack' was offered as"),
        (replace(offer, pack=replace(pack, name="pack-" + "1" * 40)), "was offered with"),
        (replace(offer, pack=replace(pack, objects=pack.objects + 1)), "was offered with"),
        (replace(offer, pack=replace(pack, size=pack.size + 1)), "the pack was offered with"),
        (replace(offer, pack=replace(pack, pack=wrong, size=5)), "the pack is refused"),
        (
            replace(offer, pack=replace(pack, pack=scene.liar.put_block(b"\x0a\x02\x08\x01", codecs.DAG_PB))),
            "as the pack",
        ),
    ]
    for lie, words in lies:
        scene.refuses(lie, FailureCode.UNTRUE, words)
    cbor = scene.liar.put_block(b"\xa0", codecs.DAG_CBOR)
    for other in (
        replace(offer, profile="cdc-1"), replace(offer, mapping=2), replace(offer, pack=replace(pack, pack=cbor)),
    ):  # fmt: skip
        scene.refuses(other, FailureCode.BAD_REQUEST, "")
    scene.stands()


def test_more_bytes_than_were_offered_are_not_fetched(scene: Scene) -> None:
    large = scene.liar.put(os.urandom(40 << 20))
    offer = scene.honest()
    lie = replace(offer, pack=replace(pack_of(offer), pack=large))
    scene.refuses(lie, FailureCode.UNTRUE, "more was offered")
    scene.refuses(replace(lie, pack=replace(pack_of(lie), size=2 << 30)), FailureCode.LIMIT, "bytes")
    scene.refuses(replace(lie, pack=replace(pack_of(lie), objects=3_000_000)), FailureCode.LIMIT, "objects")
    scene.stands()


def test_refs_of_others_are_out_of_reach_without_the_right(scene: Scene) -> None:
    scene.team.revoke(scene.team.alice, scene.place)
    scene.team.grant(scene.team.alice, scene.place, frozenset({Right.CREATE, Right.UPDATE, Right.TAG}))
    scene.alice("checkout", "-q", "--orphan", "side")
    side = ObjectId.parse(scene.alice.commit("file", "side"))
    old = ObjectId.parse(scene.refs["refs/heads/others"])
    for asked, words in (
        (Asked(b"refs/heads/others", None), "no right to delete refs here"),
        (Asked(b"refs/heads/others", side, force=True), "no right to force refs here"),
    ):
        offer = scene.liar.honest(asked)
        assert offer.updates[0].old == old
        assert [each.refusal for each in scene.liar.send(offer).results] == [words]
        unforced = replace(offer, updates=(replace(offer.updates[0], force=False),))
        (result,) = scene.liar.send(replace(unforced, key=os.urandom(16))).results
        assert result.refusal is not None
        assert scene.state() == scene.before
    unseen = replace(scene.honest(), updates=(replace(scene.honest().updates[0], old=None),))
    assert [each.refusal for each in scene.liar.send(unseen).results] == ["fetch first"]
    scene.stands()


ESCAPES = [(b"..",), (b"lies", b"..", b"x"), (b".",), (b"",), (b"a/b",), (b"a\0b",), (b"x",) * 17, (b"y" * 256,)]


def test_paths_that_lead_elsewhere_are_no_requests(scene: Scene) -> None:
    scene.team.grant(scene.team.alice, "")
    offer = scene.honest()
    for path in ESCAPES:
        scene.refuses(replace(offer, path=path), FailureCode.BAD_REQUEST, "")
    scene.team.revoke(scene.team.alice, "")


def test_a_repository_is_not_put_inside_another_ones_own(scene: Scene) -> None:
    offer = scene.honest()
    for name in (b"objects", b"refs", b"heads", b"ipvcs.json"):
        first = replace(offer, path=(*offer.path, name, b"x"), updates=(replace(offer.updates[0], old=None),))
        scene.refuses(first, FailureCode.BAD_REQUEST, "cannot have a repository at")
    scene.stands()


def test_an_object_that_only_a_deleted_branch_had_reaches_readers_all_the_same(scene: Scene, tmp_path: Path) -> None:
    """Packs say what they hold; one that lacks a part of it would leave the part out of every clone."""
    scene.alice("checkout", "-q", "-b", "gone")
    scene.alice.commit("rare", "what no other branch has")
    scene.alice("push", "-q", "origin", "gone")
    scene.alice("push", "-q", "origin", ":gone")
    scene.alice("checkout", "-q", "main")
    new = scene.alice.commit("rare", "what no other branch has")
    names = ("", "^{tree}", "~", "~^{tree}", "~:dir", "~:dir/file")
    lacking = [scene.alice("rev-parse", f"main{name}").strip() for name in names]
    offer = scene.liar.honest(Asked(MAIN, ObjectId.parse(new)), objects=lacking)
    assert scene.liar.send(offer).results[0].refusal is None
    user = GitUser(tmp_path, scene.team.reader, IPVCS_FETCH="packs")
    user("clone", "-q", scene.team.url(scene.place), "clone")
    assert (tmp_path / "clone" / "rare").read_text() == "what no other branch has"


def test_what_a_push_builds_on_may_be_deleted_meanwhile(scene: Scene, tmp_path: Path) -> None:
    scene.alice("checkout", "-q", "-b", "topic")
    scene.alice.commit("topic", "one")
    scene.alice("push", "-q", "origin", "topic")
    new = scene.alice.commit("topic", "two")
    offer = scene.liar.honest(Asked(b"refs/heads/next", ObjectId.parse(new)))
    scene.bob("push", "-q", "origin", ":topic")
    assert scene.liar.send(offer).results[0].refusal is None
    for way in ("packs", "objects"):
        user = GitUser(tmp_path, scene.team.reader, IPVCS_FETCH=way)
        user("clone", "-q", scene.team.url(scene.place), way)
        assert GitUser(tmp_path / way, scene.team.reader).objects("origin/next") == scene.alice.objects("topic", "--")


def test_two_identical_offers_at_once_are_one_push(scene: Scene) -> None:
    offer = scene.honest()
    pushes = len(scene.team.pushes(scene.place))
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(scene.liar.send, (offer, offer)))
    assert answers[0] == answers[1]
    assert answers[0].results[0].refusal is None
    assert len(scene.team.pushes(scene.place)) == pushes + 1
    assert scene.liar.send(offer) == answers[0], "and so is one that comes much later"
    assert len(scene.team.pushes(scene.place)) == pushes + 1


def test_an_answer_that_was_lost_before_it_was_kept_is_found_in_the_refs(scene: Scene) -> None:
    offer = scene.honest()
    assert scene.liar.send(offer).results[0].refusal is None
    again = scene.liar.send(replace(offer, key=os.urandom(16)))
    assert again.results[0].refusal == "up to date"


# ---- a node that does what a test wants ----


def with_node(
    scene: Scene, tmp_path: Path, action: Callable[[Node], Awaitable[None]], *, connects: bool = True
) -> None:
    """Run `action` with a node of its own that may push to the place; it is connected to the owner if it `connects`."""

    async def run() -> None:
        path = tmp_path / "stranger"
        with open_home(path) as home:
            key = App(str(path), os.environ).keystore.node_key()
            with open_home(scene.team.owner) as owner:
                AccessList(owner.datastore).add(key.peer_id, parse_repository_path(scene.place), ALL)
            async with open_node(home, key, ["/ip4/127.0.0.1/tcp/0"]) as node:
                if connects:
                    addr = Multiaddr.parse(scene.team.running[scene.team.owner].lines[0].split()[-1])
                    await node.swarm.connect(PeerInfo(PeerId.parse(scene.team.name), (addr,)))
                await action(node)

    anyio.run(run)


def peak(scene: Scene, *, anew: bool = False) -> float:
    """Return the most MiB that the owner's daemon had since this was last asked `anew`."""
    pid = scene.team.running[scene.team.owner].process.pid
    if anew:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_a_million_updates_are_not_even_read(scene: Scene, tmp_path: Path) -> None:
    offer = encode_request(scene.honest())
    before = peak(scene, anew=True)

    async def flood(node: Node) -> None:
        stream = await node.swarm.open_stream(PeerId.parse(scene.team.name), [PUSH])
        update = b"\x32\x30" + b"\x0a\x2erefs/heads/" + b"x" * 35
        with anyio.fail_after(30), pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await send_and_read(stream, encode_delimited(offer + update * 1_000_000))

    with_node(scene, tmp_path, flood)
    assert peak(scene) < before + 60
    scene.stands()


async def send_and_read(stream: Stream, data: bytes) -> None:
    """Send, and read on until it ends."""
    await stream.send(data)
    while True:
        await stream.receive()


STAGES = (
    "looking", "fetching", "indexing", "checking connectivity", "running hooks", "converting", "storing", "publishing",
)  # fmt: skip
STEPS = ("before the request", "in the request", "after the request", *STAGES, "answered")
SHORT = ("in the request", "fetching", "publishing")
"""Steps of the short run: all others are between two of them."""


def test_these_are_the_steps_of_a_push(scene: Scene) -> None:
    replies = list(scene.liar.owner.offer(scene.honest()))
    told = dict.fromkeys(each.stage for each in replies if isinstance(each, Progress))
    assert tuple(told) == STAGES
    assert isinstance(replies[-1], Answer)


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step in SHORT else [pytest.mark.long]) for step in STEPS]
)
def test_a_pusher_that_leaves_at_any_step_leaves_nothing_half_done(scene: Scene, tmp_path: Path, step: str) -> None:
    offer = scene.honest()
    request = encode_delimited(encode_request(offer))
    pushes = len(scene.team.pushes(scene.place))

    async def leave(node: Node) -> None:
        with open_home(scene.team.alice) as source, open_home(tmp_path / "stranger") as home:
            copy_blocks(source, home, [pack_of(offer).pack, pack_of(offer).commits])
        stream = await node.swarm.open_stream(PeerId.parse(scene.team.name), [PUSH])
        if step == "before the request":
            return
        if step == "in the request":
            await stream.send(request[: len(request) // 2])
            await anyio.sleep(0.2)
            return
        await stream.send(request)
        if step != "after the request":
            with anyio.fail_after(60):
                await read_until(stream, step)
        stream.reset()

    with_node(scene, tmp_path, leave)
    wait_until(lambda: not any(scene.state()[1]))
    main = scene.alice.remote_refs("origin")["refs/heads/main"]
    if step in ("publishing", "answered"):
        wait_until(lambda: scene.alice.remote_refs("origin")["refs/heads/main"] == scene.new)
        wait_until(lambda: len(scene.team.pushes(scene.place)) == pushes + 1)
    elif step not in ("converting", "storing"):  # which take milliseconds here: it may be too late
        assert scene.state() == scene.before
    (result,) = scene.liar.send(scene.honest() if main != scene.new else replace(offer, key=os.urandom(16))).results
    assert result.refusal in (None, "up to date")
    assert scene.alice.remote_refs("origin")["refs/heads/main"] == scene.new


async def read_until(stream: Stream, step: str) -> None:
    """Read replies until one tells of `step`."""
    reader = DelimitedReader(stream, 1 << 20)
    while True:
        reply = decode_reply(await reader.receive())
        if isinstance(reply, Progress):
            if reply.stage == step:
                return
        else:
            assert step == "answered", reply
            return


def copy_blocks(source: Home, target: Home, roots: list[Cid]) -> None:
    for cid in iter_closure(source.blocks, roots):
        target.blocks.put_many([Block(cid, source.blocks.get(cid))])


@pytest.mark.long  # half a minute of waiting, which has tests of its own in short
def test_a_pusher_that_sends_no_blocks_is_given_up_while_others_push(scene: Scene) -> None:
    offer = scene.honest()
    nobodys = replace(offer, pack=replace(pack_of(offer), pack=Cid.of(os.urandom(32))))
    ended: list[str] = []

    def wait() -> None:
        with pytest.raises(PushRefusedError) as caught:
            scene.liar.send(nobodys)
        ended.append(str(caught.value))

    began = time.monotonic()
    thread = threading.Thread(target=wait)
    thread.start()
    scene.bob.commit("bob", "meanwhile")
    scene.bob("push", "-q", "origin", "HEAD:bob")
    assert thread.is_alive(), "bob did not wait for it"
    thread.join(90)
    assert time.monotonic() - began < 60
    assert "the offered blocks could not be had" in ended[0]


@pytest.mark.long
def test_a_pusher_whose_blocks_trickle_is_given_up_while_others_push(scene: Scene, tmp_path: Path) -> None:
    scene.alice("commit", "-q", "--allow-empty", "-m", os.urandom(4096).hex())
    large = scene.liar.put(os.urandom(3 << 20))
    offer = scene.honest()
    request = encode_request(replace(offer, pack=replace(pack_of(offer), pack=large, size=3 << 20)))
    replies: list[Reply] = []

    async def trickle(node: Node) -> None:
        with open_home(scene.team.alice) as source, open_home(tmp_path / "stranger") as home:
            copy_blocks(source, home, [large])
        with SlowLink(f"{node.swarm.listen_addresses()[0]}/p2p/{node.peer_id}", 1 << 20) as link:
            connect = client_of(scene.team.owner).call
            await anyio.to_thread.run_sync(connect, "swarm/connect", link.address)
            with anyio.fail_after(10):
                while not node.swarm.connections(PeerId.parse(scene.team.name)):  # it may hear of it a moment later
                    await anyio.sleep(0.01)
            stream = await node.swarm.open_stream(PeerId.parse(scene.team.name), [PUSH])
            await stream.send(encode_delimited(request))
            link.rate = 1.0
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream), anyio.move_on_after(60):
                reader = DelimitedReader(stream, 1 << 22)
                while True:
                    replies.append(decode_reply(await reader.receive()))

    thread = threading.Thread(target=with_node, args=(scene, tmp_path, trickle), kwargs={"connects": False})
    thread.start()
    scene.bob.commit("bob", "meanwhile")
    scene.bob("push", "-q", "origin", "HEAD:bob")
    thread.join(90)
    assert not any(isinstance(each, Answer) for each in replies)
    wait_until(lambda: not any(scene.state()[1]))
    assert scene.alice.remote_refs("origin")["refs/heads/main"] == scene.refs["refs/heads/main"]
