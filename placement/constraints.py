"""Hard constraints: why a node cannot take an instance (specification: Hard Constraints).

Each constraint is a pure function of a node's remaining capacity and of the request. It returns the reason for which
the node is rejected, with the numbers, or None if it is not."""

from collections.abc import Callable

from placement.problem import PORTS, Capacity, Request, size


def status(capacity: Capacity, request: Request) -> str | None:
    """Require that the node is HEALTHY (specification: Hard Constraints 1)."""
    return None if capacity.node.status == "HEALTHY" else f"{capacity.node.status}, not HEALTHY"


def pin(capacity: Capacity, request: Request) -> str | None:
    """Require the node to which a manual placement pins the instance (specification: CLI Tool, --placement)."""
    return None if request.pin in (None, capacity.node.name) else f"pinned to {request.pin}"


def node_type(capacity: Capacity, request: Request) -> str | None:
    """Require the node type to which the instance is bound (experiment: design.counterbalance)."""
    here = capacity.node.node_type
    return None if request.node_type in (None, here) else f"wants a {request.node_type}, is a {here}"


def slots(capacity: Capacity, request: Request) -> str | None:
    """Require instances < max_instances (specification: Hard Constraints 1)."""
    taken, most = capacity.taken_slots, capacity.node.max_instances
    return None if taken < most else f"{taken} of {most} taken"


def ram(capacity: Capacity, request: Request) -> str | None:
    """Require RAM taken <= ram - reserved - allocated; one pool with the GPU's if unified (Hard Constraints 2)."""
    needs, _ = capacity.needs(request)
    return None if needs <= capacity.free_ram else f"needs {size(needs)} GB, has {size(max(0, capacity.free_ram))} free"


def gpu(capacity: Capacity, request: Request) -> str | None:
    """Require a GPU if the instance requires one (specification: Hard Constraints 3)."""
    return None if capacity.node.gpu or request.instance.gpu != "required" else "required, has none"


def gpu_memory(capacity: Capacity, request: Request) -> str | None:
    """Require GPU memory taken <= GPU memory - allocated, if the instance uses the GPU (Hard Constraints 4)."""
    _, needs = capacity.needs(request)
    free = max(0, capacity.free_gpu_memory)
    return None if needs <= free else f"needs {size(needs)} GB, has {size(free)} free"


def anti_affinity(capacity: Capacity, request: Request) -> str | None:
    """Reject a node that holds an instance in anti-affinity with this one (specification: Hard Constraints 5)."""
    here = [id for id in capacity.ids if id in request.apart] if request.apart else []
    return f"apart from {', '.join(here)}" if here else None


def same_type(capacity: Capacity, request: Request) -> str | None:
    """Require the node type already taken by instances that must share one type (experiment: design.same_type)."""
    first = capacity.types.get(request.alike) if request.alike else None
    return None if first in (None, capacity.node.node_type) else f"the others are on a {first}"


def ports(capacity: Capacity, request: Request) -> str | None:
    """Require two free ports, one for peers and one for llama-server (specification: network.peer_port_range)."""
    free = len(capacity.free_ports())
    return None if free >= len(PORTS) else f"needs {len(PORTS)}, has {free} free"


Constraint = Callable[[Capacity, Request], str | None]
CONSTRAINTS: tuple[Constraint, ...] = (
    status, pin, node_type, slots, ram, gpu, gpu_memory, anti_affinity, same_type, ports,
)  # fmt: skip


def feasible(capacity: Capacity, request: Request) -> bool:
    """Whether no constraint rejects the node."""
    return all(constraint(capacity, request) is None for constraint in CONSTRAINTS)


def rejections(capacity: Capacity, request: Request) -> list[str]:
    """Return the reason of each constraint that rejects the node, with its name: `["ram: needs 8.0 GB, has 6.2 free"]`

    The resources of an UNAVAILABLE node are unknown, so there the status is the only reason.
    """
    constraints = (status,) if capacity.node.status == "UNAVAILABLE" else CONSTRAINTS
    return [
        f"{constraint.__name__}: {reason}" for constraint in constraints if (reason := constraint(capacity, request))
    ]
