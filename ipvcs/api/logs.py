"""The daemon's logs: `time level logger message key=value …`, one line a record, on standard error.

Modules log by `logging.getLogger(__name__)`. What belongs to a record stands in its message or is given as `extra`:

    _log.debug("lost a connection to %s: %s", connection.remote_peer, reason)
    _log.info("ending", extra={"signal": number.name})

    2026-01-02T03:04:05.678Z DEBUG ipvcs.node.network.swarm lost a connection to 12D3Koo…8sPxYq: …
    2026-01-02T03:04:05.678Z INFO ipvcs.api.daemon ending signal=SIGTERM

Ids are shortened wherever they stand, so that a log that is shown to others says little about whom its owner talks
to. Strangers' text cannot start a line of its own or drive a terminal: what does not print is escaped.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from io import TextIOBase
from typing import Final, TextIO

from ipvcs.errors import UsageError

ROOT: Final = "ipvcs"
"""Every logger of ours is below this one."""
DEFAULT_LEVEL: Final = "warning"
LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
"""Kubo's names of levels, as far as Python has them."""
ALL: Final = frozenset({"all", "*"})
"""Kubo's names of all subsystems at once."""

_LIBRARIES: Final = ("asyncio", "uvicorn", "uvicorn.error", "uvicorn.access", "zeroconf")
"""Loggers of others that a daemon may wake; they stay at warnings whatever ours are at."""
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
_MAX_VALUE: Final = 500
"""Characters of a value, 2,000 of a message: enough to see what it is, whoever chose its length."""
_IDS: Final = re.compile(
    r"\b(?:12D3KooW[1-9A-HJ-NP-Za-km-z]{44}|16Uiu2HA[1-9A-HJ-NP-Za-km-z]{46}|Qm[1-9A-HJ-NP-Za-km-z]{44}"
    r"|k[25][0-9a-z]{55,70}|ba[a-z][a-z2-7]{50,110}|z[1-9A-HJ-NP-Za-km-z]{45,80})\b"
)
_SECRETS: Final = re.compile(r'(?i)\b(bearer |(?:token|passphrase|password|secret|authorization)=)(?:"[^"]*"|\S+)')
"""What a careless record may quote; the code that handles secrets does not log them."""


class LogLevelError(UsageError):
    """No such level or subsystem."""


class LineFormatter(logging.Formatter):
    """Makes a record one line; a traceback, which only a bug has, follows indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text, ids shortened, secrets and control characters taken out."""
        fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        words = [
            f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            record.levelname,
            record.name,
            _cut(_printable(record.getMessage()), 4 * _MAX_VALUE),
            *(f"{key}={_value(value)}" for key, value in fields.items()),
        ]
        line = _shorten_ids(" ".join(words))
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n  {_shorten_ids(_printable(each))}" for each in trace.splitlines())
        return line


def shorten_id(text: str) -> str:
    """Return an id's first and last characters, which is enough to tell it from others in one log."""
    return text if len(text) <= 20 else f"{text[:7]}…{text[-6:]}"


def configure(levels: str, stream: TextIO | TextIOBase | None = None) -> None:
    """Write logs to `stream` (None: standard error) at `levels`: `LEVEL`, `SUBSYSTEM=LEVEL`, or several by commas.

    Raises:
        LogLevelError: no such level; nothing was changed.
    """
    wanted = parse_levels(levels)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, LineFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(LEVELS[DEFAULT_LEVEL])
    for subsystem, level in wanted.items():
        set_level(subsystem, level)


def parse_levels(text: str) -> dict[str, str]:
    """Return the level of each subsystem that `text` names, as `warning,node.network=debug`; "all" comes first.

    Raises:
        LogLevelError: an unknown level, or a subsystem that is empty.
    """
    found: dict[str, str] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        subsystem, equals, level = word.rpartition("=")
        if equals and not subsystem:
            raise LogLevelError(f"'{word}' names no subsystem", hint="write 'SUBSYSTEM=LEVEL' or 'LEVEL'")
        parse_level(level)
        found["all" if not equals or subsystem in ALL else subsystem] = level
    return dict(sorted(found.items(), key=lambda item: item[0] != "all"))


def set_level(subsystem: str, level: str) -> None:
    """Set the level of `subsystem`: a logger's name, with or without the leading `ipvcs.`, or "all".

    "all" takes back what was set for single subsystems. A subsystem that logs only later may be named before.

    Raises:
        LogLevelError: no such level.
    """
    number = parse_level(level)
    if subsystem not in ALL:
        logging.getLogger(_logger_name(subsystem)).setLevel(number)
        return
    for name in _our_loggers():
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger(ROOT).setLevel(number)


def check_subsystem(subsystem: str) -> None:
    """Raise LogLevelError unless a logger of that name, or one below it, has been made."""
    name = _logger_name(subsystem)
    if subsystem not in ALL and not any(each == name or each.startswith(f"{name}.") for each in _our_loggers()):
        raise LogLevelError(f"unknown subsystem '{subsystem}'", hint="`ipvcs log ls` lists them")


def subsystems() -> list[str]:
    """Return the names of all subsystems that log, without the leading `ipvcs.`, sorted."""
    return sorted(name.removeprefix(f"{ROOT}.") for name in _our_loggers() if name != ROOT)


def _our_loggers() -> list[str]:
    made = logging.getLogger().manager.loggerDict
    return [ROOT, *(name for name in list(made) if name.startswith(f"{ROOT}."))]


def _logger_name(subsystem: str) -> str:
    return subsystem if subsystem == ROOT or subsystem.startswith(f"{ROOT}.") else f"{ROOT}.{subsystem}"


def parse_level(level: str) -> int:
    """Return the number that `logging` has for one of `LEVELS`. Raises LogLevelError."""
    try:
        return LEVELS[level.lower()]
    except KeyError:
        raise LogLevelError(f"unknown log level '{level}'", hint=f"one of: {', '.join(LEVELS)}") from None


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = _cut(_printable(str(value)), _MAX_VALUE)
    return text if text and not re.search(r'[\s"=]', text) else json.dumps(text, ensure_ascii=False)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _shorten_ids(text: str) -> str:
    return _SECRETS.sub(r"\1…", _IDS.sub(lambda found: shorten_id(found[0]), text))
