"""Curves as one small SVG in a `data:` address: a page of Prefect shows it, and no server has to keep it.

Drawn by hand, because matplotlib takes as long to import as a run takes that finds everything in the store.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

from dr_irl.categories import ALL_LABELS, colours

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""Category -> (step, value), steps ascending."""

WIDTH, HEIGHT, LEFT, TOP, LEGEND = 760, 300, 56, 36, 210
MOST_POINTS = 200
"""Of one curve; a picture stays below 50 kB however many steps there were."""
_INK, _MUTED, _LINE = "#16202b", "#596673", "#dfe3e8"


def draw_curves(title: str, curves: Curves) -> str:
    """Draw one curve for each category, with a legend, and return it as a `data:` address."""
    thin = {name: _thin([point for point in points if math.isfinite(point[1])]) for name, points in curves.items()}
    thin = {name: points for name, points in thin.items() if points}
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="20" font-size="14" fill="{_INK}">{escape(title)}</text>'
        f"{_frame(thin)}{''.join(_curve(row, name, thin) for row, name in enumerate(thin))}</svg>"
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _frame(curves: Curves) -> str:
    (first, last), (low, high) = _limits(curves)
    # Two digits of the distance between lines, so that no two lines bear the same number.
    digits = max(0, 1 - math.floor(math.log10((high - low) / 4)))
    lines = [
        f'<line x1="{LEFT}" x2="{WIDTH - LEGEND}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_LINE}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{_MUTED}">{value:z.{digits}f}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
        for y, value in [(_y(share), low + share * (high - low))]
    ]
    ends = [(LEFT, "start", f"step {first:g}"), (WIDTH - LEGEND, "end", f"step {last:g}")]
    names = [
        f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="{anchor}" fill="{_MUTED}">{text}</text>'
        for x, anchor, text in ends
    ]
    return "".join([*lines, *names])


def _curve(row: int, name: str, curves: Curves) -> str:
    (first, last), (low, high) = _limits(curves)
    width = WIDTH - LEGEND - LEFT
    places = [
        (LEFT + width * (step - first) / (last - first), _y((v - low) / (high - low))) for step, v in curves[name]
    ]
    colour = colours(name)[0] if name in ALL_LABELS else _INK
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    (x, y), at = places[-1], TOP + 10 + 24 * row
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
        f'<rect x="{WIDTH - LEGEND + 16}" y="{at - 9}" width="12" height="3" fill="{colour}"/>'
        f'<text x="{WIDTH - LEGEND + 34}" y="{at - 3}" fill="{_INK}">{escape(name.replace("_", " "))}</text>'
    )


def _limits(curves: Curves) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of both axes; neither is so short that noise would look like a curve."""
    steps = [step for points in curves.values() for step, _ in points]
    values = [value for points in curves.values() for _, value in points]
    return _span(steps, least=1), _span(values, least=0.01)


def _span(values: Sequence[float], least: float) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(0.0, least - (high - low)) / 2
    return low - room, high + room


def _y(share: float) -> float:
    return HEIGHT - 34 - share * (HEIGHT - 34 - TOP)


def _thin(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Leave out points at even distances until few are left; the last one stays."""
    return [*points[: -1 : math.ceil(len(points) / MOST_POINTS)], points[-1]] if points else []
