"""`push`: how the owner is found, what of his replies reaches the client, and what each way of failing is called."""

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import EndOfStream
from starlette.types import ASGIApp

from ipvcs.api.app import build_app
from ipvcs.api.endpoint import ENDING
from ipvcs.api.push_service import PUSH
from ipvcs.api.rpc_push import COMMANDS, FIND_TIMEOUT, OPEN_TIMEOUT, PATIENCE, QUERY_PATIENCE
from ipvcs.git_bridge.push_replies import (
    MAX_REPLY,
    MAX_TEXT,
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Standing,
    Text,
    decode_reply,
    encode_reply,
)
from ipvcs.git_bridge.push_requests import (
    MAX_REQUEST,
    Offer,
    Query,
    Request,
    Update,
    decode_request,
    encode_request,
)
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import DelimitedReader, encode_delimited
from ipvcs.node.network.errors import DialError
from ipvcs.node.network.interface import Connection, PeerInfo, Stream
from ipvcs.node.routing.interface import NoRoutingPeersError, PeerNotFoundError
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from tests.fakes.fake_host import FakeHost, FakeNetwork, FakeStream
from tests.unit.api.asgi import Response, request
from tests.unit.api.fake_node import FakeNode

pytestmark = pytest.mark.anyio

QUERY = Query((b"team",))
UPDATE = Update(b"refs/heads/main", None, ObjectId(bytes(20)), cid=Cid.of(bytes(32)))
OFFER = Offer((), bytes(16), ObjectFormat.SHA1, 1, "unixfs-v1-2025", (UPDATE,))
LARGE = replace(
    OFFER,
    updates=tuple(replace(UPDATE, name=b"refs/heads/%03d/" % number + b"x" * 3900) for number in range(250)),
)
STANDING = Standing(None, frozenset(("update",)), 1, 1)
ANSWER = Answer((Result(b"refs/heads/main"),), Cid.of(bytes(32)))
DENIED = Failure(FailureCode.DENIED, "no")
NEAR, FAR = (Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/4001") for number in (1, 2))
Handler = Callable[[Stream], Awaitable[None]]


class Swarm(FakeHost):
    """A host that reaches a peer where it listens, and nowhere else."""

    def __init__(self, network: FakeNetwork, node: "PushingNode") -> None:
        super().__init__(network, node.private_key)
        self.node = node
        self.listening: dict[PeerId, Multiaddr] = {}
        self.dialled: list[PeerInfo] = []
        self.opening = 0.0

    def interface_addresses(self) -> Sequence[Multiaddr]:
        return ()

    async def disconnect(self, peer_id: PeerId) -> None:
        raise NotImplementedError

    async def connect(self, peer: PeerInfo, *, force: bool = True, timeout: float | None = None) -> Connection:
        assert force, "a user's own command tries what failed a moment ago, too"
        for connection in self.connections(peer.peer_id):
            return connection
        self.dialled.append(peer)
        known = (*peer.addrs, *self.node.known.get(peer.peer_id, ()))
        for host in self.network.hosts:
            if host.peer_id == peer.peer_id and (addr := self.listening.get(peer.peer_id)) in known:
                assert addr is not None
                return self.link(host, to_addr=addr)[0]
        raise DialError(f"cannot connect to '{peer.peer_id}'", hint="is it up?")

    async def open_stream(self, peer_id: PeerId, protocols: Sequence[str]) -> Stream:
        await anyio.sleep(self.opening)
        return await super().open_stream(peer_id, protocols)


class Routing:
    """Knows where peers are, after a while."""

    def __init__(self) -> None:
        self.known: dict[PeerId, Multiaddr] = {}
        self.asked: list[PeerId] = []
        self.takes = 1.0
        self.error: Exception | None = None

    async def find_peer(self, peer_id: PeerId) -> PeerInfo:
        self.asked.append(peer_id)
        await anyio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        if peer_id not in self.known:
            raise PeerNotFoundError(peer_id, asked=7)
        return PeerInfo(peer_id, (self.known[peer_id],))


@dataclass
class PushingNode(FakeNode):
    swarm: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.routing = Routing()


@dataclass
class World:
    """A node with its API, and the owner of another name, whose end of each stream runs `handler`."""

    node: PushingNode
    owner: FakeHost
    app: ASGIApp
    handler: Handler
    streams: list[FakeStream]
    requests: list[Request]

    @property
    def swarm(self) -> Swarm:
        assert isinstance(self.node.swarm, Swarm)
        return self.node.swarm

    async def serve(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        self.streams.append(stream)
        await self.handler(stream)

    async def post(self, sent: Request | str, peer: str = "", **options: Any) -> Response:
        text = sent if isinstance(sent, str) else base64.b64encode(encode_request(sent)).decode()
        target = f"/api/v0/push?arg={peer or self.owner.peer_id}"
        return await request(self.app, target, body=(text.encode(),), **options)

    async def replies(self, sent: Request) -> list[Reply]:
        """What is replied, of a request that meets no error."""
        response = await self.post(sent)
        assert response.status == 200
        first, *lines = response.lines
        assert first == {"Stage": "connected", "Address": str(FAR)}
        assert all(line.keys() == {"Reply"} for line in lines), lines
        return [decode_reply(base64.b64decode(line["Reply"])) for line in lines]

    async def error(self, sent: Request | str, peer: str = "") -> dict[str, Any]:
        """The error that it comes to."""
        last: dict[str, Any] = (await self.post(sent, peer)).lines[-1]
        assert last["Type"] == "error", last
        return last


@asynccontextmanager
async def pushing(path: Path, handler: Handler | None = None) -> AsyncGenerator[World]:
    """A world in which the owner is where the node knows it to be."""
    async with anyio.create_task_group() as tasks:
        network = FakeNetwork(tasks)
        node = PushingNode(path)
        node.swarm = Swarm(network, node)
        app = build_app(node, shutdown=node.request_shutdown, commands=COMMANDS)
        owner = network.host()
        world = World(node, owner, app, handler or saying(), [], [])
        owner.handle(PUSH, world.serve)
        node.swarm.listening[owner.peer_id] = FAR
        node.known[owner.peer_id] = [FAR]
        yield world
        tasks.cancel_scope.cancel()


async def read_request(stream: Stream) -> Request:
    return decode_request(await DelimitedReader(stream, MAX_REQUEST).receive())


def saying(*replies: Reply, then: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint) -> Handler:
    return writing(*(encode_reply(reply) for reply in replies), then=then)


def writing(*messages: bytes, then: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint) -> Handler:
    async def handler(stream: Stream) -> None:
        await read_request(stream)
        await stream.send(encode_delimited(*messages))
        await then()

    return handler


# Replies


async def test_the_request_reaches_the_owner_as_it_is_and_each_reply_is_a_line(tmp_path: Path) -> None:
    said: list[Reply] = [Progress("fetching", 1, 2), Text(b"x" * MAX_TEXT), ANSWER, Text(b"\xff\n")]
    got: list[Request] = []

    async def handler(stream: Stream) -> None:
        got.append(await read_request(stream))
        for reply in said:
            await stream.send(encode_delimited(encode_reply(reply)))
            await anyio.sleep(PATIENCE - 1)

    async with pushing(tmp_path, handler) as world:
        for sent in (OFFER, LARGE):
            assert await world.replies(sent) == said
        assert got == [OFFER, LARGE]
        assert not any(stream.was_reset for stream in world.streams)


@pytest.mark.parametrize(("sent", "reply"), [(QUERY, STANDING), (QUERY, DENIED), (OFFER, DENIED)])
async def test_behind_a_standing_and_a_failure_nothing_is_waited_for(
    tmp_path: Path, sent: Request, reply: Reply
) -> None:
    async with pushing(tmp_path, saying(reply, then=anyio.sleep_forever)) as world:
        assert await world.replies(sent) == [reply]
        assert anyio.current_time() < 1


async def test_the_largest_reply_is_handed_on(tmp_path: Path) -> None:
    large = Answer(tuple(Result(b"n" * 4000, "x" * 200) for _ in range(900)), None)
    assert MAX_REPLY * 0.9 < len(encode_reply(large)) <= MAX_REPLY
    async with pushing(tmp_path, saying(large)) as world:
        assert await world.replies(OFFER) == [large]


async def test_who_refuses_a_large_offer_need_not_read_it(tmp_path: Path) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send(encode_delimited(encode_reply(DENIED)))
        await anyio.sleep_forever()

    async with pushing(tmp_path, handler) as world:
        assert await world.replies(LARGE) == [DENIED]
        assert anyio.current_time() < 1


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(b"\x05", id="an end inside a message"),
        pytest.param(b"\xff" * 10, id="garbage"),
        pytest.param(encode_delimited(encode_reply(STANDING)), id="a standing"),
        pytest.param(encode_delimited(encode_reply(ANSWER)), id="another answer"),
        pytest.param(encode_delimited(encode_reply(DENIED)), id="a failure"),
        pytest.param(None, id="a reset"),
    ],
)
async def test_what_breaks_behind_an_answer_takes_nothing_from_it(tmp_path: Path, then: bytes | None) -> None:
    async def handler(stream: Stream) -> None:
        await read_request(stream)
        await stream.send(encode_delimited(encode_reply(ANSWER)))
        await anyio.sleep(1)
        if then is None:
            stream.reset()
        else:
            await stream.send(then)

    async with pushing(tmp_path, handler) as world:
        assert await world.replies(OFFER) == [ANSWER]


