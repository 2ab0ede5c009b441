"""`contimg demo`: a small survey, simulated, processed and published by the real pipeline."""

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import select

from dsa110_contimg.cli.process import initialize, run_with_progress
from dsa110_contimg.config import Settings, use_root
from dsa110_contimg.database import get_session
from dsa110_contimg.database.models import Mosaic
from dsa110_contimg.database.repositories import PhotometryRepository
from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.monitoring.logs import configure_logs, log_path
from dsa110_contimg.options import ImagingOptions, MosaicOptions, PipelineOptions
from dsa110_contimg.photometry.lightcurves import clean_lightcurve
from dsa110_contimg.photometry.plots import save_lightcurve
from dsa110_contimg.pipeline.catalogs import import_catalog
from dsa110_contimg.pipeline.truth_report import TruthReport, compare
from dsa110_contimg.simulation import SimulationOptions, Truth, load_truth, simulate
from dsa110_contimg.telescope import TILE_SECONDS

DAYS = (0, 8, 16, 24, 32, 40, 46, 52, 60, 68, 76, 84)
SIMULATION = SimulationOptions(
    antennas=40, channels=3, tiles=3, days=DAYS, transit="3C48", start="2025-10-01T00:00:00", ese="auto", control="auto"
)
OPTIONS = PipelineOptions(
    imaging=ImagingOptions(size=1440, cell_arcsec=8.0, threads=1),
    mosaic=MosaicOptions(tiles=3, overlap=0, min_tiles=3),
)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that the demo makes.")] = Path("demo"),
    workers: Annotated[int, typer.Option(help="Processes that work at once.", min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Simulate a strip around 3C48 on twelve days, run the real pipeline on the files, and compare with the truth.

    One source undergoes an extreme scattering event and one is a constant control. The report, a mosaic and two
    light curves land in the folder. Run again, the demo goes on where it was stopped.

    Example: contimg demo --out /tmp/demo
    """
    out = out.resolve()
    settings = use_root(out)
    if out.exists() and any(out.iterdir()) and not (settings.incoming).is_dir():
        raise ConfigurationError(f"{out} holds other things: give the demo a folder of its own (--out)")
    initialize(settings)
    configure_logs(log_path(settings))
    truth = _simulate(settings)
    import_catalog(settings.incoming / "catalog.csv")
    started = time.monotonic()
    summary = run_with_progress(settings, OPTIONS, once=True, workers=workers)
    seconds = time.monotonic() - started
    report = compare(truth)
    speed = report.tiles * TILE_SECONDS / seconds if len(summary.ended("completed")) > report.tiles else None
    pictures = _draw(truth, out)
    result = report.to_dict() | {"real_time_factor": speed, "pictures": {k: str(p) for k, p in pictures.items()}}
    (out / "report.json").write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print(report, speed, pictures, out)
    raise typer.Exit(summary.exit_code or int(not report.events_found))


def _simulate(settings: Settings) -> Truth:
    """Simulate the survey, or take the one that is there."""
    if (settings.incoming / "truth.json").is_file():
        return load_truth(settings.incoming)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=None)
        return simulate(
            settings.incoming,
            SIMULATION,
            lambda done, total: progress.update(task, completed=done, total=total),
            overwrite=True,
        )


def _draw(truth: Truth, out: Path) -> dict[str, Path]:
    """Draw the light curves of the event and the control, and find the last mosaic's picture."""
    mid_mjd = np.array([np.mean([g.mid_mjd for g in truth.groups if g.epoch == e]) for e in range(len(DAYS))])
    pictures = {}
    with get_session("products", read_only=True) as session:
        last = session.scalars(select(Mosaic).order_by(Mosaic.name.desc())).first()
        if last is not None and last.thumbnail_path:
            pictures["mosaic"] = Path(last.thumbnail_path)
        for source in truth.sources:
            if source.role not in ("ese", "control"):
                continue
            rows = PhotometryRepository.get_lightcurve(session, source.name)
            columns = (
                np.array([getattr(row, name) if getattr(row, name) is not None else np.nan for row in rows], float)
                for name in ("mjd", "normalized_flux_jy", "normalized_flux_err_jy")
            )
            curve = clean_lightcurve(source.name, *columns)
            path = out / f"lightcurve_{source.role}.png"
            save_lightcurve(path, curve, title=source.name, truth=(mid_mjd, np.array(source.flux_1405_jy)))
            pictures[f"light curve ({source.role})"] = path
    return pictures


def _print(report: TruthReport, speed: float | None, pictures: dict[str, Path], out: Path) -> None:
    def show(value: float | None, form: str) -> str:
        return "not measured" if value is None else format(value, form)

    beam = "not measured" if report.beam_arcsec is None else '{:.0f}" x {:.0f}"'.format(*report.beam_arcsec)
    ratio, scatter = show(report.flux_ratio_median, ".3f"), show(report.flux_ratio_scatter, ".3f")
    east, north = show(report.offset_east_arcsec, "+.2f"), show(report.offset_north_arcsec, "+.2f")
    lines = {
        "tiles": str(report.tiles),
        "mosaics": f"{report.mosaics}, {report.published} of them published",
        "beam, noise": f"{beam}, {show(report.noise_mjy, '.2f')} mJy/beam",
        "measured/true flux": f"{ratio}, scatter {scatter} ({report.n_fluxes} of isolated sources above 100 mJy)",
        "median offset": f'{east}" east, {north}" north',
        "injected event": ", ".join(report.injected_events),
        "candidates found": ", ".join(report.candidates) or "none",
        "speed": "resumed, not measured" if speed is None else f"{speed:.0f} times faster than the sky",
        **{name: str(path) for name, path in pictures.items()},
        "all figures": str(out / "report.json"),
    }
    for name, text in lines.items():
        typer.echo(f"{name:22s} {text}")
