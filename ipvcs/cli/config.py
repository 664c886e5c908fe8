"""`ipvcs config`: read and change settings."""

import json
from typing import TYPE_CHECKING, Any

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Command, Group
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from ipvcs.storage.config import Config


class _ConfigGroup(Group):
    """`config KEY [VALUE]` beside the subcommands: a first word that is none of them is a key."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take Kubo's order of words, too: `config --json KEY VALUE`."""
        if args and args[0].partition("=")[0] in ("--json", "--bool"):
            args = ["value", *args]
        return super().parse_args(ctx, args)

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
    from ipvcs.cli.setting_checks import check_setting
    from ipvcs.storage.config import check_value

    config = app.home.config
    if value is None:
        found = config.get(key)
        app.ui.data(found if isinstance(found, str) else json.dumps(found, indent=2))
        return
    parsed: Any = value
    if as_json or as_bool:
        parsed = _parse(key, value)
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise UsageError(f"value of '{key}' is not text in UTF-8") from exc
    check_value(key, parsed)
    check_setting(config, key, parsed)
    config.set(key, parsed)


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

    _replace(app.home.config, file.read(), Path(file.name))


@config_command.command("edit", cls=Command)
@click.pass_obj
def edit(app: App) -> None:
    """Open the settings in $VISUAL or $EDITOR."""
    config = app.home.config
    before = config.path.read_text(encoding="utf-8")
    after = click.edit(before, extension=".json", require_save=True)
    if after is None:
        app.ui.note("config: not changed")
        return
    _replace(config, after.encode(), config.path)


def _replace(config: "Config", text: bytes, source: "Path") -> None:
    from ipvcs.cli.setting_checks import check_settings
    from ipvcs.storage.config import SETTINGS, Config, parse_config

    values = parse_config(text, source)
    check_settings(Config(source, values).get, list(SETTINGS))
    config.replace(values)


def _parse(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"value of '{key}' is not JSON: {exc}", hint="quote it for the shell: '[\"…\"]'") from exc
