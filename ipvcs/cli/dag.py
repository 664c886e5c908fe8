"""`ipvcs dag`: nodes of any codec, and CARs."""

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, fetch_options, json_option, progress_option
from ipvcs.cli.paths import resolve, resolve_cid
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipvcs.multiformats.cid import Cid


@click.group("dag", cls=Group)
def dag_command() -> None:
    """Read and write nodes of any codec; import and export CARs."""


@dag_command.command("get")
@click.argument("path")
@click.option("--output-codec", default="dag-json", metavar="NAME", help="Codec to print in.  [default: dag-json]")
@fetch_options
@click.pass_obj
def get(app: App, path: str, output_codec: str) -> None:
    """Print the node, or the value inside a node, at PATH."""
    from ipvcs.multiformats import codecs
    from ipvcs.objects import codec_registry, dag_json
    from ipvcs.objects.inline import read_block

    codec = codecs.code_of(output_codec)
    found = resolve(app, path)
    if found.remainder:
        value = found.value
    else:
        value = codec_registry.decode(found.cid, read_block(app.blocks, found.cid))
    if codec == codecs.DAG_JSON:
        # Names that are not UTF-8 have no form in JSON: shown as Kubo shows them.
        app.ui.raw(dag_json.encode(value, errors="replace") + b"\n")
    else:
        app.ui.raw(codec_registry.encode(codec, value))


@dag_command.command("put")
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option("--input-codec", default="dag-json", metavar="NAME", help="Codec of the input.  [default: dag-json]")
@click.option("--store-codec", default="dag-cbor", metavar="NAME", help="Codec to store in.  [default: dag-cbor]")
@click.option("--hash", "hash_name", default="sha2-256", metavar="NAME", help="Hash function.  [default: sha2-256]")
@click.option("--pin/--no-pin", default=False, help="Pin the node, with all that it links to.")
@click.option("--allow-big-block", is_flag=True, help="Take nodes over 2 MiB.")
@json_option
@click.pass_obj
def put(
    app: App,
    files: tuple[str, ...],
    input_codec: str,
    store_codec: str,
    hash_name: str,
    pin: bool,
    allow_big_block: bool,
    as_json: bool,
) -> None:
    """Store the node in each FILE (standard input if none or `-`) and print its CID. Not pinned, it is garbage."""
    from ipvcs.cli.block import read_block_input
    from ipvcs.cli.pin import pin_all
    from ipvcs.multiformats import codecs, multihash
    from ipvcs.objects import codec_registry
    from ipvcs.objects.block import Block

    source, target, function = codecs.code_of(input_codec), codecs.code_of(store_codec), multihash.code_of(hash_name)
    cids: list[Cid] = []
    with app.home.blocks.writing() as session:
        for name in files or ("-",):
            # The codec decides how the input is read; of the CID it is given only that counts.
            value = codec_registry.decode(Block.of(b"", source).cid, read_block_input(name, allow_big_block))
            block = Block.of(codec_registry.encode(target, value), target, function)
            session.put(block)
            cids.append(block.cid)
        session.flush()
        if pin:
            pin_all(app, cids)
    for cid in cids:
        if as_json:
            app.ui.json({"Cid": {"/": str(cid)}})
        else:
            app.ui.data(str(cid))


@dag_command.command("resolve")
@click.argument("path")
@json_option
@fetch_options
@click.pass_obj
def resolve_(app: App, path: str, as_json: bool) -> None:
    """Print the CID that PATH leads to, and what of PATH goes on inside that block."""
    found = resolve(app, path)
    remainder = b"/".join(found.remainder).decode("utf-8", "surrogateescape")
    if as_json:
        app.ui.json({"Cid": {"/": str(found.cid)}, "RemPath": remainder})
    else:
        app.ui.data(f"{found.cid}/{remainder}" if remainder else str(found.cid))


