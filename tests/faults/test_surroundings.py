"""Wherever the executor is called from, and whatever surrounds it: threads, loops, notebooks, daemons, open files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import coverage
import pytest
from program_tools import START_METHODS, run_program

from durapool.pool.machine import THREAD_VARIABLES, cgroup_quota, usable_cpus, worker_environment

SQUARES = "[0, 1, 4, 9]"
COVERAGE_SITE = "import coverage\ncoverage.process_startup()\n"

every_method = pytest.mark.parametrize("start_method", START_METHODS)


def printed(folder: Path, source: str, start_method: str, **options) -> str:
    return run_program(folder, source, start_method, **options).stdout.strip()


@every_method
@pytest.mark.parametrize("given_by", ["file", "-c", "stdin"])
def test_a_program_may_come_from_anywhere(given_by, start_method, tmp_path):
    assert printed(tmp_path, "print(squares())", start_method, given_by=given_by) == SQUARES


@every_method
def test_any_thread_may_call(start_method, tmp_path):
    source = """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            print(pool.submit(squares).result())
    """
    assert printed(tmp_path, source, start_method) == SQUARES


@every_method
def test_several_threads_may_call_at_once_with_a_thread_pool_open(start_method, tmp_path):
    source = """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        together = threading.Barrier(3)
        def call(_):
            together.wait()
            return squares()
        with ThreadPoolExecutor(4) as pool:
            print(list(pool.map(call, range(3))))
            print(squares())
            print(list(pool.map(abs, [-1])))
    """
    assert printed(tmp_path, source, start_method).splitlines() == [
        f"[{SQUARES}, {SQUARES}, {SQUARES}]",
        SQUARES,
        "[1]",
    ]


@every_method
def test_a_running_event_loop_may_call_and_branches_may_run_their_own(start_method, tmp_path):
    source = """
        import asyncio

        @durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))
        def handler(event, context):
            async def later(value):
                await asyncio.sleep(0)
                return value
            def branch(ctx, item, index, inputs):
                return ctx.step(lambda _: asyncio.run(later(item * item)))
            return context.map(range(4), branch).get_results()

        async def main():
            beats = asyncio.create_task(asyncio.sleep(0, "the loop goes on"))
            print(durapool.run(handler, id="loop", store=MemoryStore()))
            print(await asyncio.to_thread(squares))
            print(await beats)

        asyncio.run(main())
    """
    assert printed(tmp_path, source, start_method).splitlines() == [SQUARES, SQUARES, "the loop goes on"]


@every_method
def test_a_notebook_may_call(start_method, tmp_path):
    """As a kernel does: a `__main__` without a file, cells that are compiled from nowhere, a stdout that is no file."""
    source = '''
        import io, linecache, types

        class Stream(io.TextIOBase):
            """Like ipykernel's: no descriptor behind it."""
            def __init__(self):
                self.text = []
            def write(self, text):
                self.text.append(text)
                return len(text)
            def fileno(self):
                raise io.UnsupportedOperation("fileno")

        terminal, shown = sys.stdout, Stream()
        sys.stdout = shown
        main = types.ModuleType("__main__")
        vars(main).update(durapool=durapool, METHOD=METHOD, ProcessExecutor=ProcessExecutor, MemoryStore=MemoryStore)
        sys.modules["__main__"] = main
        cells = [
            "class Point:\\n    def __init__(self, x):\\n        self.x = x\\n",
            "def branch(ctx, item, index, inputs):\\n"
            "    print('cell', item.x)\\n"
            "    return ctx.step(lambda _: Point(item.x ** 2))\\n",
            "@durapool.durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))\\n"
            "def handler(event, context):\\n"
            "    result = context.map([Point(i) for i in range(4)], branch)\\n"
            "    result.throw_if_error()\\n"
            "    return [point.x for point in result.get_results()]\\n",
            "outcome = durapool.run(handler, id='cells', store=MemoryStore())\\n",
            "def branch(ctx, item, index, inputs):\\n    raise KeyError(item.x)\\n",
            "try:\\n    durapool.run(handler, id='again', store=MemoryStore())\\n"
            "except durapool.ExecutionFailedError as error:\\n    failure = str(error)\\n",
        ]
        for number, cell in enumerate(cells):
            name = f"<ipython-input-{number}>"
            linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
            exec(compile(cell, name, "exec"), vars(main))
        sys.stdout = terminal
        print(main.outcome)
        print(sorted(line for line in "".join(shown.text).splitlines()))
        print("KeyError" in main.failure)
    '''
    assert printed(tmp_path, source, start_method).splitlines() == [
        SQUARES,
        "['cell 0', 'cell 1', 'cell 2', 'cell 3']",
        "True",
    ]


@every_method
def test_a_daemonic_child_may_call(start_method, tmp_path):
    source = """
        import multiprocessing
        def work(pipe):
            pipe.send([multiprocessing.current_process().daemon, squares()])
        if __name__ == "__main__":
            fork = multiprocessing.get_context("fork")
            for warm in (False, True):
                if warm:
                    squares()
                ours, theirs = fork.Pipe()
                child = fork.Process(target=work, args=(theirs,), daemon=True)
                child.start()
                print(ours.recv())
                child.join()
                print(child.exitcode)
            print(squares())
    """
    answer = f"[True, {SQUARES}]"
    assert printed(tmp_path, source, start_method).splitlines() == [answer, "0", answer, "0", SQUARES]


@every_method
def test_a_forked_child_does_not_keep_the_pool_of_its_parent(start_method, tmp_path):
    """A child that lives on has no copy of a descriptor of the pool's: the supervisor sees its parent go."""
    source = """
        def opened():
            found = set()
            for name in os.listdir("/proc/self/fd"):
                try:
                    found.add((name, os.readlink(f"/proc/self/fd/{name}")))
                except FileNotFoundError:
                    pass
            return found
        before = {target for _, target in opened()}
        squares()
        squares()
        mine = {target for _, target in opened()} - before
        pid = os.fork()
        if pid == 0:
            theirs = {target for _, target in opened()} - before
            print(len(mine) > 3, sorted(theirs & mine), flush=True)
            print(squares(), flush=True)
            from durapool.pool.registry import close_all
            close_all()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), squares())
    """
    assert printed(tmp_path, source, start_method).splitlines() == ["True []", SQUARES, f"0 {SQUARES}"]


@every_method
def test_workers_inherit_no_descriptor(start_method, tmp_path):
    source = """
        import socket
        listening = socket.create_server(("127.0.0.1", 0))
        pair = socket.socketpair()
        opened = open("opened.txt", "w")
        opened.write("written once\\n")
        os.set_inheritable(pair[0].fileno(), True)

        def targets():
            found = []
            for name in os.listdir("/proc/self/fd"):
                try:
                    found.append(os.readlink(f"/proc/self/fd/{name}"))
                except FileNotFoundError:
                    pass
            return found

        @durable_execution(executor=ProcessExecutor(workers=3, start_method=METHOD))
        def handler(event, context):
            return context.map(range(6), lambda ctx, item, index, inputs: ctx.step(lambda _: targets())).get_results()

        squares()  # another pool, whose descriptors are nobody's business either
        here = set(targets()) - {"/dev/null"}
        inherited = [os.readlink(f"/proc/self/fd/{each}") for each in (0, 1, 2)]
        found = durapool.run(handler, id="descriptors", store="journal.db")
        print([sorted((set(each) & here) - set(inherited)) for each in found])
        streams = [[target for target in each if target.startswith(("socket:", "/")) and target != "/dev/null"
                    and not target.startswith("/proc")] for each in found]
        print([len(each) for each in streams])
        print(pair[0].send(b"x"), pair[1].recv(1))
        opened.close()
        print(open("opened.txt").read().strip())
    """
    done = run_program(tmp_path, source, start_method)
    shared, streams, talk, text = done.stdout.splitlines()
    assert shared == repr([[]] * 6)
    assert streams == repr([1] * 6), "a worker holds its own socket, and no other socket or file"
    assert talk == "1 b'x'"
    assert text == "written once"


@every_method
def test_workers_follow_directory_path_environment_and_log_levels(start_method, tmp_path):
    source = """
        import logging
        from pathlib import Path

        def look(ctx, item, index, inputs):
            try:
                import of_a_folder
                found = of_a_folder.VALUE
            except ImportError:
                found = None
            return [os.path.basename(os.getcwd()), os.environ.get("FIRST"), os.environ.get("SECOND"), found,
                    logging.getLogger("ours").isEnabledFor(logging.DEBUG)]

        @durable_execution(executor=ProcessExecutor(workers=1, start_method=METHOD))
        def handler(event, context):
            return context.map([0], look).get_results()[0]

        def seen(number):
            return durapool.run(handler, id=str(number), store=store)

        store = MemoryStore()
        os.environ["FIRST"] = "before any pool"
        print(seen(1))
        folder = Path("folder").absolute()
        folder.mkdir()
        (folder / "of_a_folder.py").write_text("VALUE = 'found'")
        os.chdir(folder)
        sys.path.append(str(folder))
        os.environ["SECOND"] = "after the first batch"
        logging.getLogger("ours").setLevel(logging.DEBUG)
        print(seen(2))
        squares(workers=3)  # a pool that starts with this environment
        os.chdir("..")
        del os.environ["FIRST"], os.environ["SECOND"]
        logging.getLogger("ours").setLevel(logging.NOTSET)
        print(seen(3))

        @durable_execution(executor=ProcessExecutor(workers=3, start_method=METHOD))
        def other(event, context):
            return context.map([0], look).get_results()[0]
        print(durapool.run(other, id="4", store=store))
    """
    first, second, third, fourth = printed(tmp_path, source, start_method).splitlines()
    assert first == repr([tmp_path.name, "before any pool", None, None, False])
    assert second == repr(["folder", "before any pool", "after the first batch", "found", True])
    assert third == fourth == repr([tmp_path.name, None, None, "found", False])


@every_method
def test_a_directory_that_is_gone_is_no_end(start_method, tmp_path):
    source = """
        squares()
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        print(squares())
    """
    assert printed(tmp_path, source, start_method) == SQUARES


@every_method
@pytest.mark.parametrize("streams", ["1>&-", "0<&- 1>&- 2>&-"])
def test_standard_streams_may_be_closed(streams, start_method, tmp_path):
    source = """
        @durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))
        def handler(event, context):
            def branch(ctx, item, index, inputs):
                print("to nobody")
                return item
            return context.map(range(4), branch).get_results()
        result = durapool.run(handler, id="closed", store=MemoryStore())
        with open("result", "w") as file:
            file.write(repr(result))
    """
    run_program(tmp_path, source, start_method, command=["sh", "-c", f'exec "$0" "$1" {streams}', sys.executable])
    assert (tmp_path / "result").read_text() == "[0, 1, 2, 3]"


@every_method
def test_warnings_as_errors_are_errors_in_branches_too_and_nowhere_else(start_method, tmp_path):
    source = """
        import warnings
        print(squares())

        @durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))
        def handler(event, context):
            def warns(ctx):
                warnings.warn("now an error", DeprecationWarning)
            return context.parallel([warns]).failed_results[0].type
        print(durapool.run(handler, id="warns", store="journal.db"))
    """
    done = run_program(tmp_path, source, start_method, command=[sys.executable, "-X", "dev", "-W", "error"])
    assert done.stdout.splitlines() == [SQUARES, "DeprecationWarning"]
    assert "Warning" not in done.stderr


@every_method
def test_exit_handlers_of_the_parent_run_once_and_those_of_workers_too(start_method, tmp_path):
    source = """
        import atexit

        def note(word):
            with open("exits", "a") as file:
                file.write(f"{word} {os.getpid()}\\n")

        atexit.register(note, "parent")

        @durable_execution(executor=ProcessExecutor(workers=1, start_method=METHOD, max_branches_per_worker=1))
        def handler(event, context):
            def branch(ctx, item, index, inputs):
                atexit.register(note, "worker")
            return context.map(range(3), branch).success_count
        squares()
        print(os.getpid(), durapool.run(handler, id="exits", store=MemoryStore()))
    """
    pid, count = printed(tmp_path, source, start_method).split()
    assert count == "3"
    lines = [line.split() for line in (tmp_path / "exits").read_text().splitlines()]
    assert [line[1] for line in lines if line[0] == "parent"] == [pid]
    workers = [line[1] for line in lines if line[0] == "worker"]
    assert len(workers) == len(set(workers)) == 3


@pytest.mark.parametrize(
    ("how", "start_method"),
    [*((how, method) for how in ("sitecustomize", "patch") for method in START_METHODS), ("nothing", "fork")],
)
def test_coverage_measures_in_workers(how, start_method, tmp_path):
    """By COVERAGE_PROCESS_START and a sitecustomize or a .pth file, or by coverage.py's own `patch = subprocess` (older
    versions write a .pth file for it); forked workers go on with what the parent measures."""
    if how == "patch" and not os.access(Path(coverage.__file__).parent.parent, os.W_OK):
        pytest.skip("coverage.py cannot write into site-packages")
    patch = "patch = subprocess\n" if how == "patch" else ""
    rcfile = tmp_path / "coveragerc"
    rcfile.write_text(f"[run]\nparallel = true\ndata_file = {tmp_path / 'data'}\nsource = .\n{patch}")
    (tmp_path / "by_reference.py").write_text("def double(item):\n    return item * 2\n")
    environment = {}
    if how == "sitecustomize":
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(COVERAGE_SITE)
        environment = {"COVERAGE_PROCESS_START": str(rcfile), "PYTHONPATH": str(tmp_path / "site")}
    source = """
        from by_reference import double

        @durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))
        def handler(event, context):
            def branch(ctx, item, index, inputs):
                value = ctx.step(lambda _: double(item))
                return value  # the last line of a branch
            return context.map(range(4), branch).get_results()
        print(durapool.run(handler, id="covered", store=MemoryStore()))
    """
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={rcfile}"]
    done = run_program(tmp_path, source, start_method, command=command, environment=environment)
    assert done.stdout.strip() == "[0, 2, 4, 6]"
    measured = _measured(tmp_path)
    program = (tmp_path / "program.py").read_text().splitlines()
    last = next(number for number, line in enumerate(program, 1) if "the last line of a branch" in line)
    assert last in measured["program.py"]
    assert 2 in measured["by_reference.py"]


def _measured(folder: Path) -> dict[str, set[int]]:
    lines: dict[str, set[int]] = {}
    for file in folder.glob("data.*"):
        data = coverage.CoverageData(str(file))
        data.read()
        for name in data.measured_files():
            lines.setdefault(Path(name).name, set()).update(data.lines(name) or ())
        data.close()
    return lines


@every_method
def test_libraries_in_workers_get_their_share_of_the_cpus(start_method, tmp_path):
    source = """
        import json

        @durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))
        def handler(event, context):
            return context.map([0], lambda ctx, item, index, inputs: dict(os.environ)).get_results()[0]
        print(json.dumps(durapool.run(handler, id="shares", store=MemoryStore())))
    """
    unset = [f"--unset={name}" for name in (*THREAD_VARIABLES, "PYTHONHASHSEED")]  # Dask's clusters set the last one
    command = ["env", *unset, "MKL_NUM_THREADS=7", sys.executable]
    found = json.loads(printed(tmp_path, source, start_method, command=command))
    share = str(max(1, usable_cpus() // 2))
    assert {name: found[name] for name in THREAD_VARIABLES} == dict.fromkeys(THREAD_VARIABLES, share) | {
        "MKL_NUM_THREADS": "7"
    }
    assert found["PYTHONHASHSEED"] == "0"


def test_shares_are_at_least_one_and_what_the_user_says_holds():
    assert worker_environment(10_000, {})["OMP_NUM_THREADS"] == "1"
    assert worker_environment(1, {})["OMP_NUM_THREADS"] == str(usable_cpus())
    given = worker_environment(1, {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "5", "OTHER": "kept"})
    assert (given["OMP_NUM_THREADS"], given["PYTHONHASHSEED"], given["OTHER"]) == ("3", "5", "kept")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this platform")
def test_the_number_of_workers_follows_the_affinity(tmp_path):
    source = """
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        from durapool.pool.machine import usable_cpus
        from durapool.pool.pool import Pool
        pool = Pool(ProcessExecutor())
        print(usable_cpus(), pool.link.size)
        pool.close()
    """
    assert printed(tmp_path, source, "forkserver") == "1 1"


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({}, None, None),
        ({}, "0::/", None),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/b/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 2.0),
        ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, "0::/a/b", 1.0),
        ({"cpu.max": "300000 100000"}, "0::/not/visible/in/a/container", 3.0),
        ({"other/cpu.max": "100000 100000"}, "0::/a", None),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/", 2.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/", None),
        (
            {"cpu,cpuacct/pod/cpu.cfs_quota_us": "80000", "cpu,cpuacct/pod/cpu.cfs_period_us": "100000"},
            "7:memory:/pod\n3:cpu,cpuacct:/pod/container",
            0.8,
        ),
        ({"cpu.max": "nonsense"}, "0::/", None),
        ({"cpu.max": ""}, "0::/", None),
    ],
)
def test_the_cpu_quota_is_the_smallest_of_the_cgroups_around(files, membership, quota, tmp_path):
    root, member = tmp_path / "cgroup", tmp_path / "membership"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    if membership is not None:
        member.write_text(membership + "\n")
    assert cgroup_quota(root, member) == quota


@pytest.mark.parametrize(("quota", "cpus"), [(0.2, 1), (1.0, 1), (10_000.0, None), (None, None)])
def test_a_quota_limits_the_cpus_to_at_least_one(quota, cpus, monkeypatch):
    monkeypatch.setattr("durapool.pool.machine.cgroup_quota", lambda: quota)
    assert usable_cpus() == (len(os.sched_getaffinity(0)) if cpus is None else cpus)
