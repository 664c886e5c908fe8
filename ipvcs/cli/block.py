"""`ipvcs block`: single blocks."""

import sys
from pathlib import Path

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, Number, fetch_options, json_option
from ipvcs.cli.paths import resolve_cid
from ipvcs.errors import ConflictError, LimitError, NotFoundError


@click.group("block", cls=Group)
def block_command() -> None:
    """Read and write single blocks."""


@block_command.command("get")
@click.argument("path")
@fetch_options
@click.pass_obj
def get(app: App, path: str) -> None:
    """Print the bytes of the block at PATH."""
    from ipvcs.objects.inline import read_block

    app.ui.raw(read_block(app.blocks, resolve_cid(app, path)))


@block_command.command("put")
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option("--cid-codec", default="raw", metavar="NAME", help="Codec of the CID.  [default: raw]")
@click.option("--mhtype", default="sha2-256", metavar="NAME", help="Hash function.  [default: sha2-256]")
@click.option(
    "--cid-version", type=Number(0, 1), default=1, metavar="N", help="0 (for dag-pb and sha2-256) or 1.  [default: 1]"
)
@click.option("--pin/--no-pin", default=False, help="Pin the block, with all that it links to.")
@click.option("--allow-big-block", is_flag=True, help="Take blocks over 2 MiB.")
@json_option
@click.pass_obj
def put(
    app: App,
    files: tuple[str, ...],
    cid_codec: str,
    mhtype: str,
    cid_version: int,
    pin: bool,
    allow_big_block: bool,
    as_json: bool,
) -> None:
    """Store each FILE (standard input if none or `-`) as one block, and print its CID. Not pinned, it is garbage."""
    from ipvcs.cli.pin import pin_all
    from ipvcs.multiformats import codecs, multihash
    from ipvcs.objects.block import Block

    codec, function = codecs.code_of(cid_codec), multihash.code_of(mhtype)
    with app.home.blocks.writing() as session:
        stored: list[Block] = []
        for name in files or ("-",):
            block = Block.of(read_block_input(name, allow_big_block), codec, function, cid_version)
            session.put(block)
            stored.append(block)
        session.flush()
        if pin:
            pin_all(app, [block.cid for block in stored])
    for block in stored:
        if as_json:
            app.ui.json({"Key": str(block.cid), "Size": len(block.data)})
        else:
            app.ui.data(str(block.cid))


def read_block_input(name: str, allow_big_block: bool) -> bytes:
    """Return the bytes of a file, or of standard input for `-`, that are to be one block; no more than may be is read.

    Raises:
        LimitError: more than a block that every peer takes, or than any if that was allowed.
        DiskError: it can't be read.
    """
    from ipvcs.objects.block import MAX_BIG_BLOCK, MAX_BLOCK_SIZE

    limit = MAX_BIG_BLOCK if allow_big_block else MAX_BLOCK_SIZE
    data = read_input(name, limit)
    if len(data) > limit:
        way_out = "" if allow_big_block else "; `--allow-big-block` takes the block as it is"
        raise LimitError(
            f"block is over the limit of {limit} bytes", hint=f"`ipvcs put` stores files of any size{way_out}"
        )
    return data


def read_input(name: str, limit: int) -> bytes:
    """Return the bytes of a file, or of standard input for `-`: all, or the first `limit + 1`. Raises DiskError."""
    from ipvcs.storage.disk import disk_errors

    if name == "-":
        return sys.stdin.buffer.read(limit + 1)
    with disk_errors(Path(name)), Path(name).open("rb") as file:
        return file.read(limit + 1)


@block_command.command("stat")
@click.argument("path")
@json_option
@fetch_options
@click.pass_obj
def stat(app: App, path: str, as_json: bool) -> None:
    """Print the CID and size of the block at PATH."""
    cid = resolve_cid(app, path)
    size = app.blocks.size(cid)
    if as_json:
        app.ui.json({"Key": str(cid), "Size": size})
    else:
        app.ui.data(f"Key: {cid}\nSize: {size}")


@block_command.command("rm")
@click.argument("cids", nargs=-1, required=True, metavar="CID…")
@click.option("-f", "--force", is_flag=True, help="Blocks that are not there are no error.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing about what was removed.")
@json_option
@click.pass_obj
def rm(app: App, cids: tuple[str, ...], force: bool, quiet: bool, as_json: bool) -> int:
    """Remove blocks; exit status 1 if one was not removed.

    What a pin keeps, or a command that is running relies on, is not removed.
    """
    from ipvcs.cli.main import report
    from ipvcs.multiformats.cid import Cid
    from ipvcs.multiformats.typed import parse_typed
    from ipvcs.objects.block import BlockNotFoundError
    from ipvcs.storage.gc import NOT_FOUND, remove

    failed = False
    for cid, kept in remove(app.home, [parse_typed(Cid.parse, text) for text in cids]):
        error: ConflictError | NotFoundError | None = None
        if kept == NOT_FOUND:
            error = None if force else BlockNotFoundError(cid)
        elif kept:
            error = ConflictError(f"cannot remove '{cid}': {kept}", hint="see `ipvcs pin ls` and `ipvcs pin rm`")
        failed = failed or error is not None
        if as_json:
            app.ui.json({"Hash": str(cid), "Error": str(error or "")})
        elif error is not None:
            report(error)
        elif not quiet and kept != NOT_FOUND:
            app.ui.data(f"removed {cid}")
    return 1 if failed else 0
