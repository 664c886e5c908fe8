"""`make demo`: what ipvcs does today, on real input, in half a minute, without a word to the world outside.

Every line that starts with `$` is the command that ran, typed as you would type it.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

_OUT = Console(highlight=False)
_LINES_SHOWN = 6


class Shell:
    """Runs `ipvcs` commands in one directory and shows them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._bin = Path(sys.executable).parent

    def run(self, command: str, *, home: str, show: bool = True, counts: bool = False) -> str:
        """Show `command`, run it with the home `home`, show the start of what it prints, and return all of it.

        `counts`: show, too, what came into the home.
        """
        before = self.content(home) if counts else (0, 0)
        _OUT.print(f"[bold green]$[/] [bold]{command}[/]", soft_wrap=True)
        environ = {**os.environ, "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}"}
        environ["IPVCS_PATH"] = str(self._directory / home)
        started = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", command], cwd=self._directory, env=environ, stdout=subprocess.PIPE, text=True, check=False
        )
        seconds = time.monotonic() - started
        if done.returncode:
            sys.exit(f"demo: `{command}` failed with status {done.returncode}")
        if show:
            _show(done.stdout.splitlines())
        blocks, size = (now - then for now, then in zip(self.content(home), before, strict=True)) if counts else (0, 0)
        came = f", {blocks} new blocks with {size / 1e6:.2f} MB for {home}" if counts else ""
        _OUT.print(f"[dim]  {seconds:.2f} s{came}[/]\n")
        return done.stdout

    def start(self, command: str, *, home: str) -> subprocess.Popen[str]:
        """Show `command` and start it."""
        _OUT.print(f"[bold green]$[/] [bold]{command} &[/]  [dim]# {home}[/]")
        environ = {**os.environ, "IPVCS_PATH": str(self._directory / home)}
        program, *words = command.split()
        return subprocess.Popen([self._bin / program, *words], env=environ, stdout=subprocess.PIPE, text=True)

    def content(self, home: str) -> tuple[int, int]:
        """Return how many blocks a home has, and their bytes, without showing the command."""
        environ = {**os.environ, "IPVCS_PATH": str(self._directory / home)}
        ipvcs = str(self._bin / "ipvcs")
        printed = subprocess.run(
            [ipvcs, "repo", "stat"], env=environ, capture_output=True, text=True, check=True
        ).stdout
        fields = dict(line.split(": ", 1) for line in printed.splitlines())
        return int(fields["NumObjects"]), int(fields["BlockSize"])


def _show(lines: list[str]) -> None:
    shown = lines if len(lines) <= _LINES_SHOWN + 1 else [*lines[:_LINES_SHOWN], f"… {len(lines) - _LINES_SHOWN} more"]
    for line in shown:
        _OUT.print(f"  [cyan]{line}[/]", soft_wrap=True)


def _say(text: str) -> None:
    _OUT.print(f"[bold yellow]{text}[/]", soft_wrap=True)


def _real_input(directory: Path) -> Path:
    """Copy the standard library of this Python: some thousand files that nobody made up for a demonstration."""
    source = Path(sysconfig.get_path("stdlib"))
    target = directory / "dataset"
    skipped = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages", "test", "*.so", "*.a")
    shutil.copytree(source, target, ignore=skipped, symlinks=True)
    return target


