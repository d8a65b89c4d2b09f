"""`codesign export DIR`: a trained network as a verified ONNX file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--best", metavar="METRIC", help="The front's best in this metric. [default: the first objective]")
@click.option("--trial", type=click.IntRange(min=0), metavar="N", help="This trial.")
@click.option("--where", help='Only members that meet this, for example "latency_ms@edge <= 0.5".')
@click.option(
    "--out", default="model.onnx", show_default=True, type=click.Path(path_type=Path), help=".onnx file or folder."
)
def command(folder: Path, best: str | None, trial: int | None, where: str | None, out: Path) -> None:
    """Write one member of the front as ONNX with a manifest, once onnxruntime is proven to agree with torch."""
    from codesign.errors import InputError
    from codesign.export_place import check_writable, places
    from codesign.expressions import parse_condition
    from codesign.run import open_run
    from codesign.select import export_facts, pick

    if trial is not None and (best or where):
        raise InputError("--trial names one trial; it does not go with --best or --where")
    check_writable(*places(out))
    run = open_run(folder)
    parts = run.parts()
    number = pick(run, parts, best, parse_condition(where) if where else None) if trial is None else trial
    code, weights, facts = export_facts(run, parts, number)
    from codesign.data.dataset import Dataset
    from codesign.export_torch_onnx import export_model
    from codesign.train_session_torch import trained_network

    data: Dataset = parts.context.load_data()
    run.check_data(data)
    network_code = parts.context.network_codes(code[None])[0]
    network = trained_network(lambda: parts.context.network_space.build(network_code), weights, data)
    manifest = export_model(network, data, out, facts)
    accuracy = manifest.accuracy
    click.echo(
        f"trial {number}: {out}, {manifest.model.bytes:,} bytes; test accuracy {accuracy.value:.4f} "
        f"({accuracy.correct} of {accuracy.n} in onnxruntime; 95 %: {accuracy.low:.4f} to {accuracy.high:.4f})"
    )
    click.echo(
        f"onnxruntime agrees with torch in {len(manifest.parity)} comparisons; check it with: codesign verify {out}"
    )
