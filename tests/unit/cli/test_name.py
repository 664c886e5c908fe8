"""`ipvcs name`: records looked into without a daemon, and how answers of one are shown."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipvcs.cli.app import App
from ipvcs.client.client import OptionValue
from ipvcs.node.identity.keys import KeyType
from tests.cli_runner import Ipvcs
from tests.unit.node.identity.key_pool import KEYS
from tests.unit.node.naming.records import ACCEPTED, ALICE, BOB, EXPECTED, HOUR, NOW, VECTORS, A, record

TEXT = ALICE.peer_id.to_base36()


@pytest.fixture(autouse=True)
def _in_2027(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


# ---- inspect ----


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: str(case["why"] or "good"))
def test_the_specifications_records_verify_or_not_as_it_says(ipvcs: Ipvcs, case: dict[str, Any]) -> None:
    good = case["expect"] == "accept"
    result = ipvcs.run("name", "inspect", "--verify", case["name"], VECTORS / case["file"])
    assert result.code == (0 if good else 1)
    assert f"\tValid:\t{'true' if good else 'false'}" in result.lines
    assert ("\tReason:" in result.out) == (not good)
    (about,) = ipvcs.run("name", "inspect", "--json", "--verify", case["name"], VECTORS / case["file"]).json
    assert about["Validation"]["Valid"] == good
    if good:
        entry = about["Entry"]
        assert (entry["Value"], entry["Validity"]) == (case["value"], case["validity"])
        assert (entry["Sequence"], entry["TTL"], entry["PublicKey"]) == (case["sequence"], case["ttl_ns"], "")
    assert not ipvcs.home.exists()


def test_what_is_in_a_record_is_shown_as_kubo_shows_it(ipvcs: Ipvcs) -> None:
    (case,) = (case for case in ACCEPTED if case["file"].endswith("v1-v2.ipns-record"))
    lines = ipvcs.ok("name", "inspect", VECTORS / case["file"]).lines
    assert lines[:7] == [
        f'Value:          "{case["value"]}"',
        'Validity Type:  "EOL"',
        'Validity:       "2123-08-14T12:17:03.694052Z"',
        "Sequence:       0",
        "TTL:            30m0s",
        'PublicKey:      ""',
        'Signature Type: "V1+V2"',
    ]
    assert lines[-1].startswith("This record was not verified")


def test_a_record_of_the_second_version_and_one_with_a_key_say_so(ipvcs: Ipvcs, tmp_path: Path) -> None:
    key = KEYS[KeyType.RSA]
    (tmp_path / "r").write_bytes(record(key, legacy=False).raw)
    (about,) = ipvcs.ok("name", "inspect", "--json", "--verify", str(key.peer_id), tmp_path / "r").json
    assert (about["SignatureType"], about["Entry"]["SignatureV1"]) == ("V2", "")
    assert about["Entry"]["PublicKey"] == str(key.peer_id)
    assert about["PbSize"] == (tmp_path / "r").stat().st_size
    assert about["Validation"] == {"Valid": True, "Reason": "", "Name": key.peer_id.to_base36()}


@pytest.mark.parametrize("text", [TEXT, str(ALICE.peer_id), f"/ipns/{TEXT}"])
def test_a_record_is_checked_against_the_name_it_is_said_to_be_of(ipvcs: Ipvcs, tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_bytes(record(ALICE).raw)
    ipvcs.ok("name", "inspect", "--verify", text, tmp_path / "r")
    (tmp_path / "r").write_bytes(record(BOB).raw)
    result = ipvcs.run("name", "inspect", "--verify", text, tmp_path / "r")
    assert result.code == 1
    assert "is not signed by the key of" in result.out


def test_an_expired_record_does_not_verify_and_can_be_looked_into(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(record(expires=NOW - HOUR).raw)
    result = ipvcs.run("name", "inspect", "--verify", TEXT, tmp_path / "r")
    assert result.code == 1
    assert "the record expired at 2027-" in result.out
    ipvcs.ok("name", "inspect", tmp_path / "r")


def test_what_is_no_record_is_an_error_and_with_verify_a_no(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"nonsense")
    assert "not an IPNS record" in ipvcs.fails("name", "inspect", tmp_path / "r")
    assert ipvcs.run("name", "inspect", "--verify", TEXT, tmp_path / "r").code == 1
    (about,) = ipvcs.run("name", "inspect", "--json", "--verify", TEXT, tmp_path / "r").json
    assert (about["Entry"], about["Validation"]["Valid"]) == (None, False)
    (tmp_path / "r").write_bytes(bytes(1 << 20))
    assert "over the limit" in ipvcs.fails("name", "inspect", tmp_path / "r")
    assert "/no/such/file" in ipvcs.fails("name", "inspect", "/no/such/file")
    assert "invalid peer id" in ipvcs.fails("name", "inspect", "--verify", "nonsense", tmp_path / "r", code=129)


def test_a_record_may_come_through_a_pipe(ipvcs: Ipvcs) -> None:
    case = ACCEPTED[0]
    raw = (VECTORS / case["file"]).read_bytes()
    result = ipvcs.ok("name", "inspect", "--verify", case["name"], "-", stdin=raw)
    assert "\tValid:\ttrue" in result.lines


def test_a_value_cannot_drive_a_terminal(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(record(value="/ipfs/\x1b[31m\n\x07").raw)
    out = ipvcs.ok("name", "inspect", tmp_path / "r").out
    assert "\x1b" not in out
    assert "\\u001b[31m" in out


# ---- through a daemon ----


class FakeClient:
    """Answers every call with `answers`."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[str, ...], dict[str, OptionValue]]] = []

    def call(self, route: str, *args: str, **options: OptionValue) -> dict[str, Any]:
        self.calls.append((route, args, options))
        return self.answers[-1]

    def stream(self, route: str, *args: str, **options: OptionValue) -> Iterator[dict[str, Any]]:
        self.calls.append((route, args, options))
        yield from self.answers


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> "type[FakeClient]":
    class Connected(FakeClient):
        def __init__(self, *answers: dict[str, Any]) -> None:
            super().__init__(*answers)
            monkeypatch.setattr(App, "client", lambda _app: self)

    return Connected


