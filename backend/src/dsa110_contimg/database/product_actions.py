"""What a person does to a product, from the command line or over HTTP: publish it, or try again.

Both say the same sentences, and leave the same in the row; `retraction` has what takes a product back.
"""

from dsa110_contimg.database.data_registration import publish_data_instance, reset_failed
from dsa110_contimg.database.product_paths import Roots
from dsa110_contimg.database.registry_rows import RegistryConnection, get_data
from dsa110_contimg.errors import PublishError


def publish_by_hand(
    conn: RegistryConnection,
    data_id: str,
    *,
    mode: str = "move",
    by: str | None = None,
    reason: str | None = None,
    roots: Roots | None = None,
) -> None:
    """Publish a product because somebody wants it.

    Raises
    ------
    PublishError
        If it cannot be published, needs a signature, or is already claimed by another process.
    """
    _check_done(conn, data_id, publish_data_instance(conn, data_id, mode=mode, roots=roots, by=by, reason=reason))


def retry_by_hand(
    conn: RegistryConnection,
    data_id: str,
    *,
    reset: bool = False,
    elsewhere: bool = False,
    roots: Roots | None = None,
) -> None:
    """Publish again a product that failed, as it was asked for, also beyond the limit of attempts.

    Parameters
    ----------
    reset
        Forget the failures first.
    elsewhere
        The products area is another one than the last attempt's.

    Raises
    ------
    PublishError
        If it did not fail, or fails again.
    """
    row = get_data(conn, data_id)
    if row.status != "failed":
        raise PublishError(f"product {data_id} is {row.status}, not failed: there is nothing to retry")
    if reset:
        reset_failed(conn, data_id)
    asked = row.noted.get("published_dir")
    folder = None if asked is None or elsewhere else str(asked)
    _check_done(conn, data_id, publish_data_instance(conn, data_id, folder, row.publish_mode or "move", roots=roots))


def _check_done(conn: RegistryConnection, data_id: str, published: bool) -> None:
    if not published:
        raise PublishError(f"product {data_id} is already claimed by {get_data(conn, data_id).owner}")
