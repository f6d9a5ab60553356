"""`python -m placement plan` prints which instance would go to which node, and why, without contacting any node.

`python -m placement import-cluster` prints an inventory made of the original's cluster config.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from placement import (
    STRATEGIES,
    BadInput,
    Fault,
    Infeasible,
    Options,
    find_experiment,
    load_experiment,
    nodes_from_hostvars,
    parse_pins,
    parse_why,
    port_range_from_hostvars,
    read_inventory,
    why_faults,
)
from placement.adapters import gguf_memory
from placement.adapters.ansible_inventory import project_root
from placement.adapters.original_cluster import import_cluster
from placement.explain.whatif import Question
from placement.options import FLAGS
from placement.solver.exact import TIME_LIMIT_S

PLANNED, BAD_INPUT, NO_PLAN = 0, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 a plan, 2 bad input, 3 no plan exists."""
    options = _parser().parse_args(argv)
    try:
        print(options.make(options))
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except Infeasible as error:
        print(error, file=sys.stderr)
        if options.format == "json":
            print(json.dumps(error.to_json(), indent=2))
        return NO_PLAN
    return PLANNED


def _plan(options: argparse.Namespace) -> str:
    """Return the plan as text. Faults in the experiment, the pins and the inventory are reported together."""
    source = options.inventory.rstrip("/")
    faults: list[Fault] = []
    pins: dict[str, str] = {}
    why: list[Question] = []
    hostvars: dict[str, dict[str, Any]] = {}
    asked = nodes = experiment = None
    try:
        asked = Options.read(options.strategy, options.time_limit, options.seed, options.repeat, FLAGS)
    except BadInput as error:
        faults += error.faults
    try:
        pins = parse_pins(options.pin, "--pin")
    except BadInput as error:
        faults += error.faults
    try:
        why = parse_why(options.why, "--why")
    except BadInput as error:
        faults += error.faults
    try:
        hostvars = read_inventory(options.inventory)
        nodes = nodes_from_hostvars(hostvars, source=source)
        ports = port_range_from_hostvars(hostvars, source)
    except BadInput as error:
        faults += error.faults
    try:
        path = find_experiment(options.experiment, project_root() / "experiments")
        experiment = load_experiment(path, hostvars or None, pins)
    except BadInput as error:
        faults += error.faults
    if asked and nodes and experiment:
        faults += asked.faults(experiment.design, nodes, experiment.instances, pins)
        faults += why_faults(why, [one.id for one in experiment.instances], [node.name for node in nodes], "--why")
    if experiment:
        try:
            experiment, said = gguf_memory.sized_here(experiment, hostvars)
            print("".join(f"{line}\n" for line in said), end="", file=sys.stderr)
        except BadInput as error:
            faults += error.faults
    if faults or not (asked and nodes and experiment):
        raise BadInput(faults)
    plan = asked.plan(experiment, nodes, pins, ports, why)
    return json.dumps(plan.to_json(), indent=2) if options.format == "json" else plan.table()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m placement",
        description="Decides which node runs which instance of an experiment.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    imported = commands.add_parser(
        "import-cluster",
        help="make an inventory of the original's cluster_config.yaml",
        description="Prints an Ansible inventory with the nodes and settings of a cluster config of the original.",
        epilog="Exit code: 0 an inventory, 2 bad input (one fault a line on stderr).",
    )
    imported.add_argument("file", metavar="FILE", type=Path, help="such as cluster_config.yaml")
    imported.set_defaults(make=lambda options: import_cluster(options.file).rstrip())
    plan = commands.add_parser(
        "plan",
        help="plan an experiment on an inventory",
        description="Plans an experiment on an inventory as it is declared. No node is asked or touched.",
        epilog="Exit code: 0 a plan, 2 bad input (one fault a line on stderr), 3 no plan exists (reasons on stderr).",
    )
    plan.set_defaults(make=_plan)
    plan.add_argument("--inventory", "-i", default="inventory/virtual", help="an inventory (default: %(default)s)")
    plan.add_argument("--experiment", "-e", required=True, help="a name in experiments/, or a path to a file")
    plan.add_argument("--strategy", choices=sorted(STRATEGIES), default="optimal", help="(default: %(default)s)")
    plan.add_argument(
        "--time-limit",
        metavar="SECONDS",
        help=f"after this optimal gives its best so far, and the gap (default: {TIME_LIMIT_S:g})",
    )
    plan.add_argument("--seed", metavar="NUMBER", help="which of the equally good plans design.randomize draws")
    plan.add_argument("--repeat", metavar="K", help="which repeat of design.counterbalance this is (default: 1)")
    plan.add_argument(
        "--pin", action="append", default=[], metavar="INSTANCE:NODE", help="put it there and nowhere else; repeatable"
    )
    plan.add_argument(
        "--why",
        action="append",
        default=[],
        metavar="INSTANCE[:NODE]",
        help="what if it were on the other nodes, or on this one, solved again; repeatable",
    )
    plan.add_argument("--format", choices=("table", "json"), default="table", help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it, as it ends other tools
    sys.exit(main())
