"""The command line: one file a command, each imported only when it is run."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the entry point of the ``offnominal`` script."""
    from offnominal.cli.app import app

    app(prog_name="offnominal")


__all__ = ["main"]
