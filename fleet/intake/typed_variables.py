"""What was typed after `-e`, as text: what Ansible would drop or ignore without a word.

Ansible reads `-e a=1 b` as one variable and drops the word, and takes a variable of any name.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterator, Sequence

import yaml

from contract.json_records import shown
from placement import Fault

CLOSE = 0.8  # how alike two names are, of 1, for the one to be meant by the other


def typed_faults(texts: Sequence[str], known: Collection[str]) -> Iterator[Fault]:
    """Yield the words that are no variable, and the variables whose names are nearly those of known ones."""
    for text in texts:
        if text.startswith("@"):
            continue  # a file of variables, in which many others may be
        if text.startswith(("{", "[")):
            yield from _misspelt(_keys(text), known)
            continue
        last = ""
        names: list[str] = []
        for word in _words(text):
            name, equals, _ = word.partition("=")
            if equals:
                last = name
                names.append(name)
            else:
                problem = f"{shown(word)} stands after it and would be dropped; put a value of several words in quotes"
                yield Fault(last or "-e", "", f"{problem}, and commas between several files")
        yield from _misspelt(names, known)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote without its end, which Ansible reports
        return []


def _keys(text: str) -> list[str]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:  # which Ansible reports
        return []
    return [str(key) for key in values] if isinstance(values, dict) else []


def _misspelt(names: Sequence[str], known: Collection[str]) -> Iterator[Fault]:
    for name in names:
        close = difflib.get_close_matches(name, known, 1, CLOSE) if name not in known else []
        if close:
            yield Fault(name, "", f"no variable of this project's; did you mean {close[0]}?")
