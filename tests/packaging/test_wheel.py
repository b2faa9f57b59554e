"""What is published works: the wheel and the sdist are built, the wheel is installed into a clean venv and used there.

Nothing is downloaded: the venv sees the dependencies of the environment that runs the tests, but not durapool itself.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DEPENDENCIES = ("cloudpickle", "msgpack", "psutil", "click", "rich", "markdown_it", "mdurl", "pygments")

JOB = """
import os
import durapool
from durapool import DurableContext, durable_execution

@durable_execution
def handler(event, context: DurableContext):
    batch = context.map([1, 2, 3], lambda ctx, n, index, inputs: ctx.step(lambda _: (n * n, os.getpid())))
    batch.throw_if_error()
    return batch.get_results()

results = durapool.run(handler, id="squares", store="journal.db", executor="process:2")
assert [square for square, _ in results] == [1, 4, 9], results
assert os.getpid() not in {pid for _, pid in results}, results
assert durapool.run(handler, id="squares", store="journal.db", executor="process:2") == results
print(durapool.__version__, durapool.__file__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def clean(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a venv with the wheel in it, and its dependencies from here."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    target = sysconfig.get_path("purelib", vars={"base": str(folder)})
    [wheel] = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, str(wheel), cwd=folder)
    for name in DEPENDENCIES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            (Path(target) / name).symlink_to(Path(spec.origin).parent)
    return python


def run(*command: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DURAPOOL", "COV"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_process_job_runs_from_the_wheel(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    version, file = run(str(clean), "job.py", cwd=tmp_path).split()
    assert version == VERSION
    assert file.startswith(str(clean.parent.parent))


@pytest.mark.parametrize("command", [["-m", "durapool"], ["-c", "from durapool.cli import main; main()"]])
def test_the_command_line_runs_from_the_wheel(clean: Path, tmp_path: Path, command: list[str]) -> None:
    pytest.importorskip("click")
    assert "durapool resume nightly" in run(str(clean), *command, "--help", cwd=tmp_path)
    assert "durapool: no store" in failing(str(clean), *command, "show", "nightly", cwd=tmp_path)


def failing(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_the_extra_the_command_says_what_to_install(clean: Path, tmp_path: Path) -> None:
    hide = "import sys; sys.modules['click'] = None; from durapool.cli import main; main()"
    assert "pip install 'durapool[cli]'" in failing(str(clean), "-c", hide, cwd=tmp_path)


def test_the_wheel_holds_the_package_its_types_and_nothing_else(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"durapool", f"durapool-{VERSION}.dist-info"}
    assert {"durapool/py.typed", f"durapool-{VERSION}.dist-info/licenses/LICENSE"} <= names
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


def test_the_entry_points_are_declared(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    declared = zipfile.ZipFile(wheel).read(f"durapool-{VERSION}.dist-info/entry_points.txt").decode()
    assert "durapool = durapool.cli:main" in declared
    assert "durapool = durapool.testing.plugin" in declared


def test_the_sdist_holds_what_its_tests_need_and_no_leftovers(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"src/durapool/py.typed", "tests/conftest.py", "docs/parallel-operations.md", "examples/etl.py"} <= names
    leftovers = {
        name for name in names if name.startswith((".venv", "build", "site", ".durapool")) or "__pycache__" in name
    }
    assert not leftovers
