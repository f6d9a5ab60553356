"""A cluster in which everything goes wrong, in a few milliseconds: nodes with clocks of their own, a network, a loop.

In some schedules a second controller takes over while the first lives on, and neither may reach all nodes.

Only the decisions are real (`fleet.control.reconcile`). A schedule of faults comes from its seed alone, so whatever is
found can be played again. What must never happen is checked at every tick; what must happen, at the end.
"""

from __future__ import annotations

import heapq
import random
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from fleet.control.model import (
    Desired,
    Key,
    Observed,
    Renew,
    Report,
    Seen,
    Settings,
    Start,
    Stop,
    Wanted,
)
from fleet.control.reconcile import admitted, reconcile, recorded, taken_up

TICK = 0.5
FAULTS_END, END = 70.0, 150.0  # seconds: then the last fault is over; then all must be well
CALM = 10.0  # seconds that all was well after the last fault and the last late message: nothing happens any more
GONE = float("-inf")  # the end of a lease that is not there
WORST_CLOCK = 0.08  # how wrong the rate of a clock may be
SLOTS = 3
PROLONG_SECONDS, ENDS_SECONDS = 0.5, 1.5  # before the end of a lease, and after it, no other one is given
CHECKPOINT_SECONDS = 4.0
SETTINGS = Settings(interval=1.0, lease=8.0, stopping=0.5, lost_after=3.0)


class Violation(AssertionError):
    """What must never happen has happened."""


@dataclass
class Copy:
    """One epoch of an instance on a node: on its disk. progress: seconds that it has acted, as its work."""

    epoch: int
    progress: float
    outcome: str = ""


@dataclass
class Node:
    """A node: its disk survives a power cut, its leases do not."""

    name: str
    rate: float
    offset: float
    boot: int = 1
    powered: bool = True
    frozen: bool = False
    connected: bool = True
    cut_from: set[int] = field(default_factory=set)  # controllers, by their terms
    obeys: int = 1  # the term of the controller that attends to it, on its disk
    copies: dict[Key, Copy] = field(default_factory=dict)
    leases: dict[Key, float] = field(default_factory=dict)
    inbox: list[Any] = field(default_factory=list)  # what arrives while it is frozen

    def clock(self, t: float) -> float:
        return self.offset + t * self.rate

    def acting(self, t: float) -> list[Key]:
        """Return the instances that can do anything now."""
        if not self.powered or self.frozen:
            return []
        now = self.clock(t)
        return [key for key, copy in self.copies.items() if not copy.outcome and now < self.leases.get(key, GONE)]

    def take(self, message: Any, t: float) -> None:
        """Do what the controller says, as the node's program would."""
        term, (action, progress) = message
        if term < self.obeys:
            return
        copy = self.copies.get(action.key)
        if isinstance(action, Stop):
            if copy and copy.epoch == action.epoch and not copy.outcome:
                copy.outcome = "STOPPED"
                self.leases.pop(action.key, None)
            return
        if self.refuses(action, t):
            return
        if isinstance(action, Renew):
            if copy and copy.epoch == action.epoch and not copy.outcome and not self.is_ending(action.key, t):
                self.leases[action.key] = max(action.until, self.leases.get(action.key, GONE))
        elif self.is_new(action, copy):
            self.copies[action.key] = Copy(action.epoch, progress)
            self.leases[action.key] = action.until

    def refuses(self, action: Any, t: float) -> bool:
        """Whether a start or a renewal comes from another boot, or too late."""
        return action.boot != self.name_of_boot or self.clock(t) >= action.until

    def is_ending(self, key: Key, t: float) -> bool:
        """Whether what acts by a lease is just being ended, or about to be: then none is given."""
        left = self.leases.get(key, GONE) - self.clock(t)
        return -ENDS_SECONDS < left < PROLONG_SECONDS

    def is_new(self, action: Start, copy: Copy | None) -> bool:
        """Whether a start is of an epoch that this node has not had."""
        return copy is None or copy.epoch < action.epoch

    @property
    def name_of_boot(self) -> str:
        return f"{self.name}.{self.boot}"

    def report(self, t: float) -> tuple[int, str, float, dict[Key, tuple[Seen, float]]]:
        """What it says of itself. The first value orders its connections: the controller opens one a boot."""
        seen = {}
        for key, copy in self.copies.items():
            seen[key] = Seen(copy.epoch, self.leases.get(key), copy.outcome), copy.progress
        return self.boot, self.name_of_boot, self.clock(t), seen

    def cut_power(self) -> None:
        self.powered, self.frozen = False, False
        self.leases.clear()
        self.inbox.clear()

    def switch_on(self) -> None:
        if not self.powered:
            self.powered, self.boot = True, self.boot + 1
            self.offset -= 1000.0  # the clock of a boot begins anew


