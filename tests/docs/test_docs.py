"""Every page of the documentation does what it says: its files, scripts and commands run in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from doc_pages import INTERRUPT, ROOT, Command, File, Script, doings, fences, levelled, pages, pattern

PAGES = pages()
PATIENCE = 200  # seconds that one command may take
NOT_RUN = ("pip", "git", "make", "cd", "docker", "kubectl", "sbatch", "aws", "FROM", "RUN", "COPY", "WORKDIR", "CMD")
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.timeout(600)  # a page is many programs, and the machine may be busy
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, executor: str, tmp_path: Path) -> None:
    pytest.importorskip("click")
    pytest.importorskip("numpy")
    if page.stem == "clusters":
        pytest.importorskip("distributed")
    for number, doing in enumerate(doings(page)):
        match doing:
            case File(name, text):
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            case Script(line, source, output):
                (tmp_path / f"block_{number}.py").write_text(source, encoding="utf-8")
                check(page, line, f"{sys.executable} block_{number}.py", output, executor, tmp_path)
            case Command(line, command, output):
                check(page, line, command, output, executor, tmp_path)


def check(page: Path, line: int, command: str, output: str | None, executor: str, folder: Path) -> None:
    """Run one command and compare."""
    code, printed = shell(command, output, executor, folder)
    where = f"{page.relative_to(ROOT)}, the block at line {line}: {command}\nprinted\n{printed}"
    if output is not None:
        said = output.replace(INTERRUPT, "")
        assert pattern(said).fullmatch(levelled(printed)), f"{where}\ninstead of\n{said}"
    elif code != 0:
        pytest.fail(f"{where}\nand ended with {code}")


def shell(command: str, output: str | None, executor: str, folder: Path) -> tuple[int, str]:
    """Run a command line; its exit code, and stdout and stderr as a terminal mixes them."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DURAPOOL", "PYTEST", "COV"))}
    environment |= {
        "DURAPOOL_EXECUTOR": executor,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # blocks change files faster than bytecode notices
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}" if ";" not in command and "|" not in command else command],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    watchdog = threading.Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        printed = b""
        awaited = pattern(output.partition(INTERRUPT)[0]) if output is not None and INTERRUPT in output else None
        while chunk := os.read(process.stdout.fileno(), 65536):
            printed += chunk
            if awaited is not None and awaited.match(levelled(printed.decode("utf-8", "replace"))):
                awaited = None
                os.killpg(process.pid, signal.SIGINT)
        assert awaited is None, f"{command} ended before it could be interrupted:\n{printed.decode()}"
        return process.wait(), printed.decode()
    finally:
        watchdog.cancel()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_run_installs_or_belongs_to_another_machine(page: Path) -> None:
    lines = [
        line
        for _, _, language, code in fences(page)
        if language == "sh"
        for line in code.splitlines()
        if line.strip() and not line.startswith((" ", "#"))
    ]
    assert not [line for line in lines if line.split()[0] not in NOT_RUN]


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"]:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in LINK.findall(text):
            path = target.partition("#")[0]
            if path and "://" not in path:
                assert (page.parent / path).exists(), f"{page.relative_to(ROOT)} links to {target}"
