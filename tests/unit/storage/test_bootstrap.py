from pathlib import Path

import pytest

from ipvcs.errors import UsageError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.typed import ArgumentError
from ipvcs.storage.bootstrap import (
    DEFAULT_PEERS,
    BootstrapError,
    add_bootstrap,
    clear_bootstrap,
    list_bootstrap,
    remove_bootstrap,
)
from ipvcs.storage.config import Config

PEER = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"
OTHER = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
FIRST, SECOND, THIRD = f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER}", f"/ip6/::1/tcp/1/p2p/{PEER}", f"/dns/x/tcp/1/p2p/{OTHER}"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.load(tmp_path / "config")


def test_the_public_networks_peers_are_dnsaddrs_of_certain_peers() -> None:
    """As in Kubo's repo/fsrepo/migrations/fs-repo-16-to-17, DefaultBootstrapAddresses."""
    for text in DEFAULT_PEERS:
        addr = Multiaddr.parse(text)
        assert addr.protocols == ("dnsaddr", "p2p")
        assert str(addr) == text
    assert len(set(DEFAULT_PEERS)) == 5


def test_new_peers_come_first_and_none_twice(config: Config) -> None:
    assert add_bootstrap(config, [FIRST, THIRD]) == [FIRST, THIRD]
    assert add_bootstrap(config, [SECOND, THIRD, SECOND]) == [SECOND, THIRD]
    assert list_bootstrap(config) == [SECOND, THIRD, FIRST]


def test_addresses_are_kept_in_their_usual_form(config: Config) -> None:
    assert add_bootstrap(config, [f"/ip4/10.0.0.1/tcp/4001/ipfs/{PEER}/"]) == [FIRST]


def test_default_stands_for_the_public_network(config: Config) -> None:
    assert add_bootstrap(config, ["default", FIRST]) == [*DEFAULT_PEERS, FIRST]


def test_removing_an_address_leaves_the_peers_others(config: Config) -> None:
    config.set("Bootstrap", [FIRST, SECOND, THIRD])
    assert remove_bootstrap(config, [f"/ip4/10.0.0.1/tcp/4001/ipfs/{PEER}"]) == [FIRST]
    assert list_bootstrap(config) == [SECOND, THIRD]


def test_removing_a_peer_removes_all_its_addresses(config: Config) -> None:
    config.set("Bootstrap", [FIRST, THIRD, SECOND])
    assert remove_bootstrap(config, [f"/p2p/{PEER}"]) == [FIRST, SECOND]
    assert list_bootstrap(config) == [THIRD]


def test_removing_what_is_not_there_changes_nothing(config: Config) -> None:
    config.set("Bootstrap", [FIRST, "not an address"])
    assert remove_bootstrap(config, [THIRD]) == []
    assert list_bootstrap(config) == [FIRST, "not an address"]


def test_clearing_removes_even_what_is_no_address(config: Config) -> None:
    config.set("Bootstrap", [FIRST, "not an address"])
    assert clear_bootstrap(config) == [FIRST, "not an address"]
    assert list_bootstrap(config) == []


@pytest.mark.parametrize("peers", [[], ["/ip4/10.0.0.1/tcp/4001"], [f"/p2p/{PEER}"]])
def test_what_does_not_lead_to_a_certain_peer_is_not_added(config: Config, peers: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        add_bootstrap(config, peers)
    assert caught.value.hint
    assert list_bootstrap(config) == []


def test_one_bad_address_and_nothing_is_added(config: Config) -> None:
    with pytest.raises(ArgumentError):
        add_bootstrap(config, [FIRST, "nonsense"])
    assert list_bootstrap(config) == []


def test_the_list_is_bounded(config: Config) -> None:
    many = [f"/ip4/10.0.{number // 256}.{number % 256}/tcp/1/p2p/{PEER}" for number in range(1001)]
    with pytest.raises(BootstrapError, match="more than 1000"):
        add_bootstrap(config, many)
    assert list_bootstrap(config) == []
