"""What makes a placement impossible (specification: Hard Constraints).

Each constraint is one pure function of a node's remaining capacity and of the request. It returns why the node is
rejected, with the numbers, or None."""

from collections.abc import Callable

from placement.problem import PORTS, Capacity, Request, size


def status(capacity: Capacity, request: Request) -> str | None:
    """The node is HEALTHY (specification: Hard Constraints 1)."""
    return None if capacity.node.status == "HEALTHY" else f"{capacity.node.status}, not HEALTHY"


def pin(capacity: Capacity, request: Request) -> str | None:
    """A manual placement binds (specification: CLI Tool, --placement)."""
    return None if request.pin in (None, capacity.node.name) else f"pinned to {request.pin}"


def node_type(capacity: Capacity, request: Request) -> str | None:
    """An instance that is bound to a type of node goes there (experiment: design.counterbalance)."""
    here = capacity.node.node_type
    return None if request.node_type in (None, here) else f"wants a {request.node_type}, is a {here}"


def slots(capacity: Capacity, request: Request) -> str | None:
    """instances < max_instances (specification: Hard Constraints 1)."""
    taken, most = capacity.taken_slots, capacity.node.max_instances
    return None if taken < most else f"{taken} of {most} taken"


def ram(capacity: Capacity, request: Request) -> str | None:
    """RAM taken <= ram - reserved - allocated; one pool with the GPU's if unified (Hard Constraints 2)."""
    needs, _ = capacity.needs(request)
    return None if needs <= capacity.free_ram else f"needs {size(needs)} GB, has {size(max(0, capacity.free_ram))} free"


def gpu(capacity: Capacity, request: Request) -> str | None:
    """A required GPU is there (specification: Hard Constraints 3)."""
    return None if capacity.node.gpu or request.instance.gpu != "required" else "required, has none"


def gpu_memory(capacity: Capacity, request: Request) -> str | None:
    """GPU memory taken <= GPU memory - allocated, where the instance uses the GPU (Hard Constraints 4)."""
    _, needs = capacity.needs(request)
    free = max(0, capacity.free_gpu_memory)
    return None if needs <= free else f"needs {size(needs)} GB, has {size(free)} free"


def anti_affinity(capacity: Capacity, request: Request) -> str | None:
    """No instance is here that either of the two wants elsewhere (specification: Hard Constraints 5)."""
    here = [id for id in capacity.ids if id in request.apart] if request.apart else []
    return f"apart from {', '.join(here)}" if here else None


def same_type(capacity: Capacity, request: Request) -> str | None:
    """Those that are to be on one node type are (experiment: design.same_type)."""
    first = capacity.types.get(request.alike) if request.alike else None
    return None if first in (None, capacity.node.node_type) else f"the others are on a {first}"


def ports(capacity: Capacity, request: Request) -> str | None:
    """Two free ports of the range, one for peers and one for llama-server (specification: network.peer_port_range)."""
    free = len(capacity.free_ports())
    return None if free >= len(PORTS) else f"needs {len(PORTS)}, has {free} free"


Constraint = Callable[[Capacity, Request], str | None]
CONSTRAINTS: tuple[Constraint, ...] = (
    status, pin, node_type, slots, ram, gpu, gpu_memory, anti_affinity, same_type, ports,
)  # fmt: skip


def feasible(capacity: Capacity, request: Request) -> bool:
    """No constraint refuses the node."""
    return all(constraint(capacity, request) is None for constraint in CONSTRAINTS)


def rejections(capacity: Capacity, request: Request) -> list[str]:
    """Why each constraint that refuses the node does, by its name: `["ram: needs 8.0 GB, has 6.2 free"]`.

    What an UNAVAILABLE node has is not known, so there its status is the only reason.
    """
    constraints = (status,) if capacity.node.status == "UNAVAILABLE" else CONSTRAINTS
    return [
        f"{constraint.__name__}: {reason}" for constraint in constraints if (reason := constraint(capacity, request))
    ]
