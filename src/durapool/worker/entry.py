"""A worker's life: serve one order after the other, run one branch at a time, end when told to."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys

from durapool.errors import error_of
from durapool.executors.base import BranchOutcome, Crashed, Failed, Succeeded, Suspended
from durapool.pausing import pauses
from durapool.pool.wire import Kind, pack, pack_error
from durapool.records import ErrorObject
from durapool.unpickling import enter_worker, load_function
from durapool.usage import ProcessMeter, Usage
from durapool.worker.branch import Run, WorkerBatch, run_message
from durapool.worker.channel import Channel, ParentGoneError
from durapool.worker.imports import Imports
from durapool.worker.journal import StreamedJournal
from durapool.worker.logs import Forwarding
from durapool.worker.seeding import Seeder
from durapool.worker.surroundings import Surroundings


def serve(link: int, permits: int) -> None:
    """Serve branches until the parent says EXIT or is gone.

    Args:
        link: descriptor of the socket to the parent.
        permits: descriptor of the pipe that holds one byte for each branch that may start; see `pool.claims`.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a new interpreter has made it a KeyboardInterrupt
    enter_worker()
    use_whole_lines()
    for descriptor in (link, permits):  # they are, where this process was spawned; a branch's own children must not
        os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=link))
    imports = Imports().install()
    forwarding = Forwarding(channel, imports)
    surroundings = Surroundings(imports)
    meter = ProcessMeter()
    os.register_at_fork(after_in_child=channel.close_for_fork)
    seeder = Seeder(imports)
    batches: dict[int, WorkerBatch] = {}
    broken: ErrorObject | None = None
    try:
        channel.send(Kind.READY, os.getpid())
        while True:
            kind, body = channel.next_order()
            match kind:
                case Kind.RUN:
                    if not may_start(permits):
                        channel.send(Kind.SKIPPED, body[0])
                        continue
                    run = run_message(body, batches)
                    if run.batch.problem is None:  # else nothing will run
                        seeder.begin(run.batch.settings.execution_id, run.ref.operation_id)
                    if run.may_import:
                        forwarding.before_loading()
                    run_one(channel, run, broken, forwarding, meter)
                    if not surroundings.restore():
                        break  # it has closed stdout, say; a fresh worker serves the next one
                case Kind.BATCH:
                    batches[body[0]] = WorkerBatch(body[0], body[1], body[2])
                case Kind.FORGET:
                    batches.pop(body[0], None)
                    channel.inputs.pop(body[0], None)
                    channel.arrivals.forget(body[0])
                case Kind.DROP:
                    channel.arrivals.drop(body[0])
                case Kind.SURROUNDINGS:
                    surroundings.follow(*body)
                case Kind.INITIALIZE:
                    broken = initialize(body[0])
                    surroundings.note()
                    channel.send(Kind.READY, os.getpid())
                case Kind.EXIT:
                    break
                case _:
                    raise RuntimeError(f"the parent sent {kind!r} to a worker")
    except ParentGoneError:
        return
    finally:
        atexit._run_exitfuncs()
        flush_prints()


def may_start(permits: int) -> bool:
    """Take the permit for the next branch; False where the parent has taken it back."""
    try:
        return bool(os.read(permits, 1))
    except BlockingIOError:
        return False


def initialize(initializer: bytes) -> ErrorObject | None:
    """Call the user's initializer; its error, if any, is the error of every branch that comes here."""
    try:
        load_function(initializer)()
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's function may raise anything
        error.add_note("raised by the initializer of the process executor")
        return error_of(error, local=True)
    return None


def run_one(
    channel: Channel, run: Run, broken: ErrorObject | None, forwarding: Forwarding, meter: ProcessMeter
) -> None:
    """Run one branch, send its outcome, and wait for the parent where that outcome may decide the batch."""
    meter.start()
    channel.begin(run.number)
    journal = run.journal(channel)
    outcome = run.execute(channel, journal, forwarding.after_loading) if broken is None else Failed(broken)
    flush_prints()
    usage = meter.read()
    channel.tell_dropped()
    try:
        send_outcome(channel, journal, run, usage, outcome)
    except ParentGoneError:
        raise
    except Exception as error:  # noqa: BLE001  # an outcome that cannot be sent is still an outcome
        outcome = Failed(error_of(error, local=False))
        send_outcome(channel, journal, run, usage, outcome)
    if pauses(run.pause_after, outcome):
        channel.wait_until_taken_in(run.number)


def send_outcome(channel: Channel, journal: StreamedJournal, run: Run, usage: Usage, outcome: BranchOutcome) -> None:
    """Exactly one terminal message a run, in one write with the last updates."""
    match outcome:
        case Succeeded(payload, summary):
            frame = pack(Kind.DONE, run.number, usage, payload, summary)
        case Failed(error):
            frame = pack(Kind.FAILED, run.number, usage, pack_error(error))
        case Suspended(waiting_on):
            frame = pack(Kind.SUSPENDED, run.number, usage, list(waiting_on))
        case Crashed(exception):
            if isinstance(exception, ParentGoneError):
                raise exception
            error = error_of(exception, local=False)
            frame = pack(Kind.CRASHED, run.number, usage, _pickled(exception), pack_error(error))
    channel.send_frame(journal.end() + frame)


def _pickled(exception: BaseException) -> bytes | None:
    from durapool.pickling import dump_value  # only here: it brings cloudpickle

    try:
        data = dump_value(exception)
        load_function(data)
    except Exception:  # noqa: BLE001  # the parent then names its type and message
        return None
    return data


def use_whole_lines() -> None:
    """Make stdout and stderr anew over descriptors 1 and 2, which lead to the parent; it passes whole lines on.

    A forked worker inherits whatever the parent had put in their place, with text in their buffers that is the
    parent's to write.
    """
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = os.fdopen(descriptor, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
        setattr(sys, name, stream)


def flush_prints() -> None:
    """What a branch has printed arrives before its end does. The user may have put anything in place of the streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001  # None, or closed, or of the user's own making
            continue
