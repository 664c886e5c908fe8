"""Shapes: Kubo's core/commands/name; what its clients send, and what they read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ipvcs.api.command import MAX_DEADLINE
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keystore import KeyNotFoundError
from ipvcs.node.naming.publisher import NotAnnouncedError
from ipvcs.node.naming.resolver import NameNotFoundError, UnconfirmedNameError
from ipvcs.node.naming.succession import UNPUBLISHED, NameChangedError
from ipvcs.node.routing.interface import NoRoutingPeersError
from tests.unit.api.asgi import Response
from tests.unit.api.fake_names import NAME, FakeNames, resolved
from tests.unit.api.fake_node import FakeConnection, FakeNode

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
TEXT = NAME.to_base36()
DEFAULTS = {"newest": False, "recursive": True, "nocache": False, "quorum": 16, "timeout": 60.0}


@dataclass
class NamingNode(FakeNode):
    """A node whose naming a test scripts."""

    names: FakeNames = field(default_factory=FakeNames)


@pytest.fixture
def node(tmp_path: Path) -> NamingNode:
    return NamingNode(tmp_path)


@pytest.fixture
def names(node: NamingNode) -> FakeNames:
    return node.names


async def test_a_name_is_published(call: Post, names: FakeNames) -> None:
    response = await call("name/publish?arg=/ipfs/bafkqaaa")
    assert response.json == {"Name": TEXT, "Value": "/ipfs/bafkqaaa"}
    defaults: dict[str, object] = {
        "key": "self", "lifetime": None, "ttl": 300.0, "sequence": None, "expect": None, "allow_offline": False,
        "patience": None,
    }  # fmt: skip
    assert names.asked == [("/ipfs/bafkqaaa", defaults)]


async def test_every_option_of_publish_is_passed_on(call: Post, names: FakeNames) -> None:
    await call(
        "name/publish?arg=bafkqaaa&key=work&lifetime=1h30m&ttl=500ms&sequence=7&allow-offline=true"
        "&resolve=true&quieter=true&expect-sequence=6&expect-value=/ipfs/bafkqaaa/x&patience=10s"
    )
    expect = (6, "/ipfs/bafkqaaa/x")
    options: dict[str, object] = {
        "key": "work", "lifetime": 5400.0, "ttl": 0.5, "sequence": 7, "expect": expect, "allow_offline": True,
        "patience": 10.0,
    }  # fmt: skip
    assert names.asked == [("bafkqaaa", options)]
    await call("name/publish?arg=bafkqaaa&ttl=0s&sequence=0")
    assert (names.asked[-1][1]["ttl"], names.asked[-1][1]["sequence"]) == (0.0, 0)


async def test_who_is_patient_is_told_who_has_the_record_and_who_has_another(call: Post, names: FakeNames) -> None:
    done = await names.publish("/ipfs/bafkqaaa")
    names.published = replace(done, takers=(NAME,), rival=done.record)
    query = "name/publish?arg=/ipfs/bafkqaaa&patience=1h"
    assert (await call(query)).json == {
        "Name": TEXT, "Value": "/ipfs/bafkqaaa", "Takers": [str(NAME)], "Trouble": "", "Hidden": False,
        "Rival": {"Sequence": 0, "Value": "/ipfs/bafkqaaa", "Outranks": False},
    }  # fmt: skip
    assert names.asked[-1][1]["patience"] == 60.0, "the command itself may take no longer"
    names.published = replace(done, trouble="nobody")
    assert (await call(query)).json["Trouble"] == "nobody"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("arg=a&patience=soon", 400),
        ("arg=a&arg=b", 400),
        ("arg=a&lifetime=soon", 400),
        ("arg=a&ttl=-1s", 400),
        ("arg=a&sequence=x", 400),
        ("arg=a&sequence=99999999999999999999", 400),
        ("arg=a&allow-offline=perhaps", 400),
        ("arg=a&expect-sequence=0", 400),
        ("arg=a&expect-value=x", 400),
        ("arg=a&expect-sequence=-1&expect-value=x", 400),
        ("arg=a&expect-sequence=x&expect-value=x", 400),
    ],
)
async def test_what_publish_does_not_take_is_refused(call: Post, names: FakeNames, query: str, status: int) -> None:
    assert (await call(f"name/publish?{query}")).status == status
    assert names.asked == []


async def test_errors_of_publish_are_told_with_their_hints(call: Post, names: FakeNames) -> None:
    names.error = NotAnnouncedError(NAME, "no peer to ask")
    response = await call("name/publish?arg=bafkqaaa")
    assert (response.status, response.json["ExitCode"]) == (500, 128)
    assert "--allow-offline" in response.json["Hint"]
    names.error = KeyNotFoundError("work")
    assert (await call("name/publish?arg=bafkqaaa&key=work")).json["Message"] == "no key is named 'work'"


async def test_a_name_is_resolved(call: Post, names: FakeNames) -> None:
    names.results = [resolved("/ipfs/bafkqaaa/x")]
    assert (await call("name/resolve?arg=example.com")).json == {"Path": "/ipfs/bafkqaaa/x"}
    assert names.asked == [("example.com", DEFAULTS)]


async def test_a_name_without_a_record_is_what_may_be_expected(call: Post, names: FakeNames) -> None:
    await call("name/publish?arg=bafkqaaa&expect-sequence=-1")
    await call("name/publish?arg=bafkqaaa&expect-sequence=-1&expect-value=")
    assert [options["expect"] for _value, options in names.asked] == [UNPUBLISHED] * 2


async def test_a_publish_upon_what_has_changed_meanwhile_says_what_is_there(call: Post, names: FakeNames) -> None:
    names.error = NameChangedError(NAME, (0, "/ipfs/bafkqaaa"), (1, "/ipfs/bafkqaaa/x"))
    response = await call("name/publish?arg=bafkqaaa&expect-sequence=0&expect-value=/ipfs/bafkqaaa")
    assert response.status == 500
    assert "'/ipfs/bafkqaaa/x' with sequence 1" in response.json["Message"]
    assert "publish on top of it" in response.json["Hint"]


async def test_the_newest_is_told_with_what_a_writer_expects(call: Post, names: FakeNames) -> None:
    names.results = [replace(resolved("/ipfs/bafkqaaa/x/y"), state=(7, "/ipfs/bafkqaaa/x"))]
    told = {"Path": "/ipfs/bafkqaaa/x/y", "State": {"Sequence": 7, "Value": "/ipfs/bafkqaaa/x"}}
    assert (await call("name/resolve?arg=x&newest=true")).json == told
    assert (await call("name/resolve?arg=x&newest=true&stream=true")).lines == [told]
    names.results = [resolved("/ipfs/bafkqaaa")]
    assert (await call("name/resolve?arg=x.example&newest=true")).json == {"Path": "/ipfs/bafkqaaa", "State": None}


async def test_a_name_of_ours_may_be_unpublished(call: Post, names: FakeNames) -> None:
    unpublished = {"Path": "", "State": {"Sequence": -1, "Value": ""}}
    query = "name/resolve?newest=true&may-be-unpublished=true"
    names.error = NameNotFoundError(NAME)
    assert (await call(query)).json == {**unpublished, "Warnings": []}
    names.error = NoRoutingPeersError()
    assert (await call(query)).json == {**unpublished, "Warnings": [str(names.error)]}
    assert (await call("name/resolve?newest=true")).status == 500


@pytest.mark.parametrize(
    ("listens", "peers", "hidden"),
    [
        (["127.0.0.1"], [], True),
        (["127.0.0.1"], ["127.0.0.1"], False),
        (["127.0.0.1"], ["127.0.0.1", "192.0.2.1"], True),
        (["127.0.0.1", "192.168.1.2"], ["192.0.2.1"], False),
    ],
)
async def test_who_listens_on_loopback_alone_is_hidden_from_all_but_this_machine(
    call: Post, node: NamingNode, monkeypatch: pytest.MonkeyPatch, listens: list[str], peers: list[str], hidden: bool
) -> None:
    addrs = tuple(Multiaddr.parse(f"/ip4/{ip}/tcp/4001") for ip in listens)
    monkeypatch.setattr(node.swarm, "addresses", lambda: addrs)
    node.swarm.open += [FakeConnection(NAME, Multiaddr.parse(f"/ip4/{ip}/tcp/1")) for ip in peers]
    assert (await call("name/publish?arg=bafkqaaa&patience=1s")).json["Hidden"] == hidden


async def test_without_a_name_our_own_is_resolved(call: Post, node: NamingNode, names: FakeNames) -> None:
    names.results = [resolved("/ipfs/bafkqaaa")]
    await call("name/resolve")
    await call("name/resolve?arg=")
    assert [name for name, _options in names.asked] == [node.peer_id.to_base36()] * 2


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        ("recursive=false", {"recursive": False}),
        ("r=false", {"recursive": False}),
        ("recursive=true&nocache=true", {"nocache": True}),
        ("recursive", {}),
        ("dht-record-count=0&dht-timeout=5s", {"quorum": 0, "timeout": 5.0}),
        ("dht-timeout=0", {"timeout": MAX_DEADLINE}),
        ("newest=true", {"newest": True}),
    ],
)
async def test_every_option_of_resolve_is_passed_on(
    call: Post, names: FakeNames, query: str, changed: dict[str, Any]
) -> None:
    names.results = [resolved("/ipfs/bafkqaaa")]
    await call(f"name/resolve?arg=x.example&{query}")
    assert names.asked == [("x.example", DEFAULTS | changed)]


@pytest.mark.parametrize("query", ["recursive=x", "dht-record-count=-1", "dht-timeout=5", "arg=a&arg=b"])
async def test_what_resolve_does_not_take_is_refused(call: Post, names: FakeNames, query: str) -> None:
    assert (await call(f"name/resolve?arg=x.example&{query}")).status == 400
    assert names.asked == []


async def test_each_better_answer_is_a_line_and_no_line_comes_twice(call: Post, names: FakeNames) -> None:
    names.results = [resolved("/ipfs/bafkqaaa"), resolved("/ipfs/bafkqaaa"), resolved("/ipns/x.example/a")]
    response = await call("name/resolve?arg=x.example&stream=true")
    assert response.lines == [{"Path": "/ipfs/bafkqaaa"}, {"Path": "/ipns/x.example/a"}]


async def test_an_error_ends_a_stream_and_without_a_line_has_a_status(call: Post, names: FakeNames) -> None:
    names.error = NameNotFoundError(NAME)
    assert (await call("name/resolve?arg=x.example&stream=true")).status == 500
    names.results = [resolved("/ipfs/bafkqaaa")]
    lines = (await call("name/resolve?arg=x.example&stream=true")).lines
    assert lines[0] == {"Path": "/ipfs/bafkqaaa"}
    assert lines[1]["Type"] == "error"
    assert TEXT in lines[1]["Message"]


async def test_why_an_answer_may_not_be_the_newest_stands_beside_it(call: Post, names: FakeNames) -> None:
    warning = UnconfirmedNameError(TEXT, "no peer to ask", 7.0)
    names.results = [resolved("/ipfs/bafkqaaa", warning)]
    assert (await call(f"name/resolve?arg={TEXT}")).json == {"Path": "/ipfs/bafkqaaa", "Warnings": [str(warning)]}


async def test_a_path_that_is_not_utf_8_is_an_answer_too(call: Post, names: FakeNames) -> None:
    names.results = [resolved("/ipfs/bafkqaaa/\udcff")]
    assert (await call(f"name/resolve?arg={TEXT}")).json == {"Path": "/ipfs/bafkqaaa/�"}


async def test_forget_tells_whether_there_was_anything(call: Post, names: FakeNames) -> None:
    names.known.add("x")
    assert (await call("name/forget?arg=x")).json == {"Name": TEXT, "Forgotten": True}
    assert (await call("name/forget?arg=x")).json == {"Name": TEXT, "Forgotten": False}
    assert (await call("name/forget")).status == 400