def _change(dataset: Path) -> None:
    """Insert a line in the middle of one large file, and add a small one."""
    largest = max((path for path in dataset.rglob("*.py") if path.is_file()), key=lambda path: path.stat().st_size)
    text = largest.read_bytes()
    middle = text.index(b"\n", len(text) // 2) + 1
    largest.chmod(0o644)
    largest.write_bytes(text[:middle] + b"# one more line\n" + text[middle:])
    (dataset / "NEW").write_text("a new file\n", encoding="ascii")
    _OUT.print(f"  [dim](one line added to {largest.relative_to(dataset)}, one file new)[/]\n")


def main() -> None:
    """Carry a directory from home to home, and then a Git repository from node to node."""
    with tempfile.TemporaryDirectory(prefix="ipvcs-demo-") as temporary:
        directory = Path(temporary)
        shell = Shell(directory)
        dataset = _real_input(directory)
        files = [path for path in dataset.rglob("*") if path.is_file() and not path.is_symlink()]
        total = sum(path.stat().st_size for path in files)

        _say(f"1. A directory with {len(files):,} files, {total / 1e6:.1f} MB, becomes a Merkle DAG")
        first = shell.run("ipvcs put -r --profile cdc-1 dataset", home="alice").split()[-2]
        blocks, size = shell.content("alice")

        _say("2. It is named by its content, and read by path")
        shell.run(f"ipvcs ls {first} | tail -5", home="alice")
        shell.run(f"ipvcs cat {first}/this.py | head -3", home="alice")

        _say("3. After a change, only the change is new")
        _change(dataset)
        second = shell.run("ipvcs put -rQ --profile cdc-1 dataset", home="alice").strip()
        all_blocks, all_bytes = shell.content("alice")
        _OUT.print(
            f"  [bold]{all_blocks - blocks} new blocks, {(all_bytes - size) / 1000:.1f} kB[/], "
            f"beside {blocks:,} blocks, "
            f"{size / 1e6:.1f} MB, that were there already\n"
        )

        _say("4. A CAR carries it to another home, where every block is checked")
        shell.run(f"ipvcs dag export {second} > dataset.car", home="alice")
        shell.run("ipvcs dag import --stats dataset.car", home="bob")
        shell.run(f"ipvcs get -o copy {shlex.quote(second)}", home="bob")
        shell.run("diff -r dataset copy && echo 'not a byte differs'", home="bob")

        _say("5. Let the first version go")
        shell.run(f"ipvcs pin rm {first}", home="alice")
        shell.run("ipvcs repo gc --quiet | wc -l", home="alice")
        shell.run("ipvcs repo verify", home="alice")

        with ExitStack() as daemons:
            _share_a_repository(shell, directory, daemons)


def _share_a_repository(shell: Shell, directory: Path, daemons: ExitStack) -> None:
    """Push the history of this project to a name and clone it by the name, through a node that has neither."""
    _say("6. Three nodes on this machine: Alice, Bob, and Carol, whom both know")
    carol = _start_daemon(shell, daemons, "carol", [])
    alice = _start_daemon(shell, daemons, "alice", [carol])
    _start_daemon(shell, daemons, "bob", [carol])
    name = alice.rpartition("/")[2]
    _make_repository(directory)

    _say("7. Alice pushes a repository to her own name; Bob, who knows the name alone, clones it")
    shell.run("cd project && git push -q ipfs::/ipns/self HEAD:refs/heads/main", home="alice", counts=True)
    shell.run(f"git clone -q ipfs::/ipns/{name} clone", home="bob", counts=True)
    shell.run("cd clone && git log --oneline | head -3 && git fsck && git rev-list --all --objects | wc -l", home="bob")

    _say("8. A commit, a tag and a branch travel alone; the branch goes again")
    commit = "echo 'one more line' >> README.md && git add README.md && git commit -q -m 'One more line'"
    shell.run(f"cd project && {commit} && git tag -a -m demo demo && git branch topic", home="alice")
    shell.run("cd project && git push -q ipfs::/ipns/self HEAD:refs/heads/main demo topic", home="alice", counts=True)
    shell.run(
        "cd clone && git pull -q --ff-only && git log --oneline -1 && git branch -r && git tag", home="bob", counts=True
    )
    shell.run("cd project && git push -q ipfs::/ipns/self :topic", home="alice", counts=True)
    shell.run(f"git ls-remote ipfs::/ipns/{name}", home="bob")

    _say("9. Who has no Git reads the files by their paths")
    shell.run(f"ipvcs ls /ipns/{name}/heads/main | head -3", home="bob")
    shell.run(f"ipvcs cat /ipns/{name}/heads/main/README.md | tail -1", home="bob", counts=True)


def _start_daemon(shell: Shell, daemons: ExitStack, home: str, bootstrap: list[str]) -> str:
    """Start the daemon of `home`, which joins by the addresses `bootstrap`; return its own address."""
    for setting, value in (("Addresses.Swarm", ["/ip4/127.0.0.1/tcp/0"]), ("Bootstrap", bootstrap)):
        shell.run(f"ipvcs config {setting} --json {shlex.quote(json.dumps(value))}", home=home, show=False)
    process = daemons.enter_context(shell.start("ipvcs daemon", home=home))
    daemons.callback(process.terminate)
    assert process.stdout is not None
    while "ready" not in (line := process.stdout.readline()):
        if not line:
            sys.exit(f"demo: the daemon of {home} did not start")
    address: str = json.loads(shell.run("ipvcs id --json", home=home, show=False))["Addresses"][0]
    return address


def _make_repository(directory: Path) -> None:
    """Clone this checkout with its history, or where there is no whole one, commit the dataset."""
    checkout = Path(__file__).parents[1]
    git = ("git", "-c", "user.name=Alice", "-c", "user.email=alice@example.com")
    project = directory / "project"
    if (checkout / ".git").exists() and not (checkout / ".git" / "shallow").exists():
        subprocess.run([*git, "clone", "-q", "--no-local", checkout, project], check=True)
    else:
        shutil.copytree(directory / "dataset", project, symlinks=True)
        (project / "README.md").write_text("The standard library of Python.\n", encoding="ascii")
        subprocess.run([*git, "-C", project, "init", "-q", "-b", "main"], check=True)
        subprocess.run([*git, "-C", project, "add", "."], check=True)
        subprocess.run([*git, "-C", project, "commit", "-q", "-m", "All of it"], check=True)
    for key, value in (("user.name", "Alice"), ("user.email", "alice@example.com")):
        subprocess.run(["git", "-C", project, "config", key, value], check=True)


if __name__ == "__main__":
    main()
