"""What a setting's value must be beyond its type, told when it is set and not first by a daemon that does not start.

Each check is what the setting's user does with it, imported when that setting is set and not before.
"""

from collections.abc import Callable
from typing import Any, Final

from ipvcs.errors import IpvcsError, UsageError
from ipvcs.storage.config import ROUTING_TYPES, SETTINGS, Config, ConfigError

_WATER: Final = "Swarm.ConnMgr"
_SWITCHES: Final = ("Swarm.Transports.Security", "Swarm.Transports.Multiplexers")


def check_setting(config: Config, key: str, value: Any) -> None:
    """Raise ConfigError unless `value`, of the right type, makes sense for `key` beside the other settings of `config`.

    What `config` itself would say about key and type is left to it.
    """
    check_settings(lambda name: value if name == key else config.get(name), [key])


def check_settings(get: Callable[[str], Any], keys: list[str]) -> None:
    """Raise ConfigError unless the values of `keys` make sense; `get` returns any setting as it will be."""
    for key in keys:
        value = get(key)
        for check in (_check_number, _ITEMS.get(key, _anything), _check_import):
            try:
                check(key, value)
            except IpvcsError as exc:
                raise ConfigError(f"configuration key '{key}': {exc}", key, hint=exc.hint) from exc
    if any(key.startswith(_WATER) for key in keys):
        _check_water_marks(get)
    for section in _SWITCHES:
        if any(key.startswith(section) for key in keys):
            _check_switches(get, section)


def _anything(_key: str, _value: Any) -> None:
    pass


def _check_number(_key: str, value: Any) -> None:
    if type(value) is int and value < 0:
        raise UsageError(f"{value} is negative", hint="0 is the least")


def _check_swarm_addresses(_key: str, value: list[str]) -> None:
    from ipvcs.multiformats.multiaddr import Multiaddr

    for text in value:
        Multiaddr.parse(text)


def _check_api_addresses(_key: str, value: list[str]) -> None:
    from ipvcs.api.listen import parse_api_addresses

    parse_api_addresses(value)


def _check_bootstrap(_key: str, value: list[str]) -> None:
    from ipvcs.multiformats.peer_address import parse_peer_address

    for text in value:
        parse_peer_address(text)


def _check_nameservers(_key: str, value: list[str]) -> None:
    from ipvcs.node.network.dns_client import parse_nameserver

    for text in value:
        parse_nameserver(text)


def _check_filters(_key: str, value: list[str]) -> None:
    from ipvcs.node.network.gating import parse_rule

    for text in value:
        parse_rule(text)


def _check_bitswap_strategy(_key: str, value: str) -> None:
    from ipvcs.node.exchange.strategy import make_strategy

    make_strategy(value, lambda: 0.0)


def _check_push_bound(_key: str, value: int) -> None:
    if not value:
        raise UsageError("0 lets nobody push", hint="`ipvcs config --json Push.Accept false` switches it off")


def _check_reprovider_strategy(_key: str, value: str) -> None:
    from ipvcs.node.routing.reprovider import Strategy

    Strategy.parse(value)


def _check_routing_type(_key: str, value: str) -> None:
    if value not in ROUTING_TYPES:
        raise UsageError(f"unknown routing type '{value}'", hint=f"one of: {', '.join(ROUTING_TYPES)}")


_ITEMS: Final[dict[str, Callable[[str, Any], None]]] = {
    "Addresses.API": _check_api_addresses,
    "Addresses.Swarm": _check_swarm_addresses,
    "Bitswap.Strategy": _check_bitswap_strategy,
    "Bootstrap": _check_bootstrap,
    "DNS.Nameservers": _check_nameservers,
    **dict.fromkeys(
        ("Push.Concurrent", "Push.MaxBytes", "Push.MaxObjects", "Push.PerPusher", "Push.Timeout"), _check_push_bound
    ),
    "Reprovider.Strategy": _check_reprovider_strategy,
    "Routing.Type": _check_routing_type,
    "Swarm.AddrFilters": _check_filters,
    "Swarm.Allow": _check_filters,
    "Swarm.Deny": _check_filters,
}


def _check_import(key: str, value: Any) -> None:
    """Check a setting of imports by itself: whether all of them go together shows in an import."""
    if value is None or not key.startswith("Import."):
        return
    from ipvcs.cli.put import import_choices
    from ipvcs.objects.profile import resolve_options

    resolve_options(**import_choices(key, value))


def _check_water_marks(get: Callable[[str], Any]) -> None:
    low, high = get(f"{_WATER}.LowWater"), get(f"{_WATER}.HighWater")
    if not low < high:
        raise ConfigError(
            f"configuration key '{_WATER}.LowWater' ({low}) is not below '{_WATER}.HighWater' ({high})",
            f"{_WATER}.LowWater",
            hint="set the one first that moves away from the other",
        )


def _check_switches(get: Callable[[str], Any], section: str) -> None:
    if not any(get(key) > 0 for key in SETTINGS if key.startswith(f"{section}.")):
        raise ConfigError(
            f"configuration section '{section}' would be off altogether", section, hint="leave one of its keys above 0"
        )
