"""The plots of a report, asked by what their SVG says: what a reader sees of axes and titles."""

import re

import pytest

from fleet.report import plots

TEXT = re.compile(r'<text style="font-size: ([\d.]+)px[^>]* y="([\d.]+)"[^>]*>([^<]*)')


def texts(svg: str) -> dict[str, tuple[float, float]]:
    """{text: (its size, its base line)}, in the plot's own units."""
    return {text: (float(size), float(y)) for size, y, text in TEXT.findall(svg)}


@pytest.mark.parametrize("values", [(0.23, 0.25), (0.24, 0.6), (2.1, 9.0), (0.011, 0.012)])
def test_a_logarithmic_axis_within_one_decade_has_plain_numbers(values: tuple[float, float]) -> None:
    svg = str(plots.sizes("memory", "Memory", "GB", {"a": {"predicted": values[0]}, "b": {"predicted": values[1]}}))
    assert "mathdefault" not in svg
    numbers = [float(text) for text in texts(svg) if re.fullmatch(r"[\d.]+", text)]
    assert len(numbers) >= 2, "an axis without numbers says nothing"
    assert all(values[0] / 1.3 <= number <= values[1] * 1.3 for number in numbers)


def test_a_logarithmic_axis_over_decades_has_powers_of_ten() -> None:
    svg = str(plots.sizes("memory", "Memory", "GB", {"a": {"limit": 8.0, "predicted": 0.05}}))
    assert {"0.1", "1"} <= texts(svg).keys()
    assert "mathdefault" not in svg


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_an_axis_title_has_room_below_it_for_a_taller_font(rows: int) -> None:
    drawn = [
        plots.sizes("memory", "Memory", "GB", {f"mind {row}": {"limit": 1.0 + row} for row in range(rows)}),
        plots.spread("speed", "Speed", "tokens per second", {f"mind {row}": (1.0, 2.0, 3.0) for row in range(rows)}),
        plots.timeline([f"mind {row}" for row in range(rows)], [plots.Life("mind 0", 0, 5, 1)], []),
    ]
    for svg in map(str, drawn):
        height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])  # type: ignore[index]
        lowest, size = max((y, size) for size, y in texts(svg).values())
        assert height - lowest > size, "descenders of the page's own font would be cut off"
