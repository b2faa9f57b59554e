"""``durapool doctor``: what this machine gives, and what durapool will make of it."""

from __future__ import annotations

import click

from durapool.cli.errors import say
from durapool.cli.exits import ExitCode
from durapool.cli.options import as_json, json_option


@click.command()
@json_option("The findings as a JSON list.")
@click.pass_context
def doctor(context: click.Context, json_output: bool) -> None:
    """Look at CPUs, start methods, memfd, semaphores, thread counts, configuration and store, and try a worker.

    It says what the process executor will therefore do, and ends with exit code 3 if something would keep it from
    working. Nothing is changed, and no store is made.

    \b
    Examples:
      durapool doctor
      durapool doctor --json | jq '.[] | select(.problem != "")'
    """
    from dataclasses import asdict

    from durapool.diagnosis import diagnose

    findings = []
    for finding in diagnose():
        findings.append(finding)
        if not json_output:
            click.echo(f"{finding.topic:<14} {finding.text}")
    if json_output:
        click.echo(as_json([asdict(finding) for finding in findings], pretty=True))
    problems = [finding for finding in findings if finding.problem]
    for finding in problems:
        say(f"{finding.topic}: {finding.problem}")
    if problems:
        context.exit(ExitCode.UNAVAILABLE)
