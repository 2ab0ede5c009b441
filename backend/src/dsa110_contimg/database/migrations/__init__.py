"""Alembic's scripts, and the function by which S1 names the upgrade of a products database."""

from pathlib import Path

from dsa110_contimg.database.upgrades import Target, upgrade


def migrate_products_db(db_path: Path) -> None:
    """Bring a products database to the tables of this version, keep its rows, and say so; idempotent.

    Raises
    ------
    ConfigurationError
        If the file is no products database, or cannot be changed; it is unchanged then.
    """
    for sentence in upgrade(Target("products", Path(db_path))):
        print(sentence)  # noqa: T201 - the specification's function prints
    print(f"✓ Migrated {db_path}")  # noqa: T201 - the specification prints this line
