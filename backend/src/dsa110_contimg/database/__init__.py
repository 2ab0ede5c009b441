"""Rows to objects and back: seven SQLite databases, opened in `session`, defined in `models`."""

from dsa110_contimg.database.models import (
    Caltable,
    DataProduct,
    HDF5FileIndex,
    Image,
    IngestQueue,
    Job,
    JobState,
    MonitoringSource,
    Mosaic,
    MosaicGroup,
    MSIndex,
    Photometry,
    SubbandFile,
    TransientCandidate,
)
from dsa110_contimg.database.session import (
    create_all,
    get_engine,
    get_scoped_session,
    get_session,
    reset_engines,
)
from dsa110_contimg.database.upgrades import init_databases

__all__ = [
    "Caltable",
    "DataProduct",
    "HDF5FileIndex",
    "Image",
    "IngestQueue",
    "Job",
    "JobState",
    "MSIndex",
    "MonitoringSource",
    "Mosaic",
    "MosaicGroup",
    "Photometry",
    "SubbandFile",
    "TransientCandidate",
    "create_all",
    "get_engine",
    "get_scoped_session",
    "get_session",
    "init_databases",
    "reset_engines",
]
