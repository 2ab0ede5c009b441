"""orders in which sources are listed, what becomes of new sources

Revision products_0009, after products_0008.
"""

import sqlalchemy as sa
from alembic import op


revision = 'products_0009'
down_revision = 'products_0008'
branch_labels = None
depends_on = None

REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), 'sqlite')


def upgrade() -> None:
    op.create_index('idx_variability_dec', 'variability_stats', ['dec_deg'], unique=False, if_not_exists=True)
    present = {column['name'] for column in sa.inspect(op.get_bind()).get_columns('transient_candidates')}
    for column in (
        sa.Column('status', sa.TEXT(), server_default=sa.text("'active'"), nullable=True),
        sa.Column('investigated_at', REAL, nullable=True),
        sa.Column('dismissed_at', REAL, nullable=True),
    ):
        if column.name not in present:
            op.add_column('transient_candidates', column)
    op.create_index('idx_transient_status', 'transient_candidates', ['status'], unique=False, if_not_exists=True)


def downgrade() -> None:
    with op.batch_alter_table('transient_candidates', schema=None) as batch_op:
        batch_op.drop_index('idx_transient_status')
        for column in ('dismissed_at', 'investigated_at', 'status'):
            batch_op.drop_column(column)
    op.drop_index('idx_variability_dec', 'variability_stats')
