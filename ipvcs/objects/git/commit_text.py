"""What a commit says to people: who, when, and the message, as text.

For showing only. What a commit *links* is read by `headers.py`, whose rules are frozen; here anything may be malformed,
and what cannot be read is shown as git shows it, or not at all.

Spec: git-log(1) "COMMIT FORMATTING", `split_ident_line` in git's ident.c, `parse_commit_date` in its commit.c
"""

import codecs
import operator
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import dropwhile, takewhile
from typing import Final

_IDENT: Final = re.compile(rb"([^<]*)<([^>]*)>")
_DATE: Final = re.compile(rb"\s*(\d+)(?:\s+([+-]\d+))?")
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"})
"""Codecs of Python from bytes to text that no commit is written in, and that do more than to map characters."""
_BLANKS: Final = " \t\r\n"
"""What git's own `isspace` takes for such."""
_MAX_TIME: Final = (1 << 63) - 1
"""Seconds: what git's time_t holds. Later times are shown as 0, as git does."""
_MAX_ZONE: Final = (1 << 31) - 2


@dataclass(frozen=True, slots=True)
class Ident:
    """Who and when. `seconds` count from 1970; `zone` is as it is written, -130 being one and a half hours west."""

    name: str
    email: str
    seconds: int
    zone: int


@dataclass(frozen=True, slots=True)
class CommitText:
    """A commit to be shown. An ident is None when its line is missing or has no `<address>`."""

    author: Ident | None
    committer: Ident | None
    message: str

    @property
    def lines(self) -> list[str]:
        """The message's lines without what git does not show: blanks at their ends, empty ones around the message."""
        lines = [line.rstrip(_BLANKS) for line in self.message.split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        return list(dropwhile(operator.not_, lines))

    @property
    def subject(self) -> str:
        """The first paragraph of the message, on one line."""
        return " ".join(takewhile(bool, self.lines))


def read_commit_text(body: bytes) -> CommitText:
    """Return what the body of a commit says. Bytes that are not in the encoding it names are replaced by U+FFFD."""
    header, _, message = body.partition(b"\n\n")
    lines = header.split(b"\n")
    charset = _charset(_value(lines, b"encoding "))
    return CommitText(
        _ident(_value(lines, b"author "), charset),
        _ident(_value(lines, b"committer "), charset),
        message.decode(charset, "replace"),
    )


def commit_time(body: bytes) -> int:
    """Return the committer's seconds since 1970, by which git sorts a history: 0 if the lines are not as git has them.

    These are the lines `author` and `committer`, right behind the tree and the parents.
    """
    at = 0
    while body.startswith((b"tree ", b"parent "), at):
        at = body.find(b"\n", at) + 1 or len(body)
    author, committer, *_ = [*body[at:].split(b"\n", 2), b"", b""]
    if not author.startswith(b"author ") or not committer.startswith(b"committer ") or b">" not in committer:
        return 0
    found = _DATE.match(committer, committer.rfind(b">") + 1)
    return min(int(found[1][:20]), _MAX_TIME) if found else 0


def _value(lines: list[bytes], key: bytes) -> bytes | None:
    return next((line.removeprefix(key) for line in lines if line.startswith(key)), None)


def _ident(line: bytes | None, charset: str) -> Ident | None:
    if line is None or (person := _IDENT.match(line)) is None:
        return None
    seconds, zone = 0, 0
    date = _DATE.match(line, line.rfind(b">") + 1)
    if date is not None and date[2] is not None and int(date[1][:20]) <= _MAX_TIME:
        seconds, zone = int(date[1][:20]), int(date[2][:12])
    name, email = (part.decode(charset, "replace") for part in (person[1].strip(), person[2]))
    return Ident(name, email, seconds, zone if abs(zone) <= _MAX_ZONE else 0)


@lru_cache(64)
def _charset(name: bytes | None) -> str:
    """Return Python's name of the encoding `name`, of UTF-8 if it is none that we know."""
    try:
        found = codecs.lookup((name or b"utf-8").decode("ascii").strip())
        b"x".decode(found.name, "replace")  # raises for codecs that do not give text
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if found.name.replace("-", "_") in _NO_CHARSETS else found.name
