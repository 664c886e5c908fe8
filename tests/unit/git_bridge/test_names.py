"""Names as pushes and fetches see them: what the node's answers mean, and what is true when there is none."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from ipvcs.client.client import Client, DaemonLostError, RemoteCommandError
from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.names import Announcement, Names
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import KnownName, OwnName
from ipvcs.node.naming.succession import UNPUBLISHED
from ipvcs.storage.home import Home, open_home
from tests.unit.node.naming.records import ALICE, A, B, record

NAME = ALICE.peer_id
TEXT = NAME.to_base36()
TAKEN = {"Takers": ["12D3Koo"], "Trouble": "", "Hidden": False}
REFUSED = RemoteCommandError("the name has changed")
LOST = DaemonLostError("name/publish", "it closed the connection")


@dataclass
class FakeClient:
    """Answers with what it is given, in order; errors are raised."""

    answers: list[dict[str, Any] | IpvcsError] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def call(self, route: str, *_args: str, **options: Any) -> dict[str, Any]:
        self.asked.append((route, options))
        answer = self.answers.pop(0)
        if isinstance(answer, IpvcsError):
            raise answer
        return answer


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def names(home: Home, client: FakeClient) -> Names:
    return Names(home, cast("Client", client))


def own(home: Home, value: str, sequence: int) -> None:
    """Have the home's node publish something."""
    known = KnownName(own=OwnName(record(value=value, sequence=sequence), 3600))
    NameStore(home.datastore).change_own(NAME, lambda _before: known)


def test_a_name_leads_somewhere_with_what_a_change_is_based_on(names: Names, client: FakeClient) -> None:
    client.answers = [{"Path": A, "State": {"Sequence": 3, "Value": A}, "Warnings": ["a fork"]}]
    found = names.newest(TEXT)
    assert (found.path, found.state, found.warnings) == (A, (3, A), ("a fork",))
    client.answers = [{"Path": A, "State": None}]
    assert names.newest("example.com").state is None
    assert client.asked[0] == ("name/resolve", {"newest": True, "may_be_unpublished": False})


@pytest.mark.parametrize("why", [[], ["no peer to ask"]])
def test_only_a_name_of_ours_of_which_nothing_is_known_may_be_new(
    names: Names, client: FakeClient, home: Home, why: list[str]
) -> None:
    client.answers = [{"Path": "", "State": {"Sequence": -1, "Value": ""}, "Warnings": why}]
    found = names.newest(TEXT, NAME)
    assert (found.path, found.state) == (None, UNPUBLISHED)
    assert list(found.warnings) == [
        f"cannot find out whether another home has published '{TEXT}': {each}" for each in why
    ]
    assert client.asked[-1][1]["may_be_unpublished"]
    own(home, A, 0)
    client.answers = [{"Path": A, "State": {"Sequence": 0, "Value": A}}]
    names.newest(TEXT, NAME)
    assert not client.asked[-1][1]["may_be_unpublished"]


def test_what_the_network_made_of_a_record(names: Names, client: FakeClient) -> None:
    rival = {"Sequence": 4, "Value": B}
    client.answers = [
        TAKEN,
        {"Takers": [], "Trouble": "no peer to ask", "Hidden": True},
        {**TAKEN, "Rival": {**rival, "Outranks": True}},
        {**TAKEN, "Rival": {**rival, "Outranks": False}},
    ]
    published = [names.publish("self", NAME, A, (3, B)) for _ in range(4)]
    assert published == [
        Announcement(takers=("12D3Koo",)),
        Announcement(trouble="no peer to ask", hidden=True),
        Announcement(takers=("12D3Koo",), winner=B),
        Announcement(takers=("12D3Koo",)),
    ]
    options = client.asked[0][1]
    assert (options["expect_sequence"], options["expect_value"], options["patience"]) == (3, B, "10s")


@pytest.mark.parametrize("error", [REFUSED, LOST])
def test_what_the_home_has_stored_is_published_whatever_the_node_says(
    names: Names, client: FakeClient, home: Home, error: IpvcsError
) -> None:
    own(home, A, 4)
    client.answers = [error]
    assert names.publish("self", NAME, A, (3, B)) == Announcement(trouble=str(error))


def test_a_name_that_has_changed_is_no_error_and_any_other_trouble_is(
    names: Names, client: FakeClient, home: Home
) -> None:
    own(home, B, 3)
    client.answers = [REFUSED, {"Path": A, "State": {"Sequence": 3, "Value": A}}]
    assert names.publish("self", NAME, "/ipfs/bafkqaddwgevxmmraojswg33smq", (3, B)) is None
    client.answers = [REFUSED, {"Path": B, "State": {"Sequence": 3, "Value": B}}]
    with pytest.raises(RemoteCommandError, match="has changed"):
        names.publish("self", NAME, A, (3, B))
    client.answers = [LOST]
    with pytest.raises(DaemonLostError):
        names.publish("self", NAME, A, (3, B))


def test_what_this_home_published_last_is_known_without_the_node(names: Names, home: Home) -> None:
    assert names.own_record(NAME) is None
    own(home, A, 4)
    assert names.own_record(NAME) == (4, A)
