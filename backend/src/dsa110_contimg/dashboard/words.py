"""States as a kind of badge and as words: the same everywhere, a shape and a word, never a color alone."""

import re

from markupsafe import Markup, escape

from dsa110_contimg.database.models import Severity

KINDS = {
    "completed": "good",
    "done": "good",
    "passed": "good",
    "active": "good",
    "ok": "good",
    "published": "good",
    "photometry_complete": "good",
    "collecting": "busy",
    "in_progress": "busy",
    "running": "busy",
    "publishing": "busy",
    "converting": "busy",
    "pending": "idle",
    "next": "idle",
    "ahead": "idle",
    "staging": "idle",
    "retired": "idle",
    "waiting": "warning",
    "warning": "warning",
    "flagged": "warning",
    "failed": "bad",
    "critical": "bad",
    "info": "busy",
}
"""What kind of badge a state is; an unknown one is idle."""
WORDS = {
    "in_progress": "converting",
    "photometry_complete": "measured",
    "next": "its turn",
    "ahead": "not yet",
    "ese": "extreme scattering",
    "variability": "varies",
    "user": "flagged by hand",
}


def kind_of(state: str | None) -> str:
    """Return the kind of badge of a state."""
    return KINDS.get(state or "", "idle")


def word_of(state: str | None) -> str:
    """Return a state in words."""
    return WORDS.get(state or "", (state or "unknown").replace("_", " "))


def notice_kind(severity: Severity | None) -> str:
    """Return the kind of notice of a severity; none is good."""
    if severity is None:
        return "good"
    return {Severity.CRITICAL: "bad", Severity.WARNING: "warning", Severity.INFO: "busy"}[severity]


_CODE = re.compile(r"`([^`]+)`")


def coded(sentence: str) -> Markup:
    """Return a sentence as HTML, in which what stands in backticks is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(sentence))))
