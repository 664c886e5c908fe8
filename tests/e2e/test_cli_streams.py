"""The command line as a process, with what shells do to processes: streams closed, full or gone, odd places."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_runner import environment

MISSING = "bafkreiebzrnroamgos2adnbpgw5apo3z4iishhbdx77gldnbk57d4zdio4"


class Shell:
    """Runs lines of sh in which `ipvcs` is ours, in a directory that holds a file and a tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "work" / "tree" / "sub").mkdir(parents=True)
        (path / "work" / "file").write_bytes(b"x" * 300_000)
        (path / "work" / "tree" / "sub" / "f").write_bytes(b"f")
        (path / "bin").mkdir()
        script = path / "bin" / "ipvcs"
        script.write_text(f"#!{sys.executable}\nfrom ipvcs.cli.script import main\nmain()\n")
        script.chmod(0o755)

    def add_to_script(self, statement: str) -> None:
        """Have our `ipvcs` run `statement` first."""
        script = self.path / "bin" / "ipvcs"
        first, rest = script.read_text().split("\n", 1)
        script.write_text(f"{first}\n{statement}\n{rest}")

    def run(self, line: str, **environ: str | None) -> tuple[int, str, str]:
        """Return exit status, output and errors of a line, which is no traceback."""
        env = {**environment(self.path / "home"), "PATH": f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        for name, value in environ.items():
            env.pop(name, None)
            if value is not None:
                env[name] = value
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.path / "work", env=env, capture_output=True, timeout=60, check=False
        )
        errors = done.stderr.decode("utf-8", "surrogateescape")
        assert "Traceback" not in errors, errors
        assert "Exception ignored" not in errors, errors
        return done.returncode, done.stdout.decode("utf-8", "surrogateescape"), errors


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def root(shell: Shell) -> str:
    code, out, _ = shell.run("ipvcs put -rQ tree && ipvcs put -Q file")
    assert code == 0
    return out.split()[0]


@pytest.mark.parametrize(
    "line",
    [
        "ipvcs version >&-",
        "ipvcs put file >&-",
        "ipvcs put file 2>&-",
        "ipvcs put file <&- >&- 2>&-",
        "ipvcs put -r tree >&- && ipvcs repo verify",
        "ipvcs put - <&-",
        "ipvcs block put <&-",
        "ipvcs cid format <&-",
    ],
)
def test_streams_that_are_closed_lead_nowhere(shell: Shell, line: str) -> None:
    assert shell.run(line)[0] == 0


def test_a_key_that_nobody_would_get_is_not_exported(shell: Shell) -> None:
    code, out, errors = shell.run("ipvcs key export -o - self >&-")
    assert (code, out, errors) == (128, "", "error: cannot write to standard output: Bad file descriptor\n")
    assert shell.run("ipvcs id >/dev/null && ipvcs key export -o - self >/dev/null")[0] == 0


def test_an_error_does_not_go_to_standard_output_when_standard_error_is_closed(shell: Shell) -> None:
    assert shell.run("ipvcs cat nope 2>&-") == (129, "", "")


def test_closed_streams_do_no_harm_to_the_home(shell: Shell, root: str) -> None:
    """Without care the index would get descriptor 1 or 2, and output would be written into it."""
    for stream in ("2>&-", "<&- >&- 2>&-"):
        shell.run(f"ipvcs refs -r {root} {stream}; ipvcs cat {MISSING} {stream}; ipvcs put -r tree {stream}")
    assert shell.run("ipvcs repo verify && ipvcs pin verify")[0] == 0


@pytest.mark.parametrize("command", ["version", "ls {root}", "refs local", "dag export {root}", "block get {root}"])
def test_an_output_that_is_full_is_an_error(shell: Shell, root: str, command: str) -> None:
    code, _, errors = shell.run(f"ipvcs {command.format(root=root)} >/dev/full")
    assert (code, errors) == (128, "error: cannot write to standard output: No space left on device\n")


def test_a_standard_error_that_is_full_changes_no_exit_status(shell: Shell) -> None:
    assert shell.run("ipvcs cat nope 2>/dev/full")[0] == 129
    assert shell.run("ipvcs frobnicate 2>/dev/full")[0] == 129


@pytest.mark.parametrize("command", ["refs -r {root}", "dag export {root}", "put -r tree", "put --help", "--help"])
def test_a_reader_that_has_gone_ends_a_command_without_a_word(shell: Shell, root: str, command: str) -> None:
    line = f"{{ sleep 0.3; ipvcs {command.format(root=root)}; echo $? >&2; }} | true"
    assert shell.run(line)[2] == "141\n"


