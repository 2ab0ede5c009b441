"""files on disk

Revision hdf5_0002, after hdf5_0001.
"""

import sqlalchemy as sa
from alembic import op


revision = 'hdf5_0002'
down_revision = 'hdf5_0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('hdf5_file_index', schema=None) as batch_op:
        batch_op.create_index('idx_hdf5_stored', ['path'], unique=False, sqlite_where=sa.text('stored = 1'), postgresql_where=sa.text('stored = 1'))


def downgrade() -> None:
    with op.batch_alter_table('hdf5_file_index', schema=None) as batch_op:
        batch_op.drop_index('idx_hdf5_stored')
