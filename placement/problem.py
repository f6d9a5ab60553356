"""A placement problem as input of every search: requests in their fixed order, and the capacities of the nodes."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from placement.faults import BadInput, Fault, unknown
from placement.model import GPU_DEMANDS, Instance, Node, gb, natural, units

PORTS = ("peer", "llama")  # the ports that each instance gets on its node
PORT_RANGE = (9000, 9100)  # specification: network.peer_port_range, both ends included
NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Request:
    """An instance with its relations to others, which hold both ways, and its pin, which is binding."""

    instance: Instance
    related: frozenset[str]
    apart: frozenset[str]
    alike: frozenset[str]  # itself and those that must share its node type; empty: no such condition
    pin: str | None
    node_type: str | None  # the only type of node it may go to; None: any
    ram: int  # amounts in units of model.units()
    gpu_memory: int


class Capacity:
    """The remaining capacity of a node. Amounts in units of model.units()."""

    __slots__ = ("free_gpu_memory", "free_ram", "ids", "node", "ports", "taken_slots", "types")

    def __init__(self, node: Node, ports: Sequence[int], types: dict[frozenset[str], str]) -> None:
        self.node = node
        self.types = types  # shared by all capacities: the node type taken by instances that must be alike
        self.free_ram = units(node.ram_gb) - units(node.reserved_ram_gb) - units(node.allocated_ram_gb)
        self.free_gpu_memory = units(node.usable_gpu_memory_gb) - units(node.allocated_gpu_memory_gb)
        self.taken_slots = node.current_instances
        self.ids: dict[str, None] = {}  # of this plan, in the order placed
        self.ports = [port for port in ports if port not in node.used_ports] if node.used_ports else ports

    def needs(self, request: Request) -> tuple[int, int]:
        """Return (RAM, GPU memory) that the instance takes here; `preferred` uses the GPU wherever there is one."""
        return self.node.takes(request.ram, request.gpu_memory, request.instance.gpu != "none")

    def free_ports(self) -> Sequence[int]:
        """Return the ports not given out yet, lowest first."""
        return self.ports[len(PORTS) * len(self.ids) :]

    def add(self, request: Request) -> dict[str, int]:
        """Put the instance here; return its ports."""
        ram, gpu_memory = self.needs(request)
        ports = dict(zip(PORTS, self.free_ports(), strict=False))
        self.free_ram -= ram
        self.free_gpu_memory -= gpu_memory
        self.taken_slots += 1
        self.ids[request.instance.id] = None
        if request.alike:
            self.types[request.alike] = self.node.node_type
        return ports


class Problem:
    """Nodes in natural order, instances in the specification's order, relations both ways.

    Raises BadInput for a duplicate name, an instance without its RAM, and a pin of an unknown instance or node. A
    relation or preference with an unknown name has no effect here; experiment.check() reports it.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        instances: Iterable[Instance],
        pins: Mapping[str, str],
        port_range: tuple[int, int],
        same_type: Collection[str] = (),
        node_types: Mapping[str, str] | None = None,
    ) -> None:
        self.nodes = sorted(nodes, key=lambda node: natural(node.name))
        self.instances = list(instances)
        self.ports = range(port_range[0], port_range[1] + 1)
        names, ids = [node.name for node in self.nodes], [instance.id for instance in self.instances]
        faults = [Fault("nodes", name, "this name is given twice") for name in _repeated(names)]
        faults += [Fault("instances", id, "this id is given twice") for id in _repeated(ids)]
        faults += [
            Fault("instances", f"{one.id}.ram_gb", "not known; give it, or Experiment.sized() by the model")
            for one in self.instances
            if one.ram_gb is None
        ]
        faults += pin_faults(pins, ids, names)
        node_types = node_types or {}
        faults += [Fault("same_type", id, unknown("instance", id, ids)) for id in sorted(set(same_type) - set(ids))]
        faults += [Fault("node_types", id, unknown("instance", id, ids)) for id in sorted(set(node_types) - set(ids))]
        if faults:
            raise BadInput(faults)
        related = _both_ways(ids, ((instance.id, instance.affinity) for instance in self.instances))
        apart = _both_ways(ids, ((instance.id, instance.anti_affinity) for instance in self.instances))
        alike = frozenset(same_type)
        self.requests = [
            Request(
                instance,
                related.get(instance.id, NOBODY),
                apart.get(instance.id, NOBODY),
                alike if instance.id in alike else NOBODY,
                pins.get(instance.id),
                node_types.get(instance.id),
                units(instance.ram_gb),
                units(instance.gpu_memory_gb),
            )
            for instance in placing_order(self.instances)
        ]

    def capacities(self) -> list[Capacity]:
        """Return the nodes' capacities before anything is placed."""
        types: dict[frozenset[str], str] = {}
        return [Capacity(node, self.ports, types) for node in self.nodes]


def placing_order(instances: Iterable[Instance]) -> list[Instance]:
    """Sort by GPU required, preferred, none; then RAM descending; then as in the file (DESIGN, Placement)."""
    return sorted(instances, key=lambda instance: (GPU_DEMANDS.index(instance.gpu), -instance.ram_gb))


def pin_faults(
    pins: Mapping[str, str], ids: Iterable[str], names: Iterable[str], source: str = "placement"
) -> Iterator[Fault]:
    """Yield a fault for each pin of an unknown instance or to an unknown node."""
    ids, names = list(ids), list(names)
    known_ids, known_names = set(ids), set(names)
    for id, name in pins.items():
        if id not in known_ids:
            yield Fault(source, f"{id}:{name}", unknown("instance", id, ids))
        if name not in known_names:
            hint = f"; {name} is an instance, and affinity keeps instances together" if name in known_ids else ""
            yield Fault(source, f"{id}:{name}", unknown("node", name, names) + hint)


def _both_ways(ids: Iterable[str], relations: Iterable[tuple[str, Iterable[str]]]) -> dict[str, frozenset[str]]:
    """Make relations symmetric, without those to itself or to unknown ids; ids without relations are left out."""
    known = set(ids)
    both: dict[str, set[str]] = defaultdict(set)
    for id, others in relations:
        for other in others:
            if other in known and other != id:
                both[id].add(other)
                both[other].add(id)
    return {id: frozenset(others) for id, others in both.items()}


def _repeated(names: Iterable[str]) -> list[str]:
    """Return each name that occurs more than once."""
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))  # type: ignore[func-returns-value]


def size(amount: int) -> str:
    """Return an amount in units as text with its exact value: `8.0`, `6.25`."""
    return str(gb(amount))
