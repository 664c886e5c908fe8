"""What a name's owner decides about a pusher by himself, before a process of its own works on a push.

Plain blocking calls, which read the home and change nothing. Who has no right at a path is told so in the same words
whether there is something or not; what goes wrong on the owner's disk stands in its log, and the pusher hears no more
than that something did.

Spec: docs/protocols/push.md, "Rights" and "Bounds"
"""

import logging
import shlex
from typing import Final

from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.place import PlaceTakenError, entries_of, find_place
from ipvcs.git_bridge.published_tree import is_published
from ipvcs.git_bridge.push_replies import Failure, FailureCode, Standing
from ipvcs.git_bridge.push_requests import Offer, Query
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_store import NameStore
from ipvcs.objects.path import parse_path, resolve
from ipvcs.storage.access import AccessList, show_repository_path
from ipvcs.storage.home import Home

_log = logging.getLogger(__name__)

_UNREADABLE: Final = Failure(
    FailureCode.FAILED, "the owner's node cannot read its home", "tell its owner: the log says more"
)


def is_known(home: Home, pusher: PeerId) -> bool:
    """Tell whether the access list names `pusher` at all. Raises DiskError."""
    return AccessList(home.datastore).is_known(pusher)


def standing(home: Home, name: PeerId, pusher: PeerId, query: Query) -> Standing | Failure:
    """Return where a repository stands by what this home has published last, and what `pusher` may do there.

    Args:
        home: the owner's.
        name: the owner's NodeId.
        pusher: who asks, as the connection has proved.
        query: which repository is meant.
    """
    try:
        rights = AccessList(home.datastore).rights_of(pusher, query.path)
        if not rights:
            return denial(pusher, query.path)
        repository = _find_repository(home, name, query.path)
    except PlaceTakenError as exc:
        return Failure(FailureCode.BAD_REQUEST, str(exc), exc.hint or "")
    except IpvcsError:
        _log.warning("cannot tell %s where a repository stands", pusher, exc_info=True)
        return _UNREADABLE
    return Standing(
        repository,
        frozenset(map(str, rights)),
        max_bytes=home.config.get("Push.MaxBytes"),
        max_objects=home.config.get("Push.MaxObjects"),
    )


def refusal(home: Home, pusher: PeerId, offer: Offer) -> Failure | None:
    """Return why nothing of `offer` is to be looked at, None if it is to be: whether there is a right at all, and room.

    The rights to each update, and whether the offer is true, are for those who work on it.
    """
    try:
        rights = AccessList(home.datastore).rights_of(pusher, offer.path)
    except IpvcsError:
        _log.warning("cannot tell what %s may push", pusher, exc_info=True)
        return _UNREADABLE
    if not rights:
        return denial(pusher, offer.path)
    if offer.pack is None:
        return None
    for what, offered, key in (
        ("bytes", offer.pack.size, "Push.MaxBytes"),
        ("objects", offer.pack.objects, "Push.MaxObjects"),
    ):
        if offered > (most := home.config.get(key)):
            return Failure(
                FailureCode.LIMIT,
                f"the push has {offered:,} {what}, its receiver takes {most:,} at most",
                f"push less at a time, one commit after the other; or ask the owner to set `{key}`",
            )
    return None


def denial(pusher: PeerId, path: tuple[bytes, ...] | None) -> Failure:
    """Return what somebody without rights is told. `path` is None when nobody has read which one was meant."""
    shown = None if path is None else show_repository_path(path)
    can_be_typed = shown is not None and "\\" not in shown  # else it is escaped
    return Failure(
        FailureCode.DENIED,
        f"'{pusher}' may not push" + ("" if shown is None else f" at '{shown}'"),
        # Without a path the command would give all of them.
        "ask the owner for access, which is given with "
        f"`ipvcs access add {pusher} {shlex.quote(shown) if shown and can_be_typed else 'PATH'}`",
    )


def _find_repository(home: Home, name: PeerId, path: tuple[bytes, ...]) -> Cid | None:
    """Return the repository's directory in what was published last, None if there is none and may be one.

    Raises:
        PlaceTakenError: something else is there, or another repository needs the place.
        BlockNotFoundError, DecodeError and the like: what was published is not all here, or damaged.
    """
    known = NameStore(home.datastore).try_get(name)
    if known is None or known.own is None:
        return None
    published = known.own.record.value.decode("utf-8", "surrogateescape")
    place = find_place(home.blocks, resolve(home.blocks, parse_path(published)).cid, path)
    if place.repository is None or is_published(home.blocks, place.repository):
        return place.repository
    entries_of(home.blocks, place.repository, path)  # a directory that may become one
    return None
