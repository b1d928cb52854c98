"""The critical-difference picture: mean ranks on a line, bars under methods that do not differ (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from offnominal.metrics import RankComparison

_WIDTH, _SIDE, _TOP, _STEP = 900, 220, 70, 17
_BAR = 7


def critical_difference_svg(names: Sequence[str], found: RankComparison, title: str) -> str:
    """Draw Demšar's picture: best on the left.

    Parameters
    ----------
    names : sequence of str
        Of the methods, as in ``found.mean_ranks``.
    found : RankComparison
    title : str

    Returns
    -------
    str
        A whole SVG file.
    """
    order = sorted(range(len(names)), key=lambda place: (found.mean_ranks[place], names[place]))
    groups = found.groups()
    last = len(names)
    half = (len(names) + 1) // 2
    axis = _TOP + 10
    bars_end = axis + 10 + _BAR * len(groups)
    whole = bars_end + _STEP * (half + 1) + 14

    def across(rank: float) -> float:
        return round(_SIDE + (rank - 1) / (last - 1) * (_WIDTH - 2 * _SIDE), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {whole}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{whole}" fill="#fff"/>',
        f'<text x="{_WIDTH / 2}" y="18" text-anchor="middle" font-size="14">{escape(title)}</text>',
        f'<path d="M{across(1)} {axis}H{across(last)}" stroke="#161a1f"/>',
    ]
    for rank in range(1, last + 1):
        if rank in (1, last) or last <= 20 or rank % 5 == 0:
            parts.append(f'<path d="M{across(rank)} {axis}v-6" stroke="#161a1f"/>')
            parts.append(f'<text x="{across(rank)}" y="{axis - 10}" text-anchor="middle">{rank}</text>')
    reach = across(1 + found.critical_difference) - across(1)
    parts.append(
        f'<path d="M{across(1)} 40h{reach:.1f}M{across(1)} 36v8m{reach:.1f} 0v-8" stroke="#b02a13" '
        f'stroke-width="2" fill="none"/><text x="{across(1) + reach + 8:.1f}" y="44">critical difference '
        f"{found.critical_difference:.2f} at {100 * found.alpha:g} %, {found.datasets} sets</text>"
    )
    for number, group in enumerate(groups):
        ranks = [float(found.mean_ranks[method]) for method in group]
        place_of = axis + 10 + _BAR * number
        parts.append(
            f'<path d="M{across(min(ranks)) - 2} {place_of}H{across(max(ranks)) + 2}" stroke="#1f6690" '
            f'stroke-width="3"/>'
        )
    for place, method in enumerate(order):
        mean = float(found.mean_ranks[method])
        left = place < half
        level = bars_end + _STEP * ((place if left else len(order) - 1 - place) + 1)
        end, anchor = (_SIDE - 12, "end") if left else (_WIDTH - _SIDE + 12, "start")
        shift = -5 if left else 5
        parts.append(
            f'<path d="M{across(mean)} {axis}V{level}H{end}" stroke="#8a929b" stroke-width=".8" fill="none"/>'
        )
        parts.append(
            f'<text x="{end + shift}" y="{level + 4}" text-anchor="{anchor}">{escape(names[method])} '
            f"({mean:.2f})</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
