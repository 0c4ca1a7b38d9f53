"""How findings are told: two tables, and numbered advice."""

import shutil
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffedit.commands.checkup.finding import Finding
from diffedit.commands.checkup.patient import Patient
from diffedit.commands.checkup.pictures import Sample

WIDTH = 100
STYLES = {"ok": "green", "look": "bold red", "": "dim"}


def show(facts: Sequence[Finding], checks: Sequence[Finding], patient: Patient) -> None:
    """Print all of it, in at most 100 columns."""
    console = Console(width=min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH), highlight=False)
    console.print(Text("Detected", "bold"), make_facts(facts), "", sep="\n")
    console.print(Text.assemble(("Measured", "bold"), f" on {patient.describe_pictures()}"))
    console.print(make_samples(patient.samples), "", sep="\n")
    console.print(make_checks(checks))
    told = [finding for finding in (*facts, *checks) if finding.advice]
    if told:
        console.print("", Text("Advice", "bold"), sep="\n")
        console.print(make_advice(told))
    wrong = sum(finding.verdict == "look" for finding in (*facts, *checks))
    console.print("", f"{wrong} not normal" if wrong else "all normal", sep="\n")


def make_facts(facts: Sequence[Finding]) -> Table:
    """What, and what it is."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for fact in facts:
        table.add_row(f"  {fact.name}", Text(fact.measured, "bold red" if fact.verdict == "look" else ""))
    return table


def make_samples(samples: Sequence[Sample]) -> Table:
    """Which pictures, and what is said of them."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for sample in samples:
        known = "" if sample.is_known else " (stand-ins: what it shows is not known, or not to the model)"
        table.add_row(f"  {sample.id}", Text(f"{sample.target!r} against {sample.source!r}{known}", "dim"))
    return table


def make_checks(checks: Sequence[Finding]) -> Table:
    """Verdict, check, measured, normal."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for options in ({"no_wrap": True}, {"no_wrap": True}, {"overflow": "fold"}, {"overflow": "fold"}):
        table.add_column(**options)
    table.add_row("", Text("check", "dim"), Text("measured", "dim"), Text("normal", "dim"))
    for check in checks:
        verdict = Text(f"  {check.verdict or '-':4}", STYLES[check.verdict])
        table.add_row(verdict, check.name, Text(check.measured), Text(check.normal))
    return table


def make_advice(told: Sequence[Finding]) -> Table:
    """By the name of the check."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in told:
        table.add_row(f"  {finding.name}", Text(finding.advice))
    return table
