"""The options of one launch beside the experiment, from flags or `-e` variables, checked in one place."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from placement.adapters.experiment import Experiment
from placement.design import SEEDS, Design, pin_contradictions, place_designed
from placement.explain.whatif import Question, place_and_explain
from placement.faults import BadInput, Fault, unknown
from placement.model import Instance, Node
from placement.plan import Plan
from placement.solver.exact import TIME_LIMIT_S
from placement.strategies import STRATEGIES

MAX_TIME_LIMIT_S = 86_400
MAX_REPEAT = 10**6
WHOLE = re.compile(r"\d{1,20}", re.ASCII)


@dataclass(frozen=True)
class Names:
    """The names of the options in the user's input: flags or variables."""

    strategy: str = "strategy"
    time_limit: str = "placement_time_limit"
    seed: str = "placement_seed"
    repeat: str = "repeat"


EXTRA_VARS = Names()
FLAGS = Names("--strategy", "--time-limit", "--seed", "--repeat")


@dataclass(frozen=True)
class Options:
    """Options of one launch. `seed` and `repeat` are None if not given."""

    strategy: str = "optimal"
    time_limit_s: float = TIME_LIMIT_S
    seed: int | None = None
    repeat: int | None = None
    names: Names = EXTRA_VARS

    @classmethod
    def read(
        cls, strategy: Any = "", time_limit: Any = "", seed: Any = "", repeat: Any = "", names: Names = EXTRA_VARS
    ) -> "Options":
        """Parse options: numbers, or text as `-e` gives it; None and "" mean not given. Raises BadInput."""
        faults: list[Fault] = []
        wanted = str(strategy or "optimal")
        if wanted not in STRATEGIES:
            faults.append(Fault(names.strategy, "", unknown("strategy", wanted, sorted(STRATEGIES))))
        seconds = TIME_LIMIT_S if _missing(time_limit) else _number(time_limit)
        if not 0 < seconds <= MAX_TIME_LIMIT_S:
            problem = f"{_shown(time_limit)} is not a number of seconds above 0, at most {MAX_TIME_LIMIT_S}"
            faults.append(Fault(names.time_limit, "", problem))
        numbers: list[int | None] = []
        for name, value, low, high in ((names.seed, seed, 0, SEEDS - 1), (names.repeat, repeat, 1, MAX_REPEAT)):
            number = None if _missing(value) else _whole(value)
            if not _missing(value) and (number is None or not low <= number <= high):
                faults.append(Fault(name, "", f"{_shown(value)} is not a whole number of {low} to {high}"))
            numbers.append(number)
        if faults:
            raise BadInput(faults)
        return cls(wanted, seconds, numbers[0], numbers[1], names)

    def faults(
        self, design: Design, nodes: Iterable[Node], instances: Iterable[Instance], pins: Mapping[str, str]
    ) -> list[Fault]:
        """Return faults for options and pins that contradict the experiment. Unknown names are reported elsewhere."""
        faults = list(pin_contradictions(design, nodes, instances, pins))
        if self.seed is not None and not design.randomize:
            mend = "add design: {randomize: true} to the experiment, or leave it out"
            faults.append(Fault(self.names.seed, "", f"{self.seed} is given, but nothing is drawn; {mend}"))
        if design.randomize and self.strategy != "optimal":
            problem = f"{self.strategy} draws nothing, but design.randomize asks for it; use optimal"
            faults.append(Fault(self.names.strategy, "", problem))
        if self.repeat is not None and not design.counterbalance:
            mend = "add design: {counterbalance: [...]} to the experiment, or leave it out"
            faults.append(Fault(self.names.repeat, "", f"{self.repeat} is given, but nothing changes with it; {mend}"))
        return faults

    def plan(
        self,
        experiment: Experiment,
        nodes: Sequence[Node],
        pins: Mapping[str, str],
        port_range: tuple[int, int],
        why: Sequence[Question] = (),
    ) -> Plan:
        """Return the requested plan, by the experiment's design, with its explanations. Raises Infeasible."""
        return place_designed(
            experiment.design,
            nodes,
            experiment.instances,
            self.strategy,
            pins,
            port_range,
            seed=self.seed,
            repeat=self.repeat or 1,
            time_limit_s=self.time_limit_s,
            placing=partial(place_and_explain, why=why),
        )


def _missing(value: Any) -> bool:
    return value is None or value == ""


def _number(value: Any) -> float:
    """Convert to a number, also from text; return NaN for anything else, which no comparison accepts."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _whole(value: Any) -> int | None:
    """Convert to a whole number, also from text; return None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, str) and WHOLE.fullmatch(value.strip()) else None


def _shown(value: Any) -> str:
    """Return a value as text for a fault, shortened if it is long."""
    try:
        shown = repr(value)
    except ValueError:  # Python converts no integer of more than 4,300 digits to text
        return "a number of thousands of digits"
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
