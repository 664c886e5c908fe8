"""`ipvcs object`: objects in the white paper's form."""

import json
from typing import TYPE_CHECKING

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, fetch_options, json_option
from ipvcs.cli.paths import resolve_cid, text_of

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid
    from ipvcs.objects.dag_pb import PBNode


@click.group("object", cls=Group)
def object_command() -> None:
    """Read and write objects in the white paper's form: a type, links with name, hash and size, and data."""


@object_command.command("get")
@click.argument("path")
@json_option
@fetch_options
@click.pass_obj
def get(app: App, path: str, as_json: bool) -> None:
    """Print the object at PATH as JSON, indented for people, on one line with --json."""
    from ipvcs.objects.inline import read_block
    from ipvcs.objects.object_json import export_object

    cid = resolve_cid(app, path)
    document = export_object(cid, read_block(app.blocks, cid))
    if as_json:
        app.ui.json(document)
    else:
        app.ui.data(json.dumps(document, indent=2))


@object_command.command("put")
@click.argument("file", default="-")
@click.option("-q", "--quiet", is_flag=True, help="Print the CID alone.")
@click.option("--pin/--no-pin", default=False, help="Pin the object, with all that it links to.")
@json_option
@click.pass_obj
def put(app: App, file: str, quiet: bool, pin: bool, as_json: bool) -> None:
    """Store the object that the JSON in FILE (standard input by default) describes, as `object get` prints it."""
    from ipvcs.cli.block import read_input
    from ipvcs.cli.pin import pin_all
    from ipvcs.objects.json_fields import MAX_JSON, parse_json
    from ipvcs.objects.object_json import import_object

    block = import_object(parse_json(read_input(file, MAX_JSON)))
    with app.home.blocks.writing() as session:
        session.put(block)
        session.flush()
        if pin:
            pin_all(app, [block.cid])
    if as_json:
        app.ui.json({"Hash": str(block.cid)})
    else:
        app.ui.data(str(block.cid) if quiet else f"added {block.cid}")


@object_command.command("links")
@click.argument("path")
@click.option("-v", "--headers", is_flag=True, help="Print a line that names the columns.")
@json_option
@fetch_options
@click.pass_obj
def links(app: App, path: str, headers: bool, as_json: bool) -> None:
    """Print the links of the object at PATH: `<hash> <size> <name>`."""
    cid = resolve_cid(app, path)
    node, _size = _read_node(app, cid)
    if as_json:
        rows = [{"Name": text_of(link.name), "Hash": str(link.cid), "Size": link.size or 0} for link in node.links]
        app.ui.json({"Hash": str(cid), "Links": rows})
        return
    if headers:
        app.ui.data("Hash Size Name")
    for link in node.links:
        app.ui.data(f"{link.cid} {link.size or 0} {text_of(link.name)}".rstrip())


@object_command.command("stat")
@click.argument("path")
@json_option
@fetch_options
@click.pass_obj
def stat(app: App, path: str, as_json: bool) -> None:
    """Print the sizes of the object at PATH, in bytes. CumulativeSize adds what its links claim to lie below."""
    cid = resolve_cid(app, path)
    node, size = _read_node(app, cid)
    data_size = len(node.data or b"")
    rows = {
        "NumLinks": len(node.links),
        "BlockSize": size,
        "LinksSize": size - data_size,
        "DataSize": data_size,
        "CumulativeSize": size + sum(link.size or 0 for link in node.links),
    }
    if as_json:
        app.ui.json({"Hash": str(cid), **rows})
        return
    for name, value in rows.items():
        app.ui.data(f"{name}: {value}")


def _read_node(app: App, cid: "Cid") -> tuple["PBNode", int]:
    """Return the node (a raw block is a node of data alone) and the size of its block."""
    from ipvcs.multiformats import codecs
    from ipvcs.objects import dag_pb
    from ipvcs.objects.dag_pb import PBNode
    from ipvcs.objects.inline import read_block
    from ipvcs.objects.object import NotAnObjectError

    data = read_block(app.blocks, cid)
    if cid.codec == codecs.RAW:
        return PBNode((), data), len(data)
    if cid.codec != codecs.DAG_PB:
        raise NotAnObjectError(cid)
    return dag_pb.decode(data), len(data)
