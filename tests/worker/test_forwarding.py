"""What is logged reaches the parent, whenever logging comes to be imported."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys
from durapool.worker.imports import Imports
from durapool.worker.logs import Forwarding
from durapool.worker.surroundings import Surroundings

class Channel:
    def send(self, kind, *body):
        print(kind.name, body[1]["levelname"], body[1]["msg"], flush=True)

imports = Imports().install()
forwarding, surroundings = Forwarding(Channel(), imports), Surroundings(imports)
surroundings.follow(os.getcwd(), sys.path, dict(os.environ), {"": 20, "quiet": 40}, [])
print("logging" in sys.modules, flush=True)
FIRST
def speak(who):
    import logging
    logging.debug(who)
    logging.info(who)
    logging.getLogger("quiet").warning(who)
if not (child := os.fork()):
    speak("child")
    os._exit(0)
os.waitpid(child, 0)
speak("worker")
surroundings.follow(os.getcwd(), sys.path, dict(os.environ), {"": 30}, [])
speak("quiet again")
"""


def outputs_of(first: str) -> tuple[list[str], list[str]]:
    """The lines on stdout and stderr of the program with this statement in it."""
    command = [sys.executable, "-c", PROGRAM.replace("FIRST", first)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_records_are_forwarded_when_a_branch_imports_logging() -> None:
    told = ["False", "LOG INFO worker", "LOG WARNING quiet again"]
    assert outputs_of("") == (told, ["child"])


def test_a_child_of_a_branch_logs_to_stderr_also_where_logging_was_imported_before() -> None:
    told = ["False", "LOG INFO worker", "LOG WARNING quiet again"]
    assert outputs_of("import logging") == (told, ["child"])
