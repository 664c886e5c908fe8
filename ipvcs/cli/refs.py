"""`ipvcs refs`: list links."""

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Number, fetch_options, json_option
from ipvcs.cli.paths import resolve_cid


@click.command("refs", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH… | local")
@click.option("-r", "--recursive", is_flag=True, help="Follow the links.")
@click.option("-u", "--unique", is_flag=True, help="List each CID once.")
@click.option("-e", "--edges", is_flag=True, help="Print `<src> -> <dst>`.")
@click.option("--format", "template", metavar="TEXT", help="Print TEXT with <src>, <dst> and <linkname> filled in.")
@click.option(
    "--max-depth", type=Number(-1), default=-1, metavar="N", help="Follow at most N links deep; -1 is no limit."
)
@json_option
@fetch_options
@click.pass_obj
def refs_command(
    app: App,
    paths: tuple[str, ...],
    recursive: bool,
    unique: bool,
    edges: bool,
    template: str | None,
    max_depth: int,
    as_json: bool,
) -> None:
    """List the CIDs that the objects at PATH link to; `refs local` lists every block in the home."""
    from ipvcs.errors import UsageError
    from ipvcs.objects.refs import EDGES_FORMAT, format_edge, iter_refs

    if edges and template:
        raise UsageError("--edges and --format exclude each other")
    if paths == ("local",):
        lines = (str(cid) for cid in app.home.blocks.iter_cids())
    else:
        shown = EDGES_FORMAT if edges else template or "<dst>"
        roots = [resolve_cid(app, path) for path in paths]
        if recursive and max_depth < 0:
            for root in roots:
                app.blocks.expect(root)
        lines = (
            format_edge(edge, shown)
            for root in roots
            for edge in iter_refs(app.blocks, root, recursive=recursive, unique=unique, max_depth=max_depth)
        )
    for line in lines:
        if as_json:
            app.ui.json({"Ref": line, "Err": ""})
        else:
            app.ui.data(line)
