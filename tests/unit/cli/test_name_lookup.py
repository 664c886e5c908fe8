"""Names in paths: those of the home are read, others asked of its node, which is started if it can join the network."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from ipvcs.cli import name_lookup
from ipvcs.cli.app import App
from ipvcs.cli.name_lookup import NameOfflineError, resolve_name
from ipvcs.cli.paths import locate
from ipvcs.client.client import Client, RemoteCommandError
from ipvcs.client.socket_path import DaemonNotRunningError
from ipvcs.errors import IpvcsError, LimitError
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import KnownName, OwnName
from ipvcs.node.naming.record import IpnsRecord
from tests.unit.node.naming.records import ALICE, BOB, CAROL, HOUR, NOW, A, B, C, record

STRANGER = CAROL.peer_id.to_base36()
PEER = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWHfzp9Wk8Ld6SqSPRDXRcHTYYkoXXSnSvt5tkqvqjsWK7"


class FakeNode:
    """A client of a node that resolves `path`, and has `tables` at one look after the other."""

    def __init__(self) -> None:
        self.path = A
        self.warnings: list[str] = []
        self.tables: list[list[dict[str, Any]]] = []
        self.looks = 0
        self.asked: list[str] = []

    def call(self, route: str, name: str) -> dict[str, Any]:
        assert route == "name/resolve"
        self.asked.append(name)
        if not self.path:
            raise RemoteCommandError("no record found", hint="who publishes it?")
        return {"Path": self.path, "Warnings": self.warnings}

    def stream(self, route: str) -> Iterator[dict[str, Any]]:
        assert route == "stats/dht"
        tables = self.tables[min(self.looks, len(self.tables) - 1)] if self.tables else []
        self.looks += 1
        return iter(tables)


def table(name: str, peers: int) -> dict[str, Any]:
    return {"Name": name, "Buckets": [{"Peers": []}, {"Peers": [{"ID": "x"}] * peers}]}


class FakeApp(App):
    """An app whose node is `node`, running or to be started."""

    def __init__(self, home: Path) -> None:
        super().__init__(str(home), {})
        self.node = FakeNode()
        self.runs = False
        self.started = 0

    def client(self, *, start: bool = True, loopback_only: bool = False) -> Client:
        del loopback_only
        if not self.runs:
            if not start:
                raise DaemonNotRunningError(self.home_path)
            self.started += 1
            self.runs = True
        return cast("Client", self.node)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApp]:
    monkeypatch.setattr(time, "time", lambda: NOW)
    app = FakeApp(tmp_path / "home")
    yield app
    app.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept; only that passes."""
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def publishes(app: App, key: PrivateKey, value: str, *, seen: IpnsRecord | None = None, **of_record: Any) -> str:
    """Have the home publish `value` under `key`; return the name."""
    known = KnownName(seen=seen, own=OwnName(record(key, value, **of_record), 48 * HOUR))
    NameStore(app.home.datastore).change_own(key.peer_id, lambda _old: known)
    if seen is not None:
        NameStore(app.home.datastore).write({key.peer_id: known})
    return key.peer_id.to_base36()


# ---- names of the home ----


@pytest.mark.parametrize("offline", [True, False])
def test_a_name_of_the_home_is_read_in_each_of_its_forms(app: FakeApp, offline: bool) -> None:
    app.offline = offline
    app.keystore.put("work", ALICE)
    name = publishes(app, ALICE, A)
    for text in ("work", name, str(ALICE.peer_id)):
        assert resolve_name(app, text) == A
    assert app.started == 0


def test_names_of_the_home_may_lead_to_each_other_and_into_what_they_name(app: FakeApp) -> None:
    first = publishes(app, ALICE, A)
    second = publishes(app, BOB, f"/ipns/{first}/a/b/")
    publishes(app, CAROL, f"/ipns/{second}/c")
    assert resolve_name(app, STRANGER) == f"{A}/a/b/c"
    assert locate(app, f"/ipns/{STRANGER}/d/e").components == (b"a", b"b", b"c", b"d", b"e")


def test_names_that_lead_in_a_circle_are_an_error(app: FakeApp) -> None:
    first, second = (key.peer_id.to_base36() for key in (ALICE, BOB))
    publishes(app, ALICE, f"/ipns/{second}")
    publishes(app, BOB, f"/ipns/{first}")
    with pytest.raises(LimitError, match="leads through over 32 names"):
        resolve_name(app, first)


def test_a_record_that_has_expired_leads_nowhere(app: FakeApp) -> None:
    name = publishes(app, ALICE, A, expires=NOW - 1)
    with pytest.raises(IpvcsError, match="expired"):
        resolve_name(app, name)


