"""Commands about the node, as far as they need none: identities, the bootstrap list, what answers look like."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ipvcs import __version__
from ipvcs.cli.app import App
from ipvcs.cli.id import fill_in
from ipvcs.cli.swarm import peer_lines
from ipvcs.client.autostart import Autostart, AutostartError
from ipvcs.client.socket_path import DaemonNotRunningError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PublicKey
from tests.cli_runner import Ipvcs

ID = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"
OTHER = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
ADDRESS = f"/ip4/192.0.2.1/tcp/4001/p2p/{ID}"


def test_id_without_a_daemon_is_what_the_key_tells(ipvcs: Ipvcs) -> None:
    about = ipvcs.ok("id", "--json").json[0]
    assert list(about) == ["ID", "PublicKey", "Addresses", "AgentVersion", "Protocols"]
    key = PublicKey.decode(base64.b64decode(about["PublicKey"]))
    assert PeerId.parse(about["ID"]) == key.peer_id
    assert (about["Addresses"], about["Protocols"]) == ([], [])
    assert about["AgentVersion"] == f"ipvcs/{__version__}"
    assert json.loads(ipvcs.ok("id").out) == about  # the same home, the same key
    assert ipvcs.ok("id", "--json", about["ID"]).json == [about]
    assert ipvcs.ok("id", "-f", r"<id>\t<aver>\n").out == f"{about['ID']}\t{about['AgentVersion']}\n"
    assert not (ipvcs.home / "daemon.log").exists()


def test_id_of_somebody_else_needs_a_daemon_and_starts_none(ipvcs: Ipvcs) -> None:
    ipvcs.ok("id")
    assert f"hint: start one with `ipvcs --home {ipvcs.home} daemon`" in ipvcs.fails("id", OTHER)
    assert "invalid peer id" in ipvcs.fails("id", "nonsense", code=129)
    assert not (ipvcs.home / "daemon.log").exists()


def test_a_template_is_filled_in_one_pass() -> None:
    about = {"ID": "1", "PublicKey": "k", "AgentVersion": "<id>", "Addresses": ["/a", "/b"], "Protocols": ["<addrs>"]}
    assert fill_in(r"<id> <aver>\n<addrs>|<protocols>\t<pubkey> <pver>", about) == "1 <id>\n/a\n/b|<addrs>\tk <pver>"


def test_the_bootstrap_list_is_edited_without_a_daemon(ipvcs: Ipvcs) -> None:
    assert ipvcs.ok("bootstrap").out == ipvcs.ok("bootstrap", "list").out == ""
    assert ipvcs.ok("bootstrap", "add", ADDRESS).out == f"added {ADDRESS}\n"
    assert ipvcs.ok("bootstrap", "--json").json == [{"Peers": [ADDRESS]}]
    assert json.loads(ipvcs.ok("config", "Bootstrap").out) == [ADDRESS]

    added = ipvcs.ok("bootstrap", "add", "default", "--json").json[0]["Peers"]
    assert len(added) >= 4
    assert all(re.fullmatch(r"/dnsaddr/[a-z0-9.]+/p2p/\w+", peer) for peer in added)
    assert ipvcs.ok("bootstrap", "add", "--default").lines == [f"added {peer}" for peer in added]
    assert sorted(ipvcs.ok("bootstrap", "list").lines) == sorted([ADDRESS, *added])

    assert ipvcs.ok("bootstrap", "rm", ADDRESS).out == f"removed {ADDRESS}\n"
    assert ipvcs.run("bootstrap", "rm", ADDRESS).code == 1
    assert sorted(ipvcs.ok("bootstrap", "rm", "--all", "--json").json[0]["Peers"]) == sorted(added)
    assert ipvcs.ok("bootstrap", "rm", "all").out == ""
    assert ipvcs.ok("bootstrap", "list", "--json").json == [{"Peers": []}]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["add"], 129, "missing argument"),
        (["rm"], 129, "missing argument"),
        (["add", "nonsense"], 129, "invalid multiaddr 'nonsense'"),
        (["add", "/ip4/192.0.2.1/tcp/4001"], 129, "does not say which peer"),
        (["nope"], 129, "no such command 'nope'"),
    ],
)
def test_what_is_no_peer_is_refused_and_changes_nothing(ipvcs: Ipvcs, words: list[str], code: int, said: str) -> None:
    assert said in ipvcs.fails("bootstrap", *words, code=code)
    assert ipvcs.ok("bootstrap").out == ""


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ({"Addr": "/ip4/1.2.3.4/tcp/1", "Peer": ID}, [f"/ip4/1.2.3.4/tcp/1/p2p/{ID}"]),
        ({"Addr": ADDRESS, "Peer": ID, "Latency": "", "Direction": 0, "Streams": None}, [ADDRESS]),
        (
            {
                "Addr": "/ip4/1.2.3.4/tcp/1",
                "Peer": ID,
                "Latency": "1.5ms",
                "Direction": 1,
                "Streams": [{"Protocol": "/x"}, {"Protocol": ""}],
                "Identify": {"ID": ID, "AgentVersion": "", "Protocols": ["/x", "/y"], "Addresses": []},
            },
            [
                f"/ip4/1.2.3.4/tcp/1/p2p/{ID} 1.5ms inbound",
                "  /x",
                "  <no protocol name>",
                f"  ID: {ID}",
                "  Protocols: /x, /y",
            ],
        ),
    ],
)
def test_a_connection_is_printed_as_kubo_prints_it(peer: dict[str, Any], expected: list[str]) -> None:
    assert peer_lines(peer) == expected


@pytest.mark.parametrize(
    "words", [["swarm", "peers"], ["swarm", "addrs"], ["swarm", "disconnect", ADDRESS], ["log", "ls"], ["shutdown"]]
)
def test_commands_about_a_running_node_say_how_to_start_one(ipvcs: Ipvcs, words: list[str]) -> None:
    error = ipvcs.fails(*words)
    assert error.startswith(f"error: no daemon is running at '{ipvcs.home}'")
    assert f"hint: start one with `ipvcs --home {ipvcs.home} daemon`" in error
    assert not ipvcs.home.exists()  # and make no home


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ping"], 129),
        (["ping", "nonsense"], 129),
        (["ping", "-n", "0", ID], 129),
        (["swarm", "connect"], 129),
        (["swarm", "connect", "/ip4/192.0.2.1/tcp/1"], 129),
        (["swarm", "disconnect", "nonsense"], 129),
        (["log", "level"], 129),
        (["log", "level", "a", "b", "c"], 129),
        (["daemon", "--log-level", "loud"], 129),
        (["daemon", "extra"], 129),
    ],
)
def test_wrong_usage_is_told_before_anything_is_started(ipvcs: Ipvcs, words: list[str], code: int) -> None:
    ipvcs.fails(*words, code=code)
    assert not (ipvcs.home / "daemon.log").exists()
    assert not (ipvcs.home / "daemon.lock").exists()


def test_the_environment_of_a_daemon_has_no_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Autostart] = []

    def ensure(self: Autostart, _is_running: object) -> int:
        seen.append(self)
        raise AutostartError("stop here")

    monkeypatch.setattr(Autostart, "ensure", ensure)
    app = App("home", {"IPVCS_PASSPHRASE_FILE": "secret", "HOME": str(tmp_path), "X": "1"})
    try:
        with pytest.raises(AutostartError):
            app.client(loopback_only=True)
        assert app.command_line("shutdown") == "ipvcs --home home shutdown"
    finally:
        app.close()
    assert seen[0].home == tmp_path / "home"
    assert seen[0].options == ["--loopback-only"]
    assert seen[0].environ["IPVCS_PASSPHRASE_FILE"] == str(tmp_path / "secret")
    assert seen[0].environ["X"] == "1"


def test_a_command_line_is_quoted_for_the_shell(tmp_path: Path) -> None:
    assert App(f"{tmp_path}/a b", {}).command_line("daemon") == f"ipvcs --home '{tmp_path}/a b' daemon"
    assert App(None, {"HOME": str(tmp_path)}).command_line("daemon") == "ipvcs daemon"


def test_nothing_is_started_where_that_is_switched_off(tmp_path: Path) -> None:
    ipvcs = Ipvcs(tmp_path / "home")
    ipvcs.ok("config", "Daemon.Autostart", "--bool", "false")
    app = App(str(ipvcs.home), {})
    try:
        with pytest.raises(DaemonNotRunningError):
            app.client()
    finally:
        app.close()
