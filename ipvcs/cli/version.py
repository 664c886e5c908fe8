"""`ipvcs version`."""

import click

from ipvcs import __version__
from ipvcs.cli.app import App
from ipvcs.cli.options import Command, json_option


@click.command("version", cls=Command)
@click.option("-n", "--number", is_flag=True, help="Print the number alone.")
@click.option("--repo", is_flag=True, help="Print the version of the homes that it reads.")
@click.option("--all", "everything", is_flag=True, help="Also print the version of homes and the platform.")
@json_option
@click.pass_obj
def version_command(app: App, number: bool, repo: bool, everything: bool, as_json: bool) -> None:
    """Print the version."""
    if as_json:
        app.ui.json(_details())
    elif repo:
        app.ui.data(_details()["Repo"])
    elif number:
        app.ui.data(__version__)
    elif everything:
        for name, value in _details().items():
            app.ui.data(f"{name}: {value}")
    else:
        app.ui.data(f"ipvcs version {__version__}")


def _details() -> dict[str, str]:
    import platform

    from ipvcs.storage.home import VERSION

    return {
        "Version": __version__,
        "Repo": str(VERSION),
        "System": f"{platform.machine()}/{platform.system().lower()}",
        "Python": platform.python_version(),
    }
