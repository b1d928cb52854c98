"""Errors as a user meets them: a sentence on standard error and an exit code."""

from __future__ import annotations

import json
import os
import sys

import click

from offnominal.core.card import UnknownName
from offnominal.core.errors import OffnominalError

FAILED, WRONG_USE, BAD_ITEMS, INTERRUPTED = 1, 2, 3, 130


class Failure(OffnominalError):
    """A command cannot go on; the message is for the user as it stands."""


def report(error: BaseException, *, as_json: bool = False) -> int:
    """Print what went wrong and return the exit code.

    Parameters
    ----------
    error : BaseException
        What reached the top of the command line.
    as_json : bool
        Whether standard output gets ``{"error": …, "exit_code": …}`` beside the sentence.
    """
    text, code = _words(error)
    if os.environ.get("OFFNOMINAL_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        print(error.ctx.get_usage(), file=sys.stderr)
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    shown = f"error: {text}" if code != INTERRUPTED else text
    print(shown.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": text, "exit_code": code}))
    return code


def _words(error: BaseException) -> tuple[str, int]:
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "interrupted; what was written stays, the same command goes on from there", INTERRUPTED
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, UnknownName):
        return str(error), WRONG_USE
    if isinstance(error, OffnominalError):
        return str(error), FAILED
    if isinstance(error, OSError):
        return os_words(error), FAILED
    if isinstance(error, MemoryError):
        return "not enough memory; a smaller image_size, bank_size or memory_budget needs less", FAILED
    if isinstance(error, ValueError):
        return str(error) or type(error).__name__, WRONG_USE
    if "No space left on device" in str(error):  # from writers that have errors of their own
        return "no space left on the device; make room, then give the same command again", FAILED
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"unexpected {said}; this is a fault of offnominal (OFFNOMINAL_DEBUG=1 shows where)", FAILED


def os_words(error: OSError) -> str:
    """What the operating system refused, and of which file."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason
