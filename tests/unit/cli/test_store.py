"""pin, repo, block, dag, object, cid, config: what a person does with the store."""

import json
from pathlib import Path

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.car_writer import CarWriter
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs

KUBO = ("--profile", "unixfs-v0-2015")
VECTORS = Path(__file__).parents[2] / "vectors"
EMPTY_TREE = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"a" * 3_000_000)
    (root / "sub" / "b").write_bytes(b"b")
    return root


@pytest.fixture
def root(ipvcs: Ipvcs, tree: Path) -> str:
    return ipvcs.ok("put", "-rQ", tree).out.strip()


def test_put_pins_recursively_with_a_name(ipvcs: Ipvcs, tree: Path) -> None:
    cid = ipvcs.ok("put", "-rQ", "--pin-name", "mine", tree).out.strip()
    assert ipvcs.ok("pin", "ls", "--names", "-t", "recursive").lines == [f"{cid} recursive mine"]


def test_what_a_pin_reaches_is_pinned_indirectly(ipvcs: Ipvcs, root: str) -> None:
    below = ipvcs.ok("refs", "-ru", root).lines
    assert sorted(ipvcs.ok("pin", "ls", "-q", "-t", "indirect").lines) == sorted(below)
    assert ipvcs.ok("pin", "ls", below[-1]).lines == [f"{below[-1]} indirect through {root}"]


def test_pins_are_removed_all_or_none(ipvcs: Ipvcs, root: str) -> None:
    assert "is not pinned" in ipvcs.fails("pin", "rm", root, f"{root}/sub")
    assert ipvcs.ok("pin", "ls", "-t", "recursive").lines == [f"{root} recursive"]
    assert ipvcs.ok("pin", "rm", root).lines == [f"unpinned {root}"]
    assert ipvcs.ok("pin", "ls").lines == []
    assert "is not pinned" in ipvcs.fails("pin", "rm", root)


def test_a_direct_pin_keeps_one_block_and_gives_way_to_a_recursive_one(ipvcs: Ipvcs, root: str) -> None:
    ipvcs.ok("pin", "rm", root)
    ipvcs.ok("pin", "add", "--recursive=false", root)
    assert ipvcs.ok("pin", "ls").lines == [f"{root} direct"]
    ipvcs.ok("pin", "add", root)
    assert "pinned recursively" in ipvcs.fails("pin", "add", "--direct", root)
    assert "pinned recursively" in ipvcs.fails("pin", "rm", "--recursive=false", root)
    ipvcs.ok("pin", "rm", root)


def test_an_incomplete_dag_cannot_be_pinned(ipvcs: Ipvcs, root: str) -> None:
    ipvcs.ok("pin", "rm", root)
    leaf = ipvcs.ok("refs", f"{root}/a").lines[0]
    ipvcs.ok("block", "rm", leaf)
    assert f"block '{leaf}' of '{root}' not found" in ipvcs.fails("pin", "add", root)
    assert ipvcs.ok("pin", "ls").lines == []


def test_pin_update_moves_the_pin_and_its_name(ipvcs: Ipvcs, tree: Path) -> None:
    old = ipvcs.ok("put", "-rQ", "--pin-name", "data", tree).out.strip()
    (tree / "c").write_bytes(b"c")
    new = ipvcs.ok("put", "-rQ", "--no-pin", tree).out.strip()
    assert ipvcs.ok("pin", "update", old, new).lines == [f"updated {old} to {new}"]
    assert ipvcs.ok("pin", "ls", "--names", "-t", "recursive").lines == [f"{new} recursive data"]


def test_pin_verify_finds_what_is_missing(ipvcs: Ipvcs, root: str) -> None:
    assert ipvcs.ok("pin", "verify", "-v").lines == [f"{root} ok"]
    below = ipvcs.ok("refs", root).lines[1]
    with open_home(ipvcs.home) as home:
        home.blocks.delete([Cid.parse(below)])
    result = ipvcs.run("pin", "verify")
    assert result.code == 1
    assert result.lines[0] == f"{root} broken"
    assert below in result.lines[1]
    assert "cannot collect garbage" in ipvcs.fails("repo", "gc")


