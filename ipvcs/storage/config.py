"""The home's configuration: a JSON file of what differs from the defaults, by Kubo's names where Kubo has one.

Spec: https://github.com/ipfs/kubo/blob/master/docs/config.md
"""

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipvcs.errors import UsageError
from ipvcs.storage.disk import disk_errors, dump_json, locked_directory, write_atomically

_TYPE_NAMES: Final = {bool: "true or false", str: "a string", int: "a whole number", list: "a list of strings"}


ROUTING_TYPES: Final = ("auto", "dhtclient", "dhtserver", "none")
"""The values of `Routing.Type`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A known key: its type, its default (None: not set) and what it does."""

    kind: type
    default: Any
    about: str


def _import_setting(kind: type, option: str) -> Setting:
    return Setting(kind, None, f"what `put` takes for `{option}` when it is not given; unset: what the profile says")


SETTINGS: Final[dict[str, Setting]] = {
    "Addresses.API": Setting(
        list, [], "loopback multiaddrs, as '/ip4/127.0.0.1/tcp/5001', where the daemon serves its API beside the socket"
    ),
    "Addresses.Swarm": Setting(
        list, ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"], "multiaddrs that the daemon listens on for peers"
    ),
    "Bitswap.Server": Setting(bool, True, "send peers the blocks that they ask for; off, this node only fetches"),
    "Bitswap.Strategy": Setting(
        str, "always", "whom to serve: 'always' everybody, 'sigmoid' by what they gave (white paper §3.4.2)"
    ),
    "Bootstrap": Setting(list, [], "multiaddrs of the peers that the daemon joins the network by"),
    "Daemon.Autostart": Setting(
        bool, True, "start a daemon in the background when a command needs the network and none runs"
    ),
    "Daemon.Idle": Setting(
        int, 3600, "seconds without clients after which a daemon that a command started ends by itself; 0: never"
    ),
    "Datastore.Sync": Setting(
        bool, True, "wait for the disk before reporting a block as stored; off, a crash of the machine may lose data"
    ),
    "Datastore.HashOnRead": Setting(
        bool, True, "check each block against its CID when it is read; off, `repo verify` alone finds what rots"
    ),
    "DNS.Nameservers": Setting(
        list, [], "who resolves names in addresses, as '127.0.0.1:5353'; empty: those of the machine"
    ),
    "Import.Profile": Setting(str, "unixfs-v1-2025", "the profile of `put` when none is named"),
    "Import.CidVersion": _import_setting(int, "--cid-version"),
    "Import.UnixFSRawLeaves": _import_setting(bool, "--raw-leaves"),
    "Import.UnixFSChunker": _import_setting(str, "--chunker"),
    "Import.HashFunction": _import_setting(str, "--hash"),
    "Import.UnixFSFileMaxLinks": _import_setting(int, "--max-file-links"),
    "Import.UnixFSDirectoryMaxLinks": _import_setting(int, "--max-directory-links"),
    "Import.UnixFSHAMTDirectoryMaxFanout": _import_setting(int, "--max-hamt-fanout"),
    "Import.UnixFSHAMTDirectorySizeThreshold": Setting(
        str, None, "bytes, as '256KiB', above which a directory is sharded; unset: what the profile says"
    ),
    "Import.UnixFSHAMTDirectorySizeEstimation": Setting(
        str, None, "how a directory's size is estimated: links, block or disabled; unset: what the profile says"
    ),
    "Ipns.RecordLifetime": Setting(
        int, 172_800, "seconds for which a name's record is valid; each publishing renews it"
    ),
    "Ipns.RepublishPeriod": Setting(
        int, 14_400, "seconds between publishings of the names that this home has published"
    ),
    "Push.Accept": Setting(bool, True, "take pushes of other nodes, as far as `ipvcs access` gives them rights"),
    "Push.Concurrent": Setting(int, 2, "pushes of other nodes that are worked on at once"),
    "Push.MaxBytes": Setting(int, 1_073_741_824, "bytes of the pack of one push of another node, at most"),
    "Push.MaxObjects": Setting(int, 2_000_000, "objects in the pack of one push of another node, at most"),
    "Push.PerPusher": Setting(int, 1, "pushes of one other node that are worked on at once"),
    "Push.Timeout": Setting(int, 3600, "seconds for one push of another node, its turn waited for included"),
    "Reprovider.Interval": Setting(int, 79_200, "seconds until what this node has is announced again; 0: never"),
    "Reprovider.Strategy": Setting(
        str, "roots", "what is announced: 'roots' of pins, all that is 'pinned', or 'all' blocks"
    ),
    "Routing.Type": Setting(
        str,
        "auto",
        "'auto' and 'dhtclient' ask the public DHT and serve the LAN's, 'dhtserver' serves both, 'none' asks nobody",
    ),
    "Swarm.AddrFilters": Setting(
        list, [], "networks that are neither dialled nor listened to, as '/ip4/10.0.0.0/ipcidr/8'"
    ),
    "Swarm.Allow": Setting(list, [], "NodeIds and networks that are welcome whatever the other lists say"),
    "Swarm.Deny": Setting(list, [], "NodeIds and networks to have nothing to do with"),
    "Swarm.ConnMgr.GracePeriod": Setting(int, 20, "seconds for which a new connection is never closed to make room"),
    "Swarm.ConnMgr.HighWater": Setting(
        int, 900, "connections above which idle ones are closed, down to the low water mark"
    ),
    "Swarm.ConnMgr.LowWater": Setting(int, 600, "connections below which none is closed to make room"),
    "Swarm.Perf": Setting(
        bool, False, "serve /perf/1.0.0, by which anybody may measure, and use up, this node's bandwidth"
    ),
    "Swarm.Transports.Multiplexers.Mplex": Setting(int, 200, "priority, lowest first; 0: off"),
    "Swarm.Transports.Multiplexers.Yamux": Setting(int, 100, "priority, lowest first; 0: off"),
    "Swarm.Transports.Security.Noise": Setting(int, 100, "priority, lowest first; 0: off"),
    "Swarm.Transports.Security.TLS": Setting(int, 200, "priority, lowest first; 0: off"),
}


