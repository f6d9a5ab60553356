"""The programs that choose configurations, solved by HiGHS: cover every item, use no kind of node too often."""

import time
from dataclasses import dataclass

import highspy  # type: ignore[import-untyped] # no stubs
import numpy as np
import numpy.typing as npt

from placement.solver.node_configurations import Columns, Ints, Items

Floats = npt.NDArray[np.float64]


class Linear:
    """The linear program; it keeps its basis when columns are added. The first columns must contain a plan."""

    def __init__(self, items: Items, until: float) -> None:
        self.items, self.number = items, 0
        self.solver = _solver(items, until)
        self.solver.setOptionValue("presolve", "off")

    def add(self, columns: Columns) -> None:
        """Add columns to the program."""
        self.number += len(columns)
        _add(self.solver, self.items, columns, columns.score / self.items.scale, np.full(len(columns), np.inf))

    def solve(self) -> tuple[float, Floats, Floats] | None:
        """Return the value and the dual prices, in points, of each item and of each kind; None if unsolved."""
        self.solver.run()
        if self.solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        duals = np.array(self.solver.getSolution().row_dual)
        return (
            self.solver.getInfo().objective_function_value,
            duals[: self.items.number],
            np.maximum(0, duals[self.items.number :]),
        )


@dataclass(frozen=True)
class Chosen:
    """The integer program's result: rows (with repetition) or None, and whether the solver finished in time."""

    rows: Ints | None
    finished: bool
    value: float  # of the objective function


def choose(
    items: Items,
    columns: Columns,
    objective: Floats,
    until: float,
    start: Ints,
    held: list[tuple[Floats, float]] | None = None,
) -> Chosen:
    """Return the best choice of columns that covers every item.

    start: rows of a choice to begin with. held: earlier objectives, which must keep their values.
    """
    solver = _solver(items, until)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 1e-7)
    number = len(columns)
    _add(solver, items, columns, objective, np.array([len(kind.capacities) for kind in items.kinds])[columns.kind])
    everything = np.arange(number, dtype=np.int32)
    for weights, value in held or []:
        solver.addRow(value - 1e-6 * max(1.0, abs(value)), highspy.kHighsInf, number, everything, weights)
    solver.changeColsIntegrality(number, everything, np.array([highspy.HighsVarType.kInteger] * number))
    begin = highspy.HighsSolution()
    begin.col_value = np.bincount(start, minlength=number).astype(float).tolist()
    solver.setSolution(begin)
    solver.run()
    finished = solver.getModelStatus() in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kInfeasible)
    if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Chosen(None, finished, -np.inf)
    often = np.rint(np.array(solver.getSolution().col_value)).astype(np.int64)
    return Chosen(np.repeat(np.arange(number), often), finished, float(objective @ often))


def new_solver(until: float) -> highspy.Highs:
    """Return HiGHS with the settings of this project: silent, one thread (reproducible), time limit `until`."""
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", max(0.05, until - time.monotonic()))
    return solver


def _solver(items: Items, until: float) -> highspy.Highs:
    """Return a program without columns."""
    solver = new_solver(until)
    solver.changeObjectiveSense(highspy.ObjSense.kMaximize)
    nothing = np.zeros(0, dtype=np.int32), np.zeros(0)
    for size in items.sizes:
        solver.addRow(float(size), float(size), 0, *nothing)
    for kind in items.kinds:
        solver.addRow(0.0, float(len(kind.capacities)), 0, *nothing)
    return solver


def _add(solver: highspy.Highs, items: Items, columns: Columns, objective: Floats, most: Floats) -> None:
    """Add columns with their entries: how often each item is in one, and its kind."""
    total = items.number + len(items.kinds)
    row = np.concatenate([columns.members, (items.number + 1 + columns.kind)[:, None]], axis=1)
    row = np.where(row > items.number, row - 1, np.where(row == items.number, -1, row))
    column = np.broadcast_to(np.arange(len(columns))[:, None], row.shape)
    keys, counts = np.unique((column * total + row)[row >= 0], return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(columns)) * total)
    solver.addCols(
        len(columns), objective, np.zeros(len(columns)), most.astype(float), len(keys),
        starts.astype(np.int32), (keys % total).astype(np.int32), counts.astype(float),
    )  # fmt: skip
