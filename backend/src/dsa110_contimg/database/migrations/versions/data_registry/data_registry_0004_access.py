"""users, tokens, links, attempts to log in, audit

Revision data_registry_0004, after data_registry_0003.
"""

import sqlalchemy as sa
from alembic import op


revision = 'data_registry_0004'
down_revision = 'data_registry_0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'audit',
        sa.Column('id', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=False),
        sa.Column('at_unix', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('user_name', sa.TEXT(), nullable=False),
        sa.Column('action', sa.TEXT(), nullable=False),
        sa.Column('target', sa.TEXT(), nullable=False),
        sa.Column('detail', sa.TEXT(), nullable=True),
        sa.PrimaryKeyConstraint('id'),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    with op.batch_alter_table('audit', schema=None) as batch_op:
        batch_op.create_index('idx_audit_target', ['target'], unique=False, if_not_exists=True)

    op.create_table(
        'login_attempts',
        sa.Column('id', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=False),
        sa.Column('user_name', sa.TEXT(), nullable=False),
        sa.Column('address', sa.TEXT(), nullable=False),
        sa.Column('attempted_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    with op.batch_alter_table('login_attempts', schema=None) as batch_op:
        batch_op.create_index('idx_login_attempts_at', ['attempted_at'], unique=False, if_not_exists=True)

    op.create_table(
        'users',
        sa.Column('name', sa.TEXT(), nullable=False),
        sa.Column('role', sa.TEXT(), nullable=False),
        sa.Column('password_hash', sa.TEXT(), nullable=True),
        sa.Column('session_epoch', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), server_default=sa.text('0'), nullable=False),
        sa.Column('created_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('last_login_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name='ck_user_role'),
        sa.PrimaryKeyConstraint('name'),
        if_not_exists=True,
    )
    op.create_table(
        'access_tokens',
        sa.Column('id', sa.BigInteger().with_variant(sa.INTEGER(), 'sqlite'), nullable=False),
        sa.Column('user_name', sa.TEXT(), nullable=False),
        sa.Column('label', sa.TEXT(), nullable=False),
        sa.Column('sha256', sa.TEXT(), nullable=False),
        sa.Column('created_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('expires_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('last_used_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.Column('revoked_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.ForeignKeyConstraint(['user_name'], ['users.name'], ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('sha256'),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    with op.batch_alter_table('access_tokens', schema=None) as batch_op:
        batch_op.create_index('idx_access_tokens_user', ['user_name'], unique=False, if_not_exists=True)

    op.create_table(
        'invitations',
        sa.Column('sha256', sa.TEXT(), nullable=False),
        sa.Column('user_name', sa.TEXT(), nullable=False),
        sa.Column('created_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('expires_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=False),
        sa.Column('used_at', sa.Double().with_variant(sa.REAL(), 'sqlite'), nullable=True),
        sa.ForeignKeyConstraint(['user_name'], ['users.name'], ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('sha256'),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table('invitations')
    with op.batch_alter_table('access_tokens', schema=None) as batch_op:
        batch_op.drop_index('idx_access_tokens_user')

    op.drop_table('access_tokens')
    op.drop_table('users')
    with op.batch_alter_table('login_attempts', schema=None) as batch_op:
        batch_op.drop_index('idx_login_attempts_at')

    op.drop_table('login_attempts')
    with op.batch_alter_table('audit', schema=None) as batch_op:
        batch_op.drop_index('idx_audit_target')

    op.drop_table('audit')
