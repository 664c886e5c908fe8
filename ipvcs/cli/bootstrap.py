"""`ipvcs bootstrap`: the peers by which the daemon joins the network. Edits the settings; needs no daemon."""

import click

from ipvcs.cli.app import App
from ipvcs.cli.options import Group, json_option


class _BootstrapGroup(Group):
    """`bootstrap` alone lists, as in Kubo."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args == ["--json"]:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("bootstrap", cls=_BootstrapGroup)
def bootstrap_command() -> None:
    """Look at and change the peers by which the daemon joins the network; a change counts from its next start.

    Without a subcommand: `list`.
    """


@bootstrap_command.command("list")
@json_option
@click.pass_obj
def list_(app: App, as_json: bool) -> None:
    """List the peers."""
    _print(app, app.config.get("Bootstrap"), "", as_json)


@bootstrap_command.command("add")
@click.argument("peers", nargs=-1, metavar="[ADDRESS…|default]")
@click.option("--default", "default_peers", is_flag=True, help="Add those of the public network, as `default` does.")
@json_option
@click.pass_obj
def add(app: App, peers: tuple[str, ...], default_peers: bool, as_json: bool) -> None:
    """Add each ADDRESS, a multiaddr that ends in /p2p/NODEID; `default` stands for those of the public network."""
    from ipvcs.storage.bootstrap import DEFAULT, add_bootstrap

    wanted = [*peers, *([DEFAULT] if default_peers else [])]
    if not wanted:
        raise click.UsageError("missing argument: an address, or `default`")
    _print(app, add_bootstrap(app.home.config, wanted), "added ", as_json)


@bootstrap_command.command("rm")
@click.argument("peers", nargs=-1, metavar="[ADDRESS…|all]")
@click.option("--all", "everything", is_flag=True, help="Remove all of them, as `all` does.")
@json_option
@click.pass_obj
def rm(app: App, peers: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Remove each ADDRESS; /p2p/NODEID stands for all of a peer's. Exit status 1 if there was nothing to remove."""
    from ipvcs.storage.bootstrap import clear_bootstrap, remove_bootstrap

    if everything or peers == ("all",):
        _print(app, clear_bootstrap(app.home.config), "removed ", as_json)
        return 0
    if not peers:
        raise click.UsageError("missing argument: an address, or `all`")
    removed = remove_bootstrap(app.home.config, peers)
    _print(app, removed, "removed ", as_json)
    return 0 if removed else 1


def _print(app: App, peers: list[str], word: str, as_json: bool) -> None:
    if as_json:
        app.ui.json({"Peers": peers})
        return
    for peer in peers:
        app.ui.data(f"{word}{peer}")
