"""One definition of each table; one file per database (products has four)."""

from sqlalchemy import MetaData

from dsa110_contimg.database.models.access import AccessToken, Account, AuditEntry, Invitation, LoginAttempt, Role
from dsa110_contimg.database.models.alerts import AlertKind, AlertOutbox, Severity
from dsa110_contimg.database.models.cal_registry import CalRegistryBase, Caltable
from dsa110_contimg.database.models.calibrators import (
    BandpassCalibrator,
    CalibratorsBase,
    CatalogSource,
    GainCalibrator,
    SkymodelMetadata,
    VLACalibrator,
    VLAFluxInfo,
)
from dsa110_contimg.database.models.data_registry import (
    DataProduct,
    DataRegistryBase,
    DataRelationship,
    DataTag,
    FinalizationStatus,
    LinkKind,
    ProductStatus,
    QAStatus,
    ValidationStatus,
)
from dsa110_contimg.database.models.hdf5 import HDF5Base, HDF5FileIndex
from dsa110_contimg.database.models.ingest import (
    IngestBase,
    IngestQueue,
    PerformanceMetrics,
    Quarantine,
    QueueCount,
    QueueState,
    SubbandFile,
)
from dsa110_contimg.database.models.injections import InjectedFlux, InjectedSource
from dsa110_contimg.database.models.master_sources import MasterSourcesBase, Source
from dsa110_contimg.database.models.products import (
    Image,
    Mosaic,
    MosaicGroup,
    MosaicGroupMember,
    MSIndex,
    ProductsBase,
    QAArtifact,
)
from dsa110_contimg.database.models.sky_history import (
    AlertHistory,
    EpochCorrection,
    ESECandidate,
    LightCurveMoments,
    MonitoringSource,
    Photometry,
    PhotometryMissing,
    PointingHistory,
    SubbandFlux,
    TransientCandidate,
    VariabilityStats,
)
from dsa110_contimg.database.models.work import Job, JobState, QACheck, Verdict, WorkCount

METADATA: dict[str, MetaData] = {
    "ingest": IngestBase.metadata,
    "cal_registry": CalRegistryBase.metadata,
    "products": ProductsBase.metadata,
    "hdf5": HDF5Base.metadata,
    "data_registry": DataRegistryBase.metadata,
    "calibrators": CalibratorsBase.metadata,
    "master_sources": MasterSourcesBase.metadata,
}
"""The tables of each database, by session name."""

__all__ = [
    "METADATA",
    "AccessToken",
    "Account",
    "AlertHistory",
    "AlertKind",
    "AlertOutbox",
    "AuditEntry",
    "BandpassCalibrator",
    "CalRegistryBase",
    "CalibratorsBase",
    "Caltable",
    "CatalogSource",
    "DataProduct",
    "DataRegistryBase",
    "DataRelationship",
    "DataTag",
    "ESECandidate",
    "EpochCorrection",
    "FinalizationStatus",
    "GainCalibrator",
    "HDF5Base",
    "HDF5FileIndex",
    "Image",
    "IngestBase",
    "InjectedFlux",
    "InjectedSource",
    "IngestQueue",
    "Invitation",
    "Job",
    "JobState",
    "LightCurveMoments",
    "LinkKind",
    "LoginAttempt",
    "MSIndex",
    "MasterSourcesBase",
    "MonitoringSource",
    "Mosaic",
    "MosaicGroup",
    "MosaicGroupMember",
    "PerformanceMetrics",
    "Photometry",
    "PhotometryMissing",
    "PointingHistory",
    "ProductStatus",
    "ProductsBase",
    "QAArtifact",
    "QACheck",
    "QAStatus",
    "Quarantine",
    "QueueCount",
    "QueueState",
    "Role",
    "Severity",
    "SkymodelMetadata",
    "Source",
    "SubbandFile",
    "SubbandFlux",
    "TransientCandidate",
    "VLACalibrator",
    "VLAFluxInfo",
    "ValidationStatus",
    "VariabilityStats",
    "Verdict",
    "WorkCount",
]
