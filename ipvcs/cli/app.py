"""What every command is handed: the home, opened when first asked for, and the terminal."""

import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipvcs.cli.ui import Ui
from ipvcs.errors import UsageError

if TYPE_CHECKING:
    from ipvcs.cli.fetching import FetchingBlocks
    from ipvcs.client.client import Client
    from ipvcs.multiformats.cid import Cid
    from ipvcs.node.identity.keystore import Keystore
    from ipvcs.storage.config import Config
    from ipvcs.storage.home import Home


_KEYS_HINT: Final = "set IPVCS_PASSPHRASE, or IPVCS_PASSPHRASE_FILE to the name of a file with it"


class App:
    """The context object of a command. `environ` is read here and nowhere below."""

    def __init__(self, home: str | None, environ: Mapping[str, str]) -> None:
        self._option = home
        self._environ = environ
        self.ui = Ui()
        self._home: Home | None = None
        self._keystore: Keystore | None = None
        self._passphrase: bytes | None = None
        self._client: Client | None = None
        self._blocks: FetchingBlocks | None = None
        self.offline = False
        """Whether blocks that the home lacks are not fetched (`--offline`)."""
        self.fetch_timeout: float | None = None
        """Seconds to wait for a block (`--timeout`); None: as long as the node does."""
        self._at_end = ExitStack()

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment, for the command line's own files."""
        return self._environ

    @property
    def log_levels(self) -> str:
        """What to log, as `ipvcs.api.logs.configure` takes it."""
        return self._environ.get("IPVCS_LOG") or "warning"

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

    def client(self, *, start: bool = True, loopback_only: bool = False) -> "Client":
        """Return a client of the home's node. With `start` it is started, or within this command, if need be.

        Raises:
            DaemonNotRunningError: no daemon runs, and none was to be started.
            AutostartError, DaemonRunningError, NodeWithinRefusedError: it could not be started; they say why.
        """
        from ipvcs.cli.daemon_client import node_client, running_client

        if not start:
            return self._client or running_client(self)
        if self._client is None:
            self._client = node_client(self, loopback_only=loopback_only)
        return self._client

    def use_client(self, client: "Client") -> None:
        """Have the node asked by `client`, which was found already."""
        self._client = client

    @property
    def blocks(self) -> "FetchingBlocks":
        """The home's blocks to read from; what is missing is fetched if there is a node that may find it."""
        if self._blocks is None:
            from ipvcs.cli.fetching import FetchingBlocks

            self._blocks = FetchingBlocks(self.home, self._fetching_client, self.ui, timeout=self.fetch_timeout)
            self.at_end(self._blocks.close)
        return self._blocks

    def _fetching_client(self, cid: "Cid") -> "Client":
        from ipvcs.cli.fetching import MissingLocallyError
        from ipvcs.client.socket_path import DaemonNotRunningError

        if self.offline:
            raise MissingLocallyError(cid, "nobody is asked with --offline")
        try:
            return self.client(start=False)
        except DaemonNotRunningError as exc:
            if not self.home.config.get("Bootstrap"):  # a daemon that knows nobody would find nothing
                reason = f"no daemon runs that could fetch it: `{self.command_line('daemon')}` starts one"
                raise MissingLocallyError(cid, reason) from exc
        return self.client()

    def at_end(self, action: Callable[[], object]) -> None:
        """Have `action` run when the command ends, before the home is closed."""
        self._at_end.callback(action)

    def command_line(self, command: str) -> str:
        """Return the command line of `command` for this home, as its user would type it."""
        return shlex.join(["ipvcs", *(["--home", self._option] if self._option else []), command])

    @property
    def keystore(self) -> "Keystore":
        """The home's keys."""
        if self._keystore is None:
            from ipvcs.node.identity.keystore import Keystore

            self._keystore = Keystore(self.home.path / "keystore", self.passphrase, self.configured_passphrase)
        return self._keystore

    def passphrase(self) -> bytes:
        """The passphrase of the home's keys, asked for at the terminal if it is not configured.

        Raises NoTerminalError, UsageError: nobody can be asked, or the file named by the environment has none.
        """
        from ipvcs.cli.passphrase import ask_passphrase

        given = self.configured_passphrase() or ask_passphrase(f"the keys of '{self.home_path}'", hint=_KEYS_HINT)
        self._passphrase = given
        return given

    @property
    def unattended_keystore(self) -> "Keystore":
        """The home's keys for a node, which asks nobody: it has the passphrase that was configured or given before."""
        from ipvcs.node.identity.keystore import Keystore

        def passphrase() -> bytes:
            given = self._passphrase or self.configured_passphrase()
            if given is None:
                raise UsageError("the keys of this home have a passphrase that the node was not given", hint=_KEYS_HINT)
            return given

        return Keystore(self.home.path / "keystore", passphrase, self.configured_passphrase)

    def configured_passphrase(self) -> bytes | None:
        """The passphrase that the environment has or names a file with; None if it does neither."""
        from ipvcs.cli.passphrase import read_passphrase

        if text := self._environ.get("IPVCS_PASSPHRASE"):
            return text.encode("utf-8", "surrogateescape")
        if path := self._environ.get("IPVCS_PASSPHRASE_FILE"):
            return read_passphrase(Path(path))
        return None

    def close(self) -> None:
        """Close the home, if a command opened it, and what relies on it before."""
        self._at_end.close()
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
        if data and Path(data).is_absolute():
            return Path(data) / "ipvcs"
        if not Path(environ.get("HOME") or Path.home()).is_absolute() or environ.get("HOME") == "":
            raise UsageError("HOME is not an absolute path", hint="set HOME or IPVCS_PATH, or use --home")
        base = Path.home() / ".local" / "share"
    except RuntimeError as exc:  # pathlib's, for `~` and for users that no user database knows
        raise UsageError("cannot find the user's home directory", hint="set HOME or IPVCS_PATH, or use --home") from exc
    return base / "ipvcs"
