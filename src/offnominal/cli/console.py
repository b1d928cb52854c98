"""What a command prints: words for people, one JSON value for machines, nothing when quiet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

import click

from offnominal.core.progress import shown
from offnominal.report import Column, print_table
from offnominal.report.table import visible

F = TypeVar("F", bound=Callable[..., Any])
"""A command's function."""


@dataclass(frozen=True, slots=True)
class Console:
    """Where a command's words go.

    Attributes
    ----------
    as_json : bool
        Print one JSON value at the end instead of words.
    quiet : bool
        Print no words and no progress.
    """

    as_json: bool = False
    quiet: bool = False

    def say(self, text: str = "") -> None:
        """Print a line for people; control signs in it are shown, not obeyed."""
        if not (self.as_json or self.quiet):
            print("\n".join(_printable(line) for line in text.split("\n")), flush=True)

    def table(self, rows: Sequence[dict[str, Any]], columns: Sequence[str | Column], title: str = "") -> None:
        """Print a table for people."""
        if not (self.as_json or self.quiet):
            if title:  # in its own line: a title wraps where the table is narrow
                self.say(title)
            print_table(rows, columns, file=sys.stdout)

    def result(self, value: Any) -> None:
        """Print the result for machines."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=True, allow_nan=False), flush=True)


def _printable(line: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return visible(line).encode(encoding, "backslashreplace").decode(encoding)


def command(function: F) -> F:
    """Give a command ``--json`` and ``--quiet`` of its own, progress, and a `Console` as first argument."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON value on standard output, for machines.")
    @click.option("--quiet", is_flag=True, help="No progress and no summary; errors are still shown.")
    @wraps(function)
    def run(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        outer = click.get_current_context().find_object(Console) or Console()
        console = replace(outer, as_json=outer.as_json or as_json, quiet=outer.quiet or quiet)
        with shown(not console.quiet):
            return function(console, *args, **options)

    return run  # type: ignore[return-value]
