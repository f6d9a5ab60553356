"""Action plugin `run_record`: see plugins/modules/run_record.py for its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import constants, context
from ansible.release import __version__ as ansible_version

from contract.description import InstanceRef
from contract.events import Moves
from fleet.control.care import Care, care_of, launched, starting
from fleet.intake.request import Request, ResumeOf
from fleet.launch import key_store
from fleet.launch.launching import Created, create, detached_table, paused_table, settle
from fleet.launch.resuming import resume, starts, states, still_due
from fleet.observe.cluster import Cluster
from fleet.record.run_folder import Run
from fleet.record.signing import Keys, sign, statement
from fleet.results.cut_back import taken_back
from placement import Plan
from plugins.base import LocalAction, Result

if TYPE_CHECKING:
    from fleet.report.conclude import Conclusion


class ActionModule(LocalAction):
    """Keeps the record of a run when it is created, launched, collected or signed."""

    ARGUMENTS = {
        "state": {
            "type": "str",
            "required": True,
            "choices": ["created", "moves", "launched", "collected", "concluded", "signed"],
        },
        "runs_dir": {"type": "path", "required": True},
        "run_id": {"type": "str", "default": ""},
        "request": {"type": "dict", "default": {}},
        "plan": {"type": "dict", "default": {}},
        "detached": {"type": "bool", "default": False},
        "signing_key": {"type": "path", "default": ""},
        "allowed_signers": {"type": "path", "default": ""},
    }
    RULES = {
        "required_if": [
            ("state", "created", ("request", "plan")),
            ("state", "moves", ("request",)),
            ("state", "launched", ("run_id",)),
            ("state", "collected", ("run_id",)),
            ("state", "concluded", ("run_id",)),
            ("state", "signed", ("run_id",)),
        ]
    }

    def act(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        self._keys = Keys(given["signing_key"], given["allowed_signers"])
        step = {
            "created": self._created,
            "moves": self._moves,
            "launched": self._launched,
            "collected": self._collected,
            "concluded": self._concluded,
            "signed": self._signed,
        }
        return step[given["state"]](given, task_vars)

    def _created(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        request, cluster = Request.from_json(given["request"], "request"), Cluster.from_task_vars(task_vars)
        runs_dir, plan, care = Path(given["runs_dir"]), Plan.from_json(given["plan"]), care_of(cluster, request)
        if request.resumes:
            return self._resumed(runs_dir, request, request.resumes, plan, cluster, care, given["detached"])
        leased = care.folder is not None
        created = create(runs_dir, request, plan, cluster, self._keys, ansible_version, leased=leased, check=self.check)
        return self._to_launch(created, care, cluster, given["detached"])

    def _moves(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        resumes = Request.from_json(given["request"], "request").resumes
        if resumes and not self.check:
            run, cluster = Run.open(given["runs_dir"], resumes.run_id), Cluster.from_task_vars(task_vars)
            still_due(run, resumes)
            starting(run.run_id, cluster.settings.name, list(resumes.moves))
            alive = [id for id, (_, one) in states(run, cluster).items() if one.alive and id in resumes.moves]
            run.append(Moves(tuple(resumes.moves), tuple(alive)))
        return {"changed": False}

    def _resumed(
        self, runs_dir: Path, request: Request, resumes: ResumeOf, plan: Plan, cluster: Cluster, care: Care,
        detached: bool,
    ) -> Result:  # fmt: skip
        run = Run.open(runs_dir, resumes.run_id)
        begun = starts(run, cluster, list(resumes.moves), resumes.until, check=self.check)
        left = {} if self.check else taken_back(run, {id: start.checkpoint for id, start in begun.items()})
        leased = care.folder is not None
        resumed = resume(run, request, resumes, plan, cluster, begun, left, leased=leased, check=self.check)
        beyond = [
            f"{id}: {sum(rows.values())} rows after its checkpoint are left in the databases of earlier epochs"
            for id, rows in left.items()
            if rows
        ]
        # Who watches the others watches on.
        result = self._to_launch(resumed, care, cluster, detached or bool(resumes.stays))
        return {**result, "table": "\n".join([result["table"], *beyond])}

    def _to_launch(self, created: Created, care: Care, cluster: Cluster, detached: bool) -> Result:
        launched = [entry.launch_spec.description for entry in created.entries]
        if not self.check:
            where = {one.id: (one.node, one.epoch) for one in launched}
            care.look_after(created.run_id, created.path.parent, where, cluster.settings.name)
        return {
            "watched_by": "nobody" if detached or self.check else "record" if care.folder else "nodes",
            "changed": True,
            "run_id": created.run_id,
            "path": str(created.path),
            "instances": [entry.to_json() for entry in created.entries],
            "nodes": [shipment.to_json() for shipment in created.shipments],
            "stays": [entry.to_json() for entry in created.stays],
            "table": f"run {created.run_id}\n{care.words}",
            "warnings": created.warnings,
        }

    def _launched(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        run = Run.open(given["runs_dir"], given["run_id"])
        cluster = Cluster.from_task_vars(task_vars)
        outcomes = _results(task_vars, "instance_started")
        settled = settle(run, outcomes, cluster, self._keys)
        launched(run.run_id, cluster.settings.name, started=not settled.failed)
        is_all = len(outcomes) == len(run.places)
        if settled.failed and is_all:
            key_store.remove(run.run_id)
        paused = paused_table(run)
        shown = {}
        if (given["detached"] or not is_all) and not settled.failed:
            shown = {"table": "\n\n".join(filter(None, (paused, detached_table(run, _inventory()))))}
        return {
            "changed": False,
            "failed_instances": settled.failed,
            "rejection": settled.rejection,
            "warnings": settled.warnings,
            **shown,
        }

    def _collected(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        from fleet.report.conclude import conclude  # imported here: the plotting library loads slowly

        run = Run.open(given["runs_dir"], given["run_id"])
        outcomes = _results(task_vars, "instance_collected")
        refs = [InstanceRef.from_json(task_vars["hostvars"][name]["instance_ref"], name) for name in outcomes]
        conclusion = conclude(run, refs, list(outcomes.values()), check=self.check)
        if conclusion.over and not self.check:
            key_store.remove(run.run_id)
        # While the run goes on, an observer may not yet have read everything from a subject that has ended.
        relays = [name for name, ref in zip(outcomes, refs, strict=True) if conclusion.over and ref.observed]
        return {**_told(run, conclusion), "relays": relays}

    def _concluded(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        from fleet.report.conclude import collected_last, conclude  # as above

        run = Run.open(given["runs_dir"], given["run_id"])
        return _told(run, conclude(run, *collected_last(run), check=self.check))

    def _signed(self, given: dict[str, Any], task_vars: Mapping[str, Any]) -> Result:
        run = Run.open(given["runs_dir"], given["run_id"])
        stated = statement(run.manifest)
        return {"changed": sign(run, self._keys, check=self.check), "table": stated}


def _told(run: Run, conclusion: Conclusion) -> Result:
    return {
        "changed": conclusion.changed,
        "warnings": conclusion.warnings,
        "statuses": conclusion.statuses,
        "bad": conclusion.bad,
        "problems": conclusion.problems,
        "memory": conclusion.memory,
        "path": str(run.path),
        "table": conclusion.table,
    }


def _results(task_vars: Mapping[str, Any], registered: str) -> dict[str, Mapping[str, Any]]:
    """Return {instance's host: what a task registered on it}; a message if an earlier step failed."""
    nothing = {"msg": "was not started: an earlier step failed"}
    hostvars, hosts = task_vars["hostvars"], task_vars["groups"].get("instances", [])
    return {str(name): hostvars[name].get(registered) or nothing for name in hosts}


def _inventory() -> str:
    """Return `-i` for each inventory of the command line that is not the default one, for use in the next command."""
    given = context.CLIARGS.get("inventory") or ()
    return "".join(f" -i {source}" for source in given if source not in constants.DEFAULT_HOST_LIST)
