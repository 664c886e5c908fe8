import json
from dataclasses import replace
from pathlib import Path

import pytest

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.identify_message import IdentifyMessage, IdentifyReader, decode_message
from ipvcs.node.network.peer_facts import Lesson, PeerFacts, WrongKeyError, learn, useful_addrs
from ipvcs.node.network.peer_record import seal

VECTORS = Path(__file__).parents[3] / "vectors" / "identify"
JS = json.loads((VECTORS / "js_identify.json").read_text())
CAPTURED = json.loads((VECTORS / "captured.json").read_text())

KEY = generate_key()
PEER = KEY.public_key.peer_id
OTHER_KEY = generate_key()
OTHER = OTHER_KEY.public_key.peer_id
OURSELVES = generate_key().public_key.peer_id

LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")
LAN = Multiaddr.parse("/ip4/192.168.1.2/tcp/4001")
LINK_LOCAL = Multiaddr.parse("/ip4/169.254.1.2/tcp/4001")
PUBLIC = Multiaddr.parse("/ip4/1.2.3.4/tcp/4001")
NAME = Multiaddr.parse("/dns/example.com/tcp/4001")

SAID = IdentifyMessage(KEY.public_key.encode(), (LAN,), ("/a", "/b"), PUBLIC, "ipfs/0.1.0", "kubo/0.43.0/")


def told(
    message: IdentifyMessage, previous: PeerFacts | None = None, *, remote: Multiaddr = LAN, is_push: bool = False
) -> Lesson:
    return learn(message, PEER, remote, previous, own_id=OURSELVES, is_push=is_push)


@pytest.mark.parametrize("vector", JS["messages"], ids=lambda vector: str(vector["key_type"]))
def test_what_js_libp2p_says_is_believed_and_certified(vector: dict[str, object]) -> None:
    message = decode_message(bytes.fromhex(str(vector["message"])))
    lesson = learn(message, PeerId.parse(str(vector["peer_id"])), LOOPBACK, None, own_id=OURSELVES, is_push=False)

    assert lesson.record_seq == lesson.facts.record_seq == int(str(vector["seq"]))
    assert [str(addr) for addr in lesson.facts.listen_addrs] == vector["addrs"]
    assert lesson.facts.speaks("/ipfs/id/push/1.0.0")


@pytest.mark.parametrize("vector", CAPTURED, ids=lambda vector: str(vector["implementation"]))
def test_what_running_peers_sent_is_understood(vector: dict[str, str]) -> None:
    reader = IdentifyReader()
    reader.receive_data(bytes.fromhex(vector["wire"]))
    sender_addr = Multiaddr.parse(vector["sender_addr"])
    receiver = PeerId.parse(vector["receiver"])

    lesson = learn(reader.finish(), PeerId.parse(vector["sender"]), sender_addr, None, own_id=receiver, is_push=False)

    facts = lesson.facts
    assert facts.agent_version.startswith(vector["implementation"].split()[0])
    assert facts.listen_addrs == lesson.addrs == (sender_addr,)
    assert facts.record_seq is not None
    assert {"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/ipfs/bitswap/1.2.0"} <= {*facts.protocols}
    assert facts.observed_addr is not None
    assert facts.observed_addr.protocols == ("ip4", "tcp")
    with pytest.raises(WrongKeyError):
        learn(reader.finish(), receiver, sender_addr, None, own_id=receiver, is_push=False)


def test_unsigned_addresses_count_without_a_record() -> None:
    lesson = told(SAID)

    assert lesson.facts == PeerFacts("ipfs/0.1.0", "kubo/0.43.0/", ("/a", "/b"), (LAN,), PUBLIC, None)
    assert lesson.addrs == (LAN,)
    assert lesson.record_seq is None


def test_signed_addresses_replace_unsigned_ones() -> None:
    lesson = told(replace(SAID, signed_peer_record=seal(KEY, 5, [PUBLIC])))

    assert lesson.facts.listen_addrs == lesson.addrs == (PUBLIC,)
    assert lesson.record_seq == lesson.facts.record_seq == 5


def test_a_signed_record_without_addresses_says_that_there_are_none() -> None:
    lesson = told(replace(SAID, signed_peer_record=seal(KEY, 5, [])))

    assert lesson.facts.listen_addrs == lesson.addrs == ()


