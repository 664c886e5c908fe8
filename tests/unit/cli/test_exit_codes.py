"""What a command exits with: 129 for anything wrong with what was typed, 128 for what the world refuses."""

from pathlib import Path

import pytest

from tests.cli_runner import Ipvcs

BAD = "nonsense"
ABSENT = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
ID = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"
BARE = "/ip4/192.0.2.1/tcp/1"
FILE = "/etc/passwd"

MALFORMED = {
    "a CID": [
        f"{command} {BAD}"
        for command in (
            "block get", "block stat", "block rm", "cat", "cid format", "cid base32", "dag get", "dag stat",
            "dag export", "dag resolve", "get", "ls", "object get", "pin add", "pin rm", "pin ls", "refs",
        )
    ] + [f"pin update {BAD} {ABSENT}", f"pin update {ABSENT} {BAD}"],
    "a path": [
        f"{command} {path}"
        for command in ("cat", "dag get", "get", "ls", "pin add", "refs")
        for path in ("/foo/bar", f"/ipfs/{BAD}/x", "/ipfs/")
    ],
    "a multiaddr": [
        f"{command} {address}"
        for command in ("swarm connect", "swarm disconnect", "bootstrap add", "bootstrap rm", "ping", "id")
        for address in ("/foo/bar", BARE, "/ip4/300.1.1.1/tcp/1")
    ] + [f"swarm connect {ID}", f"bootstrap add {BAD}"],
    "an argument of the DHT, Bitswap or names": [
        f"routing findpeer {BAD}", f"routing findprovs {BAD}", f"routing provide {BAD}", f"routing get /ipns/{BAD}",
        f"bitswap ledger {BAD}", f"bitswap wantlist -p {BAD}", f"name inspect --verify {BAD} {FILE}",
    ],
    "a NodeId": [
        f"ping {BAD}", f"id {BAD}", f"ping {ABSENT}", f"swarm connect /p2p/{BAD}", f"access add {BAD}",
        f"access rm {ABSENT}", f"access add {BARE}",
    ],
    "the path of a repository": [f"access add {ID} ../x", f"access rm {ID} a//b", "access log x/./y"],
    "the name of a key": ["key gen ''", "key rename self ''"],
    "a number": [
        "ping -n x " + ID, "ping -n 0 " + ID, "key gen --difficulty 99 k", "key gen --type rsa --size 5 k",
        f"put --cid-version 7 {FILE}", f"put --max-file-links 0 {FILE}", f"refs --max-depth x {ABSENT}",
        f"put --chunker size-0 {FILE}", "access log -n x", "access log -n -1",
    ],
    "one of several words": [
        f"put --chunker {BAD} {FILE}", f"put --hash {BAD} {FILE}", f"put --profile {BAD} {FILE}",
        f"dag put --store-codec {BAD} {FILE}", f"block put --mhtype {BAD} {FILE}", f"key list -b {BAD}",
        f"pin ls --type {BAD}", f"key gen --type {BAD} k", f"log level {BAD}", f"log level swarm {BAD}",
        f"daemon --log-level {BAD}", f"access add {ID} --rights {BAD}", f"access rm {ID} --rights create,",
    ],
    "a setting": [f"config {BAD}", f"config {BAD} 1", f"config --json Swarm.Perf {BAD}", "config Swarm.Perf yes"],
}  # fmt: skip


@pytest.mark.parametrize(
    "line", [line for lines in MALFORMED.values() for line in lines], ids=lambda line: line.replace("/", "|")
)
def test_what_is_wrong_with_what_was_typed_is_usage(ipvcs: Ipvcs, line: str) -> None:
    words = ["" if word == "''" else word for word in line.split()]
    ipvcs.fails(*words, code=129)
    assert not (ipvcs.home / "daemon.lock").exists()


@pytest.mark.parametrize(
    "line",
    [
        f"block get {ABSENT}", f"cat {ABSENT}", f"get {ABSENT}", f"ls {ABSENT}", f"pin add {ABSENT}",
        f"dag get /ipfs/{ABSENT}/x", f"dag export {ABSENT}", "key rm nobody", "key export nobody", "put /not/there",
        "key import k /not/there", "swarm peers", f"swarm disconnect /p2p/{ID}", f"id {ID}",
    ],
)  # fmt: skip
def test_what_the_world_refuses_is_a_failure(ipvcs: Ipvcs, line: str) -> None:
    ipvcs.fails(*line.split(), code=128)


def test_cids_that_came_through_a_pipe_are_data_and_not_usage(ipvcs: Ipvcs, tmp_path: Path) -> None:
    result = ipvcs.run("cid", "base32", stdin=f"{BAD}\n{ABSENT}\n".encode())
    assert (result.code, result.lines) == (1, [ABSENT])
    assert ipvcs.run("cid", "base32", BAD, ABSENT).lines == [ABSENT]
