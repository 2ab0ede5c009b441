"""A product as people read it in a terminal: where it stands, why, what was measured, and what to do next.

Everything comes from `product_report.describe_product`; `[x]` marks a criterion that holds, `[ ]` one that does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from dsa110_contimg.database.criteria import publish_blockers
from dsa110_contimg.database.product_report import spoken_time
from dsa110_contimg.database.registry_rows import ProductRow

_STYLES = {
    "published": "green",
    "passed": "green",
    "failed": "red",
    "invalid": "red",
    "retracted": "red",
    "warning": "yellow",
    "unmeasured": "yellow",
}
_LABELS = {
    "status": "status",
    "auto_publish_enabled": "auto-publish",
    "qa_status": "QA",
    "validation_status": "validation",
    "finalization_status": "finalization",
    "photometry_status": "photometry",
}
Described = Mapping[str, Any]


def product_page(described: Described) -> list[Text]:
    """Return the lines of a product's page."""
    title = Text(f"{described['data_id']}: ", "bold")
    title.append(described["status"], _STYLES.get(described["status"], ""))
    title.append(f" {described['data_type']}")
    sections = {
        "next": [Text(described["next_step"])],
        "criteria": _criteria(described),
        "attempts": _attempts(described),
        "signed": _signatures(described),
        "files": _files(described),
        "tags": [Text(", ".join(described["tags"]))] if described["tags"] else [],
        "links": _links(described),
    }
    lines = [title]
    for name, section in sections.items():
        for number, line in enumerate(section):
            lines.append(Text(f"  {name if number == 0 else '':11}").append_text(line))
    return lines


def _criteria(described: Described) -> list[Text]:
    lines = []
    for one in described["criteria"]:
        mark = Text("[x] " if one["holds"] else "[ ] ", "green" if one["holds"] else "red")
        value = {0: "off", 1: "on", None: "-"}.get(one["value"], one["value"])
        mark.append(f"{_LABELS[one['name']]:13}").append(str(value), _STYLES.get(str(value), ""))
        if one["remark"]:
            mark.append(f"  ({one['remark']})", "dim")
        lines += [mark, *(_figure(figure) for figure in one["figures"])]
    return lines


def _figure(figure: Mapping[str, Any]) -> Text:
    """Return one measurement: name, value, verdict, limits, and the sentence about it."""
    value = "-" if figure["value"] is None else f"{figure['value']:.4g}"
    line = Text(f"        {figure['name']:22} {value:>10}  ")
    line.append(f"{figure['verdict']:10}", _STYLES.get(figure["verdict"], ""))
    limits = {"warns": figure["threshold_warning"], "fails": figure["threshold_failure"]}
    told = ", ".join(f"{what} at {limit:g}" for what, limit in limits.items() if limit is not None)
    return line.append("; ".join(part for part in (told, figure["reason"]) if part), "dim")


def _attempts(described: Described) -> list[Text]:
    failed, error = described["publish_attempts"] or 0, described["publish_error"]
    if not failed and not error:
        return []
    lines = [Text(f"{failed} failed; after {described['max_attempts']} none is made by itself")]
    if error:
        lines.append(Text(error, "red"))
    if described["retry_at"] is not None and described["status"] == "failed":
        lines.append(Text(f"again by itself after {spoken_time(described['retry_at'])}"))
    return lines


def _signatures(described: Described) -> list[Text]:
    asked, back = described["publish"] or {}, described["retract"] or {}
    lines = []
    if asked.get("by") or asked.get("reason"):
        despite = f", although {asked['despite']}" if asked.get("despite") else ""
        when = spoken_time(asked.get("asked_at"))
        lines.append(Text(f"publication: {asked.get('by')}, {when}{despite}: {asked.get('reason')}"))
    if back:
        when = spoken_time(described["retracted_at"])
        lines.append(Text(f"retraction: {back.get('by')}, {when}: {described['retract_reason']}"))
    return lines


def _files(described: Described) -> list[Text]:
    lines = [Text(f"staged {spoken_time(described['staged_at'])}: {described['stage_path']}")]
    if described["published_path"]:
        when = spoken_time(described["published_at"])
        lines.append(Text(f"published {when}: {described['published_path']}"))
        for item in (described["publish"] or {}).get("items", ()):
            name = item["target"].rpartition("/")[2]
            lines.append(Text(f"    {name}  {item['size_bytes']} bytes  SHA-256 {item['sha256']}", "dim"))
    return lines


def _links(described: Described) -> list[Text]:
    words = {
        ("derived_from", True): "made from {parent_id}",
        ("derived_from", False): "{child_id} was made from it",
        ("supersedes", True): "replaces {parent_id}",
        ("supersedes", False): "remade as {child_id}",
    }
    lines = []
    for link in described["links"]:
        sentence = words.get((link["relationship_type"], link["child_id"] == described["data_id"]))
        lines.append(Text((sentence or "{parent_id} {relationship_type} {child_id}").format(**link)))
    return lines


def product_table(rows: Sequence[ProductRow]) -> Table:
    """Return a list of products as a table, with what each waits for."""
    table = Table("product", "type", "status", "QA", "validation", "failed", "waits for", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: ProductRow) -> Iterator[Text]:
    waits = "" if row.status in {"published", "retracted"} else row.publish_error or "; ".join(publish_blockers(row))
    for word in (
        row.data_id,
        row.data_type,
        row.status,
        row.qa_status or "pending",
        row.validation_status or "pending",
    ):
        yield Text(word, _STYLES.get(word, ""), no_wrap=True)
    yield Text(str(row.publish_attempts or 0))
    yield Text(waits)
