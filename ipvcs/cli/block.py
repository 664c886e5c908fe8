"""`ipvcs block`: single blocks."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, json_option
from ipvcs.cli.paths import resolve_cid
from ipvcs.errors import ConflictError, LimitError, NotFoundError

if TYPE_CHECKING:
    from ipvcs.multiformats.cid import Cid
    from ipvcs.objects.block import Block


@click.group("block", cls=Group)
def block_command() -> None:
    """Read and write single blocks."""


@block_command.command("get")
@click.argument("path")
@click.pass_obj
def get(app: App, path: str) -> None:
    """Print the bytes of the block at PATH."""
    from ipvcs.objects.inline import read_block

    app.ui.raw(read_block(app.home.blocks, resolve_cid(app, path)))


@block_command.command("put")
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option("--cid-codec", default="raw", metavar="NAME", help="Codec of the CID  [default: raw]")
@click.option("--mhtype", default="sha2-256", metavar="NAME", help="Hash function  [default: sha2-256]")
@click.option("--cid-version", type=click.IntRange(0, 1), default=1, metavar="N", help="0 needs dag-pb and sha2-256.")
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
            block = Block.of(read_input(name), codec, function, cid_version)
            check_block_size(block, allow_big_block)
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


def check_block_size(block: "Block", allow_big_block: bool) -> None:
    """Raise LimitError for a block that not every peer takes, unless that was allowed."""
    from ipvcs.objects.block import MAX_BLOCK_SIZE

    if len(block.data) > MAX_BLOCK_SIZE and not allow_big_block:
        raise LimitError(
            f"block of {len(block.data)} bytes is over the limit of {MAX_BLOCK_SIZE}",
            hint="`ipvcs put` stores files of any size; `--allow-big-block` takes the block as it is",
        )


def read_input(name: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`. Raises DiskError."""
    from ipvcs.storage.disk import disk_errors

    if name == "-":
        return sys.stdin.buffer.read()
    with disk_errors(Path(name)):
        return Path(name).read_bytes()


@block_command.command("stat")
@click.argument("path")
@json_option
@click.pass_obj
def stat(app: App, path: str, as_json: bool) -> None:
    """Print the CID and size of the block at PATH."""
    cid = resolve_cid(app, path)
    size = app.home.blocks.size(cid)
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
    """Remove blocks, unless a pin keeps them; exit status 1 if one was not removed."""
    from ipvcs.cli.main import report
    from ipvcs.multiformats.cid import Cid
    from ipvcs.objects.block import BlockNotFoundError

    wanted = [Cid.parse(text) for text in cids]
    keepers = _keepers(app, wanted)
    failed = False
    for cid in wanted:
        error: ConflictError | NotFoundError | None = None
        if keeper := keepers.get(cid.multihash):
            error = ConflictError(f"cannot remove '{cid}': {keeper}", hint="see `ipvcs pin rm`")
        elif cid.is_identity or (not app.home.blocks.delete([cid]) and not force):
            error = BlockNotFoundError(cid)
        if error is None:
            if as_json:
                app.ui.json({"Hash": str(cid), "Error": ""})
            elif not quiet:
                app.ui.data(f"removed {cid}")
        elif as_json:
            failed = True
            app.ui.json({"Hash": str(cid), "Error": str(error)})
        else:
            failed = True
            report(error)
    return 1 if failed else 0


def _keepers(app: App, cids: list["Cid"]) -> dict[bytes, str]:
    """Return which of the blocks are pinned, by multihash, and how."""
    from ipvcs.storage.closure import iter_closure
    from ipvcs.storage.pins import PinMode

    wanted = {cid.multihash for cid in cids}
    kept: dict[bytes, str] = {}
    for pin in app.home.pins.iter_pins():
        if pin.cid.multihash in wanted:
            kept[pin.cid.multihash] = f"it is pinned ({pin.mode})"
        if pin.mode is PinMode.RECURSIVE:
            for cid in iter_closure(app.home.blocks, [pin.cid]):
                if cid.multihash in wanted:
                    kept.setdefault(cid.multihash, f"it is pinned through '{pin.cid}'")
    return kept
