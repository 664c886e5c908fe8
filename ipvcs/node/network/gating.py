"""Whom we refuse to have to do with: deny lists and exceptions from them, by peer and by IP range.

A rule is a peer id (`12D3Koo…`, with or without `/p2p/` in front) or a range of addresses as Kubo's `Swarm.AddrFilters`
write it (`/ip4/10.0.0.0/ipcidr/8`, or `/ip4/10.1.2.3` for one). What no rule denies is allowed, and so is what an allow
rule names, whatever denies it: to talk to certain peers only, deny `/ip4/0.0.0.0/ipcidr/0` and `/ip6/::/ipcidr/0` and
allow those.

Three questions, each as early as it can be answered: may we dial this peer at this address, may this address connect to
us (nobody knows yet who it is, so only rules about addresses count: to let a peer in from a denied range, allow its
address), and may this peer, who has proved its id, stay.

Spec: https://github.com/ipfs/kubo/blob/master/docs/config.md#swarmaddrfilters
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Self

from ipvcs.errors import DecodeError, UsageError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import IpAddress, IpNetwork, ip_of

_HINT: Final = "write a peer id, or a range of addresses as '/ip4/10.0.0.0/ipcidr/8'"


class GateRuleError(UsageError):
    """A rule that is neither a peer id nor a range of addresses."""

    def __init__(self, text: str, reason: str, *, hint: str = _HINT) -> None:
        shown = text if len(text) <= 200 else text[:180] + "…"
        super().__init__(f"invalid filter '{shown}': {reason}", hint=hint)
        self.text = text


@dataclass(frozen=True, slots=True)
class Rules:
    """A list of rules, sorted by kind."""

    peers: frozenset[PeerId] = frozenset()
    networks: tuple[IpNetwork, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Return the rules that `texts` write.

        Raises:
            GateRuleError: one is not a rule.
        """
        peers: set[PeerId] = set()
        networks: dict[IpNetwork, None] = {}
        for text in texts:
            rule = parse_rule(text)
            if isinstance(rule, PeerId):
                peers.add(rule)
            else:
                networks[rule] = None
        return cls(frozenset(peers), tuple(networks))

    def network_of(self, ip: IpAddress | None) -> IpNetwork | None:
        """Return the first range that holds `ip`."""
        if ip is None:
            return None
        return next((network for network in self.networks if network.version == ip.version and ip in network), None)


def parse_rule(text: str) -> PeerId | IpNetwork:
    """Return the peer or the range of addresses that `text` names. Bits behind a range's prefix do not matter.

    Raises:
        GateRuleError: it names neither.
    """
    try:
        if not text.startswith("/"):
            return PeerId.parse(text)
        addr = Multiaddr.parse(text)
        if addr.protocols == ("p2p",) and addr.peer_id is not None:
            return addr.peer_id
    except DecodeError as exc:
        raise GateRuleError(text, str(exc)) from exc
    kind, *behind = addr.protocols
    if (ip := ip_of(addr)) is None or kind not in ("ip4", "ip6") or behind not in ([], ["ipcidr"]):
        raise GateRuleError(text, "it is neither a peer nor a range of addresses")
    bits = addr.value_for("ipcidr")
    if ip.version == 4 and kind == "ip6":  # an IPv4 address inside: connections show it as IPv4
        bits = None if bits is None else str(int(bits) - 96)
    longest = 32 if ip.version == 4 else 128
    if bits is not None and not 0 <= int(bits) <= longest:
        raise GateRuleError(
            text, f"/ipcidr/{addr.value_for('ipcidr')} is not a prefix of an IPv{ip.version} address",
            hint=f"the number of leading bits that count is at most {longest}, as in '/ip4/10.0.0.0/ipcidr/8'",
        )  # fmt: skip
    return ip_network((ip, longest if bits is None else int(bits)), strict=False)


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules in force. Each question is answered with None, for yes, or the reason why not."""

    deny: Rules = Rules()
    allow: Rules = Rules()

    @classmethod
    def parse(cls, deny: Iterable[str] = (), allow: Iterable[str] = ()) -> Self:
        """Return the gate that two lists of rules make. Raises GateRuleError."""
        return cls(Rules.parse(deny), Rules.parse(allow))

    def why_not_dial(self, peer_id: PeerId | None, addr: Multiaddr) -> str | None:
        """Say why `peer_id` (None: whoever answers) must not be dialled at `addr`, names resolved."""
        if peer_id is not None:
            if peer_id in self.allow.peers:
                return None
            if (reason := self.why_not_stay(peer_id)) is not None:
                return reason
        return self.why_not_accept(addr)

    def why_not_accept(self, addr: Multiaddr) -> str | None:
        """Say why a connection from `addr` must not be accepted."""
        ip = ip_of(addr)
        if (denied := self.deny.network_of(ip)) is None or self.allow.network_of(ip) is not None:
            return None
        return f"addresses in {denied} are denied"

    def why_not_stay(self, peer_id: PeerId) -> str | None:
        """Say why a connection to `peer_id`, who has proved that id, must end."""
        if peer_id in self.deny.peers and peer_id not in self.allow.peers:
            return f"the peer {peer_id} is denied"
        return None
