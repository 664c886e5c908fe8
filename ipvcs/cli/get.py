"""`ipvcs get`: write a file or directory to the disk, or into an archive."""

from pathlib import Path

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Number, fetch_options, progress_option
from ipvcs.cli.paths import locate


@click.command("get", cls=Command)
@click.argument("path")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write.  [default: the last name of PATH]",
)
@click.option("-a", "--archive", is_flag=True, help="Write a tar; `.tar` is added to the name if it is missing.")
@click.option(
    "-C", "--compress", is_flag=True, help="Compress the tar, or else a single file, with gzip; `.gz` is added."
)
@click.option(
    "-l", "--compression-level", type=Number(1, 9), metavar="N", help="From 1 (fast) to 9 (small).  [default: 6]"
)
@progress_option
@fetch_options
@click.pass_obj
def get_command(
    app: App, path: str, output: Path | None, archive: bool, compress: bool, compression_level: int | None
) -> None:
    """Write the file, directory or symlink at PATH to the disk; of a commit or tag, what it snapshots, no history.

    Nothing is overwritten. Stored modes and modification times are restored.
    """
    from ipvcs.objects.path import resolve
    from ipvcs.storage.archive_export import DEFAULT_LEVEL, export_archive, export_compressed
    from ipvcs.storage.disk_export import export_to
    from ipvcs.storage.export_walk import content_of

    level = (compression_level or DEFAULT_LEVEL) if compress else None
    parsed = locate(app, path)
    blocks = app.blocks
    cid = resolve(blocks, parsed).cid
    blocks.expect(content_of(blocks, cid))
    name = parsed.components[-1] if parsed.components else b""
    if name in (b"", b".", b".."):  # the last two are names like any other in a path, but not on a disk
        name = str(cid).encode()
    if output is None:
        output = Path(name.decode("utf-8", "surrogateescape"))
    with app.ui.progress("Writing") as advance:
        if archive:
            output = _with_suffix(output, ".tar", ".tar.gz")
            output = output if level is None else _with_suffix(output, ".gz")
            export_archive(blocks, cid, name, output, compress_level=level, on_bytes=advance)
        elif level is not None:
            output = _with_suffix(output, ".gz")
            export_compressed(blocks, cid, output, compress_level=level, on_bytes=advance)
        else:
            export_to(blocks, cid, output, on_bytes=advance)
    app.ui.note(f"Saved '{path}' to '{output}'")


def _with_suffix(path: Path, suffix: str, *others: str) -> Path:
    """Return `path`, with `suffix` added unless its name ends with that or one of `others`."""
    return path if path.name.endswith((suffix, *others)) else Path(f"{path}{suffix}")
