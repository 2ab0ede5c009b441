"""`python -m dsa110_contimg.database.migrations` migrates the configured products database."""

from dsa110_contimg.database.migrations import migrate_products_db
from dsa110_contimg.database.session import database_path

migrate_products_db(database_path("products"))
