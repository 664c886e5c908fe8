"""What every command is handed: the home, opened when first asked for, and the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ipvcs.cli.ui import Ui
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.storage.config import Config
    from ipvcs.storage.home import Home


class App:
    """The context object of a command. `environ` is read here and nowhere below."""

    def __init__(self, home: str | None, environ: Mapping[str, str]) -> None:
        self._option = home
        self._environ = environ
        self.ui = Ui()
        self._home: Home | None = None

    @property
    def home_path(self) -> Path:
        """Where the home is or will be. Raises UsageError when nothing says where."""
        return _home_path(self._option, self._environ)

    @property
    def home(self) -> "Home":
        """The home, made if it is not there yet."""
        if self._home is None:
            from ipvcs.storage.home import open_home

            self._home = open_home(self.home_path)
        return self._home

    @property
    def config(self) -> "Config":
        """The home's settings as they are in the file, all defaults where there is no home yet; makes none."""
        from ipvcs.storage.config import Config

        return Config.load(self.home_path / "config")

    def close(self) -> None:
        """Close the home, if a command opened it."""
        if self._home is not None:
            self._home.close()
            self._home = None


def _home_path(option: str | None, environ: Mapping[str, str]) -> Path:
    if option == "":  # a variable that was not set, most likely: better no home than the wrong one
        raise UsageError("--home is empty", hint="name a directory, or leave the option out")
    try:
        if chosen := option or environ.get("IPVCS_PATH"):
            return Path(chosen).expanduser()
        data = environ.get("XDG_DATA_HOME")
        # The XDG specification: a relative XDG_DATA_HOME is ignored.
        base = Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError as exc:  # pathlib's, for `~` and for users that no user database knows
        raise UsageError("cannot find the user's home directory", hint="set HOME or IPVCS_PATH, or use --home") from exc
    return base / "ipvcs"