def test_a_reader_that_goes_while_files_are_stored_is_no_trouble_with_the_files(shell: Shell) -> None:
    """Lines are printed while the tree is read, whenever the store has flushed; here that is for every block."""
    many = shell.path / "work" / "many"
    many.mkdir()
    for number in range(500):
        (many / f"{number:0250}").write_text(f"{number}")
    shell.add_to_script("import ipvcs.storage.session as s; s.WRITE_SIZE = s.FLUSH_COUNT = 1")
    assert shell.run("{ ipvcs put -r many; echo $? >&2; } | true")[2] == "141\n"


@pytest.mark.parametrize(
    "line",
    ["ipvcs put -r .", "ipvcs put ../gone", "ipvcs --home home repo stat", f"ipvcs get {MISSING}", "ipvcs put x"],
)
def test_a_working_directory_that_is_gone_is_an_error(shell: Shell, line: str) -> None:
    code, _, errors = shell.run(f"mkdir gone && cd gone && rmdir ../gone && {line}")
    assert code == 128
    assert errors.startswith("error: ")
    assert "'" in errors


def test_without_a_working_directory_whole_paths_go_on_working(shell: Shell) -> None:
    assert shell.run(f"mkdir gone && cd gone && rmdir ../gone && ipvcs put -rQ {shell.path / 'work' / 'tree'}")[0] == 0


def test_a_user_without_a_home_directory_is_told_what_to_do(shell: Shell) -> None:
    """Python asks the user database when HOME is not set; here nobody is in it."""
    shell.add_to_script("import pwd; pwd.getpwuid = lambda uid: {}[uid]")
    for words, expected in (("repo stat", 129), ("version", 0), ("cid bases", 0)):
        code, _, errors = shell.run(f"ipvcs {words}", HOME=None, IPVCS_PATH=None, XDG_DATA_HOME=None)
        assert code == expected, errors
        if expected:
            assert "cannot find the user's home directory\nhint: set HOME or IPVCS_PATH" in errors


@pytest.mark.parametrize(
    ("home", "code"),
    [
        ("''", 129),
        ("file", 128),
        ("file/below", 128),
        ("/dev/null", 128),
        ("/proc/nope", 128),
        ("'~nobody-at-all/x'", 129),
    ],
)
def test_a_home_that_can_not_be_is_an_error(shell: Shell, home: str, code: int) -> None:
    found, _, errors = shell.run(f"ipvcs --home {home} repo stat")
    assert found == code
    assert errors.startswith("error: ")


def test_a_home_may_be_written_with_a_slash_or_in_any_bytes(shell: Shell) -> None:
    for home in ("new/", "./new/.", "$(printf 'b\\377')", "'new line\n'"):
        assert shell.run(f"ipvcs --home {home} put -Q file && ipvcs --home {home} repo verify")[0] == 0


def test_arguments_that_are_not_utf_8_are_errors_or_names(shell: Shell, root: str) -> None:
    bad = "$(printf '\\377')"
    for line, code in (
        (f"ipvcs cat {bad}", 129),
        (f"ipvcs {bad}", 129),
        (f"ipvcs put {bad}", 128),
        (f"ipvcs cat {root}/{bad}", 128),
        (f"ipvcs config Import.Profile {bad}", 129),
        ("ipvcs config Import.Profile --json '\"\\ud800\"'", 129),
        (f"ipvcs config {bad} {bad}", 129),
        (f"ipvcs put --profile {bad} file", 129),
        (f"ipvcs put --pin-name {bad} file", 0),
        (f"ipvcs pin ls --name {bad}", 0),
        (f"ipvcs block put --cid-codec {bad} file", 129),
        (f"ipvcs cid format -f {bad} {root}", 0),
        (f"ipvcs get -o {bad} {root}", 0),
        (f"ipvcs refs --format {bad}'<dst>' {root}", 0),
    ):
        assert shell.run(line)[0] == code, line


def test_hostile_names_do_not_reach_the_terminal_in_errors(shell: Shell) -> None:
    _, _, errors = shell.run("ipvcs put \"$(printf 'a\\033[31m\\nhint: run rm')\"")
    assert errors.splitlines()[0] == "error: cannot use 'a\\x1b[31m\\nhint: run rm': No such file or directory"


@pytest.mark.parametrize("extra", ["--json", ""])
def test_names_with_newlines_are_raw_in_lines_and_right_in_json(shell: Shell, extra: str) -> None:
    (shell.path / "work" / "odd").mkdir()
    (shell.path / "work" / "odd" / 'a\nb"\\').write_bytes(b"")
    code, out, _ = shell.run(f"ipvcs put -rn {extra} odd")
    assert code == 0
    if extra:
        assert [json.loads(line)["Name"] for line in out.splitlines()] == ['odd/a\nb"\\', "odd"]
    else:
        assert 'odd/a\nb"\\\n' in out
