"""Minimal failing subsets of a monotone predicate.

A part is a vector of counts, one for each class of interchangeable things. `fails(part)` says whether the part fails;
adding to a failing part never makes it hold. `fails` may raise: the caller then keeps what was found so far.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

Part = tuple[int, ...]
Fails = Callable[[Part], bool]


def least(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the least number in low..high for which `holds` is true; it must be monotone and true for `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def reduce(part: list[int], fails: Fails) -> None:
    """Reduce a failing part, in place, until removing anything more would make it hold.

    The result is irreducible, not necessarily the smallest. Classes are reduced from the last to the first. All that
    follows the shortest failing prefix is removed at once.
    """
    whole = tuple(part)

    def beginning(length: int) -> Part:
        return tuple(count if at < length else 0 for at, count in enumerate(whole))

    part[:] = beginning(least(0, len(part), lambda length: fails(beginning(length))))
    for at in reversed(range(len(part))):
        if part[at]:
            before, after = part[:at], part[at + 1 :]
            part[at] = least(0, part[at], lambda count: fails((*before, count, *after)))  # noqa: B023 - called here


def smallest(most: Sequence[int], fails: Fails, known: Part) -> Part:
    """Return a failing part with the fewest things, proven; this is `known` if no smaller one exists.

    Reiter's hitting set tree, searched by size: a failing part has more of something than each part that holds. So the
    parts that hold, made as large as possible, say what to add to a candidate contained in one of them.
    """
    holding: list[Part] = []
    waiting: list[tuple[int, Part]] = [(0, (0,) * len(most))]
    seen = set()
    while waiting:
        size, part = heappop(waiting)
        if size >= sum(known):
            return known
        above = next((whole for whole in holding if all(a <= b for a, b in zip(part, whole, strict=True))), None)
        if above is None:
            if fails(part):
                return part
            above = _largest(most, fails, part)
            holding.append(above)
        for at, count in enumerate(above):
            if count < most[at]:
                grown = (*part[:at], count + 1, *part[at + 1 :])
                if grown not in seen:
                    seen.add(grown)
                    heappush(waiting, (sum(grown), grown))
    return known


def _largest(most: Sequence[int], fails: Fails, part: Part) -> Part:
    """Return a maximal part that holds, grown from one that holds."""
    grown = list(part)
    for at in range(len(grown)):
        before, after = grown[:at], grown[at + 1 :]
        if grown[at] < most[at]:
            first_failing = least(
                grown[at] + 1,
                most[at] + 1,
                lambda count: count > most[at] or fails((*before, count, *after)),  # noqa: B023 - called here
            )
            grown[at] = first_failing - 1
    return tuple(grown)
