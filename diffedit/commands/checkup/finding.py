"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "look", ""]
"""Normal; not normal; or told without a verdict, since there is no one value that it should have."""


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        name: of what was looked at.
        measured: what was found.
        normal: what it should be, or what is usual where there is no verdict.
        verdict: whether it is.
        advice: what to do where it is not, with the setting or the file.
    """

    name: str
    measured: str
    normal: str = ""
    verdict: Verdict = ""
    advice: str = ""


def judge(name: str, measured: str, normal: str, is_normal: bool, advice: str) -> Finding:
    """A line whose advice is given where it is needed alone."""
    return Finding(name, measured, normal, "ok" if is_normal else "look", "" if is_normal else advice)
