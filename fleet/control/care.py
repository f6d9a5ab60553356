"""Which runs the control loop looks after: those that are launched for it while it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.control.desired_store import DesiredStore, store_of
from fleet.control.loop_file import LoopFile, folder_of
from fleet.control.one_at_a_time import holder
from fleet.control.playbooks import this_playbook
from fleet.intake.request import Request, ResumeOf
from fleet.observe.cluster import Cluster


@dataclass(frozen=True)
class Care:
    """Whether the loop looks after a run. words: that, or why not, for a person."""

    folder: Path | None
    words: str

    def look_after(self, run_id: str, runs_dir: Path, instances: Mapping[str, tuple[str, int]], cluster: str) -> None:
        """Note what is about to be launched of a run {id: (node, epoch)}; or that nobody looks after it any more."""
        if self.folder:
            DesiredStore(self.folder).look_after(run_id, runs_dir, instances, this_playbook())
        elif store := store_of(cluster):
            store.forget(run_id)


def care_of(cluster: Cluster, request: Request) -> Care:
    """Return whether a run that is launched now is looked after. Raise BadInput, ControlError."""
    why = _why_not(cluster, request)
    if why and not _is_part_of_what_is_looked_after(cluster, request.resumes):
        return Care(None, f"nobody moves it when its node is lost: {why}")
    folder = folder_of(cluster.settings.name)
    seconds = LoopFile.of(folder).settings.lease
    words = f"the control loop moves it when a node is lost; without the loop it stops after {seconds:.0f} s, and waits"
    return Care(folder, words)


def _is_part_of_what_is_looked_after(cluster: Cluster, resumes: ResumeOf | None) -> bool:
    """Whether a run that goes on is the loop's, also while none runs.

    So it is where the loop itself moves it - one that is killed meanwhile comes back - and where others of it live on,
    which stop without the loop.
    """
    if resumes is None or (store := store_of(cluster.settings.name)) is None:
        return False
    run = store.read().runs.get(resumes.run_id)
    return run is not None and bool(run.acting or resumes.stays)


def _why_not(cluster: Cluster, request: Request) -> str:
    experiment = request.experiment
    own = bool(request.command or experiment.command or request.release.has_code)
    if not cluster.settings.failover:
        return "failover.enabled is false"
    if experiment.movable is False:
        return "movable is false"
    if experiment.movable is None and own and not experiment.state:
        return "its program declares no state"
    folder = folder_of(cluster.settings.name)
    if holder(folder) is None:
        return "no control loop runs (playbooks/control.yml starts one)"
    if set(LoopFile.of(folder).nodes) != set(cluster.names):
        return "the control loop was started for other nodes (playbooks/control.yml starts it for these)"
    for node, problem in DesiredStore(folder).read().links.items():
        if problem and node not in cluster.silent:
            return f"the control loop does not hear of {node}: {problem}"
    return ""


def starting(run_id: str, cluster: str, ids: Collection[str]) -> None:
    """Note that these instances of a run, if it is looked after, are about to be stopped and started anew."""
    if store := store_of(cluster):
        store.starting(run_id, ids, this_playbook())


def launched(run_id: str, cluster: str, *, started: bool) -> None:
    """Note that a run that is looked after has started, or that it has not."""
    store = store_of(cluster)
    if store is None:
        return
    found = {key: one for key, one in store.read().instances.items() if key.run_id == run_id}
    if found and started:
        store.launched(run_id)
    elif found and all(one.epoch == 1 for one in found.values()):
        store.forget(run_id)  # what had started is stopped again
    elif found:
        store.cut_off(run_id)  # and is tried again
