"""Rows of words as a table, the first of them its head: for the console, and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def as_lines(rows: Rows) -> list[str]:
    """One line a row; the first column stands to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = zip(row, widths, strict=True)
        lines.append("  ".join(["", first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip())
    return lines


def as_html(rows: Rows) -> str:
    """A table of HTML."""
    head, *body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr style='font-weight:bold'>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"


def thousands(number: float) -> str:
    """A whole number, its thousands apart: 12 345."""
    return f"{number:,.0f}".replace(",", " ")
