"""How many agents there should be: asked for when branches wait, let go when there is nothing for them to do."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Set
from typing import TYPE_CHECKING

from durapool.cluster.engine import Engine
from durapool.exceptions import ClusterError

if TYPE_CHECKING:
    from durapool.cluster.engine import EngineListener

LINGER = 2.0  # seconds that an agent without work keeps its slot
MOST_FUTILE = 3  # agents in a row that end before they have come up
HINT_SECONDS = 10.0  # without any agent, until it is said that the cluster gives no slot
GROWTH_SECONDS = 1.0  # between two looks at whether the cluster has grown, where more could be run
PATIENCE = 60.0  # seconds without any agent while the cluster has no node that would do

_logger = logging.getLogger(__name__)
_numbers = itertools.count(1)  # never the same twice in this process: engines may be shared


class Leases:
    """The leases of one link. Owned by the pool's loop; asks the engine, never waits."""

    def __init__(self, engine: Engine, most: int | None, spec: bytes, listener: EngineListener) -> None:
        self._engine = engine
        self._most = most
        self._spec = spec
        self._listener = listener
        self._asked: dict[int, float] = {}  # agents that wait for a slot, and since when
        self._idle: dict[int, float] = {}  # agents without work, and since when
        self._surplus: list[int] = []
        self._futile = 0
        self._waiting_since: float | None = None  # for the first agent, with something to run
        self._hinted = False

    def adjust(self, wanted: int, idle: Set[int], up: int, now: float) -> float | None:
        """Ask for more, or let some go. Seconds until the next look is due, if one is.

        Args:
            wanted: workers that could run.
            idle: agents that host no worker with a branch.
            up: agents that have come up.
            now: time.monotonic().

        Raises:
            ClusterError: no slot can ever be had.
        """
        self._idle = {agent: self._idle.get(agent, now) for agent in idle}
        asked_for = wanted if self._most is None else min(wanted, self._most)
        wanted = min(asked_for, max(1, self._engine.slots()))  # a cluster that grows by demand shall see some
        missing = wanted - up - len(self._asked)
        for _ in range(missing):
            agent = next(_numbers)
            self._asked[agent] = now
            self._engine.lease(agent, self._spec, self._listener)
        for agent in list(self._asked)[: max(0, -missing)]:
            del self._asked[agent]
            self._surplus.append(agent)
        unneeded = max(0, up - wanted)
        over = sorted(agent for agent, since in self._idle.items() if now - since >= LINGER)[:unneeded]
        self._surplus += over
        waits = [self._idle[agent] + LINGER - now for agent in self._idle.keys() - set(over)] if unneeded else []
        if not up and self._asked:
            waits.append(self._look_after_first(now))
        else:
            self._waiting_since = None
        if asked_for > wanted:
            waits.append(GROWTH_SECONDS)
        return max(0.0, min(waits)) if waits else None

    def _look_after_first(self, now: float) -> float:
        if self._waiting_since is None:
            self._waiting_since = now
        waited = now - self._waiting_since
        none_fits = self._engine.slots() == 0
        if waited >= PATIENCE and none_fits:
            raise ClusterError(
                f"{self._engine.label} has no node that can run a branch: none came up in {PATIENCE:.0f} s with what "
                "the executor asks for. Start workers that have it, or ask for less, and run the same id again"
            )
        if waited >= HINT_SECONDS and not self._hinted:
            self._hinted = True
            why = "none of its nodes has what the executor asks for" if none_fits else "all of its slots are taken"
            _logger.warning("durapool waits for a slot of %s: %s", self._engine.label, why)
        return next((end - waited for end in (HINT_SECONDS, PATIENCE) if waited < end), 1.0)

    def take_surplus(self) -> list[int]:
        """The agents to let go."""
        surplus, self._surplus = self._surplus, []
        return surplus

    def granted(self, agent: int) -> bool:
        """The agent has come up; whether it was waited for."""
        return self._asked.pop(agent, None) is not None

    def proven(self) -> None:
        """An agent can do its work."""
        self._futile = 0

    def ended(self, agent: int) -> None:
        """An agent that was up has gone."""
        self._idle.pop(agent, None)

    def failed(self, agent: int, reason: str) -> None:
        """An agent has ended before it came up.

        Raises:
            ClusterError: so have several before.
        """
        if self._asked.pop(agent, None) is None:
            return
        self._futile += 1
        if self._futile >= MOST_FUTILE:
            raise ClusterError(
                f"{self._engine.label} starts no agents: {reason}. Mend that, or take another executor, and run again"
            )
