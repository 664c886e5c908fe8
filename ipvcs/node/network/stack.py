"""The protocol stack of one node: which securities and multiplexers it speaks, in which order, on which transports.

The one place that knows them all. A priority is a whole number as in Kubo's configuration: the lowest goes first, zero
means "not at all".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ipvcs.errors import UsageError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network import mplex, yamux
from ipvcs.node.network.keep_alive import KeepAlive
from ipvcs.node.network.limits import Limits, Resources
from ipvcs.node.network.mplex import MplexSession
from ipvcs.node.network.noise import NoiseSecurity
from ipvcs.node.network.security import SecurityProtocol
from ipvcs.node.network.tcp import TcpTransport
from ipvcs.node.network.upgrade import MuxerFactory, Upgrader
from ipvcs.node.network.yamux import YamuxSession

NOISE: Final = "Noise"
TLS: Final = "TLS"
YAMUX: Final = "Yamux"
MPLEX: Final = "Mplex"


@dataclass(frozen=True, slots=True)
class StackSettings:
    """Priorities by the names that Kubo's configuration has for them."""

    security: Mapping[str, int] = field(default_factory=lambda: {NOISE: 100, TLS: 200})
    """Noise first: both ends of its handshake take a third of TLS's time, and its frames fit yamux's."""
    muxers: Mapping[str, int] = field(default_factory=lambda: {YAMUX: 100, MPLEX: 200})
    """mplex for those who have nothing else: it can't make a sender wait."""
    keep_alive: KeepAlive = field(default_factory=KeepAlive)


def make_tcp_transport(
    private_key: PrivateKey,
    settings: StackSettings,
    resources: Resources,
    why_not_accept: Callable[[Multiaddr], str | None] = lambda _addr: None,
) -> TcpTransport:
    """Return a transport that proves `private_key` and speaks what `settings` say.

    `why_not_accept` says why somebody who comes from an address is turned away before any handshake; None: is not.

    Raises:
        UsageError: every security protocol, or every multiplexer, is switched off.
    """
    makers = _muxer_makers(resources.limits)
    muxers = {makers[name][0]: makers[name][1] for name in _in_order(settings.muxers, "Swarm.Transports.Multiplexers")}
    protocols = [
        _make_security(name, private_key, tuple(muxers))
        for name in _in_order(settings.security, "Swarm.Transports.Security")
    ]
    upgrader = Upgrader(private_key.peer_id, protocols, muxers, resources, settings.keep_alive)
    return TcpTransport(upgrader, resources, why_not_accept)


def _in_order(priorities: Mapping[str, int], key: str) -> list[str]:
    chosen = sorted((priority, name) for name, priority in priorities.items() if priority > 0)
    if not chosen:
        names = ", ".join(f"{key}.{name}" for name in priorities)
        raise UsageError(f"the configuration switches off all of {key}", hint=f"set one of {names} above 0")
    return [name for _priority, name in chosen]


def _make_security(name: str, private_key: PrivateKey, muxers: tuple[str, ...]) -> SecurityProtocol:
    if name == NOISE:
        return NoiseSecurity(private_key, muxers)
    from ipvcs.node.network.tls import TlsSecurity  # OpenSSL's bindings take a tenth of a second to import

    return TlsSecurity(private_key, muxers)


def _muxer_makers(limits: Limits) -> dict[str, tuple[str, MuxerFactory]]:
    def make_yamux(initiator: bool) -> YamuxSession:
        return YamuxSession(
            initiator=initiator,
            max_inbound_streams=limits.streams_per_peer,
            max_window=limits.stream_memory,
            window_growth=limits.peer_memory,
        )

    def make_mplex(initiator: bool) -> MplexSession:
        return MplexSession(initiator=initiator, max_inbound_streams=limits.streams_per_peer)

    return {YAMUX: (yamux.PROTOCOL_ID, make_yamux), MPLEX: (mplex.PROTOCOL_ID, make_mplex)}
