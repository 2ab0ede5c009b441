"""open work

Revision products_0004, after products_0003.
"""

import sqlalchemy as sa
from alembic import op


revision = 'products_0004'
down_revision = 'products_0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute('DROP VIEW IF EXISTS photometry_timeseries')
    op.execute('DROP VIEW IF EXISTS light_curves')
    with op.batch_alter_table('mosaics', schema=None) as batch_op:
        batch_op.add_column(sa.Column('closed_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True))
        batch_op.create_index('idx_mosaics_open', ['name'], unique=False, sqlite_where=sa.text('closed_at IS NULL'), postgresql_where=sa.text('closed_at IS NULL'))

    with op.batch_alter_table('ms_index', schema=None) as batch_op:
        batch_op.add_column(sa.Column('placed_in', sa.TEXT(), nullable=True))
        batch_op.create_index('idx_ms_index_group', ['group_id'], unique=False)
        batch_op.create_index('idx_ms_index_unplaced', ['mid_mjd'], unique=False, sqlite_where=sa.text('placed_in IS NULL'), postgresql_where=sa.text('placed_in IS NULL'))

    op.execute(
        'UPDATE ms_index SET placed_in = (SELECT group_id FROM mosaic_group_members AS member'
        ' WHERE member.ms_path = ms_index.path AND member.is_new = 1)'
    )
    op.execute('CREATE VIEW light_curves AS SELECT * FROM photometry WHERE in_lightcurve = 1 AND retracted_at IS NULL')
    op.execute('CREATE VIEW photometry_timeseries AS SELECT * FROM light_curves')


def downgrade() -> None:
    op.execute('DROP VIEW IF EXISTS photometry_timeseries')
    op.execute('DROP VIEW IF EXISTS light_curves')
    with op.batch_alter_table('ms_index', schema=None) as batch_op:
        batch_op.drop_index('idx_ms_index_unplaced')
        batch_op.drop_index('idx_ms_index_group')
        batch_op.drop_column('placed_in')

    with op.batch_alter_table('mosaics', schema=None) as batch_op:
        batch_op.drop_index('idx_mosaics_open')
        batch_op.drop_column('closed_at')

    op.execute('CREATE VIEW light_curves AS SELECT * FROM photometry WHERE in_lightcurve = 1 AND retracted_at IS NULL')
    op.execute('CREATE VIEW photometry_timeseries AS SELECT * FROM light_curves')
