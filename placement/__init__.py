"""Decide which node runs which instance: from nodes and instances to a plan with an explanation of every choice.

Pure Python without Ansible. Sizes are GB = 2**30 bytes. `python -m placement --help` shows the same as a command.
"""

from placement.adapters.ansible_inventory import read_inventory
from placement.adapters.experiment import (
    Experiment,
    check,
    find_experiment,
    load_experiment,
    parse_experiment,
    parse_pins,
)
from placement.adapters.hostvars import nodes_from_hostvars, port_range_from_hostvars
from placement.design import Design, place_designed
from placement.explain.whatif import parse_why, place_and_explain, why_faults
from placement.faults import BadInput, Fault
from placement.model import Instance, Node
from placement.options import Options
from placement.plan import Infeasible, Plan
from placement.strategies import STRATEGIES, place

__all__ = [
    "STRATEGIES",
    "BadInput",
    "Design",
    "Experiment",
    "Fault",
    "Infeasible",
    "Instance",
    "Node",
    "Options",
    "Plan",
    "check",
    "find_experiment",
    "load_experiment",
    "nodes_from_hostvars",
    "parse_experiment",
    "parse_pins",
    "parse_why",
    "place",
    "place_and_explain",
    "place_designed",
    "port_range_from_hostvars",
    "read_inventory",
    "why_faults",
]
