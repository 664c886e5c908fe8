import json
from pathlib import Path

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import MAX_BYTES, MAX_TEXT_LENGTH, Multiaddr, MultiaddrError
from ipvcs.multiformats.multiaddr_protocols import BY_NAME, PROTOCOLS
from ipvcs.multiformats.peer_id import PeerId
from tests.strategies import multiaddrs, peer_ids

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "multiaddr" / "vectors.json").read_text())
PEER = "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV"
RELAY = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"
# Printed otherwise than written: the notes of the vectors, certhash in another base, fill bits that are not zero.
REWRITTEN = ("/ipfs/", "/p2p/k", "/p2p/b", "/certhash/", "/ip4/127.0.0.1/tcp/1234/", "zuqzwassw")


@pytest.mark.parametrize("vector", VECTORS["bytes"], ids=lambda vector: vector["text"][:40])
def test_text_and_bytes_of_the_vectors_hold_both_ways(vector: dict[str, str]) -> None:
    address = Multiaddr.parse(vector["text"])
    assert address.raw.hex() == vector["hex"]
    assert str(Multiaddr.decode(bytes.fromhex(vector["hex"]))) == vector["text"]


@pytest.mark.parametrize("text", VECTORS["valid"], ids=lambda text: text[:60])
def test_valid_vectors_parse_and_print(text: str) -> None:
    address = Multiaddr.parse(text)
    assert Multiaddr.decode(address.raw) == Multiaddr.parse(str(address)) == address
    assert (str(address) == text) != any(part in text for part in REWRITTEN)


@pytest.mark.parametrize("text", VECTORS["invalid"], ids=lambda text: f"{text[:20]}-{text[-20:]}")
def test_invalid_vectors_are_refused(text: str) -> None:
    with pytest.raises(MultiaddrError) as caught:
        Multiaddr.parse(text)
    assert caught.value.subject == text
    assert caught.value.hint


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("/ipfs/" + RELAY, "/p2p/" + RELAY),
        ("/p2p/k51qzi5uqu5dhb6l8spkdx7yxafegfkee5by8h7lmjh2ehc2sgg34z7c15vzqs", "/p2p/" + PEER),
        ("/p2p/bafzaajaiaejcalj543iwv2d7pkjt7ykvefrkfu7qjfi6sduakhso4lay6abn2d5u", "/p2p/" + PEER),
        ("/ip4/127.0.0.1/tcp/1234///", "/ip4/127.0.0.1/tcp/1234"),
        ("/tcp/080", "/tcp/80"),
        ("/ip6/2001:DB8:0:0:0:0:0:1", "/ip6/2001:db8::1"),
        ("/ip6/::ffff:127.0.0.1", "/ip6/::ffff:127.0.0.1"),
        ("/ip6/::ffff:7f00:1", "/ip6/::ffff:127.0.0.1"),
        ("/onion/TIMAQ4YGG2IEGCI7:80", "/onion/timaq4ygg2iegci7:80"),
        ("/certhash/b2uaraocy6yrdblb4sfptaddgimjmmpy", "/certhash/u1QEQOFj2IjCsPJFfMAxmQxLGPw"),
        ("/http-path/a+b%2fc%20%25", "/http-path/a%20b%2Fc%20%25"),
        ("/unix/a//b", "/unix/a//b"),
        ("/unix//a", "/unix//a"),
    ],
)
def test_an_address_is_printed_in_its_canonical_form(written: str, printed: str) -> None:
    assert str(Multiaddr.parse(written)) == printed


@given(multiaddrs())
def test_both_forms_lead_back_to_the_address(address: Multiaddr) -> None:
    assert Multiaddr.decode(address.raw) == address
    assert Multiaddr.parse(str(address)) == address
    assert repr(address) == f"Multiaddr({address})"


@given(multiaddrs())
def test_the_components_make_up_the_address(address: Multiaddr) -> None:
    assert address.protocols == tuple(component.protocol for component in address)
    for protocol, value in address:
        assert bool(value) == bool(BY_NAME[protocol].size)
    first = next(iter(address))
    assert address.value_for(first.protocol) == first.value


@given(multiaddrs(), multiaddrs())
def test_decapsulate_undoes_encapsulate(outer: Multiaddr, inner: Multiaddr) -> None:
    if outer.protocols[-1] == "unix":
        with pytest.raises(MultiaddrError, match="follows the path of /unix"):
            outer.encapsulate(inner)
        return
    both = outer.encapsulate(inner)
    assert tuple(both) == (*outer, *inner)
    assert both.decapsulate(inner) == outer


@pytest.mark.parametrize(
    ("address", "inner", "left"),
    [
        ("/ip4/1.2.3.4/tcp/80/ws", "/tcp/80", "/ip4/1.2.3.4"),
        ("/ip4/1.2.3.4/tcp/80", "/udp/80", "/ip4/1.2.3.4/tcp/80"),
        ("/ip4/1.2.3.4/tcp/80", "/ip4/1.2.3.4", None),
        ("/ws/tcp/1/ws/tcp/1", "/ws", "/ws/tcp/1"),  # the last place counts
        ("/ip4/6.0.80.4/tcp/1", "/tcp/80", "/ip4/6.0.80.4/tcp/1"),  # the bytes of /tcp/80 lie inside the ip4
    ],
)
def test_decapsulate_compares_whole_components(address: str, inner: str, left: str | None) -> None:
    found = Multiaddr.parse(address).decapsulate(Multiaddr.parse(inner))
    assert (found and str(found)) == left


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("/ip4/1.2.3.4/tcp/80", None),
        (f"/ip4/1.2.3.4/tcp/80/p2p/{PEER}", PEER),
        (f"/p2p/{RELAY}/p2p-circuit/p2p/{PEER}", PEER),
        (f"/ip4/1.2.3.4/tcp/80/p2p/{RELAY}/p2p-circuit", None),
        (f"/p2p/{PEER}/http-path/foo", PEER),
    ],
)
def test_the_peer_is_the_one_that_the_whole_address_leads_to(text: str, peer: str | None) -> None:
    assert Multiaddr.parse(text).peer_id == (peer and PeerId.parse(peer))


