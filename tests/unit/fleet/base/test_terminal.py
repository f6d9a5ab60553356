"""Words that were chosen to act on a terminal, shown as text."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.base.terminal import plain


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain text, ä and 日本\n\tindented", "plain text, ä and 日本\n\tindented"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten", "over\\rwritten"),
        ("\x9b2J", "\\x9b2J"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("a\u200bb", "a\\u200bb"),
        ("a\u00a0b", "a b"),
    ],
)
def test_what_a_terminal_acts_on_is_escaped(said: str, shown: str) -> None:
    assert plain(said) == shown


@given(st.text())
def test_nothing_is_left_that_is_not_printed(text: str) -> None:
    assert all(char.isprintable() or char in "\n\t" for char in plain(text))


@given(st.text(alphabet=string.ascii_letters + string.digits + string.punctuation + " \n\t"))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text
