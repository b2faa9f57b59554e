"""What an engine and its gateway say to each other. Known on both sides; imports nothing of Ray's."""

from __future__ import annotations

from enum import StrEnum

LOCAL = "local"  # the address of a cluster that is started here, as `ray.init` has it


class Say(StrEnum):
    """Kinds of frames, each a list that begins with it. The comment gives what follows."""

    # engine to gateway
    CONNECT = "connect"  # the fields of Target
    LEASE = "lease"  # agent, spec, options of the actor
    SEND = "send"  # agent, bytes
    RELEASE = "release"  # agent
    PUT = "put"  # number, how many frames follow that are the bytes themselves
    DROP = "drop"  # number
    # gateway to engine
    CONNECTED = "connected"  # address of the cluster
    FAILED = "failed"  # why there is no connection
    NODES = "nodes"  # [amounts by name of resource, for each node]
    UP = "up"  # agent, name of the node
    DATA = "data"  # agent, bytes
    END = "end"  # agent, why
    GONE = "gone"  # why
