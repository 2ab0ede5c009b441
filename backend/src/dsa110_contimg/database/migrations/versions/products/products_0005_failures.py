"""failures

Revision products_0005, after products_0004.
"""

import sqlalchemy as sa
from alembic import op


revision = 'products_0005'
down_revision = 'products_0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('failures', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), server_default=sa.text('0'), nullable=False))
        batch_op.add_column(sa.Column('deaths', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=True))

    with op.batch_alter_table('mosaic_group_members', schema=None) as batch_op:
        batch_op.create_index('idx_members_path', ['ms_path'], unique=False)

    with op.batch_alter_table('mosaics', schema=None) as batch_op:
        batch_op.create_index('idx_mosaics_group', ['group_id'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('mosaic_group_members', schema=None) as batch_op:
        batch_op.drop_index('idx_members_path')

    with op.batch_alter_table('mosaics', schema=None) as batch_op:
        batch_op.drop_index('idx_mosaics_group')

    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.drop_column('deaths')
        batch_op.drop_column('failures')
