"""alert outbox

Revision products_0003, after products_0002.
"""

import sqlalchemy as sa
from alembic import op


revision = 'products_0003'
down_revision = 'products_0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('alert_outbox',
    sa.Column('id', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=False),
    sa.Column('source_id', sa.TEXT(), nullable=False),
    sa.Column('alert_type', sa.TEXT(), nullable=False),
    sa.Column('severity', sa.TEXT(), nullable=False),
    sa.Column('message', sa.TEXT(), nullable=False),
    sa.Column('created_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
    sa.Column('channel', sa.TEXT(), nullable=True),
    sa.Column('attempt', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), server_default=sa.text('0'), nullable=False),
    sa.Column('failures', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), server_default=sa.text('0'), nullable=False),
    sa.Column('not_before', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
    sa.Column('owner', sa.TEXT(), nullable=True),
    sa.Column('lease_expires_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
    sa.Column('error', sa.TEXT(), nullable=True),
    sa.Column('recorded_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
    sa.CheckConstraint("severity IN ('info', 'warning', 'critical')", name='ck_alert_severity'),
    sa.PrimaryKeyConstraint('id'),
    if_not_exists=True,
    sqlite_autoincrement=True
    )
    with op.batch_alter_table('alert_outbox', schema=None) as batch_op:
        batch_op.create_index('idx_outbox_cause', ['source_id', 'alert_type', 'created_at'], unique=False)
        batch_op.create_index('idx_outbox_open', ['id'], unique=False, sqlite_where=sa.text('recorded_at IS NULL'), postgresql_where=sa.text('recorded_at IS NULL'))

    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.create_index('idx_jobs_state_stage', ['state', 'stage', 'updated_at'], unique=False)

    with op.batch_alter_table('ms_index', schema=None) as batch_op:
        batch_op.create_index('idx_ms_index_stage_mjd', ['stage', 'mid_mjd'], unique=False)
        batch_op.create_index('idx_ms_index_stage_updated', ['stage', 'stage_updated_at'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('ms_index', schema=None) as batch_op:
        batch_op.drop_index('idx_ms_index_stage_updated')
        batch_op.drop_index('idx_ms_index_stage_mjd')

    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.drop_index('idx_jobs_state_stage')

    op.drop_table('alert_outbox')
