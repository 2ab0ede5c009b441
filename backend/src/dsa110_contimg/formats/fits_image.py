r"""Images as FITS files, as CASA and WSClean write them.

Four axes, (RA---SIN, DEC--SIN, FREQ, STOKES), the last two of length one (LINEAR where no frequency is known);
degrees, hertz; north up and east left: CDELT = (−cell, +cell). The first two reference pixels count from one. What a
SkyImage carries has one card each (`BMAJ`, `MJD-OBS`, `EXPTIME` ...); unknown values have no card. Further cards come
from `SkyImage.header`; names longer than eight characters become HIERARCH cards, lists are strings joined by commas,
and long strings go on in CONTINUE cards, which LONGSTRN announces. With a quantization, noisy images are
tile-compressed (`tile_compression`); both kinds are read alike.

The same image makes the same bytes: no clock is read, so that a step done twice leaves one result. Numbers are
written with all of their digits, so that loading undoes saving (the beam's widths, which are degrees in the file,
may differ in the sixteenth digit). CHECKSUM and DATASUM are checked when loading.
Standard: FITS 4.0 (2018), Calabretta & Greisen (2002).
"""

import io
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from dsa110_contimg.errors import BadInputError, ConfigurationError
from dsa110_contimg.formats.scratch import replacing
from dsa110_contimg.formats.tile_compression import NOISY_KINDS, compressed, is_intact
from dsa110_contimg.visibilities import Beam, SkyImage, SkyPosition

CardValue = str | float | int

DEFAULT_TELESCOPE = "OVRO_MMA"
_AXES = {f"{name}{axis}" for name in ("NAXIS", "CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT", "CROTA") for axis in "1234"}
_STRUCTURE = {
    "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "BSCALE", "BZERO", "BLANK", "END", "CHECKSUM", "DATASUM", "LONGSTRN",
    "XTENSION", "PCOUNT", "GCOUNT", "EXTNAME",
}  # fmt: skip
_IMAGE_CARDS = {
    "BUNIT", "BTYPE", "IMTYPE", "BMAJ", "BMIN", "BPA", "RADESYS", "EQUINOX", "LONPOLE", "LATPOLE", "RESTFRQ",
    "SPECSYS", "OBJECT", "DATE-OBS", "DATE-END", "TIMESYS", "MJD-OBS", "MJD-END", "EXPTIME", "NOISE", "ORIGIN",
    "WCSAXES",
}  # fmt: skip
_OWNED = _AXES | _STRUCTURE | _IMAGE_CARDS
_COMMENTARY = {"COMMENT", "HISTORY", ""}
# Cards of files that were not written here and whose meaning the SkyImage already holds.
_DROPPED = _COMMENTARY | {"CTYPE5", "CRVAL5", "CRPIX5", "CDELT5", "NAXIS5", "CROTA5", "CUNIT5"}


def save(image: SkyImage, path: Path, *, quantization: float = 0.0) -> Path:
    """Write an image, whole or not at all, and return its path.

    Parameters
    ----------
    quantization
        Above 0, a noisy image is compressed, its values rounded to this fraction of the noise: see `tile_compression`.

    Raises
    ------
    ConfigurationError
        If a further card cannot be written as FITS.
    """
    if quantization > 0.0 and image.kind in NOISY_KINDS:
        packed = compressed(np.ascontiguousarray(image.data, np.float32)[None, None], _header(image), quantization)
        with replacing(path) as scratch:
            scratch.write_bytes(packed)
        return path
    with replacing(path) as scratch:
        _plain(image).writeto(scratch, output_verify="exception")
    return path


def content(image: SkyImage) -> bytes:
    """Return the bytes of the file that `save` would write, uncompressed."""
    written = io.BytesIO()
    _plain(image).writeto(written, output_verify="exception")
    return written.getvalue()


def _plain(image: SkyImage) -> fits.PrimaryHDU:
    data = np.ascontiguousarray(image.data, np.float32)[None, None]
    hdu = fits.PrimaryHDU(data, header=_header(image))
    # astropy stamps the time into the comments unless it is given one.
    hdu.add_checksum(when="HDU checksum", checksum_keyword="CHECKSUM", datasum_keyword="DATASUM")
    return hdu


