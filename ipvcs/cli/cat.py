"""`ipvcs cat`: print files."""

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Number, fetch_options
from ipvcs.cli.paths import resolve_cid


@click.command("cat", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("-o", "--offset", type=Number(0), default=0, metavar="N", help="Skip the first N bytes.")
@click.option("-l", "--length", type=Number(0), metavar="N", help="Print at most N bytes.")
@fetch_options
@click.pass_obj
def cat_command(app: App, paths: tuple[str, ...], offset: int, length: int | None) -> None:
    """Print the files at PATH, one after the other; --offset and --length count through all of them."""
    from ipvcs.objects.file_reader import file_size, iter_file

    blocks = app.blocks
    left = length
    for path in paths:
        cid = resolve_cid(app, path)
        size = file_size(blocks, cid)
        if not offset and length is None:
            blocks.expect(cid)
        if offset >= size:
            offset -= size
            continue
        end = None if left is None else offset + left
        for piece in iter_file(blocks, cid, offset, end):
            app.ui.raw(piece)
            if left is not None:
                left -= len(piece)
        offset = 0
