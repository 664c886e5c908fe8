"""`ipvcs config`: read and change settings."""

import json
from typing import Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Group
from ipvcs.errors import UsageError


class _ConfigGroup(Group):
    """`config KEY [VALUE]` beside the subcommands: a first word that is none of them is a key."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            return "value", self.commands["value"], args
        return super().resolve_command(ctx, args)


@click.group("config", cls=_ConfigGroup, subcommand_metavar="KEY [VALUE] | show | replace FILE | edit")
def config_command() -> None:
    """Read and change settings.

    `config KEY` prints a setting, `config KEY VALUE` changes it: text as it is, anything else as JSON with --json or
    as a truth value with --bool.
    """


@config_command.command("value", hidden=True)
@click.argument("key")
@click.argument("value", required=False)
@click.option("--json", "as_json", is_flag=True, help="VALUE is JSON.")
@click.option("--bool", "as_bool", is_flag=True, help="VALUE is true or false.")
@click.pass_obj
def value_command(app: App, key: str, value: str | None, as_json: bool, as_bool: bool) -> None:
    """Print or change one setting."""
    config = app.home.config
    if value is None:
        found = config.get(key)
        app.ui.data(found if isinstance(found, str) else json.dumps(found, indent=2))
        return
    parsed: Any = value
    if as_json or as_bool:
        parsed = _parse(key, value)
    try:
        config.set(key, parsed)
    except UnicodeEncodeError as exc:
        raise UsageError(f"value of '{key}' is not text in UTF-8") from exc


@config_command.command("show")
@click.pass_obj
def show(app: App) -> None:
    """Print every setting with its value."""
    app.ui.data(json.dumps(app.home.config.show(), indent=2))


@config_command.command("replace")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def replace(app: App, file: Any) -> None:
    """Set all settings from FILE (`-`: standard input); what it lacks returns to its default."""
    from pathlib import Path

    from ipvcs.storage.config import parse_config

    app.home.config.replace(parse_config(file.read(), Path(file.name)))


@config_command.command("edit", cls=Command)
@click.pass_obj
def edit(app: App) -> None:
    """Open the settings in $VISUAL or $EDITOR."""
    from ipvcs.storage.config import parse_config

    config = app.home.config
    before = config.path.read_text(encoding="utf-8")
    after = click.edit(before, extension=".json", require_save=True)
    if after is None:
        app.ui.note("config: not changed")
        return
    config.replace(parse_config(after.encode(), config.path))


def _parse(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"value of '{key}' is not JSON: {exc}", hint="quote it for the shell: '[\"…\"]'") from exc
