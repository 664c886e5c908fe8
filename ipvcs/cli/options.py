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


class Number(click.ParamType[int]):
    """A whole number within bounds, both included; unlike click's, help texts do not show them as `[0<=x<=1]`."""

    name = "number"

    def __init__(self, low: int, high: int | None = None) -> None:
        self._low = low
        self._high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that the text `value` writes."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"'{value}' is not a whole number", param, ctx)
        if number < self._low or (self._high is not None and number > self._high):
            bounds = f"at least {self._low}" if self._high is None else f"from {self._low} to {self._high}"
            self.fail(f"{number} is not {bounds}", param, ctx)
        return number


def progress_option(function: _F) -> _F:
    """Add `--progress/--no-progress`, which is done when it is parsed."""

    def choose(ctx: click.Context, _option: click.Parameter, value: bool | None) -> None:
        if value is not None:
            ctx.obj.ui.bars = value

    return click.option(
        "-p",
        "--progress/--no-progress",
        default=None,
        expose_value=False,
        callback=choose,
        help="Show a progress bar.  [default: if standard error is a terminal]",
    )(function)


class Duration(click.ParamType[float]):
    """A duration in Go's form, as "30s" or "1h15m"; the value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds that the text `value` writes; a number that was converted already stays."""
        from ipvcs.api.duration import DurationError, parse_duration

        if isinstance(value, float):
            return value
        try:
            return parse_duration(value) / 1e9
        except DurationError as exc:
            self.fail(f"{exc}; {exc.hint}", param, ctx)


def fetch_options(function: _F) -> _F:
    """Add `--offline` and `--timeout`, for commands that read blocks; they are done when they are parsed."""

    def stay_offline(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
        ctx.obj.offline = ctx.obj.offline or value

    def set_timeout(ctx: click.Context, _option: click.Parameter, value: float | None) -> None:
        if value is not None:
            ctx.obj.fetch_timeout = value

    offline = click.option(
        "--offline",
        is_flag=True,
        expose_value=False,
        callback=stay_offline,
        help="Fetch nothing: read what is in the home.",
    )
    timeout = click.option(
        "--timeout",
        type=Duration(),
        metavar="T",
        expose_value=False,
        callback=set_timeout,
        help="Give up when no block has come for T, as '30s'.  [default: 1m]",
    )
    return offline(timeout(function))


def json_option(function: _F) -> _F:
    """Add `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line.")(function)
