"""The bootstrap list: the peers by whom a daemon joins the network, the setting `Bootstrap`. A change shows when the
daemon starts next.

Spec: https://docs.ipfs.tech/how-to/modify-bootstrap-list/
"""

from collections.abc import Sequence
from typing import Final

from ipvcs.errors import UsageError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_address import parse_peer_address
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import ArgumentError
from ipvcs.storage.config import Config

DEFAULT_PEERS: Final = (
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/va1.bootstrap.libp2p.io/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
)
"""The public network's peers by dnsaddr, Kubo's defaults before they came from a service (its migration 16-to-17)."""
DEFAULT: Final = "default"
"""Stands for `DEFAULT_PEERS`."""
_MAX_PEERS: Final = 1000
"""Entries. All are dialled at once by a daemon that is alone; Kubo's own list has a handful."""


class BootstrapError(UsageError):
    """Not an address by which to reach a certain peer, or too many of them. `subject` is what was given."""

    def __init__(self, message: str, subject: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.subject = subject


def list_bootstrap(config: Config) -> list[str]:
    """Return the list as it is in the file now."""
    return list(Config.load(config.path).get("Bootstrap"))


def add_bootstrap(config: Config, peers: Sequence[str]) -> list[str]:
    """Put `peers` in front of the list, each once and whether or not it was there; return them.

    Raises:
        ArgumentError: not an address that ends in a peer. BootstrapError: it says nothing but that.
    """
    wanted: dict[str, None] = {}
    for peer in peers:
        wanted |= dict.fromkeys(DEFAULT_PEERS if peer == DEFAULT else [_new_entry(peer)])
    if not wanted:
        raise BootstrapError("no bootstrap peers to add", hint="name addresses, or `default` for the public network's")

    def edit(old: list[str]) -> list[str]:
        new = list(wanted | dict.fromkeys(old))
        if len(new) > _MAX_PEERS:
            raise BootstrapError(f"more than {_MAX_PEERS} bootstrap peers", hint="a handful is enough")
        return new

    config.change("Bootstrap", edit)
    return list(wanted)


def remove_bootstrap(config: Config, peers: Sequence[str]) -> list[str]:
    """Take `peers` from the list and return what was removed: that address, or all of a peer's for `/p2p/<NodeId>`.

    Raises:
        ArgumentError: not an address that ends in a peer.
    """
    if not peers:
        raise BootstrapError("no bootstrap peers to remove", hint="name addresses, or `all`")
    unwanted = [parse_peer_address(peer) for peer in peers]
    removed: list[str] = []

    def edit(old: list[str]) -> list[str]:
        kept: list[str] = []
        for entry in old:
            (removed if any(_covers(addr, entry) for addr in unwanted) else kept).append(entry)
        return kept

    config.change("Bootstrap", edit)
    return removed


def clear_bootstrap(config: Config) -> list[str]:
    """Take everything from the list and return what it was."""
    removed: list[str] = []

    def edit(old: list[str]) -> list[str]:
        removed.extend(old)
        return []

    config.change("Bootstrap", edit)
    return removed


def _new_entry(peer: str) -> str:
    _peer_id, where = parse_peer_address(peer)
    if where is None:
        raise BootstrapError(
            f"bootstrap address '{peer}' does not say where the peer is",
            peer,
            hint="give it as '/ip4/…/tcp/…/p2p/<NodeId>' or '/dnsaddr/…/p2p/<NodeId>'",
        )
    return str(Multiaddr.parse(peer))  # as everybody else writes it


def _covers(unwanted: tuple[PeerId, Multiaddr | None], entry: str) -> bool:
    try:
        peer_id, where = parse_peer_address(entry)
    except ArgumentError:  # somebody wrote it into the file; `all` removes it
        return False
    return peer_id == unwanted[0] and unwanted[1] in (None, where)
