"""`ipvcs log`: show a history, without Git."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.daemon_log import daemon_log
from ipvcs.cli.options import Command, Number, fetch_options, json_option
from ipvcs.cli.ui import output_errors


class _LogCommand(Command):
    """Also has Kubo's `log level` and `log ls`, about the daemon's log: no path reads so."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] in daemon_log.commands:
            return daemon_log.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("log", cls=_LogCommand)
@click.argument("path")
@click.argument("revision", required=False)
@click.option("--oneline", is_flag=True, help="Print a line a commit: its abbreviated id and its subject.")
@click.option("-n", "--max-count", type=Number(0), metavar="N", help="Print at most N commits.")
@click.option("--first-parent", is_flag=True, help="Of a merge follow the first parent only.")
@click.option("--reverse", is_flag=True, help="Print the oldest commit first, of those that would be printed.")
@json_option
@fetch_options
@click.pass_obj
def log_command(
    app: App,
    path: str,
    revision: str | None,
    oneline: bool,
    max_count: int | None,
    first_parent: bool,
    reverse: bool,
    as_json: bool,
) -> None:
    """Show the history of PATH: a commit, a tag, or a repository that `git push` published.

    Of a repository, REVISION says where to begin: a branch or tag, a ref's full name, or the id of a commit, of which
    its first digits will do.  [default: HEAD]  The path of a snapshot, as /ipns/NAME/heads/main, stands for its ref.

    Commits come in the order of `git log`, and are fetched as they are needed. Each is proven to be what its id says.

    `ipvcs log level` and `ipvcs log ls` are about what the daemon logs; see their --help.
    """
    from ipvcs.cli.log_format import format_json, format_medium, format_oneline
    from ipvcs.cli.paths import locate
    from ipvcs.git_bridge.history_start import find_start
    from ipvcs.objects.git.commit_text import read_commit_text

    wanted = None if revision is None else revision.encode("utf-8", "surrogateescape")
    history, start = find_start(app.blocks, locate(app, path), wanted, lambda total: _watching(app, total))
    chosen = islice(history.iter_commits(start, first_parent=first_parent), max_count)
    for number, commit in enumerate(reversed(list(chosen)) if reverse else chosen):
        text = read_commit_text(history.body(commit))
        if as_json:
            app.ui.json(format_json(commit, text))
        elif oneline:
            app.ui.data(format_oneline(commit, text))
        else:
            app.ui.data(("\n" if number else "") + format_medium(commit, text))
        if sys.stdout.isatty():
            with output_errors():
                sys.stdout.flush()  # the next commit may have to be fetched


@contextmanager
def _watching(app: App, total: int) -> Iterator[Callable[[int], None]]:
    """Show one progress bar for all requests of `total` commits, instead of one for each."""
    with app.ui.progress("Fetching", total, unit="commits") as advance:
        shown, app.ui.bars = app.ui.bars, False
        try:
            yield advance
        finally:
            app.ui.bars = shown
