"""Curves as SVG: one panel for each measure, one under the other, over the tokens that were trained on."""

from __future__ import annotations

import math
from typing import NamedTuple


class Point(NamedTuple):
    tokens: int
    loss: float
    retrieval: float  # share of answers


_LEFT, _WIDTH, _HEIGHT, _GAP, _TOP = 60, 560, 200, 56, 74
_COLOURS = ("#666666", "#1764ab", "#d95f0e")


def _text(x: float, y: float, anchor: str, words: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{more}>{words}</text>\n'


def _step(most: float) -> float:
    """Between the marks of an axis, four to eight of them: 1, 2 or 5 and zeros."""
    power = 10 ** math.floor(math.log10(most / 4))
    return max(power * digit for digit in (1, 2, 5) if 4 * power * digit <= most)


def _marks(most: float) -> list[float]:
    return [i * _step(most) for i in range(int(most / _step(most) + 1e-9) + 1)]


def _panel(top: float, title: str, most_tokens: int, most: float, lines: list[list[tuple[int, float]]]) -> str:
    def place(tokens: float, value: float) -> tuple[float, float]:
        return _LEFT + _WIDTH * tokens / most_tokens, top + _HEIGHT * (1 - value / most)

    svg = _text(_LEFT, top - 8, "start", title, ' font-weight="bold"')
    for value in _marks(most):
        y = place(0, value)[1]
        svg += f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="#ddd"/>\n' + _text(_LEFT - 8, y + 4, "end", f"{value:g}")
    for tokens in _marks(most_tokens):
        svg += _text(place(tokens, 0)[0], top + _HEIGHT + 18, "middle", f"{tokens / 1000:,.0f}")
    for line, colour in zip(lines, _COLOURS):
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line)
        svg += f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>\n'
    return svg + f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>\n'


def picture(title: str, curves: dict[str, list[Point]]) -> str:
    """curves: three at most, each of one point or more."""
    points = [point for curve in curves.values() for point in curve]
    most_tokens, most_loss = max(point.tokens for point in points), max(point.loss for point in points)
    below, width = _TOP + _HEIGHT + _GAP, _LEFT + _WIDTH + 20
    height = below + _HEIGHT + 48
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n')
    svg += _text(_LEFT, 20, "start", title, ' font-size="14" font-weight="bold"')
    for at, (name, colour) in enumerate(zip(curves, _COLOURS)):
        svg += _text(_LEFT + 190 * at, 42, "start", name, f' fill="{colour}"')
    svg += _panel(_TOP, "loss (nats)", most_tokens, most_loss, [[(p.tokens, p.loss) for p in curve] for curve in curves.values()])
    svg += _panel(below, "retrieval (share of answers)", most_tokens, 1.0,
                  [[(p.tokens, p.retrieval) for p in curve] for curve in curves.values()])
    return svg + _text(_LEFT + _WIDTH / 2, height - 10, "middle", "thousands of tokens trained on") + "</svg>\n"
