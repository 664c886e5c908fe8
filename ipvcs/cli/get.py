"""`ipvcs get`: write a file or directory to the disk."""

from pathlib import Path

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command


@click.command("get", cls=Command)
@click.argument("path")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write  [default: the path's last name]")
@click.pass_obj
def get_command(app: App, path: str, output: Path | None) -> None:
    """Write the file, directory or symlink at PATH to the disk; of a commit, what it snapshots.

    Nothing is overwritten. Stored modes and modification times are restored.
    """
    from ipvcs.objects.path import parse_path, resolve
    from ipvcs.storage.disk_export import export_to

    parsed = parse_path(path)
    blocks = app.home.blocks
    found = resolve(blocks, parsed)
    if output is None:
        name = parsed.components[-1].decode("utf-8", "surrogateescape") if parsed.components else str(parsed.root)
        output = Path(name)
    with app.ui.progress("Writing") as advance:
        export_to(blocks, found.cid, output, on_bytes=advance)
    app.ui.note(f"Saved '{path}' to '{output}'")
