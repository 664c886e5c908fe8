"""`ipvcs ls`: list directories."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, fetch_options, json_option
from ipvcs.cli.paths import resolve_cid, text_of

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid
    from ipvcs.objects.dag_pb import PBLink

_TYPES: Final = {"tree": 1, "blob": 2, "list": 2, "symlink": 4}
"""Kubo's numbers for what an entry is; 0 is unknown."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """`size` is the file's in bytes, None where there is none to tell."""

    cid: "Cid"
    name: str
    kind: str
    size: int | None
    target: str = ""


@click.command("ls", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("-v", "--headers", is_flag=True, help="Print a line that names the columns.")
@click.option("--resolve-type/--no-resolve-type", default=True, help="Read entries to tell files from directories.")
@click.option("--size/--no-size", default=True, help="Print the sizes of files.")
@json_option
@fetch_options
@click.pass_obj
def ls_command(app: App, paths: tuple[str, ...], headers: bool, resolve_type: bool, size: bool, as_json: bool) -> None:
    """List what is in the directories at PATH: `<cid> <size> <name>`, directories with a slash.

    Of a list of blocks its parts are listed, of a commit or tag its links: what it holds is at PATH/object. The
    exact Git trees that published repositories keep beside large directories are left out.
    """
    for position, path in enumerate(paths):
        cid = resolve_cid(app, path)
        entries = (_describe(app, link) if resolve_type else _bare(link) for link in _iter_links(app, cid))
        if as_json:
            app.ui.json({"Objects": [{"Hash": str(cid), "Links": [_json(entry) for entry in entries]}]})
            continue
        if len(paths) > 1:
            app.ui.data(f"{'' if position == 0 else chr(10)}{path}:")
        if headers:
            app.ui.data("Hash Size Name" if size else "Hash Name")
        for entry in entries:
            slash = "/" if entry.kind == "tree" else ""
            shown = f" {'-' if entry.size is None else entry.size}" if size else ""
            app.ui.data(f"{entry.cid}{shown} {entry.name}{slash}")


def _iter_links(app: App, cid: "Cid") -> Iterator["PBLink"]:
    """Yield the entries of a directory as they are read, else the links as they are."""
    from ipvcs.multiformats import codecs
    from ipvcs.objects import dag_pb
    from ipvcs.objects.codec_registry import links_of
    from ipvcs.objects.dag_pb import PBLink
    from ipvcs.objects.inline import read_block
    from ipvcs.objects.object import view
    from ipvcs.objects.tree import Tree
    from ipvcs.storage.export_walk import is_tree_payload

    blocks = app.blocks
    data = read_block(blocks, cid)
    if cid.codec != codecs.DAG_PB:
        for target in links_of(cid, data):
            yield PBLink(target, b"", None)
    elif isinstance(tree := view(cid, data), Tree):
        for link in tree.iter_entries(blocks):
            if not is_tree_payload(blocks, link):
                yield link
    else:
        yield from dag_pb.decode(data).links


def _describe(app: App, link: "PBLink") -> _Entry:
    from ipvcs.multiformats import codecs
    from ipvcs.objects.blob import Blob, BlobList
    from ipvcs.objects.inline import read_block
    from ipvcs.objects.object import type_name, view
    from ipvcs.objects.symlink import Symlink

    cid, name = link.cid, text_of(link.name)
    if cid.codec == codecs.RAW:
        return _Entry(cid, name, "blob", app.blocks.size(cid))
    if cid.codec != codecs.DAG_PB:
        return _Entry(cid, name, "node", None)
    obj = view(cid, read_block(app.blocks, cid))
    if isinstance(obj, Symlink):
        return _Entry(cid, name, "symlink", len(obj.target), text_of(obj.target))
    return _Entry(cid, name, type_name(obj), obj.size if isinstance(obj, Blob | BlobList) else None)


def _bare(link: "PBLink") -> _Entry:
    return _Entry(link.cid, text_of(link.name), "", link.size)


def _json(entry: _Entry) -> dict[str, Any]:
    return {
        "Name": entry.name,
        "Hash": str(entry.cid),
        "Size": entry.size or 0,
        "Type": _TYPES.get(entry.kind, 0),
        "Target": entry.target,
    }
