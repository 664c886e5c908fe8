from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.kad_message import MAX_REQUEST, Record
from ipvcs.node.routing.value_search import ValueSearch
from tests.fakes.memory_network import key_of
from tests.unit.node.routing.kad_world import NumberRules

KEY = b"/n/key"
A, B, C, D = (PeerInfo(key_of(name).peer_id) for name in "abcd")


def search(quorum: int = 0) -> ValueSearch:
    return ValueSearch(KEY, NumberRules(), quorum)


def test_each_better_value_is_reported_once_and_who_has_less_is_known() -> None:
    found = search()
    assert found.offer(Record(KEY, b"5"), A, 0) == b"5"
    assert found.offer(Record(KEY, b"3"), B, 0) is None
    assert found.offer(Record(KEY, b"5"), C, 0) is None
    assert found.outdated() == (B,)
    assert found.offer(Record(KEY, b"9"), D, 0) == b"9"
    assert sorted(found.outdated(), key=lambda peer: peer.peer_id) == sorted((A, B, C), key=lambda peer: peer.peer_id)
    assert found.best == b"9"


def test_what_is_not_valid_under_the_key_counts_for_nothing() -> None:
    found = search(quorum=1)
    for record in (None, Record(b"/n/other", b"5"), Record(KEY, b"x"), Record(KEY, b"1" * (MAX_REQUEST + 1))):
        assert found.offer(record, A, 0) is None
    assert found.best is None
    assert not found.is_finished
    assert found.outdated() == ()


def test_the_quorum_counts_peers_with_a_valid_value_and_not_ourselves() -> None:
    found = search(quorum=2)
    found.offer(Record(KEY, b"5"), None, 0)
    found.offer(Record(KEY, b"5"), A, 0)
    assert not found.is_finished
    found.offer(Record(KEY, b"4"), B, 0)
    assert found.is_finished


def test_without_a_quorum_it_never_has_enough() -> None:
    found = search()
    for peer in (A, B, C, D):
        found.offer(Record(KEY, b"5"), peer, 0)
    assert not found.is_finished
