"""`contimg calibrators`: which sources calibrate, when they transit, and what a table looks like."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dsa110_contimg.config import Settings
from dsa110_contimg.database.models import BandpassCalibrator
from dsa110_contimg.options import CalibrationOptions
from dsa110_contimg.telescope import mjd_to_unix, unix_to_mjd

app = typer.Typer(help="Calibrators, their transits, and their tables.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_LIST = "{:16}  {:>10}  {:>10}  {:>17}  {:>9}  {:>8}  {:10}"
_TRANSIT = "{:19}  {:16}  {:>7}  {:>6}  {:>8}  {:>9}  {:6}  {}"


@app.callback()
def calibrators() -> None:
    """List and add calibrators, see when they transit, and draw tables."""


@app.command("list")
def list_command(
    dec_deg: Annotated[float | None, typer.Option("--dec", help="Only those of a strip of declination (deg).")] = None,
    status: Annotated[str, typer.Option(help="active, retired, or all.")] = "active",
    as_json: Json = False,
) -> None:
    """List the registered calibrators, the brightest first.

    Example: contimg calibrators list --dec 33.2
    """
    from dsa110_contimg.database.calibrators import get_bandpass_calibrators

    rows = get_bandpass_calibrators(dec_deg, None if status == "all" else status)
    if as_json:
        typer.echo(json.dumps([_entry(row) for row in rows], indent=2))
        return
    typer.echo(_LIST.format("calibrator", "RA (deg)", "Dec (deg)", "strips (deg)", "flux (Jy)", "at GHz", "anchor"))
    for row in rows:
        strips = f"{_number(row.dec_range_min, '+.2f')} to {_number(row.dec_range_max, '+.2f')}"
        flux, freq = _number(row.flux_jy, ".3f"), _number(row.flux_freq_ghz, ".3f")
        position = f"{row.ra_deg:.4f}", f"{row.dec_deg:+.4f}"
        typer.echo(_LIST.format(row.calibrator_name, *position, strips, flux, freq, _anchor(row.calibrator_name)))


def _entry(row: BandpassCalibrator) -> dict[str, object]:
    columns = ("ra_deg", "dec_deg", "dec_range_min", "dec_range_max", "flux_jy", "flux_freq_ghz", "spectral_index")
    told: dict[str, object] = {name: getattr(row, name) for name in (*columns, "source_catalog", "status", "notes")}
    return {"calibrator": row.calibrator_name, **told, "anchor": _anchor(row.calibrator_name)}


def _anchor(name: str) -> str:
    """Return how well a calibrator sets the flux scale."""
    from dsa110_contimg.flux_scale import anchor_systematic

    error = anchor_systematic(name)
    return "no" if error is None else f"within {error:.0%}" if error else "steady"


def _number(value: float | None, shape: str) -> str:
    return "" if value is None else format(value, shape)


@app.command("add")
def add_command(
    name: Annotated[str, typer.Argument(help="Name of the calibrator; a known one is updated.")],
    ra_deg: Annotated[float, typer.Option("--ra", help="Right ascension (deg, ICRS).")],
    dec_deg: Annotated[float, typer.Option("--dec", help="Declination (deg, ICRS).")],
    flux_jy: Annotated[float | None, typer.Option("--flux", help="Flux density (Jy).")] = None,
    freq_ghz: Annotated[float | None, typer.Option("--freq", help="Frequency of that flux (GHz).")] = None,
    spectral_index: Annotated[float | None, typer.Option("--alpha", help="Spectral index there.")] = None,
    strip_deg: Annotated[float, typer.Option("--strip", help="It serves strips within so many degrees.")] = 1.5,
    notes: Annotated[str | None, typer.Option(help="What else is to be known.")] = None,
) -> None:
    """Register a calibrator. Only the calibrators of Perley & Butler set the flux scale, whatever is added.

    Example: contimg calibrators add 0834+555 --ra 128.7287 --dec 55.5725 --flux 8.3 --freq 1.4 --alpha -0.4
    """
    from dsa110_contimg.calibration.transits import rises
    from dsa110_contimg.cli.process import initialize
    from dsa110_contimg.database.calibrators import register_bandpass_calibrator
    from dsa110_contimg.errors import ConfigurationError

    if not rises(dec_deg):
        raise ConfigurationError(f"{name} at declination {dec_deg:g} never rises at the telescope: it cannot calibrate")
    initialize(Settings())
    given = {"flux_jy": flux_jy, "flux_freq_ghz": freq_ghz, "spectral_index": spectral_index, "notes": notes}
    columns: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    columns |= {"dec_range_min": dec_deg - strip_deg, "dec_range_max": dec_deg + strip_deg}
    register_bandpass_calibrator(name, ra_deg, dec_deg, registered_by="contimg calibrators add", **columns)
    typer.echo(f"{name} serves strips from {dec_deg - strip_deg:+.2f} to {dec_deg + strip_deg:+.2f} deg")


@app.command("transits")
def transits_command(
    names: Annotated[list[str] | None, typer.Argument(help="Calibrators; none for all that are registered.")] = None,
    dec_deg: Annotated[
        float | None, typer.Option("--dec", help="Strip (deg of date); else that of the newest tile.")
    ] = None,
    start: Annotated[datetime | None, typer.Option(help="Begin of the span (UTC); else now.")] = None,
    days: Annotated[float, typer.Option(help="Length of the span (days).")] = 2.0,
    min_beam: Annotated[float, typer.Option(help="Leave out what the primary beam sees below this response.")] = 0.01,
    as_json: Json = False,
) -> None:
    """Say which calibrator transits a strip when, and how bright it is behind the primary beam.

    Example: contimg calibrators transits --dec 33.2 --start 2025-12-24 --days 3
    """
    from dsa110_contimg.pipeline.calibrator_transits import latest_strip_deg, list_transits

    moment = datetime.now(UTC) if start is None else start.replace(tzinfo=UTC)
    begin, strip = unix_to_mjd(moment.timestamp()), latest_strip_deg() if dec_deg is None else dec_deg
    options = CalibrationOptions()
    found = [
        seen
        for seen in list_transits(strip, begin, begin + days, options, names or ())
        if names or seen.transit.beam >= min_beam
    ]
    if as_json:
        entries = [asdict(s.transit) | {"utc": _utc(s.transit.mjd), "tile": s.tile, "solves": s.solves} for s in found]
        typer.echo(json.dumps(entries, indent=2))
        return
    if not found:
        typer.echo(f"no calibrator transits the strip at {strip:+.2f} deg in {days:g} days")
        return
    heads = ("transit (UTC)", "calibrator", "offset", "beam", "flux", "apparent", "solves", "tile")
    typer.echo(_TRANSIT.format(*heads))
    for seen in found:
        transit = seen.transit
        numbers = f"{transit.offset_deg:+.2f}", f"{transit.beam:.3f}", _number(transit.flux_jy, ".2f")
        solves, tile = "yes" if seen.solves else "no", seen.tile or ""
        apparent = _number(transit.apparent_jy, ".2f")
        typer.echo(_TRANSIT.format(_utc(transit.mjd), transit.calibrator, *numbers, apparent, solves, tile).rstrip())
    typer.echo(f"offset in deg, fluxes in Jy at 1405 MHz; {options.min_calibrator_jy:g} Jy or more are solved on")


def _utc(mjd: float) -> str:
    return datetime.fromtimestamp(mjd_to_unix(mjd), UTC).strftime("%Y-%m-%dT%H:%M:%S")


@app.command("plot")
def plot_command(
    table: Annotated[Path, typer.Argument(help="A caltable: ours, or CASA's.")],
    out: Annotated[Path, typer.Option(help="The picture (PNG).")],
    window: Annotated[int | None, typer.Option(help="Spectral window, where the table has several.")] = None,
) -> None:
    """Draw a table's amplitudes, phases and signal-to-noise ratios per antenna, with its checks.

    Example: contimg calibrators plot stage/caltables/2025-12-24T03:18:05_bpcal --out bandpass.png
    """
    from dsa110_contimg.formats import caltable
    from dsa110_contimg.pipeline.calibration_tables import draw_page

    verdict = draw_page(out, caltable.load(table, window), CalibrationOptions(), title=table.name)
    typer.echo(f"{out}: {verdict}")


@app.command("redo")
def redo_command(
    table: Annotated[Path, typer.Argument(help="A bandpass that `contimg status` calls superseded.")],
    as_json: Json = False,
) -> None:
    """Have the tiles that stand on a superseded bandpass calibrated anew by the next `contimg run`.

    Example: contimg calibrators redo stage/caltables/2025-12-24T03:18:05_bpcal
    """
    from dsa110_contimg.pipeline.recalibrate import recalibrate

    groups = recalibrate(str(table.resolve()), CalibrationOptions())
    typer.echo(json.dumps(groups) if as_json else f"calibrated anew by the next `contimg run`: {', '.join(groups)}")
