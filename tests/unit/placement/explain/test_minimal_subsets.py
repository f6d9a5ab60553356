"""Small failing parts of anything monotone, against all parts there are."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from placement.explain.minimal_subsets import least, reduce, smallest


@st.composite
def failing(draw):
    """Classes with so many of each, and parts that fail: whatever has at least one of them fails too."""
    most = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    cores = draw(st.lists(st.tuples(*(st.integers(0, count) for count in most)), min_size=1, max_size=4))
    return most, [core for core in cores if any(core)] or [tuple(most)]


def fails_if(cores):
    return lambda part: any(all(a >= b for a, b in zip(part, core, strict=True)) for core in cores)


@given(failing())
def test_a_reduced_part_fails_and_with_one_thing_less_holds(case):
    most, cores = case
    part, fails = list(most), fails_if(cores)
    reduce(part, fails)
    assert fails(part)
    for at, count in enumerate(part):
        assert count == 0 or not fails([*part[:at], count - 1, *part[at + 1 :]])


@settings(deadline=None)
@given(failing())
def test_the_smallest_part_is_the_smallest_of_all(case):
    most, cores = case
    part, fails = list(most), fails_if(cores)
    reduce(part, fails)
    found = smallest(most, fails, tuple(part))
    every = product(*(range(count + 1) for count in most))
    assert fails(found)
    assert sum(found) == min(sum(other) for other in every if fails(other))


@given(st.integers(-50, 50), st.integers(0, 100), st.integers(0, 150))
def test_the_least_number_that_holds(low, more, offset):
    high, first = low + more, min(low + offset, low + more)
    assert least(low, high, lambda number: number >= first) == first
