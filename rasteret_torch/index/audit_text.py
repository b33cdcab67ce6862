"""A split audit as text and as HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from rasteret_torch.index import printed

if TYPE_CHECKING:
    from rasteret_torch.index.audit import SplitAudit

_SHOWN = 8  # labels


def as_text(audit: SplitAudit) -> str:
    """A few lines for the console."""
    lines = [f"Splits in column {audit.column!r}: {_verdict(audit)}", ""]
    lines += printed.as_lines(_parts(audit))
    if audit.pairs:
        lines += ["", *printed.as_lines(_pairs(audit))]
    notes = _notes(audit)
    if notes:
        lines += ["", *notes]
    if audit.problems:
        lines += ["", *(f"! {problem}" for problem in audit.problems)]
    return "\n".join(lines)


def as_html(audit: SplitAudit) -> str:
    """The same as tables."""
    colour = "#2e7d32" if audit.ok else "#b3261e"
    parts = [f"<b>Splits in column {html.escape(repr(audit.column))}: ", f"<span style='color:{colour}'>"]
    parts += [html.escape(_verdict(audit)), "</span></b>", printed.as_html(_parts(audit))]
    if audit.pairs:
        parts.append(printed.as_html(_pairs(audit)))
    parts += [f"<div>{html.escape(note)}</div>" for note in _notes(audit)]
    parts += [f"<div style='color:{colour}'>{html.escape(problem)}</div>" for problem in audit.problems]
    return "".join(parts)


def _verdict(audit: SplitAudit) -> str:
    if audit.ok:
        return "they share no ground" if audit.holds_out == "space" else "they share no ground on one date"
    return "they leak"


def _parts(audit: SplitAudit) -> list[list[str]]:
    rows = [["split", "items", "places", "km²", "dates"]]
    for part in audit.parts:
        days = " to ".join(dict.fromkeys((part.first, part.last)))
        rows.append([part.name, str(part.items), str(part.places), _km2(part.area_km2), days])
    labels = list(audit.parts[0].labels)[:_SHOWN]
    for row, part in zip(rows[1:], audit.parts, strict=True):
        total = max(sum(part.labels.values()), 1)
        row += [f"{part.labels[name] / total:.0%}" for name in labels]
    rows[0] += [f"label {name}" for name in labels]
    return rows


def _pairs(audit: SplitAudit) -> list[list[str]]:
    rows = [["pair", "shared km²", "items on shared ground", "on one date too", "metres apart"]]
    for pair in audit.pairs:
        away = "far" if pair.distance_m == float("inf") else printed.thousands(pair.distance_m)
        shared = [_km2(pair.overlap_km2), str(pair.overlapping_items), str(pair.same_date_items)]
        rows.append([f"{pair.one} / {pair.other}", *shared, away])
    return rows


def _km2(area: float) -> str:
    return printed.thousands(area) if area >= 1000 else f"{area:.4g}"


def _notes(audit: SplitAudit) -> list[str]:
    notes = []
    if audit.unassigned:
        notes.append(f"{audit.unassigned} items have no split")
    if audit.unplaced:
        notes.append(f"{audit.unplaced} items have a split but no place, and were not compared")
    if audit.imbalance is not None:
        notes.append(f"label shares of two splits differ by up to {audit.imbalance:.0%}")
    return notes
