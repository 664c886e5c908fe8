"""What every command shares: errors, exit codes, switches, pipes."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from ipvcs import __version__
from ipvcs.cli.main import _COMMANDS, cli, report, run
from ipvcs.errors import IpvcsError, UsageError
from tests.cli_runner import Ipvcs

MISSING = "bafkreiebzrnroamgos2adnbpgw5apo3z4iishhbdx77gldnbk57d4zdio4"


def test_every_listed_command_exists_and_has_help() -> None:
    context = click.Context(cli)
    for name, summary in _COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help
        assert summary


def test_version_is_printed_in_each_form(ipvcs: Ipvcs) -> None:
    assert ipvcs.ok("version").out == f"ipvcs version {__version__}\n"
    assert ipvcs.ok("version", "--number").out == f"{__version__}\n"
    assert ipvcs.ok("version", "--json").json[0]["Version"] == __version__
    assert not ipvcs.home.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nope"], 129, "no such command 'nope'"),
        (["cat"], 129, "missing argument"),
        (["cat", "--nope", "x"], 129, "no such option"),
        (["cat", "bafynope"], 129, "invalid CID 'bafynope'"),
        (["cat", "/nope/x"], 129, "invalid path '/nope/x'"),
        (["cat", MISSING], 128, f"block '{MISSING}' not found"),
        (["block", "put", "--mhtype", "md5", "/dev/null"], 129, "hash function 'md5' is not supported"),
        (["put", "--profile", "nope", "/dev/null"], 129, "unknown profile 'nope'"),
        (["put", "--chunker", "size-0", "/dev/null"], 129, "size-0"),
        (["put", "--mode", "9", "/dev/null"], 129, "not a mode"),
        (["put", "--mtime-nsecs", "1", "/dev/null"], 129, "--mtime-nsecs needs --mtime"),
        (["put", "/no/such/file"], 128, "/no/such/file"),
        (["config", "Nope"], 129, "unknown configuration key 'Nope'"),
    ],
)
def test_an_error_names_the_thing_and_the_exit_code_its_kind(
    ipvcs: Ipvcs, words: list[str], code: int, said: str
) -> None:
    assert said in ipvcs.fails(*words, code=code)


def test_an_interrupt_while_a_class_is_being_made_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __set_name__(self, _owner: type, _name: str) -> None:
            raise KeyboardInterrupt

    def import_late(*_: object) -> None:
        type("Late", (), {"field": Interrupted()})  # wrapped in a RuntimeError up to Python 3.11

    monkeypatch.setattr(cli, "invoke", import_late)
    assert run(["version"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_hint_follows_the_error(ipvcs: Ipvcs) -> None:
    error = ipvcs.fails("cat", "bafynope", code=129)
    assert error.splitlines()[1] == "hint: a CID looks like 'bafy…', 'bafk…' or 'Qm…'"


def test_each_error_of_a_group_is_reported_and_the_worst_code_wins(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("several", [IpvcsError("one"), ExceptionGroup("more", [UsageError("two", hint="three")])])
    assert report(group) == 129
    assert capsys.readouterr().err == "error: one\nerror: two\nhint: three\n"


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        report(ZeroDivisionError())


def test_switches_can_be_written_as_kubo_writes_them(ipvcs: Ipvcs, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    ipvcs.ok("put", "--pin=false", "--raw-leaves=true", file)
    assert ipvcs.ok("pin", "ls").lines == []
    ipvcs.ok("put", "--pin=true", file)
    assert len(ipvcs.ok("pin", "ls").lines) == 1
    ipvcs.ok("put", "--", file)


def test_a_reader_that_goes_away_ends_the_command_silently(tmp_path: Path) -> None:
    ipvcs = Ipvcs(tmp_path / "home")
    many = tmp_path / "many"
    many.mkdir()
    for index in range(200):
        (many / f"{index:0200d}").write_bytes(b"%d" % index)
    command = [sys.executable, "-m", "ipvcs", "--home", str(ipvcs.home), "put", "-r", str(many)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_a_full_output_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    ipvcs = Ipvcs(tmp_path / "home")
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    cid = ipvcs.ok("put", "-Q", tmp_path / "file").out.strip()
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "ipvcs", "--home", str(ipvcs.home), "cat", cid]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 128
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_home_comes_from_the_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ipvcs", "repo", "stat", "--json"]
    for environ, expected in (
        ({"IPVCS_PATH": str(tmp_path / "a")}, tmp_path / "a"),
        ({"XDG_DATA_HOME": str(tmp_path / "b")}, tmp_path / "b" / "ipvcs"),
        ({"HOME": str(tmp_path / "c")}, tmp_path / "c" / ".local" / "share" / "ipvcs"),
    ):
        done = subprocess.run(command, env={**environ, "PATH": "/bin"}, capture_output=True, text=True, check=True)
        assert f'"RepoPath": "{expected}"' in done.stdout
