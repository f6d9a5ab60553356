"""What a board says of its temperature and its power: why it runs slower than it could, where it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List

# A Raspberry Pi's firmware: bits of what holds now (16 bits higher: what has happened since its boot).
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
NOW = {
    0: "under-voltage: use a stronger power supply",
    1: "its clock is capped",
    2: "it is throttled",
    3: "it is above its soft temperature limit: cool it",
}
ZONES = Path("/sys/class/thermal")
LIMITS = ("critical", "hot")
MARGIN = 5.0  # degrees below such a limit


def reasons() -> List[str]:
    """Why the node is worse than it could be; empty where nothing is wrong, or the board tells nothing."""
    return [*_throttled(), *_hot()]


def _throttled() -> Iterator[str]:
    try:
        bits = int(_text(THROTTLED), 16)
    except (OSError, ValueError):
        return
    yield from (f"its firmware reports {words}" for bit, words in NOW.items() if bits >> bit & 1)


def _hot() -> Iterator[str]:
    for zone in sorted(ZONES.glob("thermal_zone*")):
        try:
            degrees, name = int(_text(zone / "temp")) / 1000, _text(zone / "type")
            limits = [
                int(_text(kind.with_name(kind.name.replace("_type", "_temp")))) / 1000
                for kind in zone.glob("trip_point_*_type")
                if _text(kind) in LIMITS
            ]
        except (OSError, ValueError):  # a sensor that is switched off
            continue
        limit = min((one for one in limits if one > 0), default=float("inf"))
        if degrees > limit - MARGIN:
            yield f"{ascii(name)[1:-1]} has {degrees:.0f} degrees Celsius, its limit is {limit:.0f}: cool it"


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()
