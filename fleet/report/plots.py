"""The plots of a report as inline SVG: text stays text, colours are the page's own, and the output is reproducible.

matplotlib's global state is not changed except for its settings while a plot is drawn.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

# Placeholders for colours of the page's style, which has one set for light and one for dark mode.
INK, FAINT, LINE, GROUND = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0102{number:02x}" for number in range(1, 9))
COLOURS = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    LINE: "var(--line)",
    GROUND: "var(--ground)",
    **{name: f"var(--c{number})" for number, name in enumerate(SERIES, start=1)},
}
# Each cause of death has its own colour and its own mark; either alone is enough to tell them apart.
CAUSES = {
    "out_of_memory": (SERIES[5], "X"),
    "signal": (SERIES[1], "v"),
    "exit": (SERIES[2], "s"),
    "node_lost": (SERIES[3], "D"),
    "fenced": (SERIES[4], "P"),
}
OTHER_CAUSE = (INK, "o")
STATES = {"true": SERIES[0], "false": SERIES[1], "uncertain": SERIES[6]}
WIDTH = 9.0  # inches; the page scales it
PADDING = 0.12  # inches above and below: the page's font may be taller than the font used for measuring
PIXELS = 600  # resolution along an axis: points on the same pixel are drawn once
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jarfleet",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib and is used for measuring text; the page sets its own font
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}


class Life(NamedTuple):
    """One life of a mind, in seconds since the run began."""

    row: str
    start: float
    end: float
    number: int


class Death(NamedTuple):
    """One death, in seconds since the run began."""

    row: str
    at: float
    cause: str


def timeline(rows: Sequence[str], lives: Sequence[Life], deaths: Sequence[Death]) -> Markup:
    """Draw one row per mind: its lives as bars, its deaths as marks."""
    until = max([0.001, *(life.end for life in lives), *(death.at for death in deaths)])
    scale, unit = _unit(until)
    places = {row: len(rows) - 1 - place for place, row in enumerate(rows)}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        drawn: set[tuple[object, ...]] = set()
        for life in lives:
            if _new(drawn, life.row, round(life.start / until * PIXELS), round(life.end / until * PIXELS)):
                width = max(life.end - life.start, until / PIXELS) / scale
                colour = SERIES[0] if life.number % 2 else SERIES[7]
                axes.broken_barh(
                    [(life.start / scale, width)], (places[life.row] - 0.22, 0.44), facecolors=colour, alpha=0.55
                )
        handles = []
        for cause in [*CAUSES, *sorted({death.cause for death in deaths} - CAUSES.keys())]:
            points = [death for death in deaths if death.cause == cause]
            points = [point for point in points if _new(drawn, point.row, cause, round(point.at / until * PIXELS))]
            if points:
                colour, mark = CAUSES.get(cause, OTHER_CAUSE)
                at, where = [point.at / scale for point in points], [places[point.row] for point in points]
                axes.plot(at, where, mark, color=colour, markersize=8, linestyle="none", markeredgewidth=1.5)
                handles.append(
                    Line2D([], [], color=colour, marker=mark, linestyle="none", label=cause.replace("_", " "))
                )
        axes.set_yticks(list(places.values()), list(places))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(0, until / scale * 1.01)
        axes.set_xlabel(f"time since the first life began ({unit})")
        axes.grid(visible=False, axis="y")
        if handles:
            figure.legend(handles=handles, loc="outside upper left", ncols=6)

    return _svg("timeline", "Lives and deaths of each mind over time", 1.1 + 0.38 * len(rows), draw)


def spread(key: str, label: str, unit: str, rows: dict[str, tuple[float, float, float]]) -> Markup:
    """Draw one row per name: the span from the first number to the third as a line, the second as a dot."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (low, middle, high) in enumerate(reversed(rows.values())):
            axes.plot([low, high], [place, place], color=SERIES[0], linewidth=5, alpha=0.35, solid_capstyle="round")
            axes.plot([middle], [place], "o", color=SERIES[0], markersize=7)
        axes.set_yticks(range(len(rows)), list(reversed(rows)))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        axes.grid(visible=False, axis="y")

    return _svg(key, label, 0.8 + 0.34 * len(rows), draw)


