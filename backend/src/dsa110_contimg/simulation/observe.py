"""A strip observed: epochs, tiles, subbands, each computed, corrupted and written, with its truth."""

import csv
import io
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.flux_scale import POSITIONS
from dsa110_contimg.naming import group_id_of
from dsa110_contimg.simulation import array, geometry
from dsa110_contimg.simulation.catalogs import SourceTable, as_surveyed
from dsa110_contimg.simulation.corrupt import (
    REFERENCE_HZ,
    EpochGains,
    Interference,
    draw_gains,
    draw_interference,
    noise_sigma_jy,
)
from dsa110_contimg.simulation.options import SimulationOptions, is_missing, validate
from dsa110_contimg.simulation.plan import Roles, Tile, plan_tiles, prepare_sky
from dsa110_contimg.simulation.sky import Sky, scaled
from dsa110_contimg.simulation.tile import TileVisibilities
from dsa110_contimg.simulation.truth import Truth, TruthGroup, TruthSource, load_truth, save_truth
from dsa110_contimg.simulation.uvh5_writer import STEP_S, Layout, write_subband

JD_MINUS_MJD = 2400000.5
LARGEST_STAMP_DELAY_S = 2.0
Progress = Callable[[int, int], None]
"""Called with (files written, files in all)."""


def simulate(
    out: Path, options: SimulationOptions, progress: Progress | None = None, *, overwrite: bool = False
) -> Truth:
    """Write the subband files of an observation, catalog.csv and truth.json into a folder.

    Parameters
    ----------
    out
        Made if it does not exist.
    options
        The observation; the same options and seed give the same visibilities.
    progress
        Called after each file with (files written, files in all).
    overwrite
        Replace the simulation that a folder holds already.

    Raises
    ------
    ConfigurationError
        If an option is absurd, a catalogue is missing, or the folder cannot take the files.
    """
    validate(options)
    layout = Layout(
        array.choose_stations(options.antennas), options.declination, options.channels, options.integrations
    )
    absent = sorted({*options.dead_stations, *options.single_pol_stations} - set(layout.stations))
    if absent:
        raise ConfigurationError(
            f"stations {absent} are not in this correlator, so that they cannot fail: "
            f"its {len(layout.stations)} stations are {', '.join(map(str, layout.stations))}"
        )
    tiles = plan_tiles(options)
    geometry.check_dates(tiles[0].start_mjd, tiles[-1].mid_times_mjd[-1])
    sky, roles = prepare_sky(options, tiles)
    files = [(tile, s) for tile in tiles for s in options.subbands if not is_missing(options, tile.number, s)]
    _prepare_folder(out, layout.file_bytes * len(files), overwrite=overwrite)
    interference = draw_interference(options, layout.stations, len(tiles))
    gains = [draw_gains(options, len(layout.stations), epoch) for epoch in range(len(options.day_offsets))]
    groups, done = [], 0
    # One thread per integration: inside one, the matrices are too small to share between threads.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for tile in tiles:
            observed = TileVisibilities(options, layout, tile, scaled(sky, roles.factors[tile.epoch]))
            written = []
            for subband in [s for t, s in files if t is tile]:
                vis = observed.subband(subband, gains[tile.epoch], interference, pool)
                stamp = _stamp(options.seed, tile, subband)
                times_jd = tile.mid_times_mjd + JD_MINUS_MJD
                written.append(write_subband(out, stamp, subband, layout, times_jd, vis).name)
                done += 1
                if progress is not None:
                    progress(done, len(files))
            groups.append(_truth_group(tile, options, tuple(written), observed.n_sources))
    truth = _assemble(options, layout, sky, roles, gains, tuple(groups), tuple(interference))
    _write_catalog(out / truth.catalog_file, sky, options)
    save_truth(out / "truth.json", truth)
    return truth


def _stamp(seed: int, tile: Tile, subband: int) -> str:
    """Return the wall clock of a node when it opened its file, 0 to 2 s after the data began."""
    delay = np.random.default_rng([seed, 7, tile.number, subband]).uniform(0.0, LARGEST_STAMP_DELAY_S)
    unix = (tile.start_mjd - 40587.0) * 86400.0 + delay
    return str(np.datetime64(int(unix), "s"))


