"""What makes a placement impossible (seed: Hard Constraints). Each constraint is one pure function of what a node still
has and of the request; it returns why the node is refused, with its numbers, or None."""

from collections.abc import Callable

from placement.problem import PORTS, Request, Room, size


def status(room: Room, request: Request) -> str | None:
    """The node is HEALTHY (seed: Hard Constraints 1)."""
    return None if room.node.status == "HEALTHY" else f"{room.node.status}, not HEALTHY"


def pin(room: Room, request: Request) -> str | None:
    """A manual placement binds (seed: CLI Tool, --placement)."""
    return None if request.pin in (None, room.node.name) else f"pinned to {request.pin}"


def node_type(room: Room, request: Request) -> str | None:
    """An instance that is bound to a type of node goes there (experiment: design.counterbalance)."""
    here = room.node.node_type
    return None if request.node_type in (None, here) else f"wants a {request.node_type}, is a {here}"


def slots(room: Room, request: Request) -> str | None:
    """instances < max_instances (seed: Hard Constraints 1)."""
    taken, most = room.taken_slots, room.node.max_instances
    return None if taken < most else f"{taken} of {most} taken"


def ram(room: Room, request: Request) -> str | None:
    """RAM taken <= ram - reserved - allocated; unified memory is one pool with the GPU's (seed: Hard Constraints 2)."""
    needs, _ = room.needs(request)
    return None if needs <= room.free_ram else f"needs {size(needs)} GB, has {size(max(0, room.free_ram))} free"


def gpu(room: Room, request: Request) -> str | None:
    """A required GPU is there (seed: Hard Constraints 3)."""
    return None if room.node.gpu or request.instance.gpu != "required" else "required, has none"


def gpu_memory(room: Room, request: Request) -> str | None:
    """GPU memory taken <= GPU memory - allocated, on a node whose GPU the instance uses (seed: Hard Constraints 4)."""
    _, needs = room.needs(request)
    free = max(0, room.free_gpu_memory)
    return None if needs <= free else f"needs {size(needs)} GB, has {size(free)} free"


def anti_affinity(room: Room, request: Request) -> str | None:
    """No instance is here that either of the two wants elsewhere (seed: Hard Constraints 5)."""
    here = [id for id in room.ids if id in request.apart] if request.apart else []
    return f"apart from {', '.join(here)}" if here else None


def same_type(room: Room, request: Request) -> str | None:
    """Those that are to be on one node type are (experiment: design.same_type)."""
    first = room.types.get(request.alike) if request.alike else None
    return None if first in (None, room.node.node_type) else f"the others are on a {first}"


def ports(room: Room, request: Request) -> str | None:
    """Two free ports of the range, one for peers and one for llama-server (seed: network.peer_port_range)."""
    free = len(room.free_ports())
    return None if free >= len(PORTS) else f"needs {len(PORTS)}, has {free} free"


Constraint = Callable[[Room, Request], str | None]
CONSTRAINTS: tuple[Constraint, ...] = (
    status, pin, node_type, slots, ram, gpu, gpu_memory, anti_affinity, same_type, ports,
)  # fmt: skip


def feasible(room: Room, request: Request) -> bool:
    """No constraint refuses the node."""
    return all(constraint(room, request) is None for constraint in CONSTRAINTS)


def rejections(room: Room, request: Request) -> list[str]:
    """Why each constraint that refuses the node does, by its name: `["ram: needs 8.0 GB, has 6.2 free"]`.

    What an UNAVAILABLE node has is not known, so there its status is the only reason.
    """
    constraints = (status,) if room.node.status == "UNAVAILABLE" else CONSTRAINTS
    return [f"{constraint.__name__}: {reason}" for constraint in constraints if (reason := constraint(room, request))]
