"""`ipvcs access`: who else may push to what this node's name points at, and what they did. Needs no daemon."""

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, Number, json_option
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.multiformats.peer_id import PeerId
    from ipvcs.storage.access import AccessEntry, AccessList, Right


class OwnNodeError(UsageError):
    """The node whose access is to be changed is the home's own."""

    def __init__(self, peer: "PeerId") -> None:
        super().__init__(
            f"'{peer}' is this home's own node: it holds the key, and may do everything",
            hint="name another node, as `ipvcs id` prints it there",
        )
        self.peer = peer


class _Rights(click.ParamType["frozenset[Right]"]):
    """Names of rights, a comma between them, or `all`."""

    name = "rights"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "frozenset[Right]":
        """Return the rights that the text `value` names."""
        from ipvcs.storage.access import RightsError, parse_rights

        try:
            return parse_rights(value)
        except RightsError as exc:
            self.fail(f"{exc}; {exc.hint}", param, ctx)


@click.group("access", cls=Group)
def access_command() -> None:
    """Let other nodes push to repositories behind this node's name, and see what they did.

    Without access nobody can; reading is free to everybody.
    """


@access_command.command("add")
@click.argument("node", metavar="NODEID")
@click.argument("path", default="")
@click.option("--rights", type=_Rights(), metavar="RIGHT,…|all", help="What it may do.  [default: create,update,tag]")
@json_option
@click.pass_obj
def add(app: App, node: str, path: str, rights: "frozenset[Right] | None", as_json: bool) -> None:
    """Let another node push: NODEID to the repository at PATH behind this node's name, and to all below PATH.

    Without PATH: to everything behind the name. Rights add to those that were added before.

    The rights: `create` makes branches and, with the first, the repository; `update` moves branches forward; `force`
    lets branches and tags go elsewhere than forward; `delete` deletes them; `tag` makes tags and, with `force` or
    `delete`, changes or deletes them. Refs that are neither count as branches.
    """
    from ipvcs.storage.access import DEFAULT_RIGHTS, parse_repository_path

    peer, where = _parse_node(node), parse_repository_path(path)
    if peer == _own_id(app):
        raise OwnNodeError(peer)
    entry = _access_list(app).add(peer, where, DEFAULT_RIGHTS if rights is None else rights)
    if as_json:
        app.ui.json(_entry_json(entry))
    else:
        app.ui.data(f"added {_entry_line(entry)}")


@access_command.command("rm")
@click.argument("node", metavar="NODEID")
@click.argument("path", default="")
@click.option("--rights", type=_Rights(), metavar="RIGHT,…|all", help="Take these only.  [default: all]")
@json_option
@click.pass_obj
def rm(app: App, node: str, path: str, rights: "frozenset[Right] | None", as_json: bool) -> int:
    """Take rights away: from NODEID what was added for PATH or, without PATH, what was added without one.

    It counts at once, for pushes that are under way, too. Exit status 1 if there was nothing to take.
    """
    from ipvcs.cli.access_log import path_text
    from ipvcs.storage.access import parse_repository_path, show_repository_path, show_rights

    peer, where = _parse_node(node), parse_repository_path(path)
    access = _access_list(app)
    removed = access.remove(peer, where, rights)
    left = access.rights_of(peer, where)
    shown = show_repository_path(where)
    if as_json:
        app.ui.json({"Peer": str(peer), "Path": path_text(where), "Removed": removed, "Left": _names(left)})
    elif removed:
        app.ui.data(f"removed {peer} {'' if rights is None else show_rights(rights) + ' '}{shown}")
    else:
        app.ui.note(f"{'no' if rights is None else 'no such'} rights were added for '{peer}' at '{shown}'")
    if left:
        app.ui.note(f"'{peer}' still may {show_rights(left)} at '{shown}'; see `{app.command_line('access')} list`")
    return 0 if removed else 1


@access_command.command("list")
@json_option
@click.pass_obj
def list_(app: App, as_json: bool) -> None:
    """List who may push: NodeId, rights and path, in the order of the paths. Each counts for all below its path."""
    entries = _access_list(app).entries()
    if as_json:
        app.ui.json({"Entries": [_entry_json(entry) for entry in entries]})
        return
    for entry in entries:
        app.ui.data(_entry_line(entry))


@access_command.command("log")
@click.argument("path", default="")
@click.option("-n", "--max-count", type=Number(0), metavar="N", help="Print at most N pushes.")
@json_option
@click.pass_obj
def log(app: App, path: str, max_count: int | None, as_json: bool) -> None:
    """Show what others pushed, the newest first: all pushes, or those to the repository at PATH and to all below it.

    A line for each push: time, NodeId, path, and what became of it; below it, a line for each ref as `git push` prints
    them. --json tells all that is known, such as the pusher's address and the whole ids.
    """
    from ipvcs.cli.access_log import push_json, push_lines
    from ipvcs.storage.access import parse_repository_path
    from ipvcs.storage.push_log import PushLog

    where = parse_repository_path(path)
    pushes = (push for push in PushLog(app.home.datastore).iter_newest() if push.path[: len(where)] == where)
    for push in islice(pushes, max_count):
        if as_json:
            app.ui.json(push_json(push))
            continue
        for line in push_lines(push):
            app.ui.data(line)


def _access_list(app: App) -> "AccessList":
    from ipvcs.storage.access import AccessList

    return AccessList(app.home.datastore)


def _parse_node(text: str) -> "PeerId":
    from ipvcs.multiformats.peer_address import parse_peer

    return parse_peer(text)[0]


def _own_id(app: App) -> "PeerId | None":
    """Return the home's own NodeId, None while it has no key: none is made for this."""
    from ipvcs.node.identity.keystore import SELF, KeyNotFoundError

    try:
        return app.keystore.find(SELF).public_key.peer_id
    except KeyNotFoundError:
        return None


def _entry_line(entry: "AccessEntry") -> str:
    from ipvcs.storage.access import show_repository_path, show_rights

    return f"{entry.peer} {show_rights(entry.rights)} {show_repository_path(entry.path)}"


def _entry_json(entry: "AccessEntry") -> dict[str, Any]:
    from ipvcs.cli.access_log import path_text

    return {"Peer": str(entry.peer), "Path": path_text(entry.path), "Rights": _names(entry.rights)}


def _names(rights: "frozenset[Right]") -> list[str]:
    from ipvcs.storage.access import Right

    return [right.value for right in Right if right in rights]
