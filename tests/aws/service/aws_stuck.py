"""A handler that does not return, of no SDK."""

from __future__ import annotations

import json
import time
from typing import Any

from aws_handlers import note


def handler(event: dict[str, Any], context: Any) -> None:
    """Say that it was called, and never come back."""
    [execution] = event["InitialExecutionState"]["Operations"][:1]
    note(json.loads(execution["ExecutionDetails"]["InputPayload"]), "called")
    time.sleep(600)
