"""hdf5.sqlite3: every subband file ever seen, whether or not it became work."""

from sqlalchemy import Index, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dsa110_contimg.database.models.base import COLUMN_TYPES, ONE


class HDF5Base(DeclarativeBase):
    """The tables of hdf5.sqlite3."""

    type_annotation_map = COLUMN_TYPES


class HDF5FileIndex(HDF5Base):
    """One subband file on disk."""

    __tablename__ = "hdf5_file_index"
    __table_args__ = (
        Index("idx_hdf5_group", "group_id"),
        Index("idx_hdf5_mjd", "timestamp_mjd"),
        Index("idx_hdf5_stored", "path", sqlite_where=text("stored = 1"), postgresql_where=text("stored = 1")),
    )

    path: Mapped[str] = mapped_column(primary_key=True)
    filename: Mapped[str]
    group_id: Mapped[str]
    subband_code: Mapped[str]
    subband_num: Mapped[int | None]
    timestamp_iso: Mapped[str]
    timestamp_mjd: Mapped[float]
    file_size_bytes: Mapped[int | None]
    modified_time: Mapped[float | None]
    indexed_at: Mapped[float | None]
    stored: Mapped[int | None] = mapped_column(server_default=ONE)
    ra_deg: Mapped[float | None]
    dec_deg: Mapped[float | None]
    obs_date: Mapped[str | None]
    obs_time: Mapped[str | None]
    start_jd: Mapped[float | None]
    n_times: Mapped[int | None]
