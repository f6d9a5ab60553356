"""What a board tells of heat and power, in the files of a Raspberry Pi 5 and of a Jetson."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import board


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "THROTTLED", tmp_path / "get_throttled")
    monkeypatch.setattr(board, "ZONES", tmp_path / "thermal")


def zone(folder: Path, name: str, temp: str, **trips: int) -> None:
    made = folder / "thermal" / f"thermal_zone{len(list((folder / 'thermal').glob('*')))}"
    made.mkdir(parents=True)
    (made / "type").write_text(f"{name}\n")
    (made / "temp").write_text(f"{temp}\n")
    for number, (kind, limit) in enumerate(trips.items()):
        (made / f"trip_point_{number}_type").write_text(f"{kind}\n")
        (made / f"trip_point_{number}_temp").write_text(f"{limit}\n")


def test_a_board_that_tells_nothing_or_nonsense_is_well(tmp_path: Path) -> None:
    assert board.reasons() == []
    (tmp_path / "get_throttled").write_text("soon\n")
    zone(tmp_path, "cpu", "hot", critical=100_000)
    zone(tmp_path, "no limit", "120000", passive=80_000)
    zone(tmp_path, "limit 0", "40000", critical=0)
    assert board.reasons() == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", []),
        ("50000", []),  # it was, since its boot
        ("50005", ["under-voltage: use a stronger power supply", "it is throttled"]),
        ("8", ["it is above its soft temperature limit: cool it"]),
    ],
)
def test_a_raspberry_pi_tells_what_holds_now(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "get_throttled").write_text(f"{text}\n")
    assert board.reasons() == [f"its firmware reports {words}" for words in found]


def test_a_sensor_near_its_limit_is_told(tmp_path: Path) -> None:
    zone(tmp_path, "cpu-thermal", "60000", passive=50_000, critical=104_500)
    zone(tmp_path, "gpu-thermal", "100100", passive=99_000, hot=103_000, critical=104_500)
    zone(tmp_path, "off", "-256000", critical=104_500)
    assert board.reasons() == ["gpu-thermal has 100 degrees Celsius, its limit is 103: cool it"]