@given(multiaddrs(), peer_ids())
def test_an_encapsulated_peer_is_found_again(address: Multiaddr, peer: PeerId) -> None:
    if address.protocols[-1] != "unix":
        assert address.encapsulate(Multiaddr.parse(f"/p2p/{peer}")).peer_id == peer


def test_value_for_an_absent_protocol_is_none_and_for_a_bare_one_empty() -> None:
    address = Multiaddr.parse("/ip4/1.2.3.4/tcp/80/tcp/81/ws")
    assert address.value_for("udp") is None
    assert address.value_for("ws") == ""
    assert address.value_for("tcp") == "80"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "empty"),
        ("04", "cut short"),
        ("047f0000", "cut short"),
        ("05", "unknown protocol 5"),
        ("8500", "not minimal"),
        ("fe", "cut short"),
        ("35", "cut short"),
        ("3500", "/dns: empty"),
        ("3505612f", "cut short"),
        ("3502612f", "slash"),
        ("3502ff61", "utf-8"),
        ("2a00", "/ip6zone: empty"),
        ("a503021200", "0 bytes instead of 32"),
        ("a50300", "/p2p: "),
        ("900301" + "2f", "/unix: not the absolute path"),
        ("900302" + "6162", "/unix: not the absolute path"),
        ("900302" + "2f61" + "dd03", "/ws follows the path of /unix"),
        ("bc03" + "00" * 12, "port is 0"),
        ("bd03" + "00" * 37, "port is 0"),
        ("bf0321" + "00" * 33, "no I2P address"),
        ("be0302" + "0000", "less than the 386"),
        ("d2030112", "cut short"),
        ("e10300", "/http-path: empty"),
        ("dd03" * (MAX_BYTES // 2 + 1), "over the limit"),
    ],
)
def test_bad_bytes_are_refused_with_the_reason(data: str, message: str) -> None:
    with pytest.raises(MultiaddrError, match=message):
        Multiaddr.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ip4/1.2.3.4", "does not start with '/'"),
        ("//ip4/1.2.3.4", "unknown protocol ''"),
        ("/ip4/127.0.0.01", "/ip4"),
        ("/ip6/fe80::1%eth0", "/ip6zone"),
        ("/ip4/1.2.3.4/tcp/+80", "not a decimal number"),
        ("/ip4/1.2.3.4/tcp/\u0663", "not a decimal number"),
        ("/tcp/" + "0" * 5000, "not a decimal number"),
        ("/memory/18446744073709551616", "over 18446744073709551615"),
        ("/http-path/%", "'%' is not followed"),
        ("/http-path/%2", "/http-path"),
        ("/http-path/%zz", "/http-path"),
        ("/dns/\ud800", "surrogates"),
        ("/garlic64/" + "+" * 516, "'-' and '~'"),
        ("/dns/" + "a" * MAX_BYTES, "over the limit"),
        ("/dns/" + "a" * MAX_TEXT_LENGTH, "longer than"),
    ],
)
def test_bad_text_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(MultiaddrError, match=message) as caught:
        Multiaddr.parse(text)
    assert len(str(caught.value)) < 500


def test_the_longest_text_of_the_longest_bytes_parses() -> None:
    address = Multiaddr.decode(bytes.fromhex("9402") * (MAX_BYTES // 2))
    assert len(str(address)) == 9 * MAX_BYTES < MAX_TEXT_LENGTH
    assert Multiaddr.parse(str(address)) == address


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from([p.name for p in PROTOCOLS]) | st.text()).map("/".join).map("/".__add__)
)
def test_garbage_text_raises_only_multiaddr_errors(text: str) -> None:
    try:
        address = Multiaddr.parse(text)
    except MultiaddrError:
        return
    assert Multiaddr.decode(address.raw) == address == Multiaddr.parse(str(address))


@given(multiaddrs(), st.data())
def test_damaged_bytes_raise_only_multiaddr_errors(address: Multiaddr, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(address.raw) - 1))
    damaged = bytearray(address.raw)
    damaged[position] = data.draw(st.integers(0, 255))
    try:
        found = Multiaddr.decode(bytes(damaged))
    except MultiaddrError:
        return
    assert found.raw == damaged
    assert Multiaddr.parse(str(found)).raw == found.raw


@pytest.mark.parametrize("text", ["/ip4/1.2.3.4/tcp/80", "/ip6/2001:db8::1/udp/443/quic"])
def test_common_addresses_equal_those_of_another_implementation(text: str) -> None:
    assert bytes(multiformats.multiaddr.parse(text)) == Multiaddr.parse(text).raw
