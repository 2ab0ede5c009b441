"""sums of light curves, names of known objects, where a source was injected

Revision products_0008, after products_0007.
"""

import sqlalchemy as sa
from alembic import op


revision = 'products_0008'
down_revision = 'products_0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'light_curve_moments',
        sa.Column('source_id', sa.TEXT(), nullable=False),
        sa.Column('n', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('origin_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('level_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('floor_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('sum_d', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('sum_dd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('sum_w', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('sum_wd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('sum_wdd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('sum_v', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('sum_vd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('sum_vdd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('min_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('max_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('last_mjd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('n_settled', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('deviation', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('extreme_mjd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('extreme_flux_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.PrimaryKeyConstraint('source_id'),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    for table in ('ese_candidates', 'transient_candidates'):
        _add(table, sa.Column('known_as', sa.TEXT(), nullable=True))
    _add('injected_sources', sa.Column('put_into', sa.TEXT(), server_default=sa.text("'mosaic'"), nullable=True))


def _add(table: str, column: sa.Column[str]) -> None:
    if column.name not in {there['name'] for there in sa.inspect(op.get_bind()).get_columns(table)}:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(column)


def downgrade() -> None:
    with op.batch_alter_table('injected_sources', schema=None) as batch_op:
        batch_op.drop_column('put_into')
    for table in ('transient_candidates', 'ese_candidates'):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column('known_as')
    op.drop_table('light_curve_moments')
