"""What to do about a failure: from what went wrong to the way out.

A sentence of ours is known by a phrase in it; what no phrase matches has the way out of its kind. The phrases are
searched in order, the more special ones first.
"""

from enum import StrEnum


class FailureKind(StrEnum):
    """Where a failure is recorded."""

    GROUP = "group"
    """A row of ingest_queue that cannot be converted."""
    FILE = "file"
    """A row of quarantine."""
    JOB = "job"
    """A row of jobs that failed for good."""
    PRODUCT = "product"
    """A row of data_registry whose publication failed."""


_RETRY = "then `contimg retry` with its name"
REMEDIES: tuple[tuple[str, str], ...] = (
    ("lacks subbands", "bring the missing files: the group collects again when one arrives; or lower --min-subbands"),
    ("No space left", "make room on the disk: work goes on by itself"),
    ("disk is full", "make room on the disk: work goes on by itself"),
    ("Permission denied", "let the pipeline's user read and write there, then run again"),
    ("worker process was killed", f"give it more memory or run fewer workers (--workers), {_RETRY}"),
    ("cannot be read to its end", "copy the file again under the same name: a refused file that changes is looked at"),
    ("has absurd times", "correct the clock of the correlator's node that wrote it; the file itself is lost"),
    ("comes from telescope", "move the file out of the incoming folder: it is not the DSA-110's"),
    ("no majority of the files", "look at the headers of the group's files, and bring those of one observation"),
    ("holds a subband twice", "remove the wrong one of the two files from the incoming folder"),
    ("no bandpass is valid", "wait for a calibrator's transit, or register a table that is valid then"),
    ("no calibration table", "solve or register a calibration table for that time and declination, then run again"),
    ("was solved at declination", "solve a calibrator on this strip, then run again"),
    ("has a solution: look at", "look at the flags of the tile and at its sky model: is the array up?"),
    ("signal-to-noise ratio", "look at the flags of the tile and at its sky model: is the calibrator in the beam?"),
    ("import a catalogue", "import a catalogue that covers this field (`contimg catalog import`), then run again"),
    (
        "is flagged, or without a weight",
        "look for interference or a dead correlator; the tile is left out of its mosaic",
    ),
    ("all are flagged", "look for interference or a dead correlator; the tile is left out of its mosaic"),
    ("CLEAN diverges", f"check the calibration of the tile, or lower --mgain, {_RETRY}"),
    ("image the tile again", "reopen the image job of that tile, and run again"),
    ("leave the tile out", "the mosaic is made without this tile if three remain"),
    ("convert the group again", "remove the Measurement Set and reopen the convert job of that group"),
    ("products area", "set PIPELINE_PRODUCTS_DIR and PIPELINE_STAGE_DIR so that neither lies inside the other"),
)
"""A phrase of the sentence, and the way out."""

BY_KIND: dict[FailureKind, str] = {
    FailureKind.GROUP: "bring good copies of its files: a failed group that a new file joins collects again",
    FailureKind.FILE: "replace it by a good copy under the same name, or move it out of the incoming folder",
    FailureKind.JOB: f"read its error and log (`contimg status` with its subject), repair the cause, {_RETRY}",
    FailureKind.PRODUCT: "repair the cause, then `contimg registry retry` with its name",
}


def remedy(kind: FailureKind, sentence: str) -> str:
    """Return what to do about a failure."""
    return next((way for phrase, way in REMEDIES if phrase in sentence), BY_KIND[kind])