class ConfigError(UsageError):
    """A configuration key or value is not right."""

    def __init__(self, message: str, key: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class Config:
    """Settings by dotted key. Reads see the file as it was when the home was opened."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self._values = values

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read the file; a missing one is empty.

        Raises:
            ConfigError: not a JSON object.
        """
        with disk_errors(path):
            text = path.read_bytes() if path.exists() else b"{}"
        return cls(path, parse_config(text, path))

    def get(self, key: str) -> Any:
        """Return the value of `key`, or of all keys below it as a dict.

        Raises:
            ConfigError: no such key.
        """
        if key in SETTINGS:
            return _find(self._values, key, SETTINGS[key].default)
        below = [name for name in SETTINGS if name.startswith(key + ".")]
        if not below:
            raise unknown_key(key)
        return _nest({name[len(key) + 1 :]: value for name in below if (value := self.get(name)) is not None})

    def show(self) -> dict[str, Any]:
        """Return every setting that has a value, nested as in the file."""
        return _nest({name: value for name in SETTINGS if (value := self.get(name)) is not None})

    def set(self, key: str, value: Any) -> None:
        """Change one setting, durable on return. Raises ConfigError, or what the disk does."""
        check_value(key, value)
        self.change(key, lambda _old: value)

    def change(self, key: str, edit: Callable[[Any], Any]) -> None:
        """Replace one setting by what `edit` makes of its value in the file, with no other process in between.

        Durable on return. Raises ConfigError, what `edit` raises (then nothing is changed), or what the disk does.
        """
        with disk_errors(self.path), locked_directory(self.path.parent):  # two processes may set two keys at once
            current = Config.load(self.path)
            value = edit(current.get(key))
            check_value(key, value)
            _insert(current._values, key, value)
            write_atomically(self.path, dump_json(current._values))
        self._values = current._values

    def replace(self, values: dict[str, Any]) -> None:
        """Set all settings at once; what `values` lacks returns to its default. Raises ConfigError."""
        check_values(values)
        values = _nest(_flatten(values))
        write_atomically(self.path, dump_json(values))
        self._values = values


def parse_config(text: bytes, path: Path) -> dict[str, Any]:
    """Return the settings in a configuration file's text, known and of the right types.

    Raises:
        ConfigError: not JSON, not an object, an unknown key or a wrong type.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ConfigError(f"configuration '{path}' is not a JSON object", hint="mend or remove the file")
        check_values(values)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"configuration '{path}' is not JSON: {exc}", hint="mend or remove the file") from exc
    return _nest(_flatten(values))  # "Addresses.Swarm" may be written as one key


def check_values(values: dict[str, Any]) -> None:
    """Raise ConfigError unless every key is known and every value of its type."""
    for key, value in _flatten(values).items():
        check_value(key, value)


def check_value(key: str, value: Any) -> None:
    """Raise ConfigError unless `key` is known and `value` of its type."""
    if key not in SETTINGS:
        raise unknown_key(key)
    wanted = SETTINGS[key].kind
    if type(value) is not wanted or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
        raise ConfigError(
            f"configuration key '{key}' takes {_TYPE_NAMES[wanted]}, not {json.dumps(value)}",
            key,
            hint="give the value as JSON with `--json`",
        )


def unknown_key(key: str) -> ConfigError:
    """Return the error for a key that is not in `SETTINGS`, naming the nearest that is."""
    near = difflib.get_close_matches(key, SETTINGS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"one of: {', '.join(SETTINGS)}"
    return ConfigError(f"unknown configuration key '{key}'", key, hint=hint)


def _find(values: dict[str, Any], key: str, default: Any) -> Any:
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return default
        found = found[part]
    return found


def _insert(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for part in sections:
        values = values.setdefault(part, {})
    values[last] = value


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        _insert(nested, key, value)
    return nested


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in SETTINGS:
            flat |= _flatten(value, name + ".")
        else:
            flat[name] = value
    return flat