@pytest.mark.parametrize(
    "record", [seal(OTHER_KEY, 9, [PUBLIC]), seal(KEY, 9, [PUBLIC])[:-1], b"nonsense"], ids=["foreign", "cut", "junk"]
)
def test_a_record_that_does_not_hold_is_passed_over(record: bytes) -> None:
    lesson = told(replace(SAID, signed_peer_record=record))

    assert lesson.facts.listen_addrs == (LAN,)
    assert lesson.facts.record_seq is lesson.record_seq is None


def test_somebody_elses_key_is_refused() -> None:
    with pytest.raises(WrongKeyError) as caught:
        told(replace(SAID, public_key=OTHER_KEY.public_key.encode()))
    assert caught.value.peer_id == PEER


@pytest.mark.parametrize("is_push", [False, True])
def test_an_older_record_does_not_undo_a_newer_one(is_push: bool) -> None:
    newer = told(replace(SAID, signed_peer_record=seal(KEY, 5, [PUBLIC]))).facts

    lesson = told(replace(SAID, signed_peer_record=seal(KEY, 4, [LAN])), newer, is_push=is_push)

    assert lesson.addrs is None
    assert lesson.facts.listen_addrs == (PUBLIC,)
    assert lesson.facts.record_seq == 5


def test_where_we_are_seen_is_taken_without_our_own_id_and_not_when_it_is_about_somebody_else() -> None:
    """js-libp2p 3.3 appends it."""
    ours = told(replace(SAID, observed_addr=Multiaddr.parse(f"{PUBLIC}/p2p/{OURSELVES}"))).facts
    others = told(replace(SAID, observed_addr=Multiaddr.parse(f"{PUBLIC}/p2p/{OTHER}"))).facts

    assert ours.observed_addr == PUBLIC
    assert others.observed_addr is None


def test_a_push_leaves_unchanged_what_it_does_not_mention() -> None:
    before = told(SAID).facts

    assert told(IdentifyMessage(), before, is_push=True) == Lesson(before)
    after = told(IdentifyMessage(protocols=("/c",)), before, is_push=True).facts
    assert after == replace(before, protocols=("/c",))


def test_an_answer_replaces_everything() -> None:
    before = told(SAID).facts

    assert told(IdentifyMessage(agent_version="x"), before).facts == PeerFacts(agent_version="x")


def test_addresses_of_others_are_not_taken_and_its_own_id_is_cut_off() -> None:
    relay = f"/ip4/1.2.3.4/tcp/1/p2p/{OTHER}/p2p-circuit"
    addrs = [
        Multiaddr.parse(text)
        for text in (
            f"{PUBLIC}/p2p/{PEER}",
            f"{LAN}/p2p/{OTHER}",
            str(PUBLIC),
            f"/p2p/{PEER}",
            relay,
            f"{relay}/p2p/{OTHER}",
            f"{relay}/p2p/{PEER}",
        )
    ]
    found = told(replace(SAID, listen_addrs=tuple(addrs)), remote=LOOPBACK).facts.listen_addrs

    assert found == (PUBLIC, Multiaddr.parse(relay))


@pytest.mark.parametrize(
    ("remote", "useful"),
    [
        (LOOPBACK, (LOOPBACK, LAN, LINK_LOCAL, PUBLIC, NAME)),
        (LAN, (LAN, LINK_LOCAL, PUBLIC, NAME)),
        (LINK_LOCAL, (LAN, LINK_LOCAL, PUBLIC, NAME)),
        (PUBLIC, (PUBLIC, NAME)),
        (NAME, (LOOPBACK, LAN, LINK_LOCAL, PUBLIC, NAME)),
    ],
    ids=str,
)
def test_a_stranger_cannot_have_us_dial_into_our_own_network(remote: Multiaddr, useful: tuple[Multiaddr, ...]) -> None:
    assert useful_addrs((LOOPBACK, LAN, LINK_LOCAL, PUBLIC, NAME), remote) == useful


def test_signed_addresses_are_filtered_like_unsigned_ones() -> None:
    lesson = told(replace(SAID, signed_peer_record=seal(KEY, 5, [LOOPBACK, LAN, PUBLIC])), remote=PUBLIC)

    assert lesson.addrs == lesson.facts.listen_addrs == (PUBLIC,)
