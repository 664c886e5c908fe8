"""`push`: one request to the owner of another name, and what it replies; ours, Kubo has no such command.

The arguments are the owner, a NodeId or an address, and the request's message in base64, which as a line of the body
may have its whole megabyte. A stream of lines: `{"Stage": "connected", "Address"}` once the stream stands, and
`{"Reply"}`, a reply's message in base64, for each that comes. What the messages say is the client's affair, which has
made the request and reads the replies; here it is seen to that they are replies, and that somebody is there.

When the client goes, the stream is reset, by which the owner knows that nobody waits.

Spec: docs/protocols/push.md
"""

import base64
import binascii
from contextlib import suppress
from typing import Final

import anyio
from anyio import EndOfStream

from ipvcs.api.arguments import BadRequestError
from ipvcs.api.command import MAX_DEADLINE, Call, Command
from ipvcs.api.node_services import NodeServices
from ipvcs.api.push_service import PUSH
from ipvcs.errors import IpvcsError, LimitError, NotFoundError, ProtocolError, RemoteProtocolError, UnavailableError
from ipvcs.git_bridge.push_fields import PushMessageError
from ipvcs.git_bridge.push_replies import MAX_REPLY, Answer, Failure, Reply, Standing, kind_of_reply
from ipvcs.git_bridge.push_requests import MAX_REQUEST, is_query
from ipvcs.multiformats.peer_address import parse_peer
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import DelimitedReader, encode_delimited
from ipvcs.node.network.errors import ProtocolNotSupportedError
from ipvcs.node.network.interface import DEAD_STREAM, PeerInfo, Stream

FIND_TIMEOUT: Final = 45.0
"""Seconds for somebody to know where the owner is. With a dial before and after, 15 s each, and the stream, a client
that waits for 120 hears of it."""
OPEN_TIMEOUT: Final = 10.0
"""Seconds for the owner to agree to the protocol."""
QUERY_PATIENCE: Final = 30.0
"""Seconds until the answer to a query."""
PATIENCE: Final = 120.0
"""Seconds from one reply to an offer to the next: the owner has something to say every 10."""


class PushToSelfError(BadRequestError):
    """This node was asked to push to itself."""

    def __init__(self) -> None:
        super().__init__(
            "cannot push to this node as to another: it has the key itself", hint="`git push ipfs::/ipns/self` does"
        )


class OwnerNotFoundError(NotFoundError):
    """Nobody knows where the owner of a name is."""

    def __init__(self, peer_id: PeerId, why: str) -> None:
        super().__init__(
            f"cannot find '{peer_id}', which would have to take the push: {why}",
            hint="it may be offline; `ipvcs swarm connect <address>` reaches a node whose address you know",
        )
        self.peer_id = peer_id


class OwnerUnreachableError(UnavailableError):
    """The owner of a name could not be connected to."""

    def __init__(self, peer_id: PeerId, error: IpvcsError) -> None:
        super().__init__(f"cannot reach '{peer_id}', which would have to take the push: {error}", hint=error.hint)
        self.peer_id = peer_id


class PushNotTakenError(UnavailableError):
    """The owner of a name does not speak the protocol."""

    def __init__(self, peer_id: PeerId) -> None:
        super().__init__(
            f"'{peer_id}' takes no pushes: it does not speak {PUSH}",
            hint="its ipvcs may be older than this one, or have `Push.Accept` off: ask its owner",
        )
        self.peer_id = peer_id


class PushBrokenOffError(UnavailableError):
    """The owner of a name went away or fell silent before it had answered."""

    def __init__(self, peer_id: PeerId, why: str) -> None:
        super().__init__(
            f"'{peer_id}' broke off the push: {why}",
            hint="push again: what was done already is not done twice",
        )
        self.peer_id = peer_id


class NoPushReplyError(RemoteProtocolError):
    """The owner of a name said something that is no reply to what it was asked."""

    def __init__(self, peer_id: PeerId, why: str) -> None:
        super().__init__(f"'{peer_id}' answered the push with nonsense: {why}", hint="tell its owner")
        self.peer_id = peer_id


async def push(call: Call) -> None:
    """Send the owner named a request, and tell what it replies."""
    peer_id, addr = parse_peer(call.arguments.args[0])
    if peer_id == call.node.peer_id:
        raise PushToSelfError
    message = _decode(call.arguments.args[1])
    try:
        asks = is_query(message)
    except PushMessageError as exc:
        raise BadRequestError(str(exc)) from exc
    await _connect(call.node, PeerInfo(peer_id, () if addr is None else (addr,)))
    stream = await _open_stream(call.node, peer_id)
    try:
        await call.emit({"Stage": "connected", "Address": str(stream.connection.remote_addr)})
        failed: Exception | None = None
        async with anyio.create_task_group() as tasks:
            # It may have answered before it has read it all, and read no more.
            tasks.start_soon(_send, stream, message)
            try:
                await _Replies(call, stream, peer_id, asks=asks).hand_on()
            except Exception as exc:  # the group would wrap it
                failed = exc
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        await stream.aclose()
    finally:
        stream.reset()  # does nothing after a good end