@dag_command.command("stat")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@progress_option
@json_option
@fetch_options
@click.pass_obj
def stat(app: App, paths: tuple[str, ...], as_json: bool) -> None:
    """Print how many blocks, of how many bytes, each DAG at PATH has, and how much they share."""
    from ipvcs.storage.closure import iter_closure

    sizes: dict[bytes, int] = {}
    rows: list[tuple[Cid, int, int]] = []
    with app.ui.progress("Counting", unit="blocks") as advance:
        for root in [resolve_cid(app, path) for path in paths]:
            count = total = 0
            app.blocks.expect(root)
            for cid in iter_closure(app.blocks, [root]):
                size = sizes[cid.multihash] = app.blocks.size(cid)
                count += 1
                total += size
                advance(1)
            rows.append((root, count, total))
    unique = sum(sizes.values())
    redundant = sum(total for _cid, _count, total in rows)
    if as_json:
        dags = [{"Cid": {"/": str(cid)}, "Size": total, "NumBlocks": count} for cid, count, total in rows]
        app.ui.json(
            {
                "DagStats": dags,
                "TotalSize": unique,
                "UniqueBlocks": len(sizes),
                "SharedSize": redundant - unique,
                "Ratio": redundant / unique if unique else 1.0,
            }
        )
        return
    width = max(len(str(cid)) for cid, _count, _total in rows)
    app.ui.data(f"{'CID':<{width}}\t{'Blocks':<15}\tSize")
    for cid, count, total in rows:
        app.ui.data(f"{cid!s:<{width}}\t{count:<15}\t{total}")
    app.ui.data("\nSummary")
    app.ui.data(f"Total Size: {unique} ({human_size(unique)})")
    app.ui.data(f"Unique Blocks: {len(sizes)}")
    app.ui.data(f"Shared Size: {redundant - unique} ({human_size(redundant - unique)})")
    app.ui.data(f"Ratio: {redundant / unique if unique else 1.0:.6f}")


def human_size(count: int) -> str:
    """Return a size as Kubo's `dag stat` writes it: powers of 1000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


@dag_command.command("export")
@click.argument("path")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write, instead of standard output.",
)
@progress_option
@fetch_options
@click.pass_obj
def export(app: App, path: str, output: Path | None) -> None:
    """Write the DAG at PATH as a CARv1, to standard output or a file: depth first, each block once."""
    from ipvcs.objects.block import Block
    from ipvcs.objects.car_writer import write_car
    from ipvcs.objects.walk import walk
    from ipvcs.storage.disk import disk_errors, replacing

    root = resolve_cid(app, path)
    if output is None and sys.stdout.isatty():
        raise UsageError("a CAR is not for the terminal", hint="use `-o FILE`, or redirect standard output")
    app.blocks.expect(root)
    with app.ui.progress("Exporting") as advance:

        def blocks() -> "Iterator[Block]":
            for cid, data in walk(app.blocks, [root]):
                advance(len(data))
                yield Block(cid, data)

        if output is None:
            write_car([root], blocks(), app.ui.raw)
            return
        with disk_errors(output), replacing(output) as file:
            write_car([root], blocks(), file.write)


@dag_command.command("import")
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option("--pin-roots/--no-pin-roots", default=True, help="Pin the roots that the CARs name.  [default: pin]")
@click.option("--stats", is_flag=True, help="Print how many blocks and bytes there were.")
@click.option("--silent", is_flag=True, help="Print nothing.")
@click.option("--allow-big-block", is_flag=True, help="Take blocks over 2 MiB.")
@json_option
@click.pass_obj
def import_(
    app: App,
    files: tuple[str, ...],
    pin_roots: bool,
    stats: bool,
    silent: bool,
    allow_big_block: bool,
    as_json: bool,
) -> None:
    """Store the blocks of CARs (standard input if no FILE or `-`), version 1 or 2, and pin their roots.

    A damaged CAR is refused before anything of it is stored.
    """
    from contextlib import ExitStack

    from ipvcs.storage.car_import import import_cars, open_car

    with ExitStack() as stack:
        opened: list[IO[bytes]] = [
            sys.stdin.buffer if name == "-" else stack.enter_context(open_car(Path(name))) for name in files or ("-",)
        ]
        advance = stack.enter_context(app.ui.progress("Importing"))
        report = import_cars(app.home, opened, pin=pin_roots, allow_big_block=allow_big_block, on_bytes=advance)
    if silent:
        return
    for root in report.roots if pin_roots else []:
        if as_json:
            app.ui.json({"Root": {"Cid": {"/": str(root)}, "PinErrorMsg": ""}})
        else:
            app.ui.data(f"Pinned root\t{root}\tsuccess")
    if as_json and stats:
        app.ui.json({"Stats": {"BlockCount": report.blocks, "BlockBytesCount": report.size}})
    elif stats:
        app.ui.data(f"Imported {report.blocks} blocks ({report.size} bytes)")
