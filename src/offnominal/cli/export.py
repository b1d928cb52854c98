"""``offnominal export``: a model for another runtime, checked."""

from __future__ import annotations

from pathlib import Path

import click

from offnominal.cli.console import Console
from offnominal.cli.console import command as command_of


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Choice(["onnx", "openvino"]), help="Form to write.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="fp16: openvino only.",
)
@click.option(
    "--sample", metavar="SOURCE", help="Items to compare scores on; else made-up pictures are used."
)
@click.option("--normals", metavar="SOURCE", help="Normal items for a threshold of the export's own.")
@command_of
def command(
    console: Console, model: Path, to: str, out: Path, precision: str, sample: str | None, normals: str | None
) -> None:
    """Write MODEL as one self-contained graph, and check that it scores as the model does.

    The graph holds pre-processing, score and map; the threshold is a file beside it that may be changed.
    """
    from offnominal.cli.described import size_of, size_words
    from offnominal.core.store import read_json
    from offnominal.image.export import export

    folder = export(model, to, out, precision=precision, sample=sample, normals=normals)
    header = read_json(folder / "export.json")
    parity = header["parity"]
    apart = max(parity["deviation_from_fp32"].values())
    console.say(f"Export: {folder} ({size_words(size_of(folder))})")
    console.say(
        f"Checked on {parity['images']} images ({parity['of']}) in {parity['run_by']}: scores and maps at "
        f"most {apart:.1g} apart, relative ({parity['limit']:g} is allowed)."
    )
    threshold = read_json(folder / "threshold.json")
    if threshold.get("threshold") is None:
        console.say(f"No threshold: {threshold.get('note') or 'the model has no decision'}.")
    console.result(
        {"export": str(folder), "to": to, "bytes": size_of(folder), "parity": parity, "threshold": threshold}
    )
