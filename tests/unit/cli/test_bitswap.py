"""`ipvcs bitswap`: what Kubo prints, and usage that is told before anything is asked."""

from typing import Any

import pytest

from ipvcs.cli import main
from ipvcs.cli.app import App
from ipvcs.cli.bitswap import human_size, ledger_lines, stat_lines
from tests.cli_runner import Ipvcs

PEER = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"
CID = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
LEDGER = {"Peer": PEER, "Value": 1.5, "Sent": 3_000_000, "Recv": 2_000_000, "Exchanged": 20}
STAT = {
    "ProvideBufLen": 0,
    "Wantlist": [{"/": CID}],
    "Peers": [PEER],
    "BlocksReceived": 1,
    "DataReceived": 2_600_000,
    "DupBlksReceived": 3,
    "DupDataReceived": 999,
    "MessagesReceived": 5,
    "BlocksSent": 6,
    "DataSent": 1234,
}
ANSWERS: dict[str, dict[str, Any]] = {
    "bitswap/ledger": LEDGER,
    "bitswap/stat": STAT,
    "bitswap/wantlist": {"Keys": [{"/": CID}]},
}


class FakeClient:
    """Answers by command, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []

    def call(self, route: str, *args: str, **options: Any) -> dict[str, Any]:
        self.asked.append((route, args, {name: value for name, value in options.items() if value is not None}))
        return ANSWERS[route]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main._COMMANDS, "bitswap", "What is exchanged with peers")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()

    def get(_app: App, *, start: bool = True) -> FakeClient:
        assert not start, "there is nothing to see in a daemon that was started for it"
        return fake

    monkeypatch.setattr(App, "client", get)
    return fake


def test_a_ledger_is_printed_as_kubo_prints_it(ipvcs: Ipvcs, client: FakeClient) -> None:
    assert ipvcs.ok("bitswap", "ledger", PEER).out == (
        f"Ledger for {PEER}\nDebt ratio:\t1.500000\nExchanges:\t20\nBytes sent:\t3000000\nBytes received:\t2000000\n\n"
    )
    assert ipvcs.ok("bitswap", "ledger", "--json", PEER).json == [LEDGER]
    assert client.asked == [("bitswap/ledger", (PEER,), {})] * 2


def test_a_ratio_has_six_places() -> None:
    assert ledger_lines({**LEDGER, "Value": 2 / 3})[1] == "Debt ratio:\t0.666667"
    assert ledger_lines({**LEDGER, "Value": 0})[1] == "Debt ratio:\t0.000000"


def test_counts_are_printed_as_kubo_prints_them(ipvcs: Ipvcs, client: FakeClient) -> None:
    assert ipvcs.ok("bitswap", "stat").lines == [
        "bitswap status",
        "\tblocks received: 1",
        "\tblocks sent: 6",
        "\tdata received: 2600000",
        "\tdata sent: 1234",
        "\tdup blocks received: 3",
        "\tdup data received: 999",
        "\twantlist [1 keys]",
        f"\t\t{CID}",
        "\tpartners [1]",
    ]
    human = ipvcs.ok("bitswap", "stat", "--human", "-v").lines
    assert human[3:7] == [
        "\tdata received: 2.6 MB",
        "\tdata sent: 1.2 kB",
        "\tdup blocks received: 3",
        "\tdup data received: 999 B",
    ]
    assert human[-2:] == ["\tpartners [1]", f"\t\t{PEER}"]
    assert ipvcs.ok("bitswap", "stat", "--json").json == [STAT]


def test_lists_may_be_null() -> None:
    lines = stat_lines({**STAT, "Wantlist": None, "Peers": None}, verbose=True)
    assert lines[-2:] == ["\twantlist [0 keys]", "\tpartners [0]"]


def test_the_wantlist_is_a_cid_a_line(ipvcs: Ipvcs, client: FakeClient) -> None:
    assert ipvcs.ok("bitswap", "wantlist").lines == [CID]
    assert ipvcs.ok("bitswap", "wantlist", "-p", PEER).lines == [CID]
    assert ipvcs.ok("bitswap", "wantlist", "--peer", PEER, "--json").json == [{"Keys": [{"/": CID}]}]
    assert [options for _route, _args, options in client.asked] == [{}, {"peer": PEER}, {"peer": PEER}]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ledger"], 129),
        (["ledger", "nonsense"], 129),
        (["ledger", PEER, PEER], 129),
        (["stat", "extra"], 129),
        (["wantlist", "-p", "nonsense"], 129),
        (["wantlist", "-p", ""], 129),
        (["nope"], 129),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(
    ipvcs: Ipvcs, client: FakeClient, words: list[str], code: int
) -> None:
    ipvcs.fails("bitswap", *words, code=code)
    assert client.asked == []


@pytest.mark.parametrize("words", [["ledger", PEER], ["stat"], ["wantlist"]])
def test_without_a_daemon_it_is_said_how_to_start_one(ipvcs: Ipvcs, words: list[str]) -> None:
    error = ipvcs.fails("bitswap", *words)
    assert error.startswith(f"error: no daemon is running at '{ipvcs.home}'")
    assert not ipvcs.home.exists()


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (82_854_982, "83 MB"),
        (999_950, "1000 kB"),
        (10**9, "1.0 GB"),
        (2**63, "9.2 EB"),
        (2**64, "18 EB"),
        (10**24, "1000000 EB"),
    ],
)
def test_sizes_are_rounded_as_kubo_rounds_them(count: int, expected: str) -> None:
    assert human_size(count) == expected
