"""The group of commands: its help imports none of them, and no traceback leaves it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from offnominal import __version__
from offnominal.cli.console import Console
from offnominal.cli.failures import report

COMMANDS = {
    "demo": "Run the main job on real photographs that ship with the install.",
    "fit": "Learn what is normal from a source of normal items.",
    "calibrate": "Replace a model's decision: other normal items, another false-alarm rate.",
    "detect": "Score the items of a source, and say which are anomalous and where.",
    "explain": "Say of one item how it scores and why, and draw where.",
    "audit": "Judge a detector beyond its scores: does it look where the anomaly is?",
    "catalogue": "List the detectors.",
    "export": "Write a model for another runtime, and check that it scores the same.",
    "bench": "Measure detectors on a suite of data sets.",
    "doctor": "Say what is installed, which weights and runtimes, and what to do about the rest.",
}
"""Commands and their first sentence, in the order of the help."""


class Commands(click.Group):
    """A group that imports a command when it runs, and turns errors into a sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module, which calls its command ``command``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"offnominal.cli.{cmd_name}").command
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and suggest near names for one that is not there."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Run, and leave with 0 done, 1 failed, 2 wrong use, 3 done with bad items."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning, module="offnominal")
            warnings.showwarning = _one_line
            try:
                code = super().main(arguments, *rest, **extra)
            except Exception as error:
                code = report(error, as_json="--json" in arguments)
            except KeyboardInterrupt as error:
                code = report(error, as_json="--json" in arguments)
        sys.exit(code if isinstance(code, int) else 0)


def _one_line(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--json", "as_json", is_flag=True, help="One JSON value on standard output, for machines.")
@click.option("--quiet", is_flag=True, help="No progress and no summary; errors are still shown.")
@click.pass_context
def app(ctx: click.Context, as_json: bool, quiet: bool) -> None:
    r"""Find what is off-normal, show where, and say how sure it is.

    \b
      offnominal fit parts/good --out model
      offnominal detect model parts/new --out found --report

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 done with bad items.
    """
    ctx.obj = Console(as_json=as_json, quiet=quiet)