def test_what_was_published_is_told(ipvcs: Ipvcs, daemon: "type[FakeClient]") -> None:
    client = daemon({"Name": TEXT, "Value": A})
    assert ipvcs.ok("name", "publish", "bafkqaaa").out == f"Published to {TEXT}: {A}\n"
    assert ipvcs.ok("name", "publish", "-Q", A).out == f"{TEXT}\n"
    assert ipvcs.ok("name", "publish", "--json", A).json == [{"Name": TEXT, "Value": A}]
    defaults = {"key": "self", "lifetime": None, "ttl": None, "sequence": None, "allow_offline": False}
    assert client.calls == [("name/publish", (A,), defaults)] * 3
    ipvcs.ok(
        *("name", "publish", "--key", "work", "--lifetime", "24h", "--ttl=1m", "--sequence", "3"),
        *("--allow-offline", f"/ipns/{TEXT}/x"),
    )
    assert client.calls[-1] == (
        "name/publish",
        (f"/ipns/{TEXT}/x",),
        {"key": "work", "lifetime": "24h", "ttl": "1m", "sequence": 3, "allow_offline": True},
    )


def test_where_a_name_leads_is_printed_and_doubts_are_told_beside_it(ipvcs: Ipvcs, daemon: "type[FakeClient]") -> None:
    client = daemon({"Path": A}, {"Path": f"{A}/x", "Warnings": ["it may be old"]})
    result = ipvcs.ok("name", "resolve", "--stream", "example.com")
    assert (result.out, result.stderr) == (f"{A}\n{A}/x\n", "warning: it may be old\n")
    options: dict[str, OptionValue] = {"recursive": True, "nocache": False, "stream": True}
    options |= {"dht_record_count": None, "dht_timeout": None}
    assert client.calls == [("name/resolve", ("example.com",), options)]
    ipvcs.ok("name", "resolve", "--recursive=false", "--nocache", "--dht-record-count", "3", "--dht-timeout", "5s")
    options = {"recursive": False, "nocache": True, "dht_record_count": 3, "dht_timeout": "5s", "stream": False}
    assert client.calls[-1] == ("name/resolve", (), options)
    assert ipvcs.ok("name", "resolve", "--json").json == list(client.answers)


def test_forgetting_what_is_not_known_is_a_no(ipvcs: Ipvcs, daemon: "type[FakeClient]") -> None:
    daemon({"Name": TEXT, "Forgotten": True})
    assert ipvcs.ok("name", "forget", TEXT).out == f"forgot {TEXT}\n"
    daemon({"Name": TEXT, "Forgotten": False})
    result = ipvcs.run("name", "forget", TEXT)
    assert (result.code, result.out) == (1, "")
    assert json.loads(ipvcs.run("name", "forget", "--json", TEXT).out) == {"Name": TEXT, "Forgotten": False}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["publish"], 129),
        (["publish", "nonsense"], 129),
        (["publish", "/ipld/bafkqaaa"], 129),
        (["publish", "--lifetime", "soon", A], 129),
        (["publish", "--ttl", "-1s", A], 129),
        (["publish", "--sequence", "-1", A], 129),
        (["publish", A, A], 129),
        (["resolve", "/ipld/x"], 129),
        (["resolve", "--dht-timeout", "5", TEXT], 129),
        (["forget"], 129),
        (["inspect"], 129),
    ],
)
def test_wrong_usage_is_told_before_anything_is_started(ipvcs: Ipvcs, words: list[str], code: int) -> None:
    ipvcs.fails("name", *words, code=code)
    assert not (ipvcs.home / "daemon.log").exists()
    assert not (ipvcs.home / "daemon.lock").exists()
