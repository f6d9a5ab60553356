"""The input of place() as one object that can be changed slightly and solved again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from placement.model import Instance, Node
from placement.plan import Plan
from placement.problem import PORT_RANGE, Problem
from placement.strategies import place


@dataclass(frozen=True)
class Scenario:
    """The arguments of place(), under the same names."""

    nodes: tuple[Node, ...]
    instances: tuple[Instance, ...]
    pins: Mapping[str, str] = field(default_factory=dict)
    port_range: tuple[int, int] = PORT_RANGE
    same_type: tuple[str, ...] = ()
    node_types: Mapping[str, str] = field(default_factory=dict)

    def problem(self) -> Problem:
        """Return the problem that the searches work on. Raises BadInput."""
        return Problem(self.nodes, self.instances, self.pins, self.port_range, self.same_type, self.node_types)

    def best(self, time_limit_s: float) -> Plan:
        """Return the best plan, without its explanation. Raises as place() does."""
        return place(
            self.nodes,
            self.instances,
            "optimal",
            self.pins,
            self.port_range,
            explain=False,
            time_limit_s=time_limit_s,
            same_type=self.same_type,
            node_types=self.node_types,
        )

    def node(self, name: str) -> Node:
        """Return the node of this name."""
        return next(node for node in self.nodes if node.name == name)

    def instance(self, id: str) -> Instance:
        """Return the instance of this id."""
        return next(instance for instance in self.instances if instance.id == id)

    def with_node(self, name: str, **changes: Any) -> "Scenario":
        """Return a copy with changed attributes of one node."""
        nodes = tuple(replace(node, **changes) if node.name == name else node for node in self.nodes)
        return replace(self, nodes=nodes)

    def with_instance(self, id: str, **changes: Any) -> "Scenario":
        """Return a copy with changed attributes of one instance."""
        instances = tuple(replace(one, **changes) if one.id == id else one for one in self.instances)
        return replace(self, instances=instances)

    def with_pin(self, id: str, name: str | None) -> "Scenario":
        """Return a copy with the instance pinned to this node instead of any earlier one; None: not pinned."""
        others = {pinned: node for pinned, node in self.pins.items() if pinned != id}
        return replace(self, pins=others if name is None else {**others, id: name})

    def without_node_type(self, id: str) -> "Scenario":
        """Return a copy in which the instance is not bound to a node type."""
        return replace(self, node_types={bound: kind for bound, kind in self.node_types.items() if bound != id})

    def together(self, one: str, other: str) -> "Scenario":
        """Return a copy without the anti-affinity of the two, whichever of them declares it."""

        def less(instance: Instance, unwanted: str) -> Instance:
            return replace(instance, anti_affinity=tuple(id for id in instance.anti_affinity if id != unwanted))

        partner = {one: other, other: one}
        changed = (less(i, partner[i.id]) if i.id in partner else i for i in self.instances)
        return replace(self, instances=tuple(changed))

    def without(self, id: str) -> "Scenario":
        """Return a copy without the instance."""
        return replace(
            self,
            instances=tuple(instance for instance in self.instances if instance.id != id),
            pins={pinned: node for pinned, node in self.pins.items() if pinned != id},
            same_type=tuple(alike for alike in self.same_type if alike != id),
            node_types={bound: kind for bound, kind in self.node_types.items() if bound != id},
        )