def test_gc_takes_what_no_pin_reaches_and_nothing_else(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    kept = ipvcs.ok("put", "-rQ", tree).out.strip()
    (tmp_path / "g").write_bytes(b"garbage")
    garbage = ipvcs.ok("put", "-Q", "--no-pin", tmp_path / "g").out.strip()
    assert ipvcs.ok("repo", "gc").lines == [f"removed {garbage}"]
    assert ipvcs.ok("repo", "gc").lines == []
    ipvcs.ok("get", "-o", tmp_path / "copy", kept)
    assert "not found" in ipvcs.fails("cat", garbage)


def test_gc_gives_the_disk_back(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 40_000)
    before = ipvcs.ok("repo", "stat", "--json").json[0]["RepoSize"]
    cid = ipvcs.ok("put", "-Q", "--chunker", "size-65536", tmp_path / "big").out.strip()
    ipvcs.ok("pin", "rm", cid)
    ipvcs.ok("repo", "gc")
    assert ipvcs.ok("repo", "stat", "--json").json[0]["RepoSize"] < before + 200_000
    assert ipvcs.ok("repo", "stat", "--json").json[0]["NumObjects"] == 0


def test_repo_verify_names_a_damaged_block(ipvcs: Ipvcs, root: str) -> None:
    assert ipvcs.ok("repo", "verify").out == "verify complete, all 6 blocks validated\n"
    segment = next((ipvcs.home / "blocks").glob("*.car"))
    data = bytearray(segment.read_bytes())
    position = data.index(b"a" * 100)
    data[position] ^= 1
    segment.write_bytes(data)
    result = ipvcs.run("repo", "verify")
    assert result.code == 1
    assert ipvcs.ok("refs", f"{root}/a").lines[0] in result.out


def test_a_home_of_another_version_is_refused_with_a_way_out(ipvcs: Ipvcs, root: str) -> None:
    assert ipvcs.ok("repo", "version").out == "ipvcs repo version 1\n"
    (ipvcs.home / "version").write_text("2\n")
    error = ipvcs.fails("cat", root)
    assert "has version '2', this ipvcs reads version 1" in error
    assert "hint: use the version of ipvcs that made it" in error


def test_a_directory_of_other_things_is_not_taken_for_a_home(ipvcs: Ipvcs) -> None:
    ipvcs.home.mkdir()
    (ipvcs.home / "precious").write_text("x")
    assert "is not an ipvcs home and not empty" in ipvcs.fails("repo", "stat")
    assert [path.name for path in ipvcs.home.iterdir()] == ["precious"]


def test_blocks_are_put_read_and_removed(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"some bytes")
    cid = ipvcs.ok("block", "put", tmp_path / "x").out.strip()
    assert ipvcs.ok("block", "get", cid).stdout == b"some bytes"
    assert ipvcs.ok("block", "stat", cid).lines == [f"Key: {cid}", "Size: 10"]
    assert ipvcs.ok("block", "rm", cid).lines == [f"removed {cid}"]
    assert "not found" in ipvcs.fails("block", "rm", cid, code=1)
    ipvcs.ok("block", "rm", "-f", cid)
    assert ipvcs.ok("block", "put", stdin=b"some bytes").out.strip() == cid


def test_a_pinned_block_is_not_removed_not_even_below_a_pin(ipvcs: Ipvcs, root: str) -> None:
    below = ipvcs.ok("refs", f"{root}/sub").lines[0]
    error = ipvcs.fails("block", "rm", root, below, code=1)
    assert f"cannot remove '{root}': it is pinned (recursive)" in error
    assert f"cannot remove '{below}': it is pinned through '{root}'" in error


def test_a_block_too_big_to_travel_is_taken_only_if_asked(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(2 * 1024 * 1024 + 1))
    assert "over the limit" in ipvcs.fails("block", "put", tmp_path / "big")
    ipvcs.ok("block", "put", "--allow-big-block", tmp_path / "big")


def test_dag_nodes_convert_between_codecs(ipvcs: Ipvcs, root: str, tmp_path: Path) -> None:
    (tmp_path / "node").write_text(f'{{"b": [1, {{"/": "{root}"}}], "a": null}}')
    cid = ipvcs.ok("dag", "put", tmp_path / "node").out.strip()
    assert json.loads(ipvcs.ok("dag", "get", cid).out) == {"a": None, "b": [1, {"/": root}]}
    assert ipvcs.ok("dag", "get", f"{cid}/b/0").out == "1\n"
    assert ipvcs.ok("dag", "resolve", f"{cid}/b/1/sub").lines == ipvcs.ok("dag", "resolve", f"{root}/sub").lines
    assert ipvcs.ok("dag", "resolve", f"{cid}/b/0").lines == [f"{cid}/b/0"]
    assert ipvcs.ok("dag", "get", "--output-codec", "dag-cbor", cid).stdout == ipvcs.ok("block", "get", cid).stdout
    pb = ipvcs.ok("dag", "get", root).stdout
    (tmp_path / "pb").write_bytes(pb)
    assert ipvcs.ok("dag", "put", "--store-codec", "dag-pb", tmp_path / "pb").out.strip() == root


def test_a_dag_goes_from_home_to_home_in_a_car(ipvcs: Ipvcs, other: Ipvcs, root: str, tmp_path: Path) -> None:
    car = tmp_path / "dag.car"
    ipvcs.ok("dag", "export", "-o", car, root)
    assert ipvcs.ok("dag", "export", root).stdout == car.read_bytes()
    assert other.ok("dag", "import", "--stats", car).lines[0] == f"Pinned root\t{root}\tsuccess"
    assert other.ok("pin", "ls", "-t", "recursive").lines == [f"{root} recursive"]
    assert other.ok("dag", "stat", "--json", root).json == ipvcs.ok("dag", "stat", "--json", root).json
    piped = Ipvcs(tmp_path / "piped").ok("dag", "import", stdin=car.read_bytes())
    assert root in piped.out


@pytest.mark.parametrize("kind", ["cut short", "flipped bit", "no CAR at all"])
@pytest.mark.parametrize("piped", [False, True])
def test_of_a_damaged_car_nothing_is_imported(
    ipvcs: Ipvcs, other: Ipvcs, root: str, tmp_path: Path, kind: str, piped: bool
) -> None:
    good = ipvcs.ok("dag", "export", root).stdout
    bad = {"cut short": good[:-1], "flipped bit": good[:-1] + bytes([good[-1] ^ 1]), "no CAR at all": b"hello"}[kind]
    (tmp_path / "good").write_bytes(good)
    (tmp_path / "bad").write_bytes(bad)
    if piped:
        other.fails("dag", "import", stdin=bad)
    else:
        other.fails("dag", "import", tmp_path / "good", tmp_path / "bad")
    assert other.ok("refs", "local").lines == []
    assert other.ok("pin", "ls").lines == []
    assert list((other.home / "tmp").iterdir()) == []


def test_a_car_whose_roots_are_not_whole_is_not_pinned(ipvcs: Ipvcs, other: Ipvcs, root: str, tmp_path: Path) -> None:
    with (tmp_path / "roots.car").open("wb") as file:
        CarWriter([Cid.parse(root)], file.write)
    error = other.fails("dag", "import", tmp_path / "roots.car")
    assert f"block '{root}' not found" in error
    other.ok("dag", "import", "--pin-roots=false", tmp_path / "roots.car")


def test_dag_stat_prints_what_kubo_prints(ipvcs: Ipvcs) -> None:
    ipvcs.ok("dag", "import", VECTORS / "car" / "kubo" / "TestDagStat.car")
    roots = [
        "bafyreibmdfd7c5db4kls4ty57zljfhqv36gi43l6txl44pi423wwmeskwy",
        "bafyreie3njilzdi4ixumru4nzgecsnjtu7fzfcwhg7e6s4s5i7cnbslvn4",
    ]
    expected = (VECTORS / "car" / "kubo" / "TestDagStatExpectedOutput.txt").read_text()
    assert ipvcs.ok("dag", "stat", *roots).out.strip() == expected.strip()


def test_objects_go_out_and_in_as_the_white_paper_writes_them(ipvcs: Ipvcs, root: str, tmp_path: Path) -> None:
    document = ipvcs.ok("object", "get", "--json", root).json[0]
    assert document["data"]["type"] == "tree"
    assert [link["name"] for link in document["links"]] == ["a", "sub"]
    (tmp_path / "object").write_text(json.dumps(document))
    assert ipvcs.ok("object", "put", tmp_path / "object").lines == [f"added {root}"]
    assert [line.split(" ")[2] for line in ipvcs.ok("object", "links", root).lines] == ["a", "sub"]
    stat = ipvcs.ok("object", "stat", "--json", root).json[0]
    assert stat["NumLinks"] == 2
    assert stat["BlockSize"] == stat["LinksSize"] + stat["DataSize"]
    (tmp_path / "object").write_text("{")
    assert "not JSON" in ipvcs.fails("object", "put", tmp_path / "object")


def test_cids_are_converted_and_described(ipvcs: Ipvcs) -> None:
    v0, v1 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", EMPTY_TREE
    assert ipvcs.ok("cid", "base32", v0).lines == [v1]
    assert ipvcs.ok("cid", "format", "-v", "0", v1).lines == [v0]
    assert ipvcs.ok("cid", "format", "-f", "%P", v1).lines == ["cidv1-dag-pb-sha2-256-32"]
    assert ipvcs.ok("cid", "format", stdin=f"{v0}\n{v1}\n".encode()).lines == [v0, v1]
    result = ipvcs.run("cid", "base32", "nope", v0)
    assert (result.code, result.lines) == (129, [v1])
    assert "raw" in ipvcs.ok("cid", "codecs").lines
    assert "base32" in ipvcs.ok("cid", "bases").lines
    assert "blake3" in ipvcs.ok("cid", "hashes").lines
    assert not ipvcs.home.exists()


def test_settings_are_kept_checked_and_shown(ipvcs: Ipvcs, tmp_path: Path) -> None:
    assert ipvcs.ok("config", "Datastore.Sync").out == "true\n"
    ipvcs.ok("config", "Datastore.Sync", "--bool", "false")
    assert json.loads(ipvcs.ok("config", "Datastore").out)["Sync"] is False
    ipvcs.ok("config", "Addresses.Swarm", "--json", '["/ip4/127.0.0.1/tcp/0"]')
    assert json.loads(ipvcs.ok("config", "show").out)["Addresses"]["Swarm"] == ["/ip4/127.0.0.1/tcp/0"]
    assert "takes true or false" in ipvcs.fails("config", "Datastore.Sync", "maybe", code=129)
    assert "is not JSON" in ipvcs.fails("config", "Bootstrap", "--json", "[", code=129)
    (tmp_path / "new").write_text('{"Import": {"Profile": "cdc-1"}}')
    ipvcs.ok("config", "replace", tmp_path / "new")
    assert ipvcs.ok("config", "Import.Profile").out == "cdc-1\n"
    assert ipvcs.ok("config", "Datastore.Sync").out == "true\n"
    (ipvcs.home / "config").write_text("nope")
    assert "is not JSON" in ipvcs.fails("config", "show", code=129)