def test_an_expired_record_is_renewed_by_the_node_if_it_can_be_started(app: FakeApp) -> None:
    name = publishes(app, ALICE, A, expires=NOW - 1)
    app.home.config.set("Bootstrap", [PEER])
    assert resolve_name(app, name) == A
    assert (app.started, app.node.asked) == (1, [f"/ipns/{name}"])


def test_there_is_no_way_back_from_what_was_seen_of_the_same_key(app: FakeApp) -> None:
    name = publishes(app, ALICE, A, sequence=3, seen=record(ALICE, B, 5))
    assert resolve_name(app, name) == B
    name = publishes(app, BOB, A, sequence=3, seen=record(BOB, B, 2))
    assert resolve_name(app, name) == A


def test_a_name_of_the_home_needs_no_node_though_one_could_be_started(app: FakeApp) -> None:
    app.home.config.set("Bootstrap", [PEER])
    assert resolve_name(app, publishes(app, ALICE, C)) == C
    assert app.started == 0


# ---- names of others ----


def test_a_running_node_is_asked_and_its_warnings_are_shown(app: FakeApp, capsys: pytest.CaptureFixture[str]) -> None:
    app.runs = True
    app.node.warnings = ["an old record"]
    publishes(app, ALICE, B)
    for name in (STRANGER, ALICE.peer_id.to_base36(), "example.com"):
        assert resolve_name(app, name) == A
    assert app.node.asked == [f"/ipns/{name}" for name in (STRANGER, ALICE.peer_id.to_base36(), "example.com")]
    assert capsys.readouterr().err == "warning: an old record\n" * 3
    assert app.node.looks == 0, "it is up, and knows whom to ask"


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("name", [STRANGER, "example.com", "no-such-key"])
def test_a_name_that_nobody_can_be_asked_for_says_so_and_why(app: FakeApp, name: str, offline: bool) -> None:
    app.offline = offline
    with pytest.raises(NameOfflineError, match=f"cannot resolve '/ipns/{name}'") as caught:
        resolve_name(app, name)
    reason = "with --offline" if offline else f"`ipvcs --home {app.home_path} daemon` starts one"
    assert str(caught.value).endswith(reason)
    assert app.started == 0


def test_offline_a_running_node_is_not_asked(app: FakeApp) -> None:
    app.offline = app.runs = True
    with pytest.raises(NameOfflineError):
        resolve_name(app, STRANGER)
    assert app.node.asked == []


def test_a_name_of_ours_that_leads_to_a_strangers_is_asked_for(app: FakeApp) -> None:
    name = publishes(app, ALICE, f"/ipns/{STRANGER}/x")
    with pytest.raises(NameOfflineError, match=STRANGER):
        resolve_name(app, name)
    app.home.config.set("Bootstrap", [PEER])
    assert resolve_name(app, name) == A
    assert app.node.asked == [f"/ipns/{name}"]


def test_what_the_node_says_of_a_name_that_it_can_not_find_is_passed_on(app: FakeApp) -> None:
    app.runs = True
    app.node.path = ""
    with pytest.raises(RemoteCommandError, match="no record found") as caught:
        resolve_name(app, STRANGER)
    assert caught.value.hint == "who publishes it?"


# ---- a node that was just started ----


def test_a_node_that_was_just_started_is_asked_once_it_knows_somebody(app: FakeApp, clock: list[float]) -> None:
    app.home.config.set("Bootstrap", [PEER])
    nobody = [table("lan", 0), table("wan", 0)]
    app.node.tables = [nobody, nobody, nobody, [table("lan", 0), table("wan", 1)]]
    assert resolve_name(app, STRANGER) == A
    assert (app.node.looks, len(clock)) == (4, 3)


@pytest.mark.parametrize(("timeout", "patience"), [(None, 10), (3.0, 3), (60.0, 10)])
def test_who_meets_nobody_is_asked_all_the_same_in_the_end(
    app: FakeApp, clock: list[float], timeout: float | None, patience: float
) -> None:
    app.home.config.set("Bootstrap", [PEER])
    app.fetch_timeout = timeout
    app.node.tables = [[table("lan", 0)]]
    assert resolve_name(app, STRANGER) == A
    assert sum(clock) == pytest.approx(patience, abs=2 * name_lookup._LOOK)


def test_a_node_that_asks_nobody_is_not_waited_for(app: FakeApp, clock: list[float]) -> None:
    app.home.config.set("Bootstrap", [PEER])
    assert resolve_name(app, STRANGER) == A
    assert clock == []
