"""One frozen options object per stage; one sentence per field, which is also its command-line help."""

from dataclasses import dataclass, field
from typing import Any

from dsa110_contimg.telescope import DISH_DIAMETER_M


def option(default: Any, help_text: str) -> Any:  # noqa: ANN401 - dataclasses.field has no better type
    """Declare an options field with its default and the sentence that explains it."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """How a group of subband files becomes a Measurement Set."""

    min_subbands: int = option(12, "Fewest subbands of a group's 16 that are converted; the missing ones are flagged.")
    group_tolerance_s: float = option(
        60.0, "A file without a readable header counts to the group that starts this many seconds from its stamp."
    )
    settle_s: float = option(10.0, "A file whose size changed within this many seconds is still being copied.")
    wait_s: float = option(600.0, "A group that lacks subbands waits this many seconds after its latest file.")
    poll_s: float = option(5.0, "Seconds between listings of a folder whose file system tells nobody of new files.")
    relist_s: float = option(300.0, "Seconds between listings of a folder whose file system tells of new files.")


@dataclass(frozen=True, kw_only=True)
class FlaggingOptions:
    """What is thrown away before solving."""

    engine: str = option(
        "own", "What finds interference: 'own', or 'aoflagger' with its default strategy, where it is installed."
    )
    interference_sigma: float = option(
        3.9, "A single sample this many scatters above the noise is interference; runs of samples need less."
    )
    gap_fraction: float = option(0.02, "Interference with gaps of at most this fraction of its length is closed.")
    dead_fraction: float = option(0.95, "An antenna with more than this fraction of zero or flagged data is dead.")
    edge_channels: int = option(0, "Channels flagged at both ends of each subband.")
    band_edge_channels: int = option(0, "Channels flagged at both ends of the band.")
    shadow_m: float = option(
        DISH_DIAMETER_M, "An antenna is shadowed by one that is nearer to it than this across the line of sight."
    )


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """How gains are solved and for how long they hold."""

    min_snr: float = option(3.0, "Solutions with a lower signal-to-noise ratio are flagged.")
    min_baselines: int = option(4, "Fewest baselines to an antenna for a solution.")
    min_uv_m: float = option(0.0, "Baselines shorter than this many metres do not take part in solving.")
    robust: bool = option(True, "Weigh down samples and baselines that the model misses by more than three sigma.")
    reference_antenna: str = option("", "Reference antenna by name; empty picks the healthiest near the center.")
    model_min_flux_jy: float = option(0.05, "Faintest catalogue source in the sky model, before the primary beam.")
    model_radius_deg: float = option(3.5, "Catalogue sources within this radius of the pointing are in the model.")
    bp_validity_h: float = option(24.0, "A bandpass holds for this many hours on either side of its transit.")
    g_validity_min: float = option(30.0, "A gain solution holds for this many minutes on either side.")
    dec_tolerance_deg: float = option(0.5, "Tables from a strip farther away in declination are never applied.")
    min_common_antennas: float = option(
        0.5, "A table with solutions of a smaller fraction of a tile's antennas is not applied to it."
    )
    min_calibrator_jy: float = option(5.0, "Faintest bandpass calibrator, after the primary beam.")
    transit_wait_h: float = option(24.0, "A tile without a bandpass waits this long for a transit (0 with --once).")
    selfcal_rounds: int = option(0, "Rounds of phase self-calibration on a tile's own CLEAN model; 0 is off.")
    max_flagged: float = option(0.3, "A table with more of its present antennas' solutions flagged fails its QA.")


@dataclass(frozen=True, kw_only=True)
class ImagingOptions:
    """How calibrated visibilities become an image."""

    engine: str = option("own", "What grids and cleans: 'own', or 'wsclean' where it is installed.")
    size: int = option(0, "Pixels on a side; 0 covers the field to the 0.1 level of the beam.")
    cell_arcsec: float = option(0.0, "Pixel size; 0 takes a third of the synthesized beam's minor axis or less.")
    weighting: str = option("briggs", "Imaging weights: natural, uniform or briggs.")
    robust: float = option(0.5, "Briggs robustness: -2 is nearly uniform, +2 nearly natural.")
    taper_arcsec: float = option(
        0.0, "Weights fall with baseline length as those of a beam at least this wide; 0: none."
    )
    uv_min_wavelengths: float = option(0.0, "Baselines shorter than this are left out.")
    uv_max_wavelengths: float = option(0.0, "Baselines longer than this are left out; 0 keeps all.")
    niter: int = option(20000, "Most CLEAN components.")
    gain: float = option(0.1, "CLEAN loop gain.")
    mgain: float = option(0.9, "The peak falls by this fraction in a major cycle, or more where sidelobes are low.")
    auto_mask: float = option(5.0, "Components start where the residual exceeds this many sigma.")
    auto_threshold: float = option(1.0, "CLEAN inside the mask stops at this many sigma.")
    mask: str = option("auto", "Components start where the image is bright (auto), at catalog sources, or both.")
    mask_arcsec: float = option(60.0, "Radius of the mask around a catalog source.")
    mask_min_jy: float = option(0.01, "Catalog sources fainter than this behind the beam are no mask.")
    scales: str = option("", "Widths in beams of the scales of a multi-scale CLEAN, as in 2,4; empty: points only.")
    max_major: int = option(12, "Most major cycles.")
    pb_limit: float = option(0.2, "The corrected image is blank where the beam is below this.")
    epsilon: float = option(1e-3, "Accuracy of the gridder.")
    threads: int = option(0, "Threads; 0 uses every core. One thread gives the same bits each time.")
    subtract_bright: bool = option(True, "Predict catalog sources through the drifting beam and subtract them.")
    spectral_index: float = option(-0.7, "The corrected image is right for sources of this spectral index.")
    spectral_terms: int = option(1, "2 fits a spectral index to each bright source beside flux and position.")
    subbands: int = option(4, "Parts of the band in which bright catalogue sources are measured; 0 measures none.")
    smearing: bool = option(
        False, "Correct for the averaging over integration and channel, which data of the simulator have with --smear."
    )
    beam_file: str = option("", "FITS image of the power beam in place of the Airy disk, in frequency if it has one.")
    column: str = option("CORRECTED_DATA", "Measurement Set column; DATA where it does not exist.")


@dataclass(frozen=True, kw_only=True)
class MosaicOptions:
    """How tiles are grouped and coadded."""

    tiles: int = option(10, "Tiles in a mosaic group.")
    overlap: int = option(2, "Tiles that a group shares with the one before it.")
    min_tiles: int = option(3, "Fewest tiles of a short group, at a gap or at the end of data.")
    max_gap_min: float = option(6.0, "A longer pause between tiles ends a group.")
    max_dec_step_deg: float = option(0.1, "A larger change of declination ends a group.")
    pb_limit: float = option(0.1, "The mosaic is blank where the beams of all tiles are below this.")
    tile_pb_limit: float = option(0.2, "Pixels of a tile below this beam response are left out.")
    apply_astrometry: bool = option(
        False, "Take each tile's measured offset from the catalogue out before it is added to the mosaic."
    )
    cache_gb: float = option(
        4.0,
        "Disk for resampled tiles, so that a mosaic with one tile more resamples that one alone; 0 keeps none.",
    )


@dataclass(frozen=True, kw_only=True)
class PhotometryOptions:
    """How fluxes are forced and light curves judged."""

    min_flux_jy: float = option(0.01, "Faintest catalogue source that is measured.")
    limit_sigma: float = option(3.0, "Below this signal-to-noise ratio a row carries an upper limit of as many sigma.")
    systematic: float = option(0.03, "Fractional flux error of an epoch that no noise map knows.")
    baseline_window_days: float = option(40.0, "Points this near in time stay out of a point's own baseline.")
    min_epochs: int = option(5, "Fewest epochs for a candidate.")
    candidate_sigma: float = option(5.0, "Deviation from the baseline that makes a candidate.")
    candidate_chi2_nu: float = option(5.0, "Reduced chi-square about a constant that makes a candidate.")
    dip_sigma: float = option(4.0, "Significance, trials counted, of a dip of 7 to 180 days that makes a candidate.")
    new_sigma: float = option(6.0, "Detections above this that no catalogue knows are new sources; 0 looks for none.")
    injected_per_sq_deg: float = option(
        0.2, "Sources put into a copy of each mosaic per square degree, to learn what is missed; 0 puts none."
    )
    injected_tiles: float = option(
        0.005, "Fraction of tiles that are imaged a second time, with sources in their visibilities; 0 images none so."
    )
    dip_systematic: float = option(0.01, "Fractional flux error that lasts for weeks and no averaging removes.")
    estimator: str = option(
        "peak", "How fluxes are read: 'peak' interpolates the image, 'matched' filters with the beam."
    )
    detection_sigma: float = option(5.0, "Peaks above this signal-to-noise ratio are found for the crossmatch.")


@dataclass(frozen=True, kw_only=True)
class QAOptions:
    """Where a measured value turns into a warning or a failure."""

    min_dynamic_range: float = option(5.0, "Peak over noise below which a tile fails.")
    flux_ratio_warning: float = option(0.08, "Median flux ratio farther than this from one is a warning.")
    flux_ratio_failure: float = option(0.20, "Median flux ratio farther than this from one is a failure.")
    min_reference_sources: int = option(3, "Fewer isolated reference sources leave the flux scale unmeasured.")
    completeness_warning: float = option(0.80, "Recovered fraction of expected sources below which QA warns.")
    completeness_failure: float = option(0.60, "Recovered fraction of expected sources below which QA fails.")
    max_noise_over_median: float = option(5.0, "A tile noisier than this many times the median is inconsistent.")
    astrometry_warning_beam: float = option(0.10, "Median offset in beams at which QA warns.")
    astrometry_failure_beam: float = option(0.25, "Median offset in beams at which QA fails.")
    min_peak_snr: float = option(5.0, "Peak over the noise around it below which an image fails.")
    min_finite_fraction: float = option(0.5, "Fraction of pixels with a value below which an image fails.")
    max_negative_fraction: float = option(0.01, "Fraction of pixels below -3 sigma above which QA warns.")
    flux_agreement_warning: float = option(0.04, "Flux ratio of two tiles farther than this from one is a warning.")
    flux_agreement_failure: float = option(0.20, "Flux ratio of two tiles farther than this from one is a failure.")
    noise_map_warning: float = option(0.15, "Scatter over the noise map farther than this from one is a warning.")
    noise_map_failure: float = option(0.40, "Scatter over the noise map farther than this from one is a failure.")
    noise_over_thermal_warning: float = option(5.0, "Noise over the thermal noise above which QA warns.")
    noise_over_thermal_failure: float = option(15.0, "Noise over the thermal noise above which QA fails.")
    stripes_warning: float = option(0.45, "Amplitude of the strongest stripes in sigma above which QA warns.")
    stripes_failure: float = option(0.90, "Amplitude of the strongest stripes in sigma above which QA fails.")
    bowl_warning: float = option(1.4, "Depth of the deepest bowl in sigma above which QA warns.")
    bowl_failure: float = option(3.0, "Depth of the deepest bowl in sigma above which QA fails.")
    truth_flux_failure: float = option(0.01, "Flux scale of injected sources farther than this from one fails.")
    truth_scatter_failure: float = option(0.20, "Scatter of injected sources farther than this from predicted fails.")
    truth_fraction_failure: float = option(0.95, "Fraction of injected sources found, or of detections real, below it.")


@dataclass(frozen=True, kw_only=True)
class ProductOptions:
    """What is written of images beside their pixels, and how."""

    quantization: float = option(
        0.0, "Noisy images are compressed, values rounded to the noise over this: 16 is usual; 0 keeps all digits."
    )
    hips: bool = option(True, "Make a HiPS of each mosaic, for sky atlases.")
    nightly_hips: bool = option(False, "Once a day, make a HiPS of the sky of all published mosaics.")
    nightly_kept: int = option(2, "Versions of it that gave way to a newer one and are kept; older ones are removed.")
    nightly_mosaics: int = option(60, "Most mosaics that one such HiPS adds; further ones come with the next.")


@dataclass(frozen=True, kw_only=True)
class ResourceOptions:
    """What jobs may take of their machine."""

    memory_gb: float = option(0.0, "Memory that jobs may hold together; 0 follows the machine.")
    max_memory_fraction: float = option(0.8, "Jobs hold at most this fraction of the machine's memory together.")
    memory_scale: float = option(1.0, "Memory of a job, over what it takes at the telescope's full size.")
    cores: int = option(0, "Cores on which jobs compute together; 0 takes those of the machine.")
    free_space_floor_gb: float | None = option(
        None, "Nothing new is begun while a folder has less free space; None takes PIPELINE_MIN_FREE_GB."
    )
    time_limit_factor: float = option(1.0, "A job is stopped after its stage's time limit, times this.")


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """In which order jobs run, and what follows when one does not succeed."""

    newest_first: bool = option(False, "Tiles run from the newest to the oldest, so that the sky of now is seen first.")
    lease_s: float = option(300.0, "A job whose owner gave no sign for this many seconds is taken over.")
    max_failures: int = option(3, "A job that raised this many errors of ours has failed for good.")
    max_deaths: int = option(3, "A job whose worker died this often while it ran alone has failed for good.")
    retry_s: float = option(
        10.0, "Pause before the second attempt; each one after it is twice as long, at most an hour."
    )
    pause_s: float = option(30.0, "Seconds between two looks at what keeps the pipeline from going on.")
    stop_s: float = option(60.0, "When it is told to stop, running jobs have this many seconds to end.")
    clean: bool = option(False, "Remove by rule what is no longer needed, each hour and when the disk is short.")


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """The options of every stage, as `contimg run` hands them on."""

    conversion: ConversionOptions = ConversionOptions()
    flagging: FlaggingOptions = FlaggingOptions()
    calibration: CalibrationOptions = CalibrationOptions()
    imaging: ImagingOptions = ImagingOptions()
    mosaic: MosaicOptions = MosaicOptions()
    photometry: PhotometryOptions = PhotometryOptions()
    qa: QAOptions = QAOptions()
    products: ProductOptions = ProductOptions()
    resources: ResourceOptions = ResourceOptions()
    schedule: ScheduleOptions = ScheduleOptions()
