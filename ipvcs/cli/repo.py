"""`ipvcs repo`: look after the home."""

from typing import TYPE_CHECKING

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, json_option

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid


@click.group("repo", cls=Group)
def repo_command() -> None:
    """Look after the home: its size, garbage and damage."""


@repo_command.command("stat")
@click.option("-s", "--size-only", is_flag=True, help="Print sizes alone.")
@click.option("-H", "--human", is_flag=True, help="Print sizes in MiB and the like.")
@json_option
@click.pass_obj
def stat(app: App, size_only: bool, human: bool, as_json: bool) -> None:
    """Print how much the home holds. RepoSize is what it takes on the disk."""
    from ipvcs.storage.home import VERSION

    found = app.home.blocks.stat()
    if as_json:
        app.ui.json(
            {
                "NumObjects": found.blocks,
                "BlockSize": found.size,
                "RepoSize": found.disk,
                "RepoPath": str(app.home.path),
                "Version": str(VERSION),
            }
        )
        return
    rows = {"BlockSize": _size(found.size, human), "RepoSize": _size(found.disk, human)}
    if not size_only:
        rows = {"NumObjects": str(found.blocks), **rows, "RepoPath": str(app.home.path), "Version": str(VERSION)}
    for name, value in rows.items():
        app.ui.data(f"{name + ':':<12}{value}")


def _size(count: int, human: bool) -> str:
    if not human:
        return str(count)
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


@repo_command.command("gc")
@click.option("-q", "--quiet", is_flag=True, help="Print CIDs alone.")
@click.option("--silent", is_flag=True, help="Print nothing.")
@json_option
@click.pass_obj
def gc(app: App, quiet: bool, silent: bool, as_json: bool) -> None:
    """Delete every block that no pin reaches, and give the disk space back. Other commands may go on meanwhile."""
    from ipvcs.storage.gc import collect

    def show(cid: "Cid") -> None:
        if silent:
            return
        if as_json:
            app.ui.json({"Key": {"/": str(cid)}})
        else:
            app.ui.data(str(cid) if quiet else f"removed {cid}")

    report = collect(app.home, on_removed=show)
    if not (silent or quiet or as_json):
        app.ui.note(f"{report.removed} blocks removed, {report.kept} kept, {_size(report.freed, True)} freed")
    if report.damaged:
        app.ui.warn(f"{report.damaged} segments are damaged and were left as they are; see `ipvcs repo verify`")


@repo_command.command("ls")
@json_option
@click.pass_obj
def ls(app: App, as_json: bool) -> None:
    """List the CIDs of all blocks, as `refs local` does."""
    for cid in app.home.blocks.iter_cids():
        if as_json:
            app.ui.json({"Ref": str(cid), "Err": ""})
        else:
            app.ui.data(str(cid))


@repo_command.command("verify")
@json_option
@click.pass_obj
def verify(app: App, as_json: bool) -> int:
    """Read every block and check it against its CID; exit status 1 if one is damaged.

    A damaged block is mended by putting or importing it again.
    """
    from ipvcs.storage.verify import iter_damaged

    damaged = seen = 0
    with app.ui.progress("Verifying", app.home.blocks.stat().blocks, unit="blocks") as advance:

        def count(total: int) -> None:
            nonlocal seen
            advance(total - seen)
            seen = total

        for problem in iter_damaged(app.home.blocks, count):
            damaged += 1
            if as_json:
                app.ui.json({"Cid": str(problem.cid), "Err": problem.reason})
            else:
                app.ui.data(f"block {problem.cid} is damaged: {problem.reason}")
    if as_json:
        app.ui.json({"Blocks": seen, "Damaged": damaged})
    elif damaged:
        app.ui.note(f"{damaged} of {seen} blocks are damaged; put or import them again")
    else:
        app.ui.data(f"verify complete, all {seen} blocks validated")
    return 1 if damaged else 0


@repo_command.command("version")
@click.option("-q", "--quiet", is_flag=True, help="Print the number alone.")
@json_option
@click.pass_obj
def version(app: App, quiet: bool, as_json: bool) -> None:
    """Print the version of the home's layout."""
    from ipvcs.storage.home import VERSION

    found = (app.home.path / "version").read_text(encoding="ascii").strip()
    if as_json:
        app.ui.json({"Version": found, "Reads": str(VERSION)})
    else:
        app.ui.data(found if quiet else f"ipvcs repo version {found}")
