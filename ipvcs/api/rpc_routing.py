"""`routing …`: ask the routers where peers and blocks are, and tell them what we have.

Shapes: go-libp2p's routing.QueryEvent, one a line, as Kubo's core/commands/routing.go sends it:

    {"ID": "", "Type": 4, "Responses": [{"ID": "12D3…", "Addrs": ["/ip4/…"]}], "Extra": ""}

Of the types, our routers tell what was found: FinalPeer, Provider and Value; which peers were asked on the way is not
told. `put` takes the value in the option `value`, as a multibase text, where Kubo takes a file in the body; its answer,
and that of `provide`, have a number of ours beside Kubo's fields: `Told`, the peers that took it.
"""

import base64
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

from ipvcs.api.arguments import BadRequestError
from ipvcs.api.command import Call, Command
from ipvcs.errors import IpvcsError, NotFoundError
from ipvcs.multiformats import multibase
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import parse_typed
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import PeerNotFoundError, ValueNotFoundError, get_value
from ipvcs.node.routing.value_store import MAX_VALUE

_DEFAULT_PROVIDERS: Final = 20  # Kubo's
_MAX_PROVIDERS: Final = 10_000
"""As many as a search of all routers remembers; the two DHTs find 2,000 together."""
_MAX_CIDS: Final = 64
"""Arguments of `provide`."""
_PROVIDE_DEADLINE: Final = 3600.0
"""Seconds for all of them. Each is told as it is done, so a client sees that it goes on."""
_VALUE_DEADLINE: Final = 90.0
"""Seconds for `get` and `put`: a lookup may take 60, and telling the nearest 10 more. A client waits for 120."""
NAMESPACES: Final[Mapping[str, bytes]] = {"ipns": b"/ipns/", "pk": b"/pk/"}
"""Kinds of keys that people can name: a text form, and what stands before the peer id's bytes in the key itself."""


class EventType(IntEnum):
    """go-libp2p's routing.QueryEventType."""

    SENDING_QUERY = 0
    PEER_RESPONSE = 1
    FINAL_PEER = 2
    QUERY_ERROR = 3
    PROVIDER = 4
    VALUE = 5
    ADDING_PEER = 6
    DIALING_PEER = 7


class NothingFoundError(NotFoundError):
    """The answer is that there is none: nothing went wrong."""

    exit_code = 1

    def __init__(self, error: IpvcsError) -> None:
        super().__init__(str(error), hint=error.hint)


class NotHereError(NotFoundError):
    """A block that is not in the home is not announced: nobody would get it. Worded as Kubo's."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(
            f"block {cid} not found locally, cannot provide", hint=f"`ipvcs pin add {cid}` fetches and keeps it"
        )
        self.cid = cid


async def find_peer(call: Call) -> None:
    """Tell where the peer named may be reached."""
    peer_id = parse_typed(PeerId.parse, call.arguments.args[0])
    try:
        found = await call.node.routing.find_peer(peer_id)
    except PeerNotFoundError as exc:
        raise NothingFoundError(exc) from exc
    await call.emit(_event(EventType.FINAL_PEER, [found]))


async def find_providers(call: Call) -> None:
    """Tell who has the block of a CID, each as it is found, `num-providers` of them at most."""
    cid = parse_typed(Cid.parse, call.arguments.args[0])
    most = call.arguments.integer("num-providers", "n", default=_DEFAULT_PROVIDERS, least=1, most=_MAX_PROVIDERS)
    count = 0
    async with call.node.routing.find_providers(cid) as found:
        async for peer in found:
            await call.emit(_event(EventType.PROVIDER, [peer]))
            count += 1
            if count == most:
                break


async def provide(call: Call) -> None:
    """Announce that this node serves the blocks of the CIDs given, one after the other; a line for each that is told:
    we are its provider.
    """
    if call.arguments.flag("recursive", "r"):
        raise BadRequestError(
            "option 'recursive' is not supported", hint="`ipvcs config Reprovider.Strategy pinned` announces all of it"
        )
    cids = [parse_typed(Cid.parse, text) for text in call.arguments.args]
    for cid in cids:  # before the first of them is announced
        if not call.node.has_block(cid):
            raise NotHereError(cid)
    own = PeerInfo(call.node.peer_id, tuple(call.node.swarm.addresses()))
    for cid in cids:
        told = await call.node.routing.provide(cid)
        await call.emit({**_event(EventType.PROVIDER, [own]), "Cid": str(cid), "Told": told})


async def get(call: Call) -> None:
    """Tell the best value under a key, in base64."""
    key = parse_key(call.arguments.args[0])
    try:
        value = await get_value(call.node.routing, key)
    except ValueNotFoundError as exc:
        raise NothingFoundError(exc) from exc
    await call.emit(_event(EventType.VALUE, extra=base64.b64encode(value).decode()))


async def put(call: Call) -> None:
    """Store a value, which must be valid under the key."""
    key = parse_key(call.arguments.args[0])
    if not (text := call.arguments.text("value", default="")):
        raise BadRequestError("option 'value' is required", hint="it is multibase text, as 'u…' of base64url")
    value = multibase.decode(text)
    if len(value) > MAX_VALUE:
        raise BadRequestError(f"a value has at most {MAX_VALUE} bytes, not {len(value)}")
    told = await call.node.routing.set_value(key, value)
    await call.emit({**_event(EventType.VALUE, who=call.node.peer_id), "Told": told})


def parse_key(text: str) -> bytes:
    """Return the key that people write `/ipns/<name>` or `/pk/<NodeId>`: a peer id's bytes behind the namespace.

    Raises:
        BadRequestError: another form. ArgumentError: no peer id.
    """
    start, *parts = text.split("/")
    if start or len(parts) != 2 or parts[0] not in NAMESPACES:
        raise BadRequestError(f"invalid key '{text[:80]}'", hint="a key is '/ipns/<name>' or '/pk/<NodeId>'")
    return NAMESPACES[parts[0]] + parse_typed(PeerId.parse, parts[1]).raw


def _event(
    kind: EventType, responses: Sequence[PeerInfo] = (), *, who: PeerId | None = None, extra: str = ""
) -> dict[str, Any]:
    peers = [{"ID": str(peer.peer_id), "Addrs": [str(addr) for addr in peer.addrs]} for peer in responses]
    return {"ID": str(who or ""), "Type": int(kind), "Responses": peers, "Extra": extra}


COMMANDS: Final = (
    Command("routing/findpeer", find_peer, ("peerID",)),
    Command("routing/findprovs", find_providers, ("key",)),
    Command("routing/provide", provide, ("key",), _MAX_CIDS, deadline=_PROVIDE_DEADLINE),
    Command("routing/get", get, ("key",), deadline=_VALUE_DEADLINE),
    Command("routing/put", put, ("key",), deadline=_VALUE_DEADLINE),
)
