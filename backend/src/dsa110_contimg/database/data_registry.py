"""The data registry as the specification names it: register, query, link and tag; transitions are exported too."""

from dsa110_contimg.database.data_registration import (
    finalize_data,
    finalize_mosaic,
    publish_blockers,
    publish_data_instance,
    publish_data_manual,
    recover_publishing,
    register_mosaic_in_data_registry,
    register_pipeline_data,
    retry_failed,
    set_photometry_status,
    trigger_auto_publish,
    update_qa_status,
)
from dsa110_contimg.database.registry_rows import (
    ProductRow,
    ensure_data_registry_db,
    find_rows,
    get_data,
    link_data,
    list_data,
    list_links,
    list_tags,
    register_data_instance,
    tag_data,
    transaction,
)

register_data = register_data_instance
get_data_relationships = list_links
get_data_tags = list_tags

__all__ = [
    "ProductRow",
    "ensure_data_registry_db",
    "finalize_data",
    "finalize_mosaic",
    "find_rows",
    "get_data",
    "get_data_relationships",
    "get_data_tags",
    "link_data",
    "list_data",
    "list_links",
    "list_tags",
    "publish_blockers",
    "publish_data_instance",
    "publish_data_manual",
    "recover_publishing",
    "register_data",
    "register_data_instance",
    "register_mosaic_in_data_registry",
    "register_pipeline_data",
    "retry_failed",
    "set_photometry_status",
    "tag_data",
    "transaction",
    "trigger_auto_publish",
    "update_qa_status",
]
