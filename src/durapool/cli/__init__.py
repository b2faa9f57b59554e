"""The command ``durapool``. It needs the extra ``cli`` (click and rich); the library itself does not."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit; the exit codes are in :mod:`durapool.cli.exits`."""
    try:
        import click as _click  # noqa: F401
        import rich as _rich  # noqa: F401
    except ImportError:
        sys.stderr.write("durapool: the command line needs click and rich: pip install 'durapool[cli]'\n")
        raise SystemExit(2) from None
    from durapool.cli.app import cli
    from durapool.cli.unbuffered import writing_all

    sys.stdout = writing_all(sys.stdout)
    cli.main(prog_name="durapool")
