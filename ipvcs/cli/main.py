"""The `ipvcs` command: finds the subcommand, imports only that, and reports what went wrong.

Every error that a user can meet ends here, as `error: …` and `hint: …` on stderr and an exit code: 0, 1 for a negative
answer, 128 for a failure, 129 for wrong usage, as git does.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NoReturn

import click

from ipvcs.cli.app import App
from ipvcs.cli.signals import TerminatedError, ending_signals
from ipvcs.cli.ui import ReaderGoneError, Ui, output_errors, printable
from ipvcs.errors import IpvcsError

_COMMANDS: Final[dict[str, str]] = {
    "access": "Let other nodes push here, and see what they did",
    "bitswap": "What was exchanged with peers, and what is wanted",
    "block": "Read and write single blocks",
    "bootstrap": "The peers by which the daemon joins the network",
    "cat": "Print a file",
    "cid": "Convert and describe CIDs",
    "config": "Read and change settings",
    "daemon": "Keep the node up",
    "dag": "Read and write nodes of any codec; import and export CARs",
    "get": "Write a file or directory to the disk",
    "id": "Print who a node is",
    "key": "Make and look after keys",
    "log": "Show the history of a commit or a published repository",
    "ls": "List a directory",
    "name": "Publish and resolve names",
    "object": "Read and write objects in the white paper's form",
    "pin": "Keep objects from garbage collection",
    "ping": "Measure round trips to a peer",
    "put": "Store files and directories",
    "refs": "List the links of an object",
    "repo": "Look after the home: size, garbage, damage",
    "routing": "Find peers, providers and values; announce",
    "shutdown": "End the daemon",
    "stats": "The routing tables, and what was announced",
    "swarm": "Look at and change connections to peers",
    "version": "Print the version",
}
"""Each command is in the module of its name, as a click command of its name; the text is for `ipvcs --help`, which
need not import them all."""


class _LazyGroup(click.Group):
    """Imports a subcommand when it is run, so that `ipvcs version` does not wait for all the others."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"ipvcs.cli.{cmd_name}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--home", metavar="DIR", help="The home to use.  [default: $IPVCS_PATH, else the user's data directory]")
@click.pass_context
def cli(ctx: click.Context, home: str | None) -> None:
    """Version control on IPFS."""
    ctx.obj = App(home, os.environ)
    ctx.call_on_close(ctx.obj.close)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit status."""

    def invoke() -> int:
        # Not click's own `main`, which turns a broken pipe into an exit status of 1.
        with cli.make_context("ipvcs", list(args)) as context:
            status = cli.invoke(context)
        return status if isinstance(status, int) else 0

    return guarded(invoke)


def guarded(action: Callable[[], int]) -> int:
    """Do `action` and return its exit status, or that of what it raised, which is reported."""
    try:
        status = action()
        with output_errors():
            sys.stdout.flush()
    except (ReaderGoneError, BrokenPipeError):  # the latter from click's help
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer
        return ReaderGoneError.exit_code
    except BaseException as error:
        return _report_signal(error) or report(error)
    return status


def report(error: BaseException) -> int:
    """Print every expected error in `error` with its hint; return the exit status. Re-raise a bug."""
    worst = 0
    for leaf in _iterate_leaves(error):
        if isinstance(leaf, click.exceptions.Exit):
            worst = max(worst, leaf.exit_code)
        elif isinstance(leaf, IpvcsError):
            _print_error(str(leaf), leaf.hint)
            worst = max(worst, leaf.exit_code)
        elif isinstance(leaf, click.exceptions.NoArgsIsHelpError):
            with suppress(OSError):
                print(leaf.format_message(), file=sys.stderr)
            worst = max(worst, 129)
        elif isinstance(leaf, click.UsageError):
            _print_error(_lower_first(leaf.format_message()), f"see `{_command_path(leaf)} --help`")
            worst = max(worst, 129)
        elif isinstance(leaf, click.ClickException):
            _print_error(_lower_first(leaf.format_message()), None)
            worst = max(worst, 128)
        elif isinstance(leaf, OSError) and leaf.errno is not None:
            subject = f"'{os.fsdecode(leaf.filename)}': " if isinstance(leaf.filename, (str, bytes)) else ""
            _print_error(f"{subject}{leaf.strerror}", None)
            worst = max(worst, 128)
        else:
            raise error
    return worst


def _report_signal(error: BaseException) -> int:
    """Say that a signal ended the command, and return the exit status; 0 if `error` is something else."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__  # up to Python 3.11, what is raised while a class is being made gets wrapped
    if isinstance(error, TerminatedError):
        _print_error(str(error), None)
        return error.status
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        _print_error("interrupted", None)
        return 130
    return 0


def _iterate_leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _iterate_leaves(member)
    else:
        yield error


def _print_error(message: str, hint: str | None) -> None:
    with suppress(OSError):  # that nobody can be told changes nothing about what happened
        print(f"error: {printable(message)}", file=sys.stderr)
        if hint:
            dim, plain = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
            print(f"{dim}hint: {printable(hint)}{plain}", file=sys.stderr)


def _lower_first(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]


def _command_path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "ipvcs"


def _open_closed_streams() -> None:
    """Make standard streams that were closed lead to /dev/null, as git does: else the next file opened would be one."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            Ui.stdout_was_closed |= name == "stdout"
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w"))  # noqa: SIM115, PTH123 - stays open


def main() -> NoReturn:
    """Run the process's command line, and exit."""
    exit_after(lambda: run(sys.argv[1:]))


def exit_after(action: Callable[[], int]) -> NoReturn:
    """Do what the process is there for, which reports its errors itself, and exit with the status that it returns."""
    _open_closed_streams()
    try:
        with ending_signals():
            status = action()
    except TerminatedError as error:  # when it was about to end anyway
        status = error.status
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