async def test_an_owner_that_falls_silent_behind_his_answer_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with pushing(tmp_path, saying(ANSWER, then=anyio.sleep_forever)) as world:
        assert await world.replies(OFFER) == [ANSWER]
        assert anyio.current_time() == pytest.approx(PATIENCE)


# Requests that are none


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("", "argument 'request' is required"),
        ("AA=A", "not in base64"),
        ("é", "not in base64"),
        ("AAAA\nAAAA", "3 arguments given"),
        (base64.b64encode(b"\x1a\x00").decode(), "neither a query nor an offer"),
        (base64.b64encode(b"\x0a\x05").decode(), "malformed"),
        (base64.b64encode(bytes(MAX_REQUEST + 1)).decode(), "1,048,577 bytes, 1,048,576 are the most"),
        ("A" * (3 * 1024 * 1024), "over 2097152 bytes"),
    ],
)
async def test_what_is_no_request_reaches_nobody(tmp_path: Path, sent: str, said: str) -> None:
    async with pushing(tmp_path) as world:
        response = await world.post(sent)
        assert response.status in (400, 413)
        assert said in response.json["Message"]
        assert world.swarm.dialled == []


async def test_this_node_is_not_another(tmp_path: Path) -> None:
    async with pushing(tmp_path) as world:
        response = await world.post(OFFER, str(world.node.peer_id))
        assert (response.status, response.json["Code"]) == (400, 1)
        assert "has the key itself" in response.json["Message"]