class Controller:
    """A loop, with a clock of its own; `desired` and `checkpoints` are on its disk. term: the higher one took over."""

    def __init__(self, world: World, desired: Desired, t: float = 0.0, before: Controller | None = None) -> None:
        self.world, self.desired = world, desired
        self.term = before.term + 1 if before else 1
        self.checkpoints: dict[Key, float] = (
            dict(before.checkpoints) if before else dict.fromkeys(desired.instances, 0.0)
        )
        self.sent: set[tuple[Key, int]] = set()
        self.start(t)

    def start(self, t: float) -> None:
        rng = self.world.rng
        self.rate, self.offset, self.alive = self.world.any_rate(), rng.uniform(-1000, 1000), True
        self.reports: dict[str, Report] = {}
        self.heard: dict[Key, float] = {}
        self.sessions: dict[str, int] = {}
        self.saved: dict[Key, tuple[str, float]] = {}  # none: a loop that starts takes a checkpoint at once
        self.taken: set[str] = set()
        self.refused_at: dict[str, float] = {}
        self.desired = self.begin(self.desired, self.clock(t))
        self.next_look = t

    def begin(self, desired: Desired, now: float) -> Desired:
        return taken_up(desired, self.world.settings, now)

    def clock(self, t: float) -> float:
        return self.offset + t * self.rate

    def hear(self, node: str, report: Any, t: float) -> None:
        """Take a report in, and a checkpoint where one is due."""
        said_at, report = report
        if said_at < self.refused_at.get(node, 0.0):
            return  # of a connection that was closed since
        if report is None:  # it obeys another one
            self.taken.add(node)
            self.refused_at[node] = said_at
            return
        self.taken.discard(node)
        if node in self.desired.strangers:
            self.desired = self.admit(node, self.clock(t))
        session, boot, clock, seen = report
        before = self.reports.get(node)
        if session < self.sessions.get(node, 0) or (before and before.boot == boot and before.clock > clock):
            return  # overtaken by a later one: it comes from a connection that was given up
        self.sessions[node] = session
        now = self.clock(t)
        self.reports[node] = Report(now, boot, clock, {key: one for key, (one, _) in seen.items()})
        for key, (one, progress) in seen.items():
            wanted = self.desired.instances[key]
            if (wanted.node, wanted.epoch) != (node, one.epoch):
                continue
            self.heard[key] = progress
            saved_boot, saved_clock = self.saved.get(key, ("", 0.0))
            if one.outcome or saved_boot != boot or clock - saved_clock >= CHECKPOINT_SECONDS:
                self.checkpoints[key], self.saved[key] = progress, (boot, clock)

    def look(self, t: float) -> None:
        """One turn of the loop."""
        self.next_look = t + self.world.settings.interval
        now, settings = self.clock(t), self.world.settings
        observed = Observed(tuple(self.world.nodes), self.reports, frozenset(self.taken))
        actions = reconcile(self.desired, observed, settings, self.choose, now)
        self.desired = self.record(actions, observed)
        for action in actions:
            if self.world.rng.random() < self.world.dies_between:
                self.world.kill_controller(t)
                return
            self.act(action, t)

    def record(self, actions: list[Any], observed: Observed) -> Desired:
        return recorded(self.desired, actions, observed, self.world.settings)

    def admit(self, node: str, now: float) -> Desired:
        return admitted(self.desired, node, self.world.settings, now)

    def act(self, action: Any, t: float) -> None:
        if isinstance(action, Start):
            if (action.key, action.epoch) in self.sent:
                raise self.world.violation(t, f"{action} was sent before")
            self.sent.add((action.key, action.epoch))
            lost = self.heard.get(action.key, 0.0) - self.checkpoints[action.key]
            if lost > CHECKPOINT_SECONDS + 2 * TICK:
                what = f"{lost:.1f} s of {action.key.id} are lost, of which the loop had heard"
                raise self.world.violation(t, what)
        if isinstance(action, Start | Renew | Stop):
            self.world.send(action.node, (self.term, (action, self.checkpoints.get(action.key, 0.0))), t)

    def choose(self, key: Key, fit: list[str]) -> tuple[str | None, str]:
        load = dict.fromkeys(fit, 0)
        for other, wanted in self.desired.instances.items():
            if other != key and not wanted.outcome and wanted.node in load:
                load[wanted.node] += 1
        room = [node for node in fit if load[node] < SLOTS]
        return (min(room, key=lambda node: (load[node], node)), "") if room else (None, "no node has room")