def sizes(key: str, label: str, unit: str, rows: dict[str, dict[str, float | None]]) -> Markup:
    """Draw one row per name, with a mark for each of its sizes, on a logarithmic axis."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    looks = {name: (SERIES[place % 8], mark) for place, (name, mark) in enumerate(zip(names, "|osDv^", strict=False))}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name, (colour, mark) in looks.items():
            found = [(row.get(name), place) for place, row in enumerate(reversed(rows.values()))]
            points = [(value, place) for value, place in found if value and value > 0]
            at, where = [value for value, _ in points], [place for _, place in points]
            axes.plot(at, where, mark, color=colour, label=name, markersize=9, markeredgewidth=1.8, linestyle="none")
        _logarithmic(axes, [value for row in rows.values() for value in row.values() if value and value > 0])
        axes.set_yticks(range(len(rows)), list(reversed(rows)))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"{unit}, logarithmic")
        figure.legend(loc="outside upper left", ncols=len(names))

    return _svg(key, label, 1.1 + 0.36 * len(rows), draw)


def beliefs(rows: dict[str, dict[int, tuple[str, float]]]) -> Markup:
    """Draw a row per belief of a mind, a column per life: the state as colour and letter, the confidence as opacity."""
    lives = [life for row in rows.values() for life in row]
    first, last = min(lives), max(lives)
    letters = last - first < 40

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, row in enumerate(reversed(rows.values())):
            for life, (state, confidence) in row.items():
                colour = STATES.get(state, INK)
                strength = 0.08 + 0.57 * min(1.0, max(0.0, confidence))
                axes.broken_barh([(life - 0.46, 0.92)], (place - 0.4, 0.8), facecolors=colour, alpha=strength)
                if letters:
                    axes.text(life, place, state[:1].upper(), ha="center", va="center", fontsize=8.5)
        axes.set_yticks(range(len(rows)), list(reversed(rows)))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(first - 0.6, max(last, first + 5) + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("life (cycle)")
        axes.grid(visible=False)
        handles = [
            Line2D(
                [], [], color=colour, marker="s", markersize=9, linestyle="none", label=f"{state[:1].upper()} {state}"
            )
            for state, colour in STATES.items()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)

    return _svg("beliefs", "State of each belief in each life", 1.1 + 0.32 * len(rows), draw)


def curves(
    key: str, label: str, along: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> Markup:
    """Draw panels side by side, with a line per name: {panel: {name: [(x, y)]}}. A panel named in % ends at 100."""

    def draw(figure: Figure) -> None:
        for axes, (title, lines) in zip(_row(figure, len(panels)), panels.items(), strict=True):
            for place, (name, points) in enumerate(lines.items()):
                thin = points[:: max(1, math.ceil(len(points) / PIXELS))]
                axes.plot(
                    [x for x, _ in thin], [y for _, y in thin], color=SERIES[place % 8], label=name,
                    linestyle=("-", "--", ":", "-.")[place % 4], marker="o" if len(thin) < 30 else "", markersize=3.5,
                )  # fmt: skip
            axes.set_title(title)
            axes.set_xlabel(along)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(bottom=0, top=104 if "%" in title else None)
            axes.legend(loc="best")

    return _svg(key, label, 2.9, draw)


def _row(figure: Figure, panels: int) -> Sequence[Axes]:
    return list(figure.subplots(1, panels, squeeze=False)[0])


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """Set a logarithmic x axis around these positive values, with plain numbers at its ticks.

    Powers of ten are enough ticks over a decade or more; a smaller range may contain none, so round numbers are used.
    """
    axes.set_xscale("log")
    if values:
        low, high = min(values) / 1.25, max(values) * 1.25
        axes.set_xlim(low, high)
        if high / low < 10:
            ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
            axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick > 0]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _unit(seconds: float) -> tuple[float, str]:
    """Return the unit in which a time is shown: its length in seconds and its name."""
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 3 * size:
            return size, name
    return 1.0, "seconds"


def _new(seen: set[tuple[object, ...]], *what: object) -> bool:
    if what in seen:
        return False
    seen.add(what)
    return True


def _svg(key: str, label: str, height: float, draw: Callable[[Figure], None]) -> Markup:
    """Return what `draw` draws as an SVG element. `key` makes its ids different from those of other plots."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that the measuring font lacks: the page's font has them
        figure = Figure(figsize=(WIDTH, height + PADDING), layout=ConstrainedLayoutEngine(h_pad=PADDING))
        canvas: Any = FigureCanvasSVG(figure)
        draw(figure)
        file = io.StringIO()
        canvas.print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style type=.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<= )(id="|xlink:href="#|clip-path="url\(#)', rf"\g<1>{key}-", svg)
    svg = re.sub(
        r"(fill|stroke): (#01[0-9a-f]{4})", lambda found: f"{found[1]}: {COLOURS.get(found[2], found[2])}", svg
    )
    head = f'<svg class="plot" role="img" aria-label="{escape(label)}" '
    return Markup(head + re.sub(r'^<svg |(?<= )(width|height)="[\d.]+pt" ', "", svg, count=3))  # noqa: S704 - matplotlib escapes texts