# The way to the owner


async def test_where_the_owner_is_known_to_be_he_is_dialled_and_nobody_asked(tmp_path: Path) -> None:
    async with pushing(tmp_path, saying(ANSWER)) as world:
        assert await world.replies(OFFER) == [ANSWER]
        assert await world.replies(OFFER) == [ANSWER]
        assert world.swarm.dialled == [PeerInfo(world.owner.peer_id)]
        assert world.node.routing.asked == []


async def test_an_address_that_is_given_is_the_one_that_is_dialled(tmp_path: Path) -> None:
    async with pushing(tmp_path, saying(ANSWER)) as world:
        world.node.known = {}
        response = await world.post(OFFER, f"{FAR}/p2p/{world.owner.peer_id}")
        assert response.lines[0] == {"Stage": "connected", "Address": str(FAR)}
        assert world.swarm.dialled == [PeerInfo(world.owner.peer_id, (FAR,))]


async def test_an_address_that_is_given_and_wrong_is_an_error_and_nobody_is_asked(tmp_path: Path) -> None:
    async with pushing(tmp_path) as world:
        world.node.known = {}
        error = await world.error(OFFER, f"{NEAR}/p2p/{world.owner.peer_id}")
        assert error["Message"].startswith(f"cannot reach '{world.owner.peer_id}'")
        assert world.node.routing.asked == []


