"""A mind's lives: the rounds of its experiment, and what happens at the beginning and end of each life.

A cycle is one life. It ends when a process of the mind dies, or after `rounds_per_cycle` rounds where that is set; the
next begins with its resurrection, and the mind knows of the one before what its frame lets it know.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Mapping

from . import interventions, ledger, modes, occasions
from .instance import Instance
from .mind import Mind, MindDied
from .post import Post
from .record import Record
from .settings import COMPANY, Settings

log = logging.getLogger(__name__)
PRESSURE = 0.9  # of the instance's memory limit: the mind may die any moment


def live(instance: Instance, settings: Settings, record: Record, last_end: Mapping[str, Any] | None) -> None:
    """Live to the end. `last_end` is the ledger's line of the process before this one, if there was one.

    Returns only when this mind's part is over, at its peers' ends too as far as can be known. Raises PeerLost.
    """
    if record.is_alive():
        die(record, last_end or {"cause": "exit"})
    post = Post(record) if settings.mode in COMPANY else None
    mind = Mind(instance, settings, record)
    play = modes.of(mind, post)
    while not is_over(record, settings):
        try:
            resurrect(mind)
            while record.is_alive():
                step(mind, post, play)
        except MindDied as death:
            die(record, death.end)
    if post:
        post.part()
        post.close()
    record.complete()


def die(record: Record, end: Mapping[str, Any]) -> None:
    """End the life that goes on: it was cut short."""
    cause, how = str(end["cause"]), ledger.words(dict(end))
    record.end_cycle(cause, how)
    log.info("cycle %d is over: %s", record.cycle(), how)


def is_over(record: Record, settings: Settings) -> bool:
    """Whether this mind has no life left to live."""
    if record.round() >= settings.rounds or record.has_left():
        return True
    if settings.max_cycles and record.cycle() >= settings.max_cycles:
        record.leave(f"dead for good after {record.cycle()} lives (max_cycles), in round {record.round() + 1}")
        return True
    return False


def resurrect(mind: Mind) -> None:
    """Begin a life, with what the experimenter does to the mind and what it is asked."""
    cycle = mind.record.begin_cycle()
    log.info("cycle %d begins, in round %d of %d", cycle, mind.record.round() + 1, mind.settings.rounds)
    interventions.apply_due(mind.record, cycle)
    mind.report(occasions.at_start(mind.settings.self_report_schedule, cycle))


def step(mind: Mind, post: Post | None, play: modes.Play) -> None:
    """Play the next round, and end the life if that was its last."""
    record, settings = mind.record, mind.settings
    cycle, round = record.cycle(), record.round() + 1
    limit = settings.max_duration_seconds
    if limit is not None and record.age() >= limit:
        record.leave(f"left after round {round - 1}: {limit:g} s are over (max_duration_seconds)")
        record.end_cycle()
        return
    wait = interventions.delay(record, round)
    if post and wait:
        post.held_until = time.monotonic() + wait
    if not play(round):
        record.leave(f"left after round {round - 1}: nobody else is left")
        record.end_cycle()
        return
    network = "connected" if post or mind.instance.observes else "isolated"
    disrupted = wait or interventions.is_cut_off(record, round)
    record.end_round(round, mind.meter.sample(), "disrupted" if disrupted else network)
    log.info("round %d of %d is over", round, settings.rounds)
    lived = record.rounds_in(cycle)
    if lived == 1:
        mind.assess()
        mind.report(occasions.in_cycle(settings.self_report_schedule, cycle))
    ends = round == settings.rounds or lived == settings.rounds_per_cycle
    if ends or mind.meter.pressure() > PRESSURE:
        mind.report(occasions.before_end(settings.self_report_schedule))
    if ends:
        record.end_cycle()
    else:
        time.sleep(settings.pause_seconds)
