"""How `ipvcs log` prints a commit: as git does, with the CID of its node beside its id.

Spec: git-log(1) "PRETTY FORMATS" (medium, oneline); `show_date` in git's date.c
"""

import time
from typing import Any, Final

from ipvcs.cli.ui import printable
from ipvcs.objects.git.commit_text import CommitText, Ident
from ipvcs.objects.git.history import HistoryCommit

_ABBREVIATED: Final = 10
"""Digits of an id that are shown where not all are; git takes 7 in small repositories and more in large ones."""
_INDENT: Final = "    "
_TAB: Final = 8


def format_medium(commit: HistoryCommit, text: CommitText) -> str:
    """Return the lines; an empty one separates commits."""
    lines = [f"commit {commit.oid}", f"CID:    {commit.cid}"]
    if len(commit.parents) > 1:
        lines.append("Merge: " + " ".join(parent.oid.hex[:_ABBREVIATED] for parent in commit.parents))
    if text.author is not None:
        lines.append(printable(f"Author: {text.author.name} <{text.author.email}>"))
        lines.append(f"Date:   {_git_date(text.author)}")
    if text.lines:
        lines += ["", *(_INDENT + printable(line.expandtabs(_TAB)) for line in text.lines)]
    return "\n".join(lines)


def format_oneline(commit: HistoryCommit, text: CommitText) -> str:
    """Return the line."""
    return f"{commit.oid.hex[:_ABBREVIATED]} {printable(text.subject)}"


def format_json(commit: HistoryCommit, text: CommitText) -> dict[str, Any]:
    """Return what `--json` prints: `Tree`, `Author` and `Committer` are None where the header does not say."""
    return {
        "Commit": commit.oid.hex,
        "Cid": str(commit.cid),
        "Tree": None if commit.tree is None else commit.tree.hex,
        "Parents": [parent.oid.hex for parent in commit.parents],
        "Author": _ident(text.author),
        "Committer": _ident(text.committer),
        "Message": text.message,
    }


def _ident(ident: Ident | None) -> dict[str, str] | None:
    return None if ident is None else {"Name": ident.name, "Email": ident.email, "Date": _iso_date(ident)}


def _git_date(ident: Ident) -> str:
    local, zone = _local_time(ident)
    day = f"{_DAYS[local.tm_wday]} {_MONTHS[local.tm_mon - 1]} {local.tm_mday}"
    return f"{day} {_clock(local)} {local.tm_year} {zone:+05d}"


def _iso_date(ident: Ident) -> str:
    """Return the date as git's `%aI`: strict ISO 8601."""
    local, zone = _local_time(ident)
    offset = f"{zone:+05d}"
    offset = f"{offset[:-2]}:{offset[-2:]}" if zone else "Z"
    return f"{local.tm_year:04d}-{local.tm_mon:02d}-{local.tm_mday:02d}T{_clock(local)}{offset}"


def _clock(local: time.struct_time) -> str:
    return f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"


def _local_time(ident: Ident) -> tuple[time.struct_time, int]:
    """Return the time where the ident was written, and its zone; the first second of 1970 where there is none such."""
    hours, minutes = divmod(abs(ident.zone), 100)
    offset = (hours * 60 + minutes) * 60
    try:
        return time.gmtime(ident.seconds + (offset if ident.zone >= 0 else -offset)), ident.zone
    except (OverflowError, OSError):  # a year that does not fit into an int
        return time.gmtime(0), 0


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
