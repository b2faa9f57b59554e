"""The group of commands, and what ``durapool --help`` says."""

from __future__ import annotations

import click

from durapool.cli.changing import callback, stop
from durapool.cli.doctor import doctor
from durapool.cli.errors import Group
from durapool.cli.exits import MEANINGS
from durapool.cli.looking import history, ls, show
from durapool.cli.removing import gc, rm
from durapool.cli.reporting import report
from durapool.cli.running import resume, run

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code.value:>3}  {text}" for code, text in MEANINGS.items())


@click.group(cls=Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="durapool", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks of durapool's own code. [default: as configured, else no]")
def cli(debug: bool) -> None:
    """Run durable handlers: kill them anywhere, run them again, they go on where they were.

    Executions are kept in .durapool/journal.db of the working directory, or where --store, DURAPOOL_STORE or
    [tool.durapool] in pyproject.toml says.

    \b
    Examples:
      durapool run jobs.py:main --id nightly --executor process
      durapool run jobs.py:main --id nightly        # after a kill: goes on
      durapool resume nightly --failed              # after a fix: only what failed runs
      durapool ls
      durapool show nightly --watch

    \b
    Completion of commands, options and ids, for bash (zsh and fish: see docs/cli.md):
      eval "$(_DURAPOOL_COMPLETE=bash_source durapool)"
    """


for _command in (run, resume, ls, show, history, report, callback, stop, rm, gc, doctor):
    cli.add_command(_command)