def _prepare_folder(out: Path, needed_bytes: int, *, overwrite: bool) -> None:
    """Make the folder and refuse one that is taken, read-only or too small."""
    if (out / "truth.json").exists() and not overwrite:
        raise ConfigurationError(f"{out} holds a simulation already: choose another folder, or --overwrite")
    if (out / "truth.json").exists():
        _remove_files_of(out)
    probe = out / ".write_test"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(out).free
    except OSError as error:
        raise ConfigurationError(f"the folder {out} cannot be written: {error}") from error
    if free < 1.05 * needed_bytes:
        raise ConfigurationError(
            f"{out} has {free / 1e9:.2f} GB free but the files need {needed_bytes / 1e9:.2f} GB: "
            "choose another folder, or fewer channels, antennas or tiles"
        )


def _remove_files_of(out: Path) -> None:
    """Delete the subband files of the simulation that a folder holds, so that two are never mixed."""
    for group in load_truth(out).groups:
        for name in group.files:
            (out / name).unlink(missing_ok=True)
    (out / "truth.json").unlink()


def _truth_group(tile: Tile, options: SimulationOptions, files: tuple[str, ...], n_sources: int) -> TruthGroup:
    ra, dec = geometry.pointing_icrs(options.declination, np.array([tile.mid_mjd]))
    return TruthGroup(
        group_id=group_id_of(tile.start_mjd),
        epoch=tile.epoch,
        tile=tile.index,
        start_mjd=tile.start_mjd,
        mid_mjd=tile.mid_mjd,
        ra_deg=float(ra[0]),
        dec_deg=float(dec[0]),
        files=files,
        n_sources=n_sources,
    )


def _truth_sources(sky: Sky, roles: Roles) -> tuple[TruthSource, ...]:
    at_band = sky.flux_at(np.array([REFERENCE_HZ]))[:, 0]
    role = dict.fromkeys(POSITIONS, "calibrator") | dict.fromkeys(roles.varying, "variable")
    role |= {roles.ese: "ese", roles.control: "control"}
    return tuple(
        TruthSource(
            name=name,
            ra_deg=float(sky.ra_deg[i]),
            dec_deg=float(sky.dec_deg[i]),
            flux_jy=float(sky.flux_jy[i]),
            ref_hz=float(sky.ref_hz[i]),
            spectrum=tuple(float(c) for c in sky.spectrum[i]),
            flux_1405_jy=tuple(float(f * at_band[i]) for f in roles.factors[:, i]),
            role=role.get(name, ""),
            planted=name in roles.planted,
        )
        for i, name in enumerate(sky.names)
    )


def _assemble(
    options: SimulationOptions,
    layout: Layout,
    sky: Sky,
    roles: Roles,
    gains: list[EpochGains],
    groups: tuple[TruthGroup, ...],
    interference: tuple[Interference, ...],
) -> Truth:
    return Truth(
        seed=options.seed,
        options=asdict(options),
        stations=layout.stations,
        sources=_truth_sources(sky, roles),
        epoch_mjd=tuple(group.start_mjd for group in groups if group.tile == 0),
        gains=np.array([epoch.gain for epoch in gains]),
        delays_ns=np.array([epoch.delay_ns for epoch in gains]),
        noise_sigma_jy=noise_sigma_jy(options, array.channel_width(options.channels), STEP_S),
        groups=groups,
        interference=interference,
        dead_stations=options.dead_stations,
        single_pol_stations=options.single_pol_stations,
        ese=roles.ese,
        control=roles.control,
    )


def _write_catalog(path: Path, sky: Sky, options: SimulationOptions) -> None:
    table = SourceTable(sky.names, sky.ra_deg, sky.dec_deg, sky.survey_jy, np.full(len(sky), np.nan))
    rng = np.random.default_rng([options.seed, 8])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        as_surveyed(table, options.catalog_limit_jy, perfect=options.perfect_catalog, rng=rng)
    )
    scratch = path.with_name(path.name + ".partial")
    scratch.write_text(text.getvalue())
    scratch.replace(path)
