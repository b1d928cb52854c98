"""Write the index of cards, ``cards.json``, from the source: ``python -m offnominal.core``.

With ``--check`` nothing is written, and the exit code is 1 where the committed index is not up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from offnominal.core.card import index_text
from offnominal.core.store import write_text


def main(arguments: list[str]) -> int:
    """Write or check the index; return the exit code."""
    package = Path(__file__).resolve().parent.parent
    text = index_text(package)
    committed = package / "cards.json"
    if arguments == ["--check"]:
        current = committed.is_file() and committed.read_text(encoding="utf-8") == text
        if not current:
            print("cards.json is out of date: run `python -m offnominal.core`", file=sys.stderr)
        return 0 if current else 1
    write_text(committed, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
