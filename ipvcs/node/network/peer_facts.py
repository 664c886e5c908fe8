"""What we know of a connected peer from its own words, and how new words change it.

Three things are checked before anything is believed: that the key in the message is the key the peer proved to have,
that a signed record is signed by that very peer, and that addresses mean to us what they mean to it. Agent version and
protocols are its word alone.

Spec: https://github.com/libp2p/specs/blob/master/identify/README.md#the-identify-message
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ipvcs.errors import DecodeError, IntegrityError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import Scope, scope_of, without_peer
from ipvcs.node.network.identify_message import IdentifyMessage
from ipvcs.node.network.peer_record import PeerRecord, PeerRecordSignerError, open_record


class WrongKeyError(IntegrityError):
    """A peer names a key that is not its own."""

    def __init__(self, peer_id: PeerId) -> None:
        super().__init__(f"peer '{peer_id}' identifies itself with a key of somebody else")
        self.peer_id = peer_id


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """A connected peer's description of itself, as last told."""

    protocol_version: str = ""
    agent_version: str = ""
    """Printable, bounded, and not to be trusted."""
    protocols: tuple[str, ...] = ()
    """What it serves."""
    listen_addrs: tuple[Multiaddr, ...] = ()
    """Where it can be reached, from a signed record if it sent one; without its own `/p2p`."""
    observed_addr: Multiaddr | None = None
    """Where we come from, as it sees it."""
    record_seq: int | None = None
    """The sequence number of its signed record, None if it sent none that holds."""

    def speaks(self, protocol: str) -> bool:
        """Tell whether the peer says that it serves `protocol`."""
        return protocol in self.protocols


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a message taught us."""

    facts: PeerFacts
    """All that is known now."""
    addrs: tuple[Multiaddr, ...] | None = None
    """The addresses that it brought; None when it said nothing of them, or nothing newer than we know."""
    record_seq: int | None = None
    """The sequence number of the record that they are from; None: they are unsigned."""


def learn(
    message: IdentifyMessage,
    peer_id: PeerId,
    remote_addr: Multiaddr,
    previous: PeerFacts | None,
    *,
    own_id: PeerId,
    is_push: bool,
) -> Lesson:
    """Return what we know of `peer_id` after `message`, which came to us, `own_id`, on a connection to `remote_addr`.

    In a push, what is missing is unchanged from `previous`. A record older than the one known does not replace its
    addresses; one that does not hold is passed over, and the unsigned addresses count.

    Raises:
        WrongKeyError: the message names another peer's key.
    """
    if message.public_key is not None and not peer_id.matches(message.public_key):
        raise WrongKeyError(peer_id)
    known_seq = previous.record_seq if previous is not None else None
    record = _open(message.signed_peer_record, peer_id)
    told: tuple[Multiaddr, ...] | None
    if record is None:
        told = message.listen_addrs or None
    elif known_seq is not None and record.seq < known_seq:
        told, record = None, None
    else:
        told = record.addrs
    addrs = None if told is None else useful_addrs(_bare(told, peer_id), remote_addr)
    base = previous if is_push and previous is not None else PeerFacts()
    kept = previous.listen_addrs if previous is not None and (is_push or known_seq is not None) else ()
    facts = PeerFacts(
        base.protocol_version if message.protocol_version is None else message.protocol_version,
        base.agent_version if message.agent_version is None else message.agent_version,
        message.protocols or base.protocols,
        kept if addrs is None else addrs,
        observed_by(message, own_id) or base.observed_addr,
        known_seq if record is None else record.seq,
    )
    return Lesson(facts, addrs, None if record is None else record.seq)


def observed_by(message: IdentifyMessage, own_id: PeerId) -> Multiaddr | None:
    """Return where the sender of `message` sees us, without our own `/p2p`, which js-libp2p 3.3 adds."""
    return None if message.observed_addr is None else without_peer(message.observed_addr, own_id)


def useful_addrs(addrs: Iterable[Multiaddr], remote_addr: Multiaddr) -> tuple[Multiaddr, ...]:
    """Return those of `addrs` that mean the same host to us as to a peer that is connected from `remote_addr`.

    Loopback is another machine to each of two, and private addresses are another network to a peer on the Internet: to
    take those over would have us dial into our own network on a stranger's word. As go-libp2p with what peers claim.
    """
    remote = scope_of(remote_addr)
    if remote is Scope.PUBLIC:
        return tuple(addr for addr in addrs if scope_of(addr) in (Scope.PUBLIC, Scope.NAME))
    if remote in (Scope.PRIVATE, Scope.LINK_LOCAL):
        return tuple(addr for addr in addrs if scope_of(addr) is not Scope.LOOPBACK)
    return tuple(addrs)


def _open(envelope: bytes | None, peer_id: PeerId) -> PeerRecord | None:
    if envelope is None:
        return None
    try:
        record = open_record(envelope)
        if record.peer_id != peer_id:
            raise PeerRecordSignerError(peer_id, record.peer_id)
    except (DecodeError, IntegrityError):
        return None
    return record


def _bare(addrs: Iterable[Multiaddr], peer_id: PeerId) -> tuple[Multiaddr, ...]:
    """Return `addrs` without `/p2p` of the peer itself, and without those that lead to somebody else."""
    found = (without_peer(addr, peer_id) for addr in addrs)
    return tuple(dict.fromkeys(addr for addr in found if addr is not None))
