"""put, get, cat, ls, refs: what a person does with files."""

import os
import stat
from pathlib import Path

import pytest

from ipvcs.storage.disk import DiskFullError
from ipvcs.storage.pins import Pins
from tests.cli_runner import Ipvcs

HELLO_V0 = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"
KUBO = ("--profile", "unixfs-v0-2015")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "hello.txt").write_bytes(b"hello world")
    (root / "sub" / "big").write_bytes(os.urandom(3 << 20))
    (root / "sub" / "deep" / "link").symlink_to("../../hello.txt")
    (root / "sub" / "dangling").symlink_to("/no/where")
    (root / ".hidden").write_bytes(b"h")
    os.close(os.open(os.fsencode(root) + b"/not-utf8-\xff", os.O_CREAT))
    return root


def same(left: Path, right: Path) -> bool:
    def entries(root: Path) -> dict[bytes, object]:
        found: dict[bytes, object] = {}
        for directory, names, files in os.walk(os.fsencode(root)):
            for name in names + files:
                path = directory + b"/" + name
                status = os.lstat(path)
                if stat.S_ISLNK(status.st_mode):
                    found[os.path.relpath(path, os.fsencode(root))] = Path(os.fsdecode(path)).readlink()
                elif stat.S_ISREG(status.st_mode):
                    found[os.path.relpath(path, os.fsencode(root))] = Path(os.fsdecode(path)).read_bytes()
                else:
                    found[os.path.relpath(path, os.fsencode(root))] = None
        return found

    return entries(left) == entries(right)


