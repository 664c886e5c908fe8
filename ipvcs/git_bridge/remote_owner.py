"""Another node that owns a name, as its pusher asks it: one request, and replies as they come, by our own node.

Spec: docs/protocols/push.md
"""

import base64
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from ipvcs.client.client import Client, DaemonBusyError, DaemonLostError, RemoteCommandError
from ipvcs.errors import IpvcsError, RemoteProtocolError, UnavailableError
from ipvcs.git_bridge.push_replies import Answer, Failure, Progress, Standing, Text, decode_reply
from ipvcs.git_bridge.push_requests import Offer, Query, encode_request
from ipvcs.multiformats.peer_id import PeerId

TRIES: Final = 3
"""Times that one offer is sent while its answer gets lost."""
_PAUSE: Final = 1.0
"""Seconds before it is sent again."""


class PushRefusedError(IpvcsError):
    """The owner has answered that it won't, as a whole; `code` says why."""

    def __init__(self, owner: PeerId, failure: Failure) -> None:
        super().__init__(f"node '{owner}' refuses: {failure.message}", hint=failure.hint or None)
        self.owner = owner
        self.code = failure.code


class AnswerLostError(UnavailableError):
    """The owner went away before it answered: the push may be done or not."""

    def __init__(self, owner: PeerId, why: str) -> None:
        super().__init__(
            f"lost node '{owner}' during the push: {why}", hint="push again: what is done already is not done twice"
        )
        self.owner = owner


class Owner:
    """The node `peer`, asked by way of `client`."""

    def __init__(self, client: Client, peer: PeerId) -> None:
        self._client = client
        self.peer: Final = peer

    def standing(self, path: tuple[bytes, ...]) -> Standing:
        """Return what is at `path`, and what we may do there.

        Raises:
            PushRefusedError: we may do nothing there.
            RemoteCommandError: it can't be found, dialled, or asked; it says which.
        """
        for reply in self._ask(Query(path)):
            if isinstance(reply, Standing):
                return reply
        raise RemoteProtocolError(
            f"node '{self.peer}' does not answer the question that it was asked", hint="tell its owner"
        )

    def offer(self, offer: Offer) -> Iterator[Progress | Text | Answer]:
        """Make `offer`, and yield what comes back, an answer among it.

        Raises:
            PushRefusedError: it refuses the whole; as far as it knows, nothing has changed.
            AnswerLostError: it went away, time and again.
            RemoteCommandError: it could not be asked: nothing was sent.
        """
        answered = was_sent = False
        for left in reversed(range(TRIES)):
            try:
                for reply in self._ask(offer):
                    was_sent = True
                    if isinstance(reply, Standing):
                        raise RemoteProtocolError(
                            f"node '{self.peer}' answers another question than it was asked", hint="tell its owner"
                        )
                    answered = answered or isinstance(reply, Answer)
                    if reply is not None:
                        yield reply
                if answered:
                    return
                lost = "it ended without an answer"
            except (RemoteCommandError, DaemonLostError, DaemonBusyError) as exc:
                if answered:  # what post-receive still had to say
                    return
                if not was_sent:
                    raise
                lost = str(exc)
            if not left:
                raise AnswerLostError(self.peer, lost)
            time.sleep(_PAUSE)

    def _ask(self, request: Query | Offer) -> Iterator[Standing | Progress | Text | Answer | None]:
        """Yield None when the request is on its way, and the replies as they come."""
        lines = base64.b64encode(encode_request(request)).decode()
        with closing(self._client.stream("push", str(self.peer), lines=[lines])) as answers:
            for line in answers:
                if "Reply" not in line:
                    yield None
                else:
                    reply = decode_reply(base64.b64decode(line["Reply"]))
                    if isinstance(reply, Failure):
                        raise PushRefusedError(self.peer, reply)
                    yield reply