def _decode(text: str) -> bytes:
    try:
        message = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadRequestError("the request is not in base64") from exc
    if len(message) > MAX_REQUEST:
        raise BadRequestError(f"the request has {len(message):,} bytes, {MAX_REQUEST:,} are the most")
    return message


async def _connect(node: NodeServices, peer: PeerInfo) -> None:
    """Connect to `peer`: where the client says, else where we know it to be, else where others know it to be.

    Raises:
        OwnerNotFoundError, OwnerUnreachableError.
    """
    failed: IpvcsError | None = None
    if peer.addrs or node.swarm.connections(peer.peer_id) or node.known_addresses(peer.peer_id).get(peer.peer_id):
        try:
            await node.swarm.connect(peer, force=True)
        except IpvcsError as exc:
            failed = exc
        else:
            return
    if not peer.addrs:
        try:
            found = await _find(node, peer.peer_id)
            await node.swarm.connect(found, force=True)
        except OwnerNotFoundError as exc:
            raise (exc if failed is None else OwnerUnreachableError(peer.peer_id, failed)) from exc
        except IpvcsError as exc:
            failed = exc
        else:
            return
    assert failed is not None
    raise OwnerUnreachableError(peer.peer_id, failed) from failed


async def _find(node: NodeServices, peer_id: PeerId) -> PeerInfo:
    try:
        with anyio.fail_after(FIND_TIMEOUT):
            return await node.routing.find_peer(peer_id)
    except TimeoutError:
        raise OwnerNotFoundError(peer_id, f"nobody knew where it is within {FIND_TIMEOUT:g} seconds") from None
    except (NotFoundError, UnavailableError) as exc:
        raise OwnerNotFoundError(peer_id, str(exc)) from exc


async def _open_stream(node: NodeServices, peer_id: PeerId) -> Stream:
    try:
        with anyio.fail_after(OPEN_TIMEOUT):
            return await node.swarm.open_stream(peer_id, [PUSH])
    except ProtocolNotSupportedError as exc:
        raise PushNotTakenError(peer_id) from exc
    except TimeoutError:
        raise PushBrokenOffError(peer_id, f"it did not agree to it within {OPEN_TIMEOUT:g} seconds") from None
    except (UnavailableError, LimitError) as exc:
        raise PushBrokenOffError(peer_id, str(exc)) from exc
    except DEAD_STREAM as exc:
        raise PushBrokenOffError(peer_id, str(exc) or "the stream broke") from exc


async def _send(stream: Stream, message: bytes) -> None:
    with suppress(*DEAD_STREAM):  # who reads it hears of it
        await stream.send(encode_delimited(message))


class _Replies:
    """What the owner says."""

    def __init__(self, call: Call, stream: Stream, peer_id: PeerId, *, asks: bool) -> None:
        self._call = call
        self._reader = DelimitedReader(stream, MAX_REPLY)
        self._peer_id = peer_id
        self._asks = asks
        self._patience = QUERY_PATIENCE if asks else PATIENCE
        self._is_answered = False

    async def hand_on(self) -> None:
        """Emit each reply to the last one. What breaks behind an answer takes nothing from it.

        Raises:
            PushBrokenOffError, NoPushReplyError: there is no answer yet.
        """
        while True:
            try:
                message = await self._receive()
            except (PushBrokenOffError, NoPushReplyError):
                if self._is_answered:
                    return
                raise
            kind = kind_of_reply(message)
            await self._call.emit({"Reply": base64.b64encode(message).decode()})
            self._is_answered |= kind is Answer
            if kind in (Standing, Failure):
                return

    async def _receive(self) -> bytes:
        try:
            with anyio.fail_after(self._patience):
                message = await self._reader.receive()
            self._check(kind_of_reply(message))
        except TimeoutError:
            raise PushBrokenOffError(self._peer_id, f"it said nothing for {self._patience:g} seconds") from None
        except EndOfStream:
            raise PushBrokenOffError(self._peer_id, "it ended the stream without an answer") from None
        except DEAD_STREAM as exc:
            raise PushBrokenOffError(self._peer_id, str(exc) or "the stream broke") from exc
        except (ProtocolError, LimitError) as exc:
            raise NoPushReplyError(self._peer_id, str(exc)) from exc
        return message

    def _check(self, kind: type[Reply]) -> None:
        if kind is not Failure and (kind is Standing) != self._asks:
            raise PushMessageError(f"{kind.__name__} is no answer to {'a query' if self._asks else 'an offer'}")
        if self._is_answered and kind in (Answer, Failure):
            raise PushMessageError("there is an answer already")


COMMANDS: Final = (Command("push", push, ("peer", "request"), takes_lines=True, deadline=MAX_DEADLINE),)
