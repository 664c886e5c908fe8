"""`ipvcs routing` and `ipvcs stats`, with a daemon that says what a test has it say."""

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click
import pytest

from ipvcs.cli.app import App
from ipvcs.cli.main import report
from ipvcs.cli.routing import routing_command
from ipvcs.cli.stats import provide_lines, stats_command, table_lines
from ipvcs.client.client import Client, RemoteNegativeError
from ipvcs.multiformats import multibase
from ipvcs.objects.block import Block

ID = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"
OTHER = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
BLOCKS = [Block.of(b"block %d" % number) for number in range(130)]
CID = str(BLOCKS[0].cid)


class FakeClient:
    """Answers every call with `answers`, then raises `error` if there is one."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.calls: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []

    def stream(self, route: str, *args: str, **options: Any) -> Iterator[dict[str, Any]]:
        self.calls.append((route, args, options))
        yield from self.answers
        if self.error is not None:
            raise self.error


class Commands:
    """The two groups, run as the command line runs them."""

    def __init__(self, home: Path, capture: "pytest.CaptureFixture[bytes]") -> None:
        self.daemon = FakeClient()
        self.app = App(str(home), {})
        self.app._client = cast("Client", self.daemon)
        self._capture = capture

    def run(self, group: click.Command, *words: str) -> tuple[int, str, str]:
        """Return the exit status, and what was printed to stdout and stderr."""
        self._capture.readouterr()
        try:
            with group.make_context(f"ipvcs {group.name}", list(words), obj=self.app) as context:
                status = group.invoke(context)
        except (Exception, click.exceptions.Exit) as error:
            status = report(error)
        out, err = self._capture.readouterr()
        return status or 0, out.decode(), err.decode()

    def routing(self, *words: str) -> tuple[int, str, str]:
        return self.run(routing_command, *words)

    def stats(self, *words: str) -> tuple[int, str, str]:
        return self.run(stats_command, *words)


@pytest.fixture
def ipvcs(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Commands]:
    commands = Commands(tmp_path / "home", capfdbinary)
    yield commands
    commands.app.close()


def event(kind: int, *responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"ID": "", "Type": kind, "Responses": list(responses), "Extra": "", **more}


def test_a_peer_s_addresses_are_printed(ipvcs: Commands) -> None:
    ipvcs.daemon.answers = [event(2, {"ID": ID, "Addrs": ["/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/2"]})]
    assert ipvcs.routing("findpeer", ID) == (0, "/ip4/1.2.3.4/tcp/1\n/ip6/::1/tcp/2\n", "")
    assert ipvcs.daemon.calls == [("routing/findpeer", (ID,), {})]
    assert json.loads(ipvcs.routing("findpeer", "--json", ID)[1]) == ipvcs.daemon.answers[0]


def test_what_is_not_found_exits_with_1(ipvcs: Commands) -> None:
    ipvcs.daemon.error = RemoteNegativeError(f"cannot find peer '{ID}'", hint="it may be offline")
    for words in (["findpeer", ID], ["get", f"/ipns/{ID}"]):
        status, out, err = ipvcs.routing(*words)
        assert (status, out) == (1, "")
        assert err == f"error: cannot find peer '{ID}'\nhint: it may be offline\n"


def test_providers_are_printed_a_line_each(ipvcs: Commands) -> None:
    ipvcs.daemon.answers = [
        event(4, {"ID": ID, "Addrs": ["/ip4/1.2.3.4/tcp/1"]}),
        event(4, {"ID": OTHER, "Addrs": None}),
    ]
    assert ipvcs.routing("findprovs", CID) == (0, f"{ID}\n{OTHER}\n", "")
    assert ipvcs.routing("findprovs", "-v", "-n", "3", CID)[1] == f"{ID}\n\t/ip4/1.2.3.4/tcp/1\n{OTHER}\n"
    assert [options for _route, _args, options in ipvcs.daemon.calls] == [{"num_providers": 20}, {"num_providers": 3}]
    lines = ipvcs.routing("findprovs", "--json", CID)[1].splitlines()
    assert [json.loads(line) for line in lines] == ipvcs.daemon.answers


def test_no_providers_exit_with_1(ipvcs: Commands) -> None:
    assert ipvcs.routing("findprovs", CID) == (1, "", "")


def test_blocks_of_the_home_are_announced_in_calls_that_the_daemon_takes(ipvcs: Commands) -> None:
    ipvcs.app.home.blocks.put_many(BLOCKS)
    ipvcs.daemon.answers = [event(4, Cid=CID, Told=20), event(4, Cid=CID, Told=1), event(2)]
    cids = [str(block.cid) for block in BLOCKS]
    status, out, _err = ipvcs.routing("provide", *cids)
    assert status == 0
    assert out.splitlines() == [f"provided {CID} to 20 peers", f"provided {CID} to 1 peer"] * 3
    assert [args for _route, args, _options in ipvcs.daemon.calls] == [
        tuple(cids[:64]), tuple(cids[64:128]), tuple(cids[128:])
    ]  # fmt: skip


def test_a_block_that_the_home_lacks_is_not_announced(ipvcs: Commands) -> None:
    ipvcs.app.home.blocks.put_many(BLOCKS[:1])
    missing = Block.of(b"missing").cid
    status, out, err = ipvcs.routing("provide", CID, str(missing))
    assert (status, out) == (128, "")
    assert f"block '{missing}' not found" in err
    assert ipvcs.daemon.calls == []


def test_a_value_is_printed_as_it_is(ipvcs: Commands, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    value = b"\x00\xff\n no text"
    ipvcs.daemon.answers = [event(5, Extra=base64.b64encode(value).decode())]
    with routing_command.make_context("ipvcs routing", ["get", f"/ipns/{ID}"], obj=ipvcs.app) as context:
        routing_command.invoke(context)
    assert capfdbinary.readouterr().out == value
    ipvcs.daemon.answers = [event(5, Extra="???")]
    assert ipvcs.routing("get", f"/ipns/{ID}")[0] == 128


def test_a_file_is_stored_under_a_key(ipvcs: Commands, tmp_path: Path) -> None:
    file = tmp_path / "record"
    file.write_bytes(bytes(range(256)))
    ipvcs.daemon.answers = [event(5, Told=3)]
    assert ipvcs.routing("put", f"/pk/{OTHER}", str(file)) == (0, "", "stored at 3 peers\n")
    [(route, args, options)] = ipvcs.daemon.calls
    assert (route, args) == ("routing/put", (f"/pk/{OTHER}",))
    assert multibase.decode(options["value"]) == bytes(range(256))


def test_a_file_that_is_too_large_or_not_there_is_refused(ipvcs: Commands, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(10 * 1024 + 1))
    assert "over the limit of 10240 bytes" in ipvcs.routing("put", f"/ipns/{ID}", str(file))[2]
    assert ipvcs.routing("put", f"/ipns/{ID}", str(tmp_path / "none"))[0] == 128
    assert ipvcs.daemon.calls == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["findpeer"], 129),
        (["findpeer", "nonsense"], 129),
        (["findprovs", "nonsense"], 129),
        (["findprovs", "-n", "0", CID], 129),
        (["provide"], 129),
        (["provide", "nonsense"], 129),
        (["get", "nonsense"], 129),
        (["get", "/ipns/nonsense"], 129),
        (["get", f"/v/{ID}"], 129),
        (["put", f"/ipns/{ID}"], 129),
        (["put", "nonsense", "/dev/null"], 129),
    ],
)
def test_wrong_usage_is_told_before_the_daemon_is_asked(ipvcs: Commands, words: Sequence[str], code: int) -> None:
    status, out, err = ipvcs.routing(*words)
    assert (status, out) == (code, "")
    assert err.startswith("error: ")
    assert ipvcs.daemon.calls == []


NOW = datetime(2027, 1, 15, 9, 1, 5, tzinfo=UTC)
TABLE = {
    "Name": "lan",
    "Buckets": [
        {
            "LastRefresh": "2027-01-15T08:00:00Z",
            "Peers": [
                {
                    "ID": ID,
                    "Connected": True,
                    "AgentVersion": "kubo/0.39.0/",
                    "LastUsefulAt": "2027-01-15T09:00:00Z",
                    "LastQueriedAt": "",
                },
                {"ID": OTHER, "Connected": False, "AgentVersion": "", "LastUsefulAt": "", "LastQueriedAt": ""},
            ],
        },
        {"LastRefresh": "", "Peers": None},
    ],
}


def test_a_routing_table_is_printed_as_kubo_prints_it() -> None:
    assert table_lines(TABLE, NOW) == [
        "DHT lan (2 peers):",
        "  Bucket  0 (2 peers) - refreshed 1h1m5s ago:",
        f"    {'Peer':52}  last useful  last queried  Agent Version",
        f"  @ {ID}  1m5s ago     never         kubo/0.39.0/",
        f"    {OTHER:52}  never        never",
        "  Bucket  1 (0 peers) - refreshed never:",
    ]
    assert table_lines({"Name": "wan", "Buckets": None}, NOW) == ["DHT wan (0 peers):"]


def test_tables_are_asked_for_by_name(ipvcs: Commands) -> None:
    ipvcs.daemon.answers = [TABLE]
    assert json.loads(ipvcs.stats("dht", "--json")[1]) == TABLE
    assert ipvcs.stats("dht", "lan", "wan")[1].startswith("DHT lan (2 peers):\n")
    assert [args for _route, args, _options in ipvcs.daemon.calls] == [(), ("lan", "wan")]


def test_what_was_announced_is_printed_for_each_network(ipvcs: Commands) -> None:
    stats = {
        "TotalReprovides": 1000,
        "LastReprovideBatchSize": 50,
        "ReprovideInterval": 79_200_000_000_000,
        "AvgReprovideDuration": 250_000_000,
        "LastReprovideDuration": 12_500_000_000,
        "LastRun": "0001-01-01T00:00:00Z",
        "Name": "wan",
    }
    expected = [
        "wan:",
        "  Announced: 1000",
        "  Average duration: 250ms",
        "  Last batch: 50 in 12.5s",
        "  Again after: 22h0m0s",
    ]
    ipvcs.daemon.answers = [stats]
    assert ipvcs.stats("provide")[1].splitlines() == expected
    assert provide_lines({**stats, "ReprovideInterval": 0, "Name": ""})[-1] == "  Again after: never"
    assert json.loads(ipvcs.stats("provide", "--json")[1]) == stats
