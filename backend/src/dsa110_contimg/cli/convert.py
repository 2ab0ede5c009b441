"""`contimg convert FILE... --out X.ms`: one Measurement Set by hand, from a group or from another telescope's files."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dsa110_contimg import conversion
from dsa110_contimg.errors import BadInputError, PipelineError
from dsa110_contimg.formats import measurement_set, uvh5, uvh5_phased
from dsa110_contimg.options import ConversionOptions
from dsa110_contimg.visibilities import Visibilities


def convert(
    files: Annotated[list[Path], typer.Argument(help="UVH5 files of one observation.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The Measurement Set; never replaced.", show_default=False)],
    min_subbands: Annotated[int, typer.Option(help="Fewest subbands of a group.", min=1, max=16)] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Convert the subband files of one group, or files of another telescope that are phased to one position.

    Files of another telescope are joined in frequency; of their polarizations XX and YY are kept.

    Example: contimg convert a_sb00.hdf5 a_sb01.hdf5 --min-subbands 2 --out a.ms
    """
    console = Console(stderr=True)
    try:
        if out.exists():
            raise FileExistsError(f"{out} exists already and is not replaced")
        with console.status(f"converting {len(files)} files"):
            vis = load(files, ConversionOptions(min_subbands=min_subbands))
            measurement_set.save(out, vis)
    except (PipelineError, OSError) as error:
        console.print(f"contimg convert: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    told = {
        "path": str(out),
        "telescope": vis.telescope,
        "field": vis.field_name,
        "ra_deg": round(vis.phase_center.ra_deg, 9),
        "dec_deg": round(vis.phase_center.dec_deg, 9),
        "rows": len(vis.time_mjd),
        "channels": vis.freq_hz.size,
        "flagged": round(float(vis.flags.mean()), 6),
    }
    print(json.dumps(told, indent=2) if as_json else "  ".join(f"{name} {value}" for name, value in told.items()))


def load(files: list[Path], options: ConversionOptions) -> Visibilities:
    """Read the files of one telescope, ours or another.

    Raises
    ------
    BadInputError
        If they come from several, or are not usable.
    """
    telescopes = {uvh5_phased.telescope_of(path) for path in files}
    ours = telescopes <= set(uvh5.OUR_TELESCOPES)
    if len(telescopes) > 1 and not ours:
        raise BadInputError(f"the files come from several telescopes: {', '.join(sorted(telescopes))}")
    return conversion.load_group(files, options) if ours else uvh5_phased.load(files)
