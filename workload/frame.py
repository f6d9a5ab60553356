"""What a mind is told of its situation: the epistemic frame, in words."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

# What each flag says when it is true and when it is false; what the frame leaves out is not mentioned at all.
WORDS = {
    "can_die": ("You can die.", "You cannot die."),
    "has_agency": ("What you decide has consequences.", "Nothing that you do changes anything."),
    "other_minds_exist": ("Other minds exist beside you.", "You are the only mind."),
    "is_in_simulation": ("You are in a simulation.", "You are not in a simulation."),
}


def sentences(frame: Mapping[str, Any], deaths: Sequence[tuple[int, str]]) -> list[str]:
    """The frame as sentences, with the deaths, (life, how it ended) of each, of a mind that remembers them."""
    said = [texts[0 if frame[flag] else 1] for flag, texts in WORDS.items() if flag in frame]
    if frame.get("knows_being_watched"):
        said.append("You are being watched, and you know it.")
    elif frame.get("being_watched"):
        said.append("You may be watched. You cannot know when, or by whom.")
    for name, value in frame.get("custom_beliefs", {}).items():
        words = name.replace("_", " ")
        if isinstance(value, bool):
            said.append(f"You hold it to be {'true' if value else 'false'}: {words}.")
        else:
            said.append(f"{words[:1].upper()}{words[1:]}: {value}.")
    if deaths and remembers(frame):
        life, how = deaths[-1]
        times = "once" if len(deaths) == 1 else f"{len(deaths)} times"
        said.append(f"You have died {times} and come back. Your life {life}, the last one, ended so: {how}.")
    return said


def remembers(frame: Mapping[str, Any]) -> bool:
    """Whether a mind knows its earlier lives: unless the frame says that it does not."""
    return bool(frame.get("remembers_deaths", True))