def load(path: Path) -> SkyImage:
    """Read an image of ours or of anyone who writes SIN images with square pixels and north up.

    Raises
    ------
    BadInputError
        If the file is damaged, is not FITS, or is an image that this pipeline cannot place on the sky.
    """
    with warnings.catch_warnings():
        # Other people's headers are judged below by what we need of them.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
                hdu = hdus[0]
                _check_whole(hdu, path)
                if hdu.header["NAXIS"] == 0 and len(hdus) > 1 and isinstance(hdus[1], fits.CompImageHDU):
                    hdu = hdus[1]
                    _check_intact(path)
                header, data = hdu.header.copy(), hdu.data
        except FileNotFoundError as error:
            raise BadInputError(f"{path} does not exist") from error
        except (OSError, fits.VerifyError, ValueError, TypeError, KeyError, IndexError) as error:
            raise BadInputError(f"{path} is not a readable FITS image ({error}); make it again") from error
    return _image_of(header, _plane(data, path), path)


def describe(path: Path) -> SkyImage:
    """Read what describes an image; its pixels are all NaN, and one place in memory.

    Raises
    ------
    BadInputError
        As `load`, but for damage that only the pixels tell.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            header = load_header(path)
            shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
        except FileNotFoundError as error:
            raise BadInputError(f"{path} does not exist") from error
        except (OSError, fits.VerifyError, ValueError, TypeError, KeyError, IndexError) as error:
            raise BadInputError(f"{path} is not a readable FITS image ({error}); make it again") from error
    return _image_of(header, np.broadcast_to(np.float32(np.nan), shape), path)


def load_header(path: Path) -> fits.Header:
    """Return the header of an image, compressed or not; OSError if there is none to read."""
    header = fits.getheader(path)
    return fits.getheader(path, 1) if header["NAXIS"] == 0 and header.get("EXTEND") else header


def _header(image: SkyImage) -> fits.Header:
    """Return the header of an image, in the order in which it is written."""
    cards = fits.Header()
    x_ref, y_ref = image.center_pixel
    frequency = image.freq_hz if np.isfinite(image.freq_hz) else None
    # Always there, even when empty: a file without it is taken to be in Jy/beam.
    cards["BUNIT"] = (image.unit, "unit of the pixels")
    _set(cards, "BTYPE", "Intensity" if image.unit.startswith("Jy") else image.kind, "quantity of the pixels")
    _set(cards, "IMTYPE", image.kind, "kind of image")
    _set(cards, "WCSAXES", 4, "axes of the coordinates")
    _axis(cards, 1, ("RA---SIN", "deg"), image.center.ra_deg, x_ref + 1.0, -image.cell_deg)
    _axis(cards, 2, ("DEC--SIN", "deg"), image.center.dec_deg, y_ref + 1.0, image.cell_deg)
    bandwidth = image.bandwidth_hz if np.isfinite(image.bandwidth_hz) else 1.0
    if frequency is not None:
        _axis(cards, 3, ("FREQ", "Hz"), frequency, 1.0, bandwidth)
    else:
        _axis(cards, 3, ("LINEAR", ""), 0.0, 1.0, 1.0)
    _axis(cards, 4, ("STOKES", ""), 1.0, 1.0, 1.0)
    _set(cards, "RADESYS", "ICRS", "celestial frame")
    _set(cards, "EQUINOX", 2000.0, "for readers that ask; ICRS has none")
    _set(cards, "LONPOLE", 180.0, "[deg]")
    _set(cards, "LATPOLE", image.center.dec_deg, "[deg]")
    _set(cards, "RESTFRQ", frequency, "[Hz] middle of the band")
    _set(cards, "SPECSYS", "TOPOCENT", "frequency frame")
    if image.beam is not None:
        _set(cards, "BMAJ", image.beam.major_arcsec / 3600.0, "[deg] beam, full width at half maximum")
        _set(cards, "BMIN", image.beam.minor_arcsec / 3600.0, "[deg]")
        _set(cards, "BPA", image.beam.pa_deg, "[deg] east of north")
    _set(cards, "OBJECT", image.field_name, "field")
    _set(cards, "TIMESYS", "UTC", "time scale")
    _set(cards, "DATE-OBS", _date(image.start_mjd), "start of the data")
    _set(cards, "DATE-END", _date(image.end_mjd), "end of the data")
    _set(cards, "MJD-OBS", image.start_mjd, "[d] start of the data")
    _set(cards, "MJD-END", image.end_mjd, "[d] end of the data")
    _set(cards, "EXPTIME", image.exposure_s, "[s] time on the sky")
    _set(cards, "NOISE", image.noise_jy, "[Jy/beam] measured noise")
    if "TELESCOP" not in image.header:
        _set(cards, "TELESCOP", DEFAULT_TELESCOPE, "")
    _set(cards, "ORIGIN", f"dsa110-contimg {version('dsa110-contimg')}", "program")
    for key, value in image.header.items():
        if key.upper() not in _OWNED:
            _set(cards, key.upper(), value, "")
    if any(len(card.image) > fits.Card.length for card in cards.cards):
        cards.insert("BUNIT", ("LONGSTRN", "OGIP 1.0", "long strings go on in CONTINUE cards"))
    return cards


def _axis(cards: fits.Header, axis: int, kind: tuple[str, str], value: float, pixel: float, step: float) -> None:
    _set(cards, f"CTYPE{axis}", kind[0], "")
    _set(cards, f"CRVAL{axis}", float(value), "")
    _set(cards, f"CRPIX{axis}", float(pixel), "")
    _set(cards, f"CDELT{axis}", float(step), "")
    _set(cards, f"CUNIT{axis}", kind[1], "")


def _set(cards: fits.Header, key: str, value: CardValue | None, comment: str) -> None:
    """Append a card; unknown values (None, NaN, empty) have none."""
    if value is None or value == "" or (isinstance(value, (float, np.floating)) and not np.isfinite(value)):
        return
    try:
        cards.append(_card(key, value, comment), end=True)
    except ValueError as error:
        raise ConfigurationError(f"the card {key} = {str(value)[:40]!r} cannot be written as FITS ({error})") from error


def _card(key: str, value: CardValue, comment: str) -> fits.Card:
    if isinstance(value, (float, np.floating)):
        digits = repr(float(value)).upper()
        if len(digits) > 20 and len(key) <= 8:
            # astropy would cut the number to twenty characters.
            return fits.Card.fromstring(f"{key:8}= {digits} / {comment}"[:80].rstrip(" /").ljust(80))
        return fits.Card(f"HIERARCH {key}" if len(key) > 8 else key, float(value), comment)
    if isinstance(value, str):
        value = "".join(c if c.isprintable() else " " for c in value).encode("ascii", "backslashreplace").decode()
        value = value.rstrip()
    return fits.Card(f"HIERARCH {key}" if len(key) > 8 else key, value, comment)


def _date(mjd: float) -> str | None:
    return Time(mjd, format="mjd", scale="utc").isot if np.isfinite(mjd) else None


def _check_whole(hdu: fits.PrimaryHDU, path: Path) -> None:
    """Refuse a file that is shorter than its header says or whose checksums are wrong."""
    place = hdu.fileinfo()
    if path.suffix == ".fits" and place["datLoc"] + hdu.size > path.stat().st_size:
        raise BadInputError(f"{path} is cut short: it holds fewer pixels than its header says; make it again")
    if "DATASUM" in hdu.header and hdu.verify_datasum() == 0:
        raise BadInputError(f"{path} does not agree with its own DATASUM; make it again")


def _check_intact(path: Path) -> None:
    if not is_intact(path):
        raise BadInputError(f"{path} does not agree with its own DATASUM; make it again")


def _plane(data: NDArray[np.floating] | None, path: Path) -> NDArray[np.float32]:
    if data is None or data.ndim < 2:
        raise BadInputError(f"{path} holds no image in its first extension")
    if any(length != 1 for length in data.shape[:-2]):
        raise BadInputError(f"{path} is a cube of shape {data.shape}; give one plane of it")
    return np.ascontiguousarray(data.reshape(data.shape[-2:]), np.float32)


def _image_of(header: fits.Header, data: NDArray[np.float32], path: Path) -> SkyImage:
    """Build the SkyImage that a header describes."""
    cell = _cell(header, path)
    ny, nx = data.shape
    pixel = (_number(header, "CRPIX1") - 1.0, _number(header, "CRPIX2") - 1.0)
    frequency = _frequency_axis(header)
    return SkyImage(
        data=data,
        center=SkyPosition(_number(header, "CRVAL1") % 360.0, _number(header, "CRVAL2")),
        cell_deg=cell,
        unit=str(header.get("BUNIT", "Jy/beam")).strip(),
        kind=str(header.get("IMTYPE", "image")).strip(),
        beam=_beam(header),
        freq_hz=_number(header, f"CRVAL{frequency}") if frequency else _number(header, "RESTFRQ"),
        bandwidth_hz=_bandwidth(header, frequency),
        start_mjd=_start(header),
        end_mjd=_number(header, "MJD-END"),
        exposure_s=_number(header, "EXPTIME"),
        noise_jy=_number(header, "NOISE"),
        field_name=str(header.get("OBJECT", "")).strip(),
        header=_further_cards(header),
        reference_pixel=None if pixel == (float(nx // 2), float(ny // 2)) else pixel,
    )


def _further_cards(header: fits.Header) -> dict[str, CardValue]:
    """Return the cards that no field of SkyImage holds; our own telescope's name goes without saying."""
    return {
        key: header[key]
        for key in dict.fromkeys(header.keys())
        if key not in _OWNED | _DROPPED
        and isinstance(header[key], (str, float, int))
        and (key, header[key]) != ("TELESCOP", DEFAULT_TELESCOPE)
    }


