"""How people and clients name peers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_address import NoPeerIdError, parse_peer, parse_peer_address
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import ArgumentError

ID = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"
RELAY = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
PEER = PeerId.parse(ID)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"/p2p/{ID}", None),
        (f"/ipfs/{ID}", None),
        (f"/ip4/192.0.2.1/tcp/4001/p2p/{ID}", "/ip4/192.0.2.1/tcp/4001"),
        (f"/dnsaddr/example.com/p2p/{ID}", "/dnsaddr/example.com"),
        (f"/ip4/192.0.2.1/tcp/1/p2p/{RELAY}/p2p-circuit/p2p/{ID}", f"/ip4/192.0.2.1/tcp/1/p2p/{RELAY}/p2p-circuit"),
    ],
)
def test_an_address_is_taken_apart_into_the_peer_and_where_it_is(text: str, where: str | None) -> None:
    expected = PEER, None if where is None else Multiaddr.parse(where)
    assert parse_peer_address(text) == parse_peer(text) == expected


@pytest.mark.parametrize("text", [ID, PEER.to_base36(), str(PEER.to_cid())])
def test_an_id_alone_names_a_peer_and_is_no_address(text: str) -> None:
    assert parse_peer(text) == (PEER, None)
    with pytest.raises(ArgumentError, match="invalid multiaddr"):
        parse_peer_address(text)


@pytest.mark.parametrize(
    "text", ["/ip4/192.0.2.1/tcp/1", f"/p2p/{ID}/p2p-circuit", f"/ip4/192.0.2.1/tcp/1/p2p/{ID}/tcp/2"]
)
def test_an_address_that_does_not_end_in_a_peer_is_refused_with_a_hint(text: str) -> None:
    for parse in (parse_peer, parse_peer_address):
        with pytest.raises(NoPeerIdError, match="does not say which peer it leads to") as caught:
            parse(text)
        assert caught.value.subject == text
        assert caught.value.hint == "end it with '/p2p/<NodeId>'"


@given(text=st.text(max_size=40) | st.text(max_size=40).map("/".__add__))
def test_anything_else_is_wrong_usage(text: str) -> None:
    for parse in (parse_peer, parse_peer_address):
        with pytest.raises(UsageError) as caught:
            parse(text)
        assert caught.value.exit_code == 129
