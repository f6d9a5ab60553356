"""Any plan at all, or the proof that there is none: what fits where, without a score, as an integer programme."""

import highspy  # type: ignore[import-untyped] # no stubs
import numpy as np

from placement.configurations import Ints, Items
from placement.programme import new_solver

MOST = 100_000  # cells and pairs: a larger programme would not even be written down in time


def pack(items: Items, until: float) -> tuple[Ints | None, bool]:
    """Nodes (kind by kind, as `items` holds them) x items: how often each is there; and whether the answer is proven.

    (None, True): there is no plan. (None, False): the time was over.
    """
    rooms = [kind for kind in items.kinds for _ in kind.rooms]
    apart = np.argwhere(np.tril(items.apart, -1)) if items.apart is not None else np.zeros((0, 2), dtype=np.int64)
    if len(rooms) * (items.number + len(apart)) > MOST:
        return None, False
    solver = new_solver(until)
    number = items.number
    index = np.arange(len(rooms) * number, dtype=np.int32).reshape(len(rooms), number)
    most = np.array([np.where(kind.may, np.minimum(items.sizes, kind.slots), 0) for kind in rooms], dtype=float)
    nothing = np.zeros(0, dtype=np.int32)
    solver.addCols(
        index.size, np.zeros(index.size), np.zeros(index.size), most.ravel(), 0,
        np.zeros(index.size, dtype=np.int32), nothing, np.zeros(0),
    )  # fmt: skip
    for item, size in enumerate(items.sizes):
        solver.addRow(float(size), float(size), len(rooms), index[:, item], np.ones(len(rooms)))
    for at, kind in enumerate(rooms):
        solver.addRow(0.0, float(kind.slots), number, index[at], np.ones(number))
        for needs, free in ((kind.ram, kind.free_ram), (kind.gpu_memory, kind.free_gpu_memory)):
            some = np.flatnonzero(kind.may & (needs > 0))
            if len(some):
                unit = int(np.gcd.reduce(needs[some]))  # small whole numbers: no tolerance can matter
                solver.addRow(0.0, float(free // unit), len(some), index[at, some], (needs[some] // unit).astype(float))
        for pair in apart:
            if kind.may[pair].all():
                solver.addRow(0.0, 1.0, 2, index[at, pair], np.ones(2))
    everything = index.ravel()
    solver.changeColsIntegrality(index.size, everything, np.array([highspy.HighsVarType.kInteger] * index.size))
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kOptimal:
        often = np.rint(np.array(solver.getSolution().col_value)).astype(np.int64)
        return often.reshape(index.shape), True
    return None, status == highspy.HighsModelStatus.kInfeasible
