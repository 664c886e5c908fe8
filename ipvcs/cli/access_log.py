"""How `ipvcs access log` prints a push: a line, and below it one an update, in the manner of git's push.

    2026-11-05T09:41:00Z 12D3KooW… /team/project: 4 of 5 refs changed
       0123456789..89abcdef01   refs/heads/main
     + 0123456789...89abcdef01  refs/heads/topic (forced update)
     * [new branch]             refs/heads/new (now 89abcdef01)
     - [deleted]                refs/heads/old (was 0123456789)
     ! [rejected]               refs/heads/stale (fetch first)

Names are whole, as in git's `push --porcelain`: this is read later, and by somebody else than who pushed. What others
chose (names, paths, refusals with names in them) is escaped where it could drive a terminal.

Spec: git-push(1) "OUTPUT"
"""

from datetime import UTC, datetime
from typing import Any, Final

from ipvcs.cli.paths import text_of
from ipvcs.cli.ui import printable
from ipvcs.git_bridge.refname import BRANCHES, TAGS
from ipvcs.storage.access import show_repository_path
from ipvcs.storage.push_log import LoggedPush, LoggedUpdate

_ABBREVIATED: Final = 10
"""Digits of an id that are shown, as `ipvcs log` does."""
_WIDTH: Final = 2 * _ABBREVIATED + len("...")


def push_lines(push: LoggedPush) -> list[str]:
    """Return a push as lines."""
    head = f"{_utc(push.time)} {push.pusher} {show_repository_path(push.path)}: {_outcome(push)}"
    return [printable(head), *(_update_line(update, failed=bool(push.failure)) for update in push.updates)]


def push_json(push: LoggedPush) -> dict[str, Any]:
    """Return what `--json` prints. `Old` and `New` are None where there is nothing, `Repository` where none is."""
    return {
        "Number": push.number,
        "Time": _utc(push.time),
        "Pusher": str(push.pusher),
        "Address": push.address,
        "Path": path_text(push.path),
        "Key": push.key.hex(),
        "Updates": [
            {
                "Name": text_of(update.name),
                "Old": update.old.hex() or None,
                "New": update.new.hex() or None,
                "Forced": update.forced,
                "Refusal": update.refusal,
            }
            for update in push.updates
        ],
        "Repository": None if push.repository is None else str(push.repository),
        "Failure": push.failure,
    }


def path_text(path: tuple[bytes, ...]) -> str:
    """Return a repository's path as `--json` has it, to be given to commands again as it is."""
    return "/" + text_of(b"/".join(path))


def _outcome(push: LoggedPush) -> str:
    if push.failure:
        return f"failed: {push.failure}"
    changed = sum(not update.refusal and update.old != update.new for update in push.updates)
    if changed == len(push.updates):
        return f"{changed} {'ref' if changed == 1 else 'refs'} changed"
    return f"{changed or 'none'} of {len(push.updates)} {'ref' if len(push.updates) == 1 else 'refs'} changed"


def _update_line(update: LoggedUpdate, *, failed: bool) -> str:
    mark, summary, reason = _describe(update, failed=failed)
    name = update.name.decode("utf-8", "backslashreplace")
    return printable(f" {mark} {summary:<{_WIDTH}} {name}{f' ({reason})' if reason else ''}")


def _describe(update: LoggedUpdate, *, failed: bool) -> tuple[str, str, str]:
    """Return git's mark, its summary, and what is said about it in parentheses."""
    old, new = (oid.hex()[:_ABBREVIATED] for oid in (update.old, update.new))
    if update.refusal:
        return "!", "[rejected]", update.refusal
    if failed:
        return "!", "[not done]", ""
    if old == new:
        return "=", "[up to date]", ""
    if not new:
        return "-", "[deleted]", f"was {old}"
    if not old:
        return "*", f"[new {_kind(update.name)}]", f"now {new}"
    if update.forced:
        return "+", f"{old}...{new}", "forced update"
    return " ", f"{old}..{new}", ""


def _kind(name: bytes) -> str:
    return "branch" if name.startswith(BRANCHES) else "tag" if name.startswith(TAGS) else "reference"


def _utc(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
