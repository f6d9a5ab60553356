"""What a person is told of the code that is sent: how much it is, and what is left out by which rule."""

from __future__ import annotations

from fleet.artifacts.releases import CODE, Release
from placement.infeasibility import grouped, listed

LARGE_BYTES = 100 * 10**6


def travel_table(release: Release) -> str:
    """Return a line about the user's code, and one for each rule that leaves something out; "" without such code."""
    if not release.source:
        return ""
    lines = [f"code from {release.source}: {release.code_files} files, {_size(release.code_bytes)}"]
    rules = grouped((rule, path.removeprefix(f"{CODE}/")) for path, rule in release.left_out.items() if _is_code(path))
    return "\n".join([*lines, *(f"  left out: {listed(paths)} ({rule})" for rule, paths in rules)])


def travel_warnings(release: Release) -> list[str]:
    """Return a warning for code that is so large that it is probably not all code."""
    if release.code_bytes <= LARGE_BYTES:
        return []
    advice = "have .gitignore name what is data; models go under `model:`"
    return [f"experiment_code_src: {_size(release.code_bytes)} go to every node of the run; {advice}"]


def _is_code(path: str) -> bool:
    return path.startswith(f"{CODE}/")


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 10**5 else f"{size} bytes"
