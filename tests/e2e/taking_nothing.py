"""`ipvcs` whose DHT takes no value: with REFUSES set it says so, else it does not answer.

`python -m tests.e2e.taking_nothing --home HOME daemon` is a peer for tests of publishers.
"""

import os

from ipvcs.cli.main import main
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing import kad_dht
from ipvcs.node.routing.interface import InvalidValueError
from ipvcs.node.routing.kad_answers import Answerer
from ipvcs.node.routing.kad_message import KadMessage, MessageType


class TakingNothing(Answerer):
    """Answers all but PUT_VALUE."""

    def answer(self, request: KadMessage, sender: PeerInfo, now: float) -> KadMessage | None:
        if request.type is not MessageType.PUT_VALUE:
            return super().answer(request, sender, now)
        if "REFUSES" in os.environ:
            raise InvalidValueError("not here")
        return None


if __name__ == "__main__":
    vars(kad_dht)["Answerer"] = TakingNothing
    main()
