"""row counts

Revision products_0006, after products_0005. The triggers that keep the numbers, and the first numbers, come with every
upgrade: see `models.row_counts`.
"""

import sqlalchemy as sa
from alembic import op


revision = 'products_0006'
down_revision = 'products_0005'
branch_labels = None
depends_on = None

COUNTED = ('jobs', 'ms_index', 'mosaic_groups')


def upgrade() -> None:
    op.create_table(
        'work_counts',
        sa.Column('table_name', sa.TEXT(), nullable=False),
        sa.Column('kind', sa.TEXT(), nullable=False),
        sa.Column('state', sa.TEXT(), nullable=False),
        sa.Column('number', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=False),
        sa.PrimaryKeyConstraint('table_name', 'kind', 'state'),
        if_not_exists=True,
    )


def downgrade() -> None:
    for table in COUNTED:
        if op.get_bind().dialect.name == 'sqlite':
            for moment in ('insert', 'delete', 'update'):
                op.execute(f'DROP TRIGGER IF EXISTS count_{table}_{moment}')
        else:
            op.execute(f'DROP FUNCTION IF EXISTS count_{table}() CASCADE')
    op.drop_table('work_counts')
