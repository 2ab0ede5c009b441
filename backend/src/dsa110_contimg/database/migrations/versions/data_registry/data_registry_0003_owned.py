"""owned

Revision data_registry_0003, after data_registry_0002.
"""

import sqlalchemy as sa
from alembic import op


revision = 'data_registry_0003'
down_revision = 'data_registry_0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('data_registry', schema=None) as batch_op:
        batch_op.create_index('idx_data_registry_owned', ['owner'], unique=False, sqlite_where=sa.text('owner IS NOT NULL'), postgresql_where=sa.text('owner IS NOT NULL'))
        batch_op.create_index('idx_data_registry_photometry', ['photometry_status'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('data_registry', schema=None) as batch_op:
        batch_op.drop_index('idx_data_registry_photometry')
        batch_op.drop_index('idx_data_registry_owned')