async def test_who_is_not_known_is_looked_for(tmp_path: Path) -> None:
    async with pushing(tmp_path, saying(ANSWER)) as world:
        world.node.known = {}
        world.node.routing.known[world.owner.peer_id] = FAR
        assert await world.replies(OFFER) == [ANSWER]
        assert world.swarm.dialled == [PeerInfo(world.owner.peer_id, (FAR,))]


async def test_who_is_not_where_he_was_is_looked_for(tmp_path: Path) -> None:
    async with pushing(tmp_path, saying(ANSWER)) as world:
        world.node.known = {world.owner.peer_id: [NEAR]}
        world.node.routing.known[world.owner.peer_id] = FAR
        assert await world.replies(OFFER) == [ANSWER]
        assert world.swarm.dialled == [PeerInfo(world.owner.peer_id), PeerInfo(world.owner.peer_id, (FAR,))]


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, "7 peers were asked"), (NoRoutingPeersError(), "no peer to ask: the routing table is empty")],
)
async def test_who_is_nowhere_is_an_error_about_finding_him(tmp_path: Path, error: Exception | None, said: str) -> None:
    async with pushing(tmp_path) as world:
        world.node.known = {}
        world.node.routing.error = error
        response = await world.post(OFFER)
        assert response.status == 500
        assert response.json["Message"].startswith(f"cannot find '{world.owner.peer_id}'")
        assert said in response.json["Message"]
        assert "`ipvcs swarm connect <address>`" in response.json["Hint"]


async def test_looking_for_him_has_an_end(tmp_path: Path) -> None:
    async with pushing(tmp_path) as world:
        world.node.known = {}
        world.node.routing.takes = 1000
        error = await world.error(OFFER)
        assert "nobody knew where it is within 45 seconds" in error["Message"]
        assert anyio.current_time() == pytest.approx(FIND_TIMEOUT)


async def test_who_is_out_of_reach_is_an_error_about_reaching_him(tmp_path: Path) -> None:
    async with pushing(tmp_path) as world:
        world.swarm.listening = {}
        for known in (True, False):  # whether others know where he is
            if known:
                world.node.routing.known[world.owner.peer_id] = FAR
            else:
                world.node.routing.known = {}
            error = await world.error(OFFER)
            assert error["Message"].startswith(f"cannot reach '{world.owner.peer_id}'")
            assert error["Hint"] == "is it up?"


async def test_who_does_not_speak_the_protocol_is_an_error_that_says_what_it_may_be(tmp_path: Path) -> None:
    async with pushing(tmp_path) as world:
        world.owner.unhandle(PUSH)
        error = await world.error(OFFER)
        assert error["Message"] == f"'{world.owner.peer_id}' takes no pushes: it does not speak /ipvcs/push/1.0.0"
        assert "older" in error["Hint"]
        assert "`Push.Accept` off" in error["Hint"]


async def test_a_stream_that_is_not_agreed_to_in_time_is_an_error(tmp_path: Path) -> None:
    async with pushing(tmp_path) as world:
        world.swarm.opening = 1000
        error = await world.error(OFFER)
        assert "did not agree to it within 10 seconds" in error["Message"]
        assert anyio.current_time() == pytest.approx(OPEN_TIMEOUT)


# Owners that break off


async def reset_at_once(stream: Stream) -> None:
    stream.reset()