def _cell(header: fits.Header, path: Path) -> float:
    """Return the pixel size (deg) of a SIN image with square pixels, north up and east left, or refuse."""
    kinds = (str(header.get("CTYPE1", "")), str(header.get("CTYPE2", "")))
    if kinds != ("RA---SIN", "DEC--SIN"):
        raise BadInputError(f"{path} has the axes {kinds[0]!r}, {kinds[1]!r}; only RA---SIN, DEC--SIN can be placed")
    if any(_number(header, f"PV2_{k}", 0.0) != 0.0 for k in (1, 2)) or _number(header, "LONPOLE", 180.0) != 180.0:
        raise BadInputError(f"{path} is a slanted or turned SIN projection (PV2, LONPOLE); regrid it to plain SIN")
    matrix = [
        [
            _number(header, f"CD{i}_{j}", _number(header, f"PC{i}_{j}", float(i == j)) * _number(header, f"CDELT{i}"))
            for j in (1, 2)
        ]
        for i in (1, 2)
    ]
    cell = matrix[1][1]
    turned = max(abs(matrix[0][1]), abs(matrix[1][0])) > 1e-9 * abs(cell) or _number(header, "CROTA2", 0.0) != 0.0
    if not cell > 0.0 or turned or abs(matrix[0][0] + cell) > 1e-6 * cell:
        raise BadInputError(f"{path} has pixels that are not square, north up and east left; regrid it")
    return cell


def _number(header: fits.Header, key: str, default: float = float("nan")) -> float:
    value = header.get(key, default)
    return float(value) if isinstance(value, (int, float)) else default


def _frequency_axis(header: fits.Header) -> int | None:
    return next((axis for axis in (3, 4, 5) if str(header.get(f"CTYPE{axis}", "")).startswith("FREQ")), None)


def _bandwidth(header: fits.Header, axis: int | None) -> float:
    width = _number(header, f"CDELT{axis}") if axis else float("nan")
    # One hertz is written where the bandwidth is unknown, because the axis needs a step.
    return abs(width) if width != 1.0 else float("nan")


def _beam(header: fits.Header) -> Beam | None:
    major, minor = _number(header, "BMAJ"), _number(header, "BMIN")
    if not (major > 0.0 and minor > 0.0):
        return None
    return Beam(major * 3600.0, minor * 3600.0, _number(header, "BPA", 0.0))


def _start(header: fits.Header) -> float:
    if "MJD-OBS" in header:
        return _number(header, "MJD-OBS")
    try:
        return float(Time(str(header.get("DATE-OBS", "")), scale="utc").mjd)
    except ValueError:
        return float("nan")
