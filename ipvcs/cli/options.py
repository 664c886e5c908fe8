"""Options and argument forms that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


class Command(click.Command):
    """A command that also takes Kubo's way of writing switches: `--pin=false` for `--no-pin`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite `--switch=true|false` and parse."""
        switches = {
            name: option
            for option in self.params
            if isinstance(option, click.Option) and option.is_flag
            for name in option.opts
            if name.startswith("--")
        }
        rewritten: list[str] = []
        for position, arg in enumerate(args):
            if arg == "--":
                rewritten += args[position:]
                break
            name, equals, value = arg.partition("=")
            if equals and name in switches and value in ("true", "false"):
                if value == "true":
                    rewritten.append(name)
                elif switches[name].secondary_opts:
                    rewritten.append(switches[name].secondary_opts[0])
            else:
                rewritten.append(arg)
        return super().parse_args(ctx, rewritten)


class Group(click.Group):
    """A group whose commands are `Command`s."""

    command_class = Command


def json_option(function: _F) -> _F:
    """Add `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line.")(function)