def test_a_directory_comes_back_as_it_was(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    root = ipvcs.ok("put", "-rHQ", tree).out.strip()
    ipvcs.ok("get", "-o", tmp_path / "copy", root)
    assert same(tree, tmp_path / "copy")


def test_lines_say_added_cid_and_name_children_first(ipvcs: Ipvcs, tree: Path) -> None:
    lines = ipvcs.ok("put", "-r", *KUBO, tree).lines
    assert f"added {HELLO_V0} tree/hello.txt" in lines
    assert [line.split(" ", 2)[2] for line in lines] == [
        "tree/empty",
        "tree/hello.txt",
        "tree/not-utf8-\udcff",
        "tree/sub/big",
        "tree/sub/dangling",
        "tree/sub/deep/link",
        "tree/sub/deep",
        "tree/sub",
        "tree",
    ]


def test_quiet_prints_cids_and_quieter_the_root(ipvcs: Ipvcs, tree: Path) -> None:
    cids = ipvcs.ok("put", "-rq", tree).lines
    assert ipvcs.ok("put", "-rQ", tree).lines == cids[-1:]
    assert ipvcs.ok("put", "-r", "--json", tree).json[-1]["Hash"] == cids[-1]


def test_only_hash_computes_without_a_home(ipvcs: Ipvcs, tree: Path) -> None:
    expected = ipvcs.ok("put", "-rQn", tree).out
    assert not ipvcs.home.exists()
    assert ipvcs.ok("put", "-rQ", tree).out == expected


def test_standard_input_and_wrapping(ipvcs: Ipvcs, tmp_path: Path) -> None:
    assert ipvcs.ok("put", "-Q", *KUBO, "-", stdin=b"hello world").out.strip() == HELLO_V0
    root = ipvcs.ok("put", "-Qw", *KUBO, "--stdin-name", "in.txt", "-", stdin=b"hello world").out.strip()
    assert ipvcs.ok("ls", root).lines == [f"{HELLO_V0} 11 in.txt"]
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    wrapped = ipvcs.ok("put", "-Qw", tmp_path / "a", tmp_path / "b").out.strip()
    assert [line.split()[2] for line in ipvcs.ok("ls", wrapped).lines] == ["a", "b"]


def test_a_directory_needs_recursive(ipvcs: Ipvcs, tree: Path) -> None:
    assert "is a directory\nhint: use `-r`" in ipvcs.fails("put", tree)


def test_a_symlink_argument_is_stored_as_a_symlink_even_if_it_dangles(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    cid = ipvcs.ok("put", "-Q", tree / "sub" / "dangling").out.strip()
    ipvcs.ok("get", "-o", tmp_path / "link", cid)
    assert (tmp_path / "link").readlink() == Path("/no/where")


def test_a_named_pipe_is_refused_and_nothing_hangs(ipvcs: Ipvcs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a file, directory or symlink" in ipvcs.fails("put", tmp_path / "pipe")


def test_modes_and_times_come_back(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    (tree / "hello.txt").chmod(0o4751)
    (tree / "sub").chmod(0o750)
    os.utime(tree / "hello.txt", ns=(0, -1_000_000_001))
    os.utime(tree / "sub" / "dangling", ns=(0, 5_000_000_007), follow_symlinks=False)
    root = ipvcs.ok("put", "-rQ", "--preserve-mode", "--preserve-mtime", tree).out.strip()
    copy = tmp_path / "copy"
    ipvcs.ok("get", "-o", copy, root)
    assert stat.S_IMODE((copy / "hello.txt").stat().st_mode) == 0o751  # set-user-id is not taken from strangers
    assert stat.S_IMODE((copy / "sub").stat().st_mode) == 0o750
    assert (copy / "hello.txt").stat().st_mtime_ns == -1_000_000_001
    assert (copy / "sub" / "dangling").lstat().st_mtime_ns == 5_000_000_007


def test_get_overwrites_nothing(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    cid = ipvcs.ok("put", "-Q", tree / "hello.txt").out.strip()
    (tmp_path / "here").write_bytes(b"mine")
    assert "already exists" in ipvcs.fails("get", "-o", tmp_path / "here", cid)
    assert (tmp_path / "here").read_bytes() == b"mine"
    (tmp_path / "dangling").symlink_to("/no/where")
    assert "already exists" in ipvcs.fails("get", "-o", tmp_path / "dangling", cid)


def test_get_of_a_dag_with_a_missing_block_leaves_nothing_behind(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    root = ipvcs.ok("put", "-rQ", "--no-pin", tree).out.strip()
    leaf = ipvcs.ok("refs", f"{root}/sub/big").lines[1]
    ipvcs.ok("block", "rm", leaf)
    before = set(tmp_path.iterdir())
    assert leaf in ipvcs.fails("get", "-o", tmp_path / "copy", root)
    assert set(tmp_path.iterdir()) == before


def test_cat_reads_ranges_through_several_files(ipvcs: Ipvcs, tmp_path: Path) -> None:
    content = [os.urandom(2_500_000), b"", os.urandom(1000)]
    cids = []
    for index, data in enumerate(content):
        (tmp_path / str(index)).write_bytes(data)
        cids.append(ipvcs.ok("put", "-Q", tmp_path / str(index)).out.strip())
    joined = b"".join(content)
    assert ipvcs.ok("cat", *cids).stdout == joined
    for offset, length in ((0, 10), (1_048_570, 20), (2_499_990, 20), (2_500_500, 10_000), (9_999_999, 1), (5, 0)):
        printed = ipvcs.ok("cat", "-o", str(offset), "-l", str(length), *cids).stdout
        assert printed == joined[offset : offset + length]


def test_cat_of_a_directory_says_so(ipvcs: Ipvcs, tree: Path) -> None:
    root = ipvcs.ok("put", "-rQ", tree).out.strip()
    assert "is a directory, not a file" in ipvcs.fails("cat", f"{root}/sub")


def test_a_path_that_leads_nowhere_names_the_component(ipvcs: Ipvcs, tree: Path) -> None:
    root = ipvcs.ok("put", "-rQ", tree).out.strip()
    assert f"no link named 'nope' under '/ipfs/{root}/sub'" in ipvcs.fails("cat", f"/ipfs/{root}/sub/nope/x")


def test_ls_tells_files_directories_and_symlinks(ipvcs: Ipvcs, tree: Path) -> None:
    root = ipvcs.ok("put", "-rQ", tree).out.strip()
    shown = {line.split(" ", 2)[2]: line.split(" ", 2)[1] for line in ipvcs.ok("ls", root).lines}
    assert shown == {"empty/": "-", "hello.txt": "11", "not-utf8-\udcff": "0", "sub/": "-"}
    links = ipvcs.ok("ls", "--json", f"{root}/sub").json[0]["Objects"][0]["Links"]
    assert [(link["Name"], link["Type"], link["Size"]) for link in links] == [
        ("big", 2, 3 << 20),
        ("dangling", 4, 9),
        ("deep", 1, 0),
    ]


def test_refs_lists_links_as_asked(ipvcs: Ipvcs, tree: Path) -> None:
    root = ipvcs.ok("put", "-rQ", tree).out.strip()
    direct = ipvcs.ok("refs", root).lines
    assert len(direct) == 4
    everything = ipvcs.ok("refs", "-ru", root).lines
    assert len(everything) == len(set(everything)) == 4 + 3 + 3 + 1
    assert ipvcs.ok("refs", "-r", "--max-depth", "1", root).lines == direct
    assert ipvcs.ok("refs", "-e", root).lines == [f"{root} -> {cid}" for cid in direct]
    names = ipvcs.ok("refs", "--format", "<linkname>", root).lines
    assert names == ["empty", "hello.txt", "not-utf8-\udcff", "sub"]
    assert set(ipvcs.ok("refs", "local").lines) == {root, *everything}


def test_home_settings_decide_the_layout_unless_a_profile_is_named(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello world")
    ipvcs.ok("config", "Import.Profile", "unixfs-v0-2015")
    assert ipvcs.ok("put", "-Q", tmp_path / "f").out.strip() == HELLO_V0
    ipvcs.ok("config", "Import.CidVersion", "--json", "1")
    assert ipvcs.ok("put", "-Q", tmp_path / "f").out.startswith("bafk")
    assert ipvcs.ok("put", "-Q", "--cid-version", "0", tmp_path / "f").out.strip() == HELLO_V0
    assert ipvcs.ok("put", "-Q", *KUBO, tmp_path / "f").out.strip() == HELLO_V0


def test_a_setting_that_no_import_can_have_is_named(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    ipvcs.ok("config", "show")
    (ipvcs.home / "config").write_text('{"Import": {"CidVersion": 7}}')  # as an editor does it, past all checks
    error = ipvcs.fails("put", tmp_path / "f", code=129)
    assert "unknown CID version 7" in error
    assert "Import.CidVersion" in error
    ipvcs.ok("put", *KUBO, tmp_path / "f")
    (ipvcs.home / "config").write_text('{"Import": {"UnixFSHAMTDirectorySizeThreshold": "\u00b2"}}')
    assert "is not a size" in ipvcs.fails("put", tmp_path / "f", code=129)


def test_an_explicit_mode_or_time_wins_over_a_preserved_one_and_time_0_is_none(ipvcs: Ipvcs, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "f").chmod(0o640)
    given = ipvcs.ok("put", "-Q", *KUBO, "--mode=0764", tmp_path / "f").out
    assert ipvcs.ok("put", "-Q", *KUBO, "--preserve-mode", "--mode=0764", tmp_path / "f").out == given
    plain = ipvcs.ok("put", "-Q", *KUBO, tmp_path / "f").out
    assert ipvcs.ok("put", "-Q", *KUBO, "--mtime=0", tmp_path / "f").out == plain


def test_lines_that_promise_something_wait_for_the_pin(
    ipvcs: Ipvcs, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise DiskFullError(tree)

    monkeypatch.setattr(Pins, "add", refuse)
    result = ipvcs.run("put", "-r", tree)
    assert (result.code, result.stdout) == (128, b"")
