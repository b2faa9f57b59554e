"""What the examples have in common when they are run as scripts: `python examples/render.py --executor process`."""

from __future__ import annotations

import argparse
import json
from typing import Any

import durapool
from durapool import DurableHandler


def main(handler: DurableHandler, description: str | None) -> None:
    """Run a handler with what the command line says, and print its result as JSON."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=json.loads, default={}, help="the event, as JSON")
    parser.add_argument("--executor", help='"thread", "process" or "process:N" (workers)')
    parser.add_argument("--id", help="the id of the run: give the same one again to go on after a kill")
    parser.add_argument("--store", help="the store's file (default .durapool/journal.db)")
    options = parser.parse_args()
    result: Any = durapool.run(handler, options.input, id=options.id, store=options.store, executor=options.executor)
    print(json.dumps(result, indent=2))