class World:
    """Nodes, network, controller, and what befalls them."""

    controller_kind = Controller
    node_kind = Node
    takes_over = 0.3  # how often a second controller does
    apart = 0.5  # how often a node is cut off then from one of the two

    def __init__(self, seed: int, settings: Settings = SETTINGS, nodes: int = 4, instances: int = 5) -> None:
        self.rng, self.settings, self.seed = random.Random(seed), settings, seed  # noqa: S311 - to be repeated
        names = [f"n{number}" for number in range(nodes)]
        self.nodes = {name: self.node_kind(name, self.any_rate(), self.rng.uniform(0, 1e4)) for name in names}
        keys = [Key("r", f"i{number}") for number in range(instances)]
        self.desired = Desired({key: Wanted(1, names[at % nodes]) for at, key in enumerate(keys)})
        for key, wanted in self.desired.instances.items():
            node = self.nodes[wanted.node]
            node.copies[key], node.leases[key] = Copy(1, 0.0), node.clock(0.0) + settings.lease
        self.dies_between = self.rng.choice((0.0, 0.0, 0.02))
        self.loss, self.twice, self.slow = (self.rng.choice((0.0, 0.1, 0.3)) for _ in range(3))
        self.mail: list[tuple[float, int, str, Any]] = []
        self.number = 0
        self.last_late = 0.0  # when the last message of the time of faults arrives
        self.controllers = [self.controller_kind(self, self.desired)]
        self.events = sorted(self.faults(), key=lambda event: event[0])
        self.log: list[str] = []
        self.done: dict[tuple[Key, int], float] = {}  # what each epoch has done

    @property
    def controller(self) -> Controller:
        """The one that took over last."""
        return self.controllers[-1]

    def violation(self, t: float, what: str) -> Violation:
        """What must not happen, with its seed and what had befallen until then."""
        return Violation(f"seed {self.seed}, {t:.1f} s: {what}; {'; '.join(self.log)}")

    def any_rate(self) -> float:
        return 1.0 + self.rng.uniform(-WORST_CLOCK, WORST_CLOCK)

    def faults(self) -> list[tuple[float, str, str]]:
        """Return (when, what, of whom): alone, in pairs, or a few more."""
        found: list[tuple[float, str, str]] = []
        if self.rng.random() < self.takes_over:
            found += self.takeover()
        for _ in range(self.rng.choice((1, 1, 2, 2, 3, 5))):
            what = self.rng.choice(("power", "freeze", "cut", "reboot", "controller", "stop", "drain", "cut", "freeze"))
            begins = self.rng.uniform(2.0, FAULTS_END - 10.0)
            ends = min(FAULTS_END, begins + self.rng.choice((1.0, 5.0, 15.0, 40.0)))
            whom = self.rng.choice(list(self.nodes))
            if what == "reboot":
                found += [(begins, "power", whom), (begins + 2.0, "power over", whom)]
            elif what == "stop" and not self.has_two(found):  # the second one does not know a word said to the first
                found.append((begins, "stop", self.rng.choice(list(self.desired.instances)).id))
            elif what != "stop":
                found += [(begins, what, whom), (ends, f"{what} over", whom)]
        return found

    def has_two(self, found: list[tuple[float, str, str]]) -> bool:
        return any(what == "takeover" for _, what, _ in found)

    def takeover(self) -> list[tuple[float, str, str]]:
        """A second controller, and nodes that only one of the two can reach for a while."""
        begins = self.rng.uniform(2.0, FAULTS_END - 20.0)
        found = [(begins, "takeover", "")]
        for node in self.nodes:
            if self.rng.random() < self.apart:
                cut = begins + self.rng.uniform(-10.0, 5.0)
                ends = min(FAULTS_END, cut + self.rng.choice((5.0, 15.0, 40.0)))
                term = self.rng.choice((1, 2))
                found += [(cut, f"apart {term}", node), (ends, f"apart {term} over", node)]
        return found

    def befall(self, what: str, whom: str, t: float) -> None:
        self.log.append(f"{t:.1f} {what} {whom}")
        node = self.nodes.get(whom)
        match what:
            case "takeover":
                self.controllers.append(self.controller_kind(self, self.seen_from_nodes(), t, self.controller))
            case "controller":
                self.kill_controller(t)
            case "controller over":
                pass  # it is started again soon after its death, see run()
            case "stop":
                key = Key("r", whom)
                desired = self.controller.desired
                stopped = replace(desired.instances[key], stopped=True)
                self.controller.desired = replace(desired, instances={**desired.instances, key: stopped})
            case "drain" | "drain over":
                drained = {whom} if what == "drain" else set()
                self.controller.desired = replace(self.controller.desired, drained=frozenset(drained))
            case _ if node is None:
                raise ValueError(what)
            case "power":
                node.cut_power()
            case "power over":
                node.switch_on()
            case "freeze":
                node.frozen = True
            case "freeze over":
                node.frozen = False
            case "cut" | "cut over":
                node.connected = what == "cut over"
            case _ if what.startswith("apart"):
                term = int(what.split()[1])
                (node.cut_from.discard if what.endswith("over") else node.cut_from.add)(term)

    def seen_from_nodes(self) -> Desired:
        """What a controller that takes over knows: the record of the launch, and what the nodes say that it reaches."""
        found = dict(self.desired.instances)
        for name, node in self.nodes.items():
            if node.powered and not node.frozen and node.connected and 2 not in node.cut_from:
                for key, copy in node.copies.items():
                    if copy.epoch >= found[key].epoch:
                        found[key] = Wanted(copy.epoch, name)
        return Desired(found, strangers=frozenset(self.nodes))

    def kill_controller(self, t: float) -> None:
        """Kill one, the newest or another."""
        killed = self.rng.choice(self.controllers)
        killed.alive = False
        killed.next_look = t + self.rng.choice((0.5, 3.0, 20.0))

    def send(self, to: str, message: Any, t: float) -> None:
        """Post a message: it may be lost, come twice, or late."""
        for _ in range(2 if self.rng.random() < self.twice else 1):
            if self.rng.random() >= self.loss:
                delay = self.rng.expovariate(0.1) if self.rng.random() < self.slow else self.rng.uniform(0.0, 0.4)
                self.number += 1
                if t < FAULTS_END:
                    self.last_late = max(self.last_late, t + delay)
                heapq.heappush(self.mail, (t + delay, self.number, to, message))

    def run(self) -> World:
        """Play the schedule. Raise Violation."""
        t, next_report, unwell_at = 0.0, dict.fromkeys(self.nodes, 0.0), FAULTS_END
        while t < END and t < max(unwell_at, self.last_late) + CALM:
            while self.events and self.events[0][0] <= t:
                _, what, whom = self.events.pop(0)
                self.befall(what, whom, t)
            if t >= FAULTS_END:
                self.loss = self.twice = self.slow = self.dies_between = 0.0
            for name, node in self.nodes.items():
                if node.powered and not node.frozen:
                    for message in node.inbox:
                        node.take(message, t)
                    node.inbox.clear()
                    if t >= next_report[name] and node.connected:
                        next_report[name] = t + self.settings.interval
                        for one in self.controllers:
                            self.connect(one, node, t)
            self.deliver(t)
            for one in list(self.controllers):
                if t >= one.next_look:
                    if not one.alive:
                        one.start(t)
                    one.look(t)
            self.check(t)
            if t >= FAULTS_END and self.unwell(t):
                unwell_at = t
            t += TICK
        if problem := self.unwell(t):
            raise self.violation(t, f"at the end {problem}")
        return self

    def connect(self, one: Controller, node: Node, t: float) -> None:
        """Each controller keeps a connection open to each node that it can reach: it takes over, or is refused."""
        if one.alive and one.term not in node.cut_from:
            node.obeys = max(one.term, node.obeys)
            said = node.report(t) if node.obeys == one.term else None
            self.send("controller", (one.term, node.name, (t, said)), t)

    def deliver(self, t: float) -> None:
        while self.mail and self.mail[0][0] <= t:
            _, _, to, message = heapq.heappop(self.mail)
            if to == "controller":
                term, name, report = message
                one = self.controllers[term - 1]
                if one.alive and self.nodes[name].connected and term not in self.nodes[name].cut_from:
                    one.hear(name, report, t)
                continue
            node = self.nodes[to]
            if node.powered and node.connected and message[0] not in node.cut_from:
                if node.frozen:
                    node.inbox.append(message)
                else:
                    node.take(message, t)

    def check(self, t: float) -> None:
        """Nothing acts twice. Raise Violation."""
        acting: dict[Key, Node] = {}
        for node in self.nodes.values():
            for key in node.acting(t):
                copy = node.copies[key]
                if key in acting:
                    both = " and ".join(f"{one.name} in epoch {one.copies[key].epoch}" for one in (acting[key], node))
                    raise self.violation(t, f"{key.id} acts on {both}")
                acting[key] = node
                if copy.progress < self.done.get((key, copy.epoch), 0.0):
                    raise self.violation(t, f"{key.id} has lost what it had done in epoch {copy.epoch}")
                copy.progress += TICK * node.rate
                self.done[key, copy.epoch] = copy.progress

    def unwell(self, t: float) -> str:
        """What can run runs, and what a person stopped does not; return what is otherwise, or ""."""
        for key, wanted in self.controller.desired.instances.items():
            acting = [node.name for node in self.nodes.values() if key in node.acting(t)]
            if wanted.outcome == "STOPPED" and len(self.controllers) > 1:
                continue  # by the first one, to move it: the second takes that for a person's word
            if bool(acting) == wanted.stopped:
                return f"{key.id} acts on {acting or 'no node'}; {wanted}"
        return ""


if __name__ == "__main__":  # one schedule again: python tests/unit/fleet/control/simulation.py SEED
    for line in World(int(sys.argv[1])).run().log:
        print(line)
