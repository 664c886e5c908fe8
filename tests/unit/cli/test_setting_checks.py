"""`ipvcs config` refuses what no daemon and no import could use, at once and with the key's name."""

import json
import subprocess
import sys

import pytest

from tests.cli_runner import Ipvcs

ID = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"

BAD = [
    ("Addresses.Swarm", ["nonsense"], "invalid multiaddr"),
    ("Addresses.Swarm", ["/ip4/127.0.0.1/tcp/0", "/ip4/300.0.0.1/tcp/1"], "invalid multiaddr"),
    ("Addresses.API", ["nonsense"], "cannot serve the API on"),
    ("Addresses.API", ["/ip4/0.0.0.0/tcp/5001"], "not on loopback"),
    ("Addresses.API", ["/ip4/127.0.0.1/tcp/1"] * 9, "more than 8"),
    ("Bootstrap", ["nonsense"], "invalid multiaddr"),
    ("Bootstrap", ["/ip4/192.0.2.1/tcp/4001"], "does not say which peer"),
    ("Daemon.Idle", -1, "-1 is negative"),
    ("DNS.Nameservers", ["example.com"], "not the address of a DNS server"),
    ("Swarm.AddrFilters", ["10.0.0.0/8"], "invalid filter"),
    ("Swarm.Allow", ["/ip4/10.0.0.0/ipcidr/33"], "not a prefix"),
    ("Swarm.Deny", ["Qmnope"], "invalid filter"),
    ("Swarm.ConnMgr.GracePeriod", -5, "negative"),
    ("Swarm.ConnMgr.LowWater", 900, "not below"),
    ("Swarm.ConnMgr.HighWater", 600, "not below"),
    ("Swarm.Transports.Security.TLS", -1, "negative"),
    ("Bitswap.Strategy", "nope", "nope"),
    ("Ipns.RecordLifetime", -1, "negative"),
    ("Push.Concurrent", 0, "0 lets nobody push"),
    ("Push.MaxBytes", -1, "-1 is negative"),
    ("Push.MaxObjects", 0, "0 lets nobody push"),
    ("Push.PerPusher", 0, "0 lets nobody push"),
    ("Push.Timeout", 0, "0 lets nobody push"),
    ("Reprovider.Strategy", "nope", "unknown strategy 'nope'"),
    ("Routing.Type", "nope", "unknown routing type 'nope'"),
    ("Import.Profile", "nope", "unknown profile"),
    ("Import.CidVersion", 7, "unknown CID version 7"),
    ("Import.UnixFSChunker", "size-0", "bad chunker"),
    ("Import.HashFunction", "md5", "not supported"),
    ("Import.UnixFSFileMaxLinks", 1, "from 2 to"),
    ("Import.UnixFSHAMTDirectoryMaxFanout", 9, "power of two"),
    ("Import.UnixFSHAMTDirectorySizeThreshold", "many", "not a size"),
    ("Import.UnixFSHAMTDirectorySizeEstimation", "nope", "unknown size estimate"),
]


@pytest.mark.parametrize(("key", "value", "said"), BAD, ids=lambda value: str(value)[:40].replace("/", "|"))
def test_a_value_that_cannot_work_is_refused_and_nothing_changes(
    ipvcs: Ipvcs, key: str, value: object, said: str
) -> None:
    before = ipvcs.ok("config", "show").out
    error = ipvcs.fails("config", "--json", "--", key, json.dumps(value), code=129)
    assert said in error
    assert key in error
    assert ipvcs.ok("config", "show").out == before
    (ipvcs.home / "new").write_text(json.dumps({key: value}))
    assert said in ipvcs.fails("config", "replace", ipvcs.home / "new", code=129)
    assert ipvcs.ok("config", "show").out == before


GOOD = [
    ("Bitswap.Strategy", "sigmoid"),
    ("Reprovider.Strategy", "all"),
    ("Routing.Type", "none"),
    ("Addresses.Swarm", []),
    ("Addresses.Swarm", ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]),
    ("Addresses.API", ["/ip4/127.0.0.1/tcp/5001", "/ip6/::1/tcp/0"]),
    ("Bootstrap", [f"/dnsaddr/bootstrap.libp2p.io/p2p/{ID}", f"/p2p/{ID}"]),
    ("Daemon.Idle", 0),
    ("DNS.Nameservers", ["192.0.2.1", "[::1]:53"]),
    ("Push.Accept", False),
    ("Push.MaxBytes", 1),
    ("Swarm.AddrFilters", ["/ip4/10.0.0.0/ipcidr/8", "/ip6/fc00::/ipcidr/7"]),
    ("Swarm.Deny", [ID, f"/p2p/{ID}"]),
    ("Swarm.ConnMgr.LowWater", 0),
    ("Swarm.Transports.Security.TLS", 0),
    ("Import.CidVersion", 0),
    ("Import.UnixFSChunker", "fastcdc"),
    ("Import.HashFunction", "blake3"),
    ("Import.UnixFSHAMTDirectorySizeThreshold", "1MiB"),
]


@pytest.mark.parametrize(("key", "value"), GOOD, ids=lambda value: str(value)[:40].replace("/", "|"))
def test_a_value_that_works_is_taken_in_either_order_of_words(ipvcs: Ipvcs, key: str, value: object) -> None:
    text = json.dumps(value)
    ipvcs.ok("config", "--json", key, text)
    stored = ipvcs.ok("config", key).out
    assert stored.strip() == value or json.loads(stored) == value
    ipvcs.ok("config", key, "--json", text)
    assert ipvcs.ok("config", key).out == stored


def test_truth_values_may_come_first_as_well(ipvcs: Ipvcs) -> None:
    ipvcs.ok("config", "--bool", "Swarm.Perf", "true")
    assert ipvcs.ok("config", "Swarm.Perf").out == "true\n"
    ipvcs.ok("config", "--json=true", "Swarm.Perf", "false")
    assert ipvcs.ok("config", "Swarm.Perf").out == "false\n"
    assert "missing argument" in ipvcs.fails("config", "--json", code=129)


def test_not_every_security_protocol_can_be_switched_off(ipvcs: Ipvcs) -> None:
    ipvcs.ok("config", "--json", "Swarm.Transports.Security.TLS", "0")
    error = ipvcs.fails("config", "--json", "Swarm.Transports.Security.Noise", "0", code=129)
    assert "'Swarm.Transports.Security' would be off altogether" in error


def test_water_marks_move_past_each_other_one_after_the_other(ipvcs: Ipvcs) -> None:
    assert "move" in ipvcs.fails("config", "--json", "Swarm.ConnMgr.LowWater", "1000", code=129)
    ipvcs.ok("config", "--json", "Swarm.ConnMgr.HighWater", "2000")
    ipvcs.ok("config", "--json", "Swarm.ConnMgr.LowWater", "1000")


@pytest.mark.parametrize(("key", "value"), [("Swarm.Perf", "true"), ("Bootstrap", "[]"), ("Daemon.Idle", "5")])
def test_setting_a_value_imports_nothing_of_the_node_or_of_an_event_loop(ipvcs: Ipvcs, key: str, value: str) -> None:
    code = (
        "import sys\nfrom ipvcs.cli.main import run\n"
        "assert run(sys.argv[1:]) == 0\n"
        "print([name for name in sys.modules if name.startswith(('ipvcs.node', 'anyio', 'asyncio', 'cryptography'))])"
    )
    words = [sys.executable, "-c", code, "--home", str(ipvcs.home), "config", "--json", key, value]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
