"""`ipvcs pin`: keep objects from garbage collection."""

from typing import TYPE_CHECKING, Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, fetch_options, json_option
from ipvcs.cli.paths import resolve_cid
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid
    from ipvcs.storage.interface import BlockWriting

_MODE = click.option(
    "-r",
    "--recursive/--direct",
    default=True,
    help="Pin all that is reached, or only the object.  [default: recursive]",
)


@click.group("pin", cls=Group)
def pin_command() -> None:
    """Keep objects from garbage collection."""


@pin_command.command("add")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@_MODE
@click.option("-n", "--name", default="", help="A name for the pin.")
@json_option
@fetch_options
@click.pass_obj
def add(app: App, paths: tuple[str, ...], recursive: bool, name: str, as_json: bool) -> None:
    """Pin the objects at PATH with all that they link to; what the home lacks of it is fetched first."""
    roots = [resolve_cid(app, path) for path in paths]
    pin_all(app, roots, recursive=recursive, name=name)
    if as_json:
        app.ui.json({"Pins": [str(cid) for cid in roots]})
    else:
        for cid in roots:
            app.ui.data(f"pinned {cid} {'recursively' if recursive else 'directly'}")


def pin_all(app: App, roots: list["Cid"], *, recursive: bool = True, name: str = "") -> None:
    """Pin `roots`, after making sure that what the pins keep is there and stays meanwhile."""
    from ipvcs.storage.pins import Pin, PinMode

    check_name(name)
    mode = PinMode.RECURSIVE if recursive else PinMode.DIRECT
    with app.home.blocks.writing() as session:
        _bring(app, session, roots, recursive=recursive)
        app.home.pins.add(Pin(root, mode, name) for root in roots)


def _bring(app: App, session: "BlockWriting", roots: list["Cid"], *, recursive: bool) -> None:
    """Protect what pins of `roots` keep, and fetch it first if some of it is not there."""
    from ipvcs.cli.fetching import MissingLocallyError
    from ipvcs.objects.block import BlockNotFoundError
    from ipvcs.storage.closure import IncompleteError

    try:
        _rely_on(app, session, roots, recursive)
    except (BlockNotFoundError, IncompleteError) as exc:
        try:
            app.blocks.fetch_all(roots, recursive=recursive)
        except MissingLocallyError as why:
            exc.hint = why.hint
            raise exc from None
        # Now all of it is here, and the fetch stored it or relied on it after our lease began. Walking it again would
        # read it as a whole where leaves are not raw.


def _rely_on(app: App, session: "BlockWriting", roots: list["Cid"], recursive: bool) -> None:
    """Protect what the pins keep. Raises IncompleteError, BlockNotFoundError: something is not there."""
    from ipvcs.objects.block import BlockNotFoundError
    from ipvcs.storage.closure import rely_on_closures

    if not recursive:
        for missing in session.rely_on(roots):
            raise BlockNotFoundError(missing)
        return
    with app.ui.progress("Checking", unit="blocks") as advance:
        seen = 0

        def count(total: int) -> None:
            nonlocal seen
            advance(total - seen)
            seen = total

        rely_on_closures(session, roots, count)


def check_name(name: str) -> None:
    """Raise UsageError for a pin name that is too long."""
    from ipvcs.storage.pins import MAX_NAME

    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME:
        raise UsageError(f"pin name is longer than {MAX_NAME} bytes", hint="choose a shorter one")


@pin_command.command("rm")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("-r", "--recursive/--no-recursive", default=True, help="Remove recursive pins too.  [default: recursive]")
@json_option
@click.pass_obj
def rm(app: App, paths: tuple[str, ...], recursive: bool, as_json: bool) -> None:
    """Remove the pins of the objects at PATH: all of them or, if one is not pinned, none."""
    cids = [resolve_cid(app, path) for path in paths]
    with app.home.spare_space():  # on a full disk this is what makes room
        app.home.pins.remove(cids, recursive=recursive)
    if as_json:
        app.ui.json({"Pins": [str(cid) for cid in cids]})
    else:
        for cid in cids:
            app.ui.data(f"unpinned {cid}")


@pin_command.command("ls")
@click.argument("paths", nargs=-1, metavar="[PATH…]")
@click.option(
    "-t",
    "--type",
    "kind",
    type=click.Choice(["direct", "indirect", "recursive", "all"]),
    default="all",
    help="Which pins to list.  [default: all]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print CIDs alone.")
