"""A split audit as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rasteret_torch.index.audit import SplitAudit

_SHOWN = 8  # labels


def as_text(audit: SplitAudit) -> str:
    """A few lines for the console."""
    lines = [f"Splits in column {audit.column!r}: {_verdict(audit)}", ""]
    lines += _table(_parts(audit))
    if audit.pairs:
        lines += ["", *_table(_pairs(audit))]
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
    parts += [html.escape(_verdict(audit)), "</span></b>", _html_table(_parts(audit))]
    if audit.pairs:
        parts.append(_html_table(_pairs(audit)))
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
        away = "far" if pair.distance_m == float("inf") else f"{pair.distance_m:,.0f}".replace(",", " ")
        shared = [_km2(pair.overlap_km2), str(pair.overlapping_items), str(pair.same_date_items)]
        rows.append([f"{pair.one} / {pair.other}", *shared, away])
    return rows


def _km2(area: float) -> str:
    return f"{area:,.0f}".replace(",", " ") if area >= 1000 else f"{area:.4g}"


def _notes(audit: SplitAudit) -> list[str]:
    notes = []
    if audit.unassigned:
        notes.append(f"{audit.unassigned} items have no split")
    if audit.unplaced:
        notes.append(f"{audit.unplaced} items have a split but no place, and were not compared")
    if audit.imbalance is not None:
        notes.append(f"label shares of two splits differ by up to {audit.imbalance:.0%}")
    return notes


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(_cells(row, widths)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The first cell to the left, the others to the right."""
    return [
        cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr style='font-weight:bold'>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"
