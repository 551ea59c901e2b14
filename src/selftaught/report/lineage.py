"""The figure of which improver came of which, and of what else was considered."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from selftaught.algorithm import Round
from selftaught.events import Requested
from selftaught.report.figures import COLOURS, number, ticks
from selftaught.utility import Scored

_WIDTH, _HEIGHT = 760, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 40, 26, 62
_SCORED = "scored"


def lineage_figure(rounds: Sequence[Round], asked: Mapping[int, Sequence[Requested]]) -> str:
    """One column per round: what it scored, what it returned, who is in force after it.

    Args:
        rounds: round 0, the seed improver, first.
        asked: the scores that each round's improver asked for.
    """
    values = [
        request.value
        for requests in asked.values()
        for request in requests
        if request.outcome == _SCORED
    ] + [m.value for r in rounds if isinstance(m := r.validation.outcome, Scored)]
    y_ticks = ticks(min(values, default=0.0), max(values, default=1.0))
    step = (_WIDTH - _LEFT - _RIGHT) / len(rounds)
    bottom = _HEIGHT - _BOTTOM

    def x_at(round_: float) -> float:
        return _LEFT + step * (round_ + 0.5)

    def y_at(value: float) -> float:
        return bottom - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - _TOP)

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_at(t):.1f}" '
        f'y2="{y_at(t):.1f}"/><text x="{_LEFT - 8}" y="{y_at(t) + 4:.1f}" '
        f'text-anchor="end">{number(t)}</text>'
        for t in y_ticks
    ]
    in_force: list[tuple[float, float]] = []
    for one in rounds:
        x = x_at(one.number)
        requests = asked.get(one.number, ())
        scored = [request for request in requests if request.outcome == _SCORED]
        failed = len(requests) - len(scored)
        for place, request in enumerate(scored):
            across = x - step * 0.62 + step * 0.34 * (place + 1) / (len(scored) + 1)
            parts.append(
                f'<circle cx="{across:.1f}" cy="{y_at(request.value):.1f}" r="3" '
                'fill="#999" fill-opacity="0.65"/>'
            )
        value = one.validation.outcome
        if isinstance(value, Scored):
            in_force.append((x, y_at(value.value)))
        parts.append(_below(one, x, bottom, failed))
        parts.append(_returned(one, requests, x - step * 0.2, y_at))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in in_force)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[0]}" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[0]}"/>' for x, y in in_force]
    parts.append(
        f'<text class="label" transform="translate(13 {(_TOP + bottom) / 2}) rotate(-90)" '
        'text-anchor="middle">meta-utility, validation</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>Lineage of improvers</title>{''.join(parts)}</svg>"
    )


def _below(one: Round, x: float, bottom: float, failed: int) -> str:
    name = "seed" if one.number == 0 else f"round {one.number}"
    verdict = "" if one.number == 0 else "new improver" if one.accepted else "kept"
    failures = f", {failed} failed" if failed else ""
    return (
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{name}</text>'
        f'<text x="{x:.1f}" y="{bottom + 34}" text-anchor="middle">'
        f"{escape(one.improver.hash[:8])}</text>"
        f'<text class="label" x="{x:.1f}" y="{bottom + 50}" text-anchor="middle">'
        f"{verdict}{failures}</text>"
    )


def _returned(
    one: Round, requests: Sequence[Requested], x: float, y_at: Callable[[float], float]
) -> str:
    """A ring for what a round returned and was not taken, where its score is known."""
    if one.accepted or one.candidate is None:
        return ""
    known = [r.value for r in requests if r.solution == one.candidate.hash]
    if not known:
        return ""
    return (
        f'<circle cx="{x:.1f}" cy="{y_at(known[0]):.1f}" r="5" fill="none" '
        f'stroke="{COLOURS[1]}" stroke-width="2"/>'
    )
