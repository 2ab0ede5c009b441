"""`contimg report`: what the pipeline makes of sources whose truth is known."""

import json
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from dsa110_contimg.cli.options import flags_from
from dsa110_contimg.database import get_session
from dsa110_contimg.errors import BadInputError
from dsa110_contimg.formats import measurement_set
from dsa110_contimg.options import ImagingOptions, PhotometryOptions, QAOptions
from dsa110_contimg.pipeline.blank_tiles import BlankOptions, simulate_blank_tiles
from dsa110_contimg.pipeline.completeness import (
    THRESHOLDS,
    CompletenessOptions,
    measure_completeness,
    real_curves,
)
from dsa110_contimg.pipeline.injection import InjectionOptions, InjectionReport, Load, run_injection
from dsa110_contimg.pipeline.planting import planted_recovery
from dsa110_contimg.qa.checks import Check, Verdict, verdict_of
from dsa110_contimg.qa.completeness_plots import completeness_page
from dsa110_contimg.qa.recovery_plots import RecoverySeries, recovery_page

app = typer.Typer(help="How near the pipeline comes to the truth.", no_args_is_help=True)


@app.callback()
def report() -> None:
    """Hold the pipeline against known truths."""


@app.command("truth")
@flags_from(BlankOptions, "blank")
@flags_from(InjectionOptions, "injection")
def truth(
    ms: Annotated[
        list[Path] | None,
        typer.Argument(help="Calibrated sets of neighboring tiles; without any, tiles of noise are simulated."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for truth.png and truth.json.")] = Path(),
    size: Annotated[int, typer.Option(help="Pixels on a side of a tile; 0 covers the field.")] = 0,
    cell_arcsec: Annotated[float, typer.Option(help="Pixel size; 0 follows the synthesized beam.")] = 0.0,
    threads: Annotated[int, typer.Option(help="Threads; 0 uses every core, 1 repeats bits.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    *,
    blank: BlankOptions,
    injection: InjectionOptions,
) -> None:
    """Inject sources into visibilities, image and coadd them, and plot what comes back against the truth.

    Fluxes, positions, completeness and reliability go into truth.png and truth.json. The exit code is 1 if a figure
    misses its limit.

    Example: contimg report truth --antennas 40 --tiles 3 --out report
    """
    imaging = ImagingOptions(size=size, cell_arcsec=cell_arcsec, threads=threads, smearing=injection.smear)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="contimg_truth_") as scratch:
        tiles = _given(ms) if ms else simulate_blank_tiles(Path(scratch), blank)
        console = Console(stderr=True)
        with console.status("imaging") as status:
            made = run_injection(
                tiles, imaging, injection, blank=not ms, progress=lambda doing: status.update(f"imaging {doing}")
            )
    checks = made.checks(QAOptions())
    series = [RecoverySeries(kind, images) for kind, images in made.kinds.items()]
    page = recovery_page(out / "truth.png", series, checks, _title(ms, blank, made))
    figures = {"injection": asdict(injection), **made.to_dict(), "checks": [asdict(check) for check in checks]}
    (out / "truth.json").write_text(json.dumps(figures, indent=1) + "\n")
    _print(checks, page, made, as_json=as_json)
    raise typer.Exit(int(verdict_of(checks) is Verdict.FAILED))


@app.command("completeness")
@flags_from(CompletenessOptions, "wanted")
@flags_from(PhotometryOptions, "photometry")
def completeness(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for completeness.png and completeness.json.")
    ] = Path(),
    real: Annotated[bool, typer.Option("--real", help="Use the light curves of the database.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    *,
    wanted: CompletenessOptions,
    photometry: PhotometryOptions,
) -> None:
    """Put scattering events into light curves, and plot which are found and how many alarms are false.

    Without --real the light curves are simulated; with it, what the runs themselves injected into images is told too.

    Example: contimg report completeness --trials 100 --out report
    """
    out.mkdir(parents=True, exist_ok=True)
    curves, injected = [], {}
    if real:
        with get_session("products", read_only=True) as session:
            curves, injected = real_curves(session), planted_recovery(session, photometry)
        if not curves:
            raise BadInputError("no light curve of the database has 20 epochs yet: leave out --real to simulate them")
    with Console(stderr=True).status("searching") as status:
        made = measure_completeness(wanted, photometry, curves, lambda doing: status.update(f"searching {doing}"))
    events = [(cell.depth, cell.days, cell.snr, cell.found) for cell in made.cells if not cell.rise]
    rates = 1000.0 * np.array(made.false_alarms) / made.source_years
    page = completeness_page(out / "completeness.png", events, THRESHOLDS, rates, made.threshold, made.kind)
    figures = {"options": asdict(wanted), **made.to_dict(), "injected": injected, "picture": str(page)}
    (out / "completeness.json").write_text(json.dumps(figures, indent=1) + "\n")
    if as_json:
        typer.echo(json.dumps(figures, indent=1))
        return
    for cell in made.cells:
        signal = f"S/N {cell.snr:g}" if cell.snr is not None else "own S/N"
        kind = "flare" if cell.rise else "depth"
        typer.echo(
            f"{kind} {cell.depth:4.2f}  {cell.days:5.0f} days  {signal:8s} {100.0 * cell.found:5.1f} % of {cell.n}"
        )
    for kind, (seen, found) in injected.items():
        typer.echo(f"injected into images: {found} of {seen} {kind} became candidates")
    typer.echo(f"{1000.0 * made.false_rises / made.source_years:.2f} false flares in 1,000 source-years")
    typer.echo(
        f"{made.rate:.2f} false alarms in 1,000 source-years (below {made.rate_limit:.2f} at 95 %), "
        f"from {made.source_years:.0f} source-years"
    )
    typer.echo(str(page))


def _given(paths: list[Path]) -> list[Load]:
    for path in paths:
        if "CORRECTED_DATA" not in measurement_set.columns(path):
            raise BadInputError(f"{path} has no CORRECTED_DATA: calibrate it before sources are injected")
    return [partial(measurement_set.load, path, "CORRECTED_DATA") for path in paths]


def _title(ms: list[Path] | None, blank: BlankOptions, made: InjectionReport) -> str:
    where = ", ".join(path.name for path in ms) if ms else f"{blank.tiles} tiles of noise, {blank.antennas} antennas"
    return f"{len(made.sky)} sources injected into {where}"


def _print(checks: list[Check], page: Path, made: InjectionReport, *, as_json: bool) -> None:
    if as_json:
        told = [asdict(check) for check in checks]
        typer.echo(json.dumps({"checks": told, "noise_jy": made.noise_jy, "picture": str(page)}, indent=2))
        return
    noise = ", ".join(f"{1e3 * value:.2f}" for value in made.noise_jy)
    typer.echo(f"beam {made.beam.major_arcsec:.0f} x {made.beam.minor_arcsec:.0f} arcsec; noise {noise} mJy/beam")
    for kind, bins in made.bins().items():
        typer.echo(f"{kind}: flux, measured over true; scatter of fluxes and of offsets over predicted (Condon 1997)")
        for one in bins:
            flux, offsets, condon = one.flux, one.position_scatter.value, one.condon_scatter.value
            typer.echo(
                f"  S/N {one.low_snr:4g} to {one.high_snr:<6g} {flux.n:4d}   {flux.value:.4f} ± {flux.error:.4f}"
                f"   {one.flux_scatter.value:.2f}   {offsets:.2f} ({condon:.2f})"
            )
    for check in checks:
        typer.echo(f"{check.verdict:10s} {check.name:24s} {check.reason}")
    typer.echo(str(page))
