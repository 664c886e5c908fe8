"""Options that users of Kubo expect, and what `--help` says of all."""

import gzip
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ipvcs.cli.main import cli
from ipvcs.multiformats.cid import Cid
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs


@pytest.fixture
def ipvcs(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Ipvcs:
    return Ipvcs(tmp_path / "home", capfdbinary)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "f").write_bytes(b"f" * 3000)
    (root / "sub" / "link").symlink_to("../f")
    return root


@pytest.fixture
def root(ipvcs: Ipvcs, tree: Path) -> str:
    return ipvcs.ok("put", "-rQ", tree).out.strip()


def all_commands(command: click.Command = cli, name: str = "ipvcs") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from all_commands(found, f"{name} {below}")


COMMANDS = dict(all_commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_text_is_made_of_sentences(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert command.help.split("\n\n")[0].rstrip().endswith("."), name
    context = click.Context(command, info_name=name)
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not option.is_eager:
            assert option.help, f"{name} {option.name}"
            text = option.help.partition("  [default:")[0]
            assert text.endswith("."), f"{name} {option.name}: {option.help}"
            assert text[0].isupper() or text[0].isdigit() or "[" in text, f"{name} {option.name}: {option.help}"
    shown = command.get_help(context)
    assert "<=" not in shown
    assert ">=" not in shown


@pytest.mark.parametrize(
    ("options", "output", "expected"),
    [
        (["-a"], None, "{root}.tar"),
        (["-a"], "out", "out.tar"),
        (["-a"], "out.tar", "out.tar"),
        (["-a", "-C"], "out", "out.tar.gz"),
        (["-a", "-C"], "out.tar", "out.tar.gz"),
        (["-aC", "-l", "9"], "out.tar.gz", "out.tar.gz"),
        (["--archive", "--compress", "--compression-level=1"], "out", "out.tar.gz"),
    ],
)
def test_get_writes_archives_named_as_kubo_names_them(
    ipvcs: Ipvcs, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: list[str], output: str | None, expected: str,
) -> None:  # fmt: skip
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ipvcs.ok("get", *options, *(["-o", output] if output else []), root)
    assert [path.name for path in Path().iterdir()] == [expected.format(root=root)]
    with tarfile.open(next(Path().iterdir())) as archive:
        assert archive.getnames() == [root, f"{root}/f", f"{root}/sub", f"{root}/sub/link"]


def test_get_compresses_a_file_alone_but_no_directory(
    ipvcs: Ipvcs, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ipvcs.ok("get", "-C", f"{root}/f")
    assert gzip.decompress((tmp_path / "f.gz").read_bytes()) == b"f" * 3000
    assert "is a directory, not a file" in ipvcs.fails("get", "-C", root)
    assert "already exists" in ipvcs.fails("get", "-C", f"{root}/f")
    assert "0 is not from 1 to 9" in ipvcs.fails("get", "-C", "-l", "0", f"{root}/f", code=129)


def test_the_name_in_an_archive_never_climbs(ipvcs: Ipvcs, tmp_path: Path) -> None:
    leaf = ipvcs.ok("block", "put", stdin=b"x").out.strip()
    links = [{"Hash": {"/": leaf}, "Name": ".."}]
    (tmp_path / "node").write_text(json.dumps({"Data": {"/": {"bytes": "CAE"}}, "Links": links}))
    root = ipvcs.ok("dag", "put", "--store-codec", "dag-pb", tmp_path / "node").out.strip()
    ipvcs.ok("get", "-a", "-o", tmp_path / "out", f"{root}/..")
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getnames() == [leaf]
    assert "it would lead out of the directory" in ipvcs.fails("get", "-o", tmp_path / "copy", root)


def test_put_may_follow_symlinks_that_are_arguments(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree / "sub")
    assert [line.split(" ", 2)[2] for line in ipvcs.ok("put", "-r", "--dereference-args", tmp_path / "link").lines] == [
        "link/link",
        "link",
    ]
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "nowhere" in ipvcs.fails("put", "--dereference-args", tmp_path / "dangling")
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in ipvcs.fails("put", "--dereference-args", tmp_path / "loop")


def test_put_can_be_silent_and_still_stores(ipvcs: Ipvcs, tree: Path) -> None:
    root = ipvcs.ok("put", "-rQn", tree).out.strip()
    for options in (["--silent"], ["--silent", "-Q"], ["--silent", "--json"]):
        assert ipvcs.ok("put", "-r", *options, tree).stdout == b""
    assert ipvcs.ok("pin", "ls", "-q", "-t", "recursive").lines == [root]


def test_a_progress_bar_can_be_had_without_a_terminal_and_be_done_without_on_one(
    ipvcs: Ipvcs, tree: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipvcs.cli.ui._PATIENCE", 0.0)
    assert "Storing" in ipvcs.ok("put", "-rQ", "--progress", tree).stderr
    assert ipvcs.ok("put", "-rQ", "--progress=false", tree).stderr == ""
    assert "Writing" in ipvcs.ok("get", "-p", "-o", tmp_path / "copy", root).stderr
    assert "Exporting" in ipvcs.ok("dag", "export", "-p", "-o", tmp_path / "car", root).stderr


@pytest.mark.parametrize("given", ["0o644", "0x1", "1_0", "-1", "10000", "8", "", " 7", "²"])
def test_a_mode_is_octal_digits(ipvcs: Ipvcs, tree: Path, given: str) -> None:
    assert "is not a mode in octal" in ipvcs.fails("put", "-r", "--mode", given, tree, code=129)


@pytest.mark.parametrize("given", [2**63, -(2**63) - 1, "1.5", "now"])
def test_a_time_is_a_whole_number_that_unixfs_holds(ipvcs: Ipvcs, tree: Path, given: object) -> None:
    ipvcs.fails("put", "-r", "--mtime", str(given), tree, code=129)


@pytest.mark.parametrize("given", [2**63 - 1, -(2**63), -1])
def test_the_farthest_times_are_stored(ipvcs: Ipvcs, tree: Path, given: int) -> None:
    cid = ipvcs.ok("put", "-Q", "--mtime", str(given), tree / "f").out.strip()
    assert ipvcs.ok("cat", cid).stdout == b"f" * 3000


def test_names_that_one_directory_cannot_hold_are_refused_before_anything_is_stored(
    ipvcs: Ipvcs, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "f").write_bytes(b"")
    assert "two paths are called 'f'" in ipvcs.fails("put", "-w", tree / "f", tmp_path / "other" / "f", code=129)
    assert "'/' has no name" in ipvcs.fails("put", "-rw", "/", code=129)
    assert "a PATH is empty" in ipvcs.fails("put", "", code=129)
    assert not ipvcs.home.exists()
    assert len(ipvcs.ok("put", tree / "f", tmp_path / "other" / "f").lines) == 2


def test_a_pin_name_is_checked_before_anything_is_stored(ipvcs: Ipvcs, tree: Path) -> None:
    assert "pin name is longer" in ipvcs.fails("put", "-r", "--pin-name", "x" * 300, tree, code=129)
    assert not ipvcs.home.exists()


def test_the_names_of_paths_are_what_they_lead_to(ipvcs: Ipvcs, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "sub")
    for path, name in ((".", "sub"), ("..", "tree"), ("../sub/", "sub"), ("../sub/.", "sub"), ("../../tree", "tree")):
        assert ipvcs.ok("put", "-rn", path).lines[-1].split(" ", 2)[2] == name


def test_pins_are_found_by_part_of_their_name(ipvcs: Ipvcs, tree: Path) -> None:
    for name in ("backup 2024", "backup 2025", "photos"):
        (tree / "f").write_text(name)
        ipvcs.ok("put", "--pin-name", name, tree / "f")
    found = ipvcs.ok("pin", "ls", "-n", "backup").lines
    assert sorted(line.split(" ", 2)[2] for line in found) == ["backup 2024", "backup 2025"]
    assert ipvcs.ok("pin", "ls", "--name", "nothing").lines == []
    assert {pin["Name"] for pin in ipvcs.ok("pin", "ls", "--name=20", "--json").json} == {"backup 2024", "backup 2025"}


def test_a_damaged_block_is_mended_by_putting_it_again(ipvcs: Ipvcs, tree: Path) -> None:
    cid = ipvcs.ok("put", "-Q", tree / "f").out.strip()
    segment = next((ipvcs.home / "blocks").glob("*.car"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"f" * 100)] ^= 1
    segment.write_bytes(data)
    found = ipvcs.run("repo", "verify")
    assert (found.code, "put or import them again" in found.stderr) == (1, True)
    assert ipvcs.run("pin", "verify").code == 1
    assert "damaged" in ipvcs.fails("cat", cid)
    assert ipvcs.ok("put", "-Q", tree / "f").out.strip() == cid
    assert ipvcs.ok("repo", "verify").code == 0
    assert ipvcs.ok("cat", cid).stdout == b"f" * 3000


def test_versions_and_blocks_are_listed_as_in_kubo(ipvcs: Ipvcs, root: str) -> None:
    assert sorted(ipvcs.ok("repo", "ls").lines) == sorted(ipvcs.ok("refs", "local").lines)
    assert ipvcs.ok("repo", "ls", "--json").json == ipvcs.ok("refs", "local", "--json").json
    assert ipvcs.ok("repo", "version", "-q").out == ipvcs.ok("version", "--repo").out == "1\n"


def test_an_import_can_be_silent(ipvcs: Ipvcs, root: str, tmp_path: Path) -> None:
    ipvcs.ok("dag", "export", "-o", tmp_path / "car", root)
    ipvcs.ok("pin", "rm", root)
    assert ipvcs.ok("dag", "import", "--silent", "--stats", tmp_path / "car").stdout == b""
    with open_home(ipvcs.home) as home:
        assert home.pins.try_get(Cid.parse(root)) is not None


def test_a_setting_that_is_no_text_or_too_deep_is_refused(ipvcs: Ipvcs) -> None:
    assert "not text in UTF-8" in ipvcs.fails("config", "Import.Profile", "\udcff", code=129)
    assert "not text in UTF-8" in ipvcs.fails("config", "Bootstrap", "--json", '["\\ud800"]', code=129)
    assert "is not JSON" in ipvcs.fails("config", "Bootstrap", "--json", "[" * 100_000, code=129)
    assert ipvcs.ok("config", "Bootstrap").out == "[]\n"


def test_user_files_with_the_payloads_name_come_back_and_are_listed(ipvcs: Ipvcs, tree: Path, tmp_path: Path) -> None:
    (tree / ".ipvcs-tree").write_bytes(b"tree of mine")
    (tree / "sub" / ".ipvcs-tree").mkdir()
    root = ipvcs.ok("put", "-rHQ", tree).out.strip()
    assert [line.split(" ", 2)[2] for line in ipvcs.ok("ls", root).lines] == [".ipvcs-tree", "f", "sub/"]
    assert ipvcs.ok("ls", f"{root}/sub").lines[0].endswith(" .ipvcs-tree/")
    ipvcs.ok("get", "-o", tmp_path / "copy", root)
    assert (tmp_path / "copy" / ".ipvcs-tree").read_bytes() == b"tree of mine"
    assert (tmp_path / "copy" / "sub" / ".ipvcs-tree").is_dir()
