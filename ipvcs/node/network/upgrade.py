"""The upgrade: from a link to a secured, multiplexed connection.

    multistream ─► Noise or TLS ─► (the muxer was agreed on in the handshake, or multistream again) ─► MuxedConnection

Which protocols, and in which order of preference, the configuration says: the dialler's order decides, except that of
several muxers named in a TLS handshake the server picks among the dialler's.

Spec: https://github.com/libp2p/specs/blob/master/connections/README.md
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.connection import MuxedConnection
from ipvcs.node.network.errors import HandshakeError
from ipvcs.node.network.interface import AcceptCallback, Buffer, ConnectionOwner, Direction
from ipvcs.node.network.keep_alive import KeepAlive
from ipvcs.node.network.limits import Resources
from ipvcs.node.network.link import Link
from ipvcs.node.network.multistream import Initiator, Responder
from ipvcs.node.network.muxer import MuxerSession
from ipvcs.node.network.security import SecureChannel, Secured, SecureHandshake, SecurityProtocol
from ipvcs.node.network.turns import Turns

MuxerFactory: TypeAlias = Callable[[bool], MuxerSession]
"""Makes a session; the argument tells whether we dialled."""


@dataclass(frozen=True, slots=True)
class _Upgraded:
    connection: MuxedConnection
    plaintext: list[Buffer]
    wire: bytes

    def start(self, owner: ConnectionOwner) -> MuxedConnection:
        self.connection.start(owner, self.plaintext, self.wire)
        return self.connection


class Upgrader:
    """Upgrades the links of one node."""

    def __init__(
        self,
        local_peer: PeerId,
        security: Sequence[SecurityProtocol],
        muxers: Mapping[str, MuxerFactory],
        resources: Resources,
        keep_alive: KeepAlive | None = None,
    ) -> None:
        """Prepare.

        Args:
            local_peer: who we are.
            security: the security protocols, the preferred one first; at least one.
            muxers: the multiplexers by protocol id, the preferred one first; at least one.
            resources: what streams and unread bytes count against.
            keep_alive: when connections ask whether the peer is there.
        """
        assert security
        assert muxers
        self._local_peer = local_peer
        self._security = {protocol.protocol_id: protocol for protocol in security}
        self._muxers = dict(muxers)
        self._resources = resources
        self._turns = Turns()
        self._keep_alive = keep_alive or KeepAlive()

    async def dial(self, link: Link, expected: PeerId | None, owner: ConnectionOwner) -> MuxedConnection:
        """Upgrade a link that we opened; whatever goes wrong, the link is ended.

        Raises:
            PeerMismatchError: somebody else than `expected` answered.
            ProtocolError, ProtocolNotSupportedError: a handshake went wrong, or nothing is common to both.
            anyio.EndOfStream, anyio.BrokenResourceError: the link ended.
        """
        try:
            return (await self._upgrade(link, "outbound", expected)).start(owner)
        except BaseException:
            link.close()  # not abort: the peer should hear our alert
            raise

    async def accept(self, link: Link, accept: AcceptCallback) -> None:
        """Upgrade a link that somebody else opened and offer it to `accept`; errors as `dial`."""
        try:
            upgraded = await self._upgrade(link, "inbound", None)
            owner = await accept(upgraded.connection)
        except BaseException:
            link.close()
            raise
        if owner is None:
            link.close()
        else:
            upgraded.start(owner)

    async def _upgrade(self, link: Link, direction: Direction, expected: PeerId | None) -> _Upgraded:
        initiator = direction == "outbound"
        name, rest = await _negotiate(_Wire(link), list(self._security), initiator=initiator)
        secured, rest = await _secure(link, self._security[name].start(initiator=initiator, expected=expected), rest)
        inside = _Sealed(link, secured.channel, rest)
        plaintext: list[Buffer] = []
        muxer = secured.muxer
        if muxer is None:
            muxer, early = await _negotiate(inside, list(self._muxers), initiator=initiator)
            plaintext.append(early)
        elif muxer not in self._muxers:
            raise HandshakeError(f"the handshake agreed on the unknown muxer '{muxer}'")
        connection = MuxedConnection(
            link,
            secured,
            self._muxers[muxer](initiator),
            local_peer=self._local_peer,
            direction=direction,
            security=name,
            resources=self._resources,
            turns=self._turns,
            keep_alive=self._keep_alive,
        )
        return _Upgraded(connection, plaintext, inside.rest)


class _Wire:
    """A link for a negotiation in the clear."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.write = link.write
        self.receive = link.receive


class _Sealed:
    """A link for a negotiation inside a secure channel. `rest` is what arrived and was not decrypted yet."""

    def __init__(self, link: Link, channel: SecureChannel, rest: bytes) -> None:
        self._link = link
        self._channel = channel
        self.rest = rest

    def write(self, data: Buffer) -> None:
        self._link.write(self._channel.seal([data]))

    async def receive(self) -> bytes:
        while True:
            pieces, used = self._channel.open(memoryview(self.rest))
            self.rest = self.rest[used:]
            if data := b"".join(pieces):
                return data
            self.rest += await self._link.receive()


async def _negotiate(io: _Wire | _Sealed, protocols: Sequence[str], *, initiator: bool) -> tuple[str, bytes]:
    """Agree on one of `protocols`; return it and what was received behind. Raises NegotiationError and others."""
    core = Initiator(protocols) if initiator else Responder(protocols)
    io.write(core.data_to_send())
    while core.result is None:
        core.receive_data(await io.receive())
        if owed := core.data_to_send():
            io.write(owed)
    return core.result, core.rest


async def _secure(link: Link, handshake: SecureHandshake, data: bytes) -> tuple[Secured, bytes]:
    """Run a handshake whose first input is `data`; return its outcome and what was received behind it."""
    try:
        while True:
            if data:
                handshake.receive_data(data)
            if owed := handshake.data_to_send():
                link.write(owed)
            if handshake.result is not None:
                return handshake.result, handshake.rest
            data = await link.receive()
    finally:
        if owed := handshake.data_to_send():  # an alert, if something went wrong
            link.write(owed)