@click.option(
    "-n", "--name", "wanted", metavar="TEXT", help="List the pins alone whose names contain TEXT; implies --names."
)
@click.option("--names", is_flag=True, help="Print the pins' names too.")
@json_option
@click.pass_obj
def ls(
    app: App, paths: tuple[str, ...], kind: str, quiet: bool, wanted: str | None, names: bool, as_json: bool
) -> None:
    """List pins; with PATH, how those objects are pinned (exit status 1 if one is not).

    A block that a recursive pin reaches is pinned indirectly.
    """
    if paths:
        rows = _pins_of(app, [resolve_cid(app, path) for path in paths], kind)
    else:
        rows = _all_pins(app, kind)
    for cid, mode, name in rows:
        if wanted is not None and wanted not in name:
            continue
        if as_json:
            app.ui.json({"Cid": str(cid), "Type": mode, "Name": name})
        elif quiet:
            app.ui.data(str(cid))
        else:
            app.ui.data(f"{cid} {mode}" + (f" {name}" if name and (names or wanted) else ""))


def _all_pins(app: App, kind: str) -> list[tuple["Cid", str, str]]:
    from ipvcs.storage.closure import iter_closure
    from ipvcs.storage.pins import PinMode

    pins = list(app.home.pins.iter_pins())
    rows = [(pin.cid, str(pin.mode), pin.name) for pin in pins if kind in ("all", pin.mode)]
    if kind in ("all", "indirect"):
        own = {pin.cid.raw for pin in pins}
        roots = [pin.cid for pin in pins if pin.mode is PinMode.RECURSIVE]
        rows += [(cid, "indirect", "") for cid in iter_closure(app.home.blocks, roots) if cid.raw not in own]
    return rows


def _pins_of(app: App, cids: list["Cid"], kind: str) -> list[tuple["Cid", str, str]]:
    from ipvcs.storage.closure import iter_closure
    from ipvcs.storage.pins import NotPinnedError, PinMode

    rows: list[tuple[Cid, str, str]] = []
    for cid in cids:
        pin = app.home.pins.try_get(cid)
        if pin is not None and kind in ("all", pin.mode):
            rows.append((cid, str(pin.mode), pin.name))
            continue
        if kind not in ("all", "indirect"):
            raise NotPinnedError(cid)
        for root in app.home.pins.iter_pins():
            if root.mode is PinMode.RECURSIVE and any(
                found == cid for found in iter_closure(app.home.blocks, [root.cid])
            ):
                rows.append((cid, f"indirect through {root.cid}", root.name))
                break
        else:
            raise NotPinnedError(cid)
    return rows


@pin_command.command("update")
@click.argument("old")
@click.argument("new")
@click.option("--unpin/--no-unpin", default=True, help="Remove the old pin.  [default: unpin]")
@json_option
@fetch_options
@click.pass_obj
def update(app: App, old: str, new: str, unpin: bool, as_json: bool) -> None:
    """Pin NEW, fetched if need be, instead of OLD, a recursive pin, in one step; the name goes over."""
    from ipvcs.storage.pins import Pin, PinMode

    before, after = resolve_cid(app, old), resolve_cid(app, new)
    with app.home.blocks.writing() as session:
        _bring(app, session, [after], recursive=True)
        app.home.pins.update(before, Pin(after, PinMode.RECURSIVE), unpin=unpin)
    if as_json:
        app.ui.json({"Pins": [str(before), str(after)]})
    else:
        app.ui.data(f"updated {before} to {after}")


@pin_command.command("verify")
@click.option("-v", "--verbose", is_flag=True, help="Name the pins that are whole too.")
@click.option("-q", "--quiet", is_flag=True, help="Print the CIDs of broken pins alone.")
@json_option
@click.pass_obj
def verify(app: App, verbose: bool, quiet: bool, as_json: bool) -> int:
    """Check that every block that the pins keep is there and undamaged; exit status 1 if not."""
    from ipvcs.storage.closure import iter_problems
    from ipvcs.storage.pins import PinMode

    roots = [pin.cid for pin in app.home.pins.iter_pins() if pin.mode is PinMode.RECURSIVE]
    # All at once first, so that what they share is read once; only if something is wrong, each by itself.
    whole = not any(iter_problems(app.home.blocks, roots))
    broken = 0
    for root in roots:
        found = [] if whole else iter_problems(app.home.blocks, [root])
        problems = [(str(problem.cid), problem.reason) for problem in found]
        broken += bool(problems)
        _show_verified(app, str(root), problems, verbose=verbose, quiet=quiet, as_json=as_json)
    return 1 if broken else 0


def _show_verified(
    app: App, cid: str, problems: list[tuple[str, str]], *, verbose: bool, quiet: bool, as_json: bool
) -> None:
    if not problems:
        if as_json and verbose:
            app.ui.json({"Cid": cid, "Ok": True})
        elif verbose and not quiet:
            app.ui.data(f"{cid} ok")
        return
    if as_json:
        bad: list[dict[str, Any]] = [{"Cid": block, "Err": reason} for block, reason in problems]
        app.ui.json({"Cid": cid, "Ok": False, "BadNodes": bad})
        return
    app.ui.data(cid if quiet else f"{cid} broken")
    if not quiet:
        for block, reason in problems:
            app.ui.data(f"  {block}: {reason}")
