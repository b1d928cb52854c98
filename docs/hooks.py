"""What the documentation makes of the code while it is built: the executed tutorial, and lists of files.

MkDocs calls the ``on_…`` functions. A tutorial block that raises fails the build.
"""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
TUTORIAL = "tutorial.md"


@dataclass
class Executed:
    """What the blocks of a page printed and drew, in order."""

    printed: list[str] = field(default_factory=list)
    pictures: list[list[tuple[str, str]]] = field(default_factory=list)


_tutorial = Executed()


def on_config(config: Any) -> Any:
    """Fill in the pages of the folders that grow by a file: ``Benchmarks: benchmarks/`` in the navigation."""
    for entry in config["nav"]:
        for title, target in entry.items():
            if isinstance(target, str) and target.endswith("/"):
                names = sorted(path.name for path in (ROOT / "docs" / target).glob("*.md"))
                names.sort(key=lambda name: name != "index.md")
                entry[title] = [target + name for name in names]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Run the tutorial, and add its pictures to the site."""
    page = files.get_file_from_path(TUTORIAL)
    if page is None:
        raise PluginError(f"docs/{TUTORIAL} is missing")
    _tutorial.printed.clear()
    _tutorial.pictures.clear()
    # The stems of blocks are their numbers: a change of text leaves picture names as they are.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        names: dict[str, Any] = {"__name__": "__tutorial__"}
        for number, block in enumerate(BLOCK.findall(page.content_string), 1):
            printed, drawn = _execute(block, number, names)
            _tutorial.printed.append(printed)
            _tutorial.pictures.append([(name, label) for name, label, _ in drawn])
            for name, _, content in drawn:
                files.append(File.generated(config, name, content=content))
    return files


def _execute(block: str, number: int, names: dict[str, Any]) -> tuple[str, list[tuple[str, str, bytes]]]:
    """Run one block; return what it printed, and name, label and PNG of every figure it drew."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DeprecationWarning)
            exec(compile(block, f"{TUTORIAL}, block {number}", "exec"), names)
    except Exception as error:
        raise PluginError(f"{TUTORIAL}, block {number}: {type(error).__name__}: {error}") from error
    drawn = []
    for order, figure_number in enumerate(pyplot.get_fignums()):
        figure = pyplot.figure(figure_number)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=130)
        drawn.append((f"tutorial-{number}-{order}.png", str(figure.get_label()), png.getvalue()))
    pyplot.close("all")
    return printed.getvalue(), drawn


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put in what is made from the code."""
    if page.file.src_uri == TUTORIAL:
        return BLOCK.sub(partial(_with_output, iter(range(len(_tutorial.printed)))), markdown)
    for name, made in GENERATED.items():
        if (mark := f"<!-- {name} -->") in markdown:
            markdown = markdown.replace(mark, made())
    return markdown


def _with_output(numbers: Any, match: re.Match[str]) -> str:
    number = next(numbers)
    parts = [match.group(0)]
    if printed := _tutorial.printed[number].rstrip():
        parts.append(f"``` {{ .text .output }}\n{printed}\n```\n")
    parts += [f"![{label}]({name})\n" for name, label in _tutorial.pictures[number]]
    return "\n".join(parts)


def _catalogue() -> str:
    """One table a modality, from the committed index of cards."""
    cards = json.loads((ROOT / "src/offnominal/cards.json").read_text(encoding="utf-8"))
    lines: list[str] = []
    for modality in sorted({card["modality"] for card in cards}):
        lines += [
            f"## {modality.capitalize()}",
            "",
            "| name | row | source | setting | learns from | scope | localises | streams | rests on |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for card in cards:
            if card["modality"] != modality:
                continue
            name = f"`{card['name']}`"
            if card["extra"]:
                name += f"<br>needs `[{card['extra']}]`"
            cells = [
                name,
                card["row"] or "baseline",
                f"[{_cell(card['title'])}]({card['url']}), {card['year']}",
                ", ".join(card["setting"]),
                card["supervision"],
                card["scope"],
                "yes" if card["localises"] else "no",
                "yes" if card["streams"] else "no",
                ", ".join(card["explains"]),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        lines += [f"- `{card['name']}`: {card['summary']}" for card in cards if card["modality"] == modality]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|")


def _listing(folder: str) -> str:
    """List the pages of a folder by their titles, in the order of their names."""
    lines = []
    for path in sorted((ROOT / "docs" / folder).glob("*.md")):
        if path.name == "index.md":
            continue
        title = next(
            (line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")),
            path.stem,
        )
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) or "None yet."


def _commands() -> str:
    """The help of every command."""
    import click

    from offnominal.cli.app import app

    parent = click.Context(app, info_name="offnominal")
    lines: list[str] = []
    for name in app.list_commands(parent):
        command = app.get_command(parent, name)
        assert command is not None
        text = command.get_help(click.Context(command, info_name=name, parent=parent, max_content_width=96))
        lines += [f"## {name}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def _changelog() -> str:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return text.split("\n", 1)[1]


GENERATED: dict[str, Callable[[], str]] = {
    "benchmarks": partial(_listing, "benchmarks"),
    "catalogue": _catalogue,
    "changelog": _changelog,
    "commands": _commands,
    "decisions": partial(_listing, "decisions"),
}
"""What takes the place of ``<!-- name -->`` in a page."""