async def reset_in_a_reply(stream: Stream) -> None:
    await read_request(stream)
    await stream.send(encode_delimited(encode_reply(ANSWER))[:-1])
    await anyio.sleep(1)
    stream.reset()


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (reset_at_once, "the peer reset the stream"),
        (reset_in_a_reply, "the peer reset the stream"),
        (saying(), "it ended the stream without an answer"),
        (saying(Progress("fetching"), Text(b"hello\n")), "it ended the stream without an answer"),
    ],
)
async def test_an_owner_that_breaks_off_is_an_error_that_says_how(tmp_path: Path, handler: Handler, said: str) -> None:
    async with pushing(tmp_path, handler) as world:
        error = await world.error(OFFER)
        assert error["Message"] == f"'{world.owner.peer_id}' broke off the push: {said}"
        assert error["Hint"].startswith("push again")


@pytest.mark.parametrize(
    ("sent", "said", "seconds"),
    [(QUERY, (), QUERY_PATIENCE), (OFFER, (), PATIENCE), (OFFER, (Progress("fetching"),), PATIENCE)],
)
async def test_an_owner_that_says_nothing_is_waited_for_so_long(
    tmp_path: Path, sent: Request, said: tuple[Reply, ...], seconds: float
) -> None:
    async with pushing(tmp_path, saying(*said, then=anyio.sleep_forever)) as world:
        error = await world.error(sent)
        assert f"broke off the push: it said nothing for {seconds:g} seconds" in error["Message"]
        assert anyio.current_time() == pytest.approx(seconds)
        assert world.streams[0].was_reset


async def test_an_owner_that_dribbles_a_reply_is_not_waited_for_longer(tmp_path: Path) -> None:
    async def handler(stream: Stream) -> None:
        for byte in encode_delimited(encode_reply(Text(b"x" * 1000))):
            await stream.send(bytes((byte,)))
            await anyio.sleep(1)

    async with pushing(tmp_path, handler) as world:
        await world.error(OFFER)
        assert anyio.current_time() == pytest.approx(PATIENCE)


@pytest.mark.parametrize(
    ("sent", "messages", "said"),
    [
        (OFFER, (b"nonsense",), "malformed"),
        (OFFER, (b"",), "of no kind that is known"),
        (OFFER, (encode_reply(STANDING),), "Standing is no answer to an offer"),
        (QUERY, (encode_reply(ANSWER),), "Answer is no answer to a query"),
        (QUERY, (encode_reply(Progress("fetching")),), "Progress is no answer to a query"),
    ],
)
async def test_an_owner_that_says_what_is_no_reply_is_an_error(
    tmp_path: Path, sent: Request, messages: tuple[bytes, ...], said: str
) -> None:
    async with pushing(tmp_path, writing(*messages, then=anyio.sleep_forever)) as world:
        error = await world.error(sent)
        assert error["Message"].startswith(f"'{world.owner.peer_id}' answered the push with nonsense")
        assert said in error["Message"]
        assert world.streams[0].was_reset


async def test_an_owner_that_announces_more_than_a_reply_may_have_is_an_error_at_once(tmp_path: Path) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send(b"\x81\x80\x80\x02")
        await anyio.sleep_forever()

    async with pushing(tmp_path, handler) as world:
        assert "a message of 4194305 bytes" in (await world.error(OFFER))["Message"]
        assert anyio.current_time() < 1


# Clients that go


@pytest.mark.parametrize("how", ["gone", "ending"])
async def test_the_owner_hears_that_the_client_has_gone_or_the_daemon_ends(tmp_path: Path, how: str) -> None:
    heard = anyio.Event()

    async def handler(stream: Stream) -> None:
        await read_request(stream)
        await stream.send(encode_delimited(encode_reply(Progress("fetching"))))
        try:
            await stream.receive()
        except EndOfStream:
            raise AssertionError("an end is as good as an answer") from None
        except anyio.BrokenResourceError:
            heard.set()

    async with pushing(tmp_path, handler) as world:
        event, response = anyio.Event(), Response()
        options = {"gone": event} if how == "gone" else {"extensions": {ENDING: event}}
        async with anyio.create_task_group() as tasks:

            async def post() -> None:
                await world.post(OFFER, response=response, **options)

            tasks.start_soon(post)
            await anyio.sleep(1)
            assert len(response.lines) == 2
            event.set()
        with anyio.fail_after(1):
            await heard.wait()
