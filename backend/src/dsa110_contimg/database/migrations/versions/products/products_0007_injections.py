"""injected sources and their fluxes

Revision products_0007, after products_0006.
"""

import sqlalchemy as sa
from alembic import op


revision = 'products_0007'
down_revision = 'products_0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'injected_sources',
        sa.Column('source_id', sa.TEXT(), nullable=False),
        sa.Column('ra_deg', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('dec_deg', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('kind', sa.TEXT(), nullable=False),
        sa.Column('flux_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('middle_mjd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('days', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('depth', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('n_obs', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=True),
        sa.Column('n_event', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=True),
        sa.Column('found_as', sa.TEXT(), nullable=True),
        sa.Column('significance', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('found_mjd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.PrimaryKeyConstraint('source_id'),
        if_not_exists=True,
    )
    op.create_table(
        'injected_fluxes',
        sa.Column('image_path', sa.TEXT(), nullable=False),
        sa.Column('source_id', sa.TEXT(), nullable=False),
        sa.Column('mjd', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('true_flux_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('flux_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('flux_err_jy', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('local_rms_jyb', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('flags', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=True),
        sa.ForeignKeyConstraint(['image_path'], ['images.path'], onupdate='CASCADE', initially='DEFERRED', deferrable=True),
        sa.PrimaryKeyConstraint('image_path', 'source_id'),
        if_not_exists=True,
    )
    with op.batch_alter_table('injected_fluxes', schema=None) as batch_op:
        batch_op.create_index('idx_injected_fluxes_source', ['source_id'], unique=False, if_not_exists=True)


def downgrade() -> None:
    with op.batch_alter_table('injected_fluxes', schema=None) as batch_op:
        batch_op.drop_index('idx_injected_fluxes_source')

    op.drop_table('injected_fluxes')
    op.drop_table('injected_sources')
