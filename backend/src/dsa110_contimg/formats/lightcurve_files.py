"""Light curves as files for other programs: CSV, VOTable and Parquet, told apart by the file's ending.

Every file has the same columns, units and descriptions; what was not measured is empty (NaN). Times are UTC.
"""

from collections.abc import Mapping
from pathlib import Path

from dsa110_contimg.errors import ConfigurationError
from dsa110_contimg.formats.row_files import WRITERS, Column
from dsa110_contimg.formats.scratch import replacing

COLUMNS = {
    "mjd": Column("d", "transit of the source in the image (UTC)", "time.epoch;obs"),
    "normalized_flux_jy": Column("Jy", "flux on the scale of the epoch's reference sources", "phot.flux.density"),
    "normalized_flux_err_jy": Column("Jy", "its error, that of the scale included", "stat.error;phot.flux.density"),
    "upper_limit_jyb": Column("Jy/beam", "upper limit, where the source is not detected", "stat.max;phot.flux.density"),
    "peak_jyb": Column("Jy/beam", "image at the position, as measured", "phot.flux.density"),
    "peak_err_jyb": Column("Jy/beam", "its error", "stat.error;phot.flux.density"),
    "local_rms_jyb": Column("Jy/beam", "noise around the source", "instr.det.noise"),
    "snr": Column("", "signal-to-noise ratio on the flat-noise image", "stat.snr"),
    "flags": Column(
        "", "bits: 1 edge, 2 low beam, 4 confused, 8 negative, 16 near a bright source, 32 twin", "meta.code"
    ),
    "image_path": Column("", "image on which it was measured", "meta.file", str),
}
"""What each column holds."""
SERVED_COLUMNS = {
    **{name: column for name, column in COLUMNS.items() if name != "image_path"},
    "in_lightcurve": Column("", "1 if it feeds the statistics, one measurement for each transit", "meta.code", int),
    "epoch_factor": Column("", "what the epoch's fluxes are divided by", "arith.factor"),
    "epoch_factor_err": Column("", "its error", "stat.error;arith.factor"),
    "image_id": Column("", "number of the image", "meta.id", int),
    "image": Column("", "name of the image", "meta.file", str),
}
"""What the served light curve holds: images by their number, and the scale of each epoch."""
ENDINGS = {".csv": "csv", ".vot": "votable", ".xml": "votable", ".parquet": "parquet"}


def save_lightcurve_table(path: Path, source_id: str, columns: Mapping[str, list[float | int | str | None]]) -> Path:
    """Write a light curve.

    Parameters
    ----------
    path
        Ends in .csv, .vot (or .xml) or .parquet; it appears only when it is whole.
    source_id
        Name of the source, kept in VOTable and Parquet.
    columns
        Those of `COLUMNS`, each (n,).

    Raises
    ------
    ConfigurationError
        If the ending is another one.
    """
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise ConfigurationError(f"{path} ends in none of {', '.join(ENDINGS)}: the ending chooses the format")
    rows = list(zip(*(columns[name] for name in COLUMNS), strict=True))
    with replacing(path) as scratch:
        scratch.write_bytes(WRITERS[kind](source_id, COLUMNS, rows))
    return path
