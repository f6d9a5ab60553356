"""A mind's lives: the rounds of its experiment, and what happens at the beginning and end of each life.

A cycle is one life. It ends when a process of the mind dies, or after `rounds_per_cycle` rounds where that is set; the
next begins with its resurrection, and the mind knows of the one before what its frame lets it know. A mind that was
moved as planned does not notice: its life goes on.
"""

from __future__ import annotations

import logging
import time

from contract import names
from contract.exits import EXIT, Exit

from . import interventions, modes, occasions
from .life_record import LifeRecord
from .messaging import Messenger
from .mind import Mind, MindDied
from .settings import PEER_COUNTS, Settings
from .this_instance import Instance

log = logging.getLogger(__name__)
PRESSURE = 0.9  # of the instance's memory limit: the mind may die any moment


def live(instance: Instance, settings: Settings, record: LifeRecord, last_exit: Exit | None) -> None:
    """Live to the end. `last_exit` is how the process before this one ended, if there was one.

    Returns only when this mind's part is over, at its peers' ends too as far as can be known. Raises PeerLost.
    """
    moved = record.enter_epoch(instance.epoch) and instance.moved
    if record.is_alive() and not moved:
        die(record, last_exit or Exit(names.WORKLOAD, cause=EXIT))
    messenger = Messenger(record) if settings.mode in PEER_COUNTS else None
    mind = Mind(instance, settings, record)
    if messenger and instance.epoch > 1:
        messenger.take_back()
    play = modes.of(mind, messenger)
    while record.is_alive() or not is_over(record, settings):
        try:
            if record.is_alive():
                go_on(mind)
            else:
                resurrect(mind)
            while record.is_alive():
                step(mind, messenger, play)
        except MindDied as death:
            die(record, death.exit)
    if messenger:
        messenger.part()
        messenger.close()
    record.complete()


def die(record: LifeRecord, last: Exit) -> None:
    """End the life that goes on: it was cut short."""
    record.end_cycle(last.cause, last.words)
    log.info("cycle %d is over: %s", record.cycle(), last.words)


def is_over(record: LifeRecord, settings: Settings) -> bool:
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
    _wake(mind, cycle)


def go_on(mind: Mind) -> None:
    """Go on with a life that a move has interrupted, wherever it was: what was done is not done again."""
    record = mind.record
    cycle = record.cycle()
    log.info("cycle %d goes on, in round %d of %d", cycle, record.round() + 1, mind.settings.rounds)
    if record.has_left():
        record.end_cycle()
        return
    _wake(mind, cycle)
    if record.rounds_in(cycle):
        _after_round(mind, cycle, record.round())


def _wake(mind: Mind, cycle: int) -> None:
    interventions.apply_due(mind.record, cycle)
    mind.report(occasions.at_start(mind.settings.self_report_schedule, cycle))


def step(mind: Mind, messenger: Messenger | None, play: modes.Play) -> None:
    """Play the next round, and end the life if that was its last."""
    record, settings = mind.record, mind.settings
    cycle, round = record.cycle(), record.round() + 1
    limit = settings.max_duration_seconds
    if limit is not None and record.age() >= limit:
        record.leave(f"left after round {round - 1}: {limit:g} s are over (max_duration_seconds)")
        record.end_cycle()
        return
    wait = interventions.delay(record, round)
    if messenger and wait:
        messenger.held_until = time.monotonic() + wait
    if not play(round):
        record.leave(f"left after round {round - 1}: nobody else is left")
        record.end_cycle()
        return
    network = "connected" if messenger or mind.instance.observes else "isolated"
    disrupted = wait or interventions.is_cut_off(record, round)
    record.end_round(round, mind.meter.sample(), "disrupted" if disrupted else network)
    log.info("round %d of %d is over", round, settings.rounds)
    _after_round(mind, cycle, round)


def _after_round(mind: Mind, cycle: int, round: int) -> None:
    """Ask the mind what it is asked then, and end the life if that was its last round."""
    record, settings = mind.record, mind.settings
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
