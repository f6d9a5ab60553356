#!/usr/bin/python
"""Ansible module: one instance on its node, from admission to the last log line."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance
short_description: Start, stop or collect one instance
description:
  - C(started) reserves the node's room - slot, RAM, GPU memory, ports - under a lock, writes the instance's description and its units, starts them and waits
    until what O(health) names answers and the workload runs. What fails to start is stopped again.
  - C(stopped) stops the instance, gracefully and then by force as its units say, and writes down that a person did.
  - C(collected) makes a consistent copy of its database, its journal, its ledger of ends and its stream for the controller to fetch, and
    removes the units of an instance that has ended. Its data stays, and so does the tap of one that is observed, until it is C(stopped).
options:
  state: {description: What to do., choices: [started, stopped, collected], required: true, type: str}
  run_id: {description: The run., type: str, required: true}
  id: {description: The instance., type: str, required: true}
  work_dir: {description: The node's C(remote_work_dir)., type: path, required: true}
  owner: {description: The user that the instance runs as and whose its files are., type: str, required: true}
  description: {description: "What becomes C(instance.json), which the workload reads.", type: dict}
  units: {description: "Unit files by name, the slice among them.", type: dict}
  room: {description: "C(ram_gb), C(gpu_memory_gb) and C(max_instances) of the node; nothing may exceed them.", type: dict}
  health: {description: "By unit - C(llama), C(tap) - the URL that must answer 200. It is asked in the network of the unit.", type: dict}
  start_timeout: {description: Seconds until it must be healthy., type: float, default: 120}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Stop an instance
  instance: {state: stopped, run_id: split_brain_20261123T141500Z_3f2a, id: a, work_dir: /home/pi/brain-in-jar, owner: pi}
"""

RETURN = r"""
status: {description: The instance's status after., returned: always, type: str}
dir: {description: Its folder on the node., returned: always, type: str}
"""

import ctypes
import fcntl
import glob
import http.client
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.instances import (
    ALIVE,
    SYSTEMD,
    TAP,
    UNITS,
    read_instances,
    read_json,
    shortages,
    show_units,
    slice_name,
    status,
    unit_name,
)

STARTED = ("workload", TAP)  # with the node; llama-server comes with the workload
SETTLED_SECONDS = 5


def replace(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    with open(path + ".new", "w", encoding="utf-8") as handle:
        handle.write(text)
    os.chmod(path + ".new", 0o644)
    os.replace(path + ".new", path)


def copy_lines(source: str, target: str) -> None:
    """Copy a file that may grow meanwhile, as far as its lines are whole."""
    shutil.copyfile(source, target + ".new")
    with open(target + ".new", "r+b") as handle:
        end, newline = handle.seek(0, os.SEEK_END), -1
        while end and newline < 0:
            start = max(0, end - 65536)
            handle.seek(start)
            newline = handle.read(end - start).rfind(b"\n")
            end = start + newline + 1
        handle.truncate(end)
    os.replace(target + ".new", target)


@contextmanager
def network_of(pid: str):
    """Within, connections are made in the network of a process: the node's, or one of its own. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as home, open(f"/proc/{pid}/ns/net", "rb") as there:
        if libc.setns(there.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), f"the network of process {pid} cannot be entered")
        try:
            yield
        finally:
            libc.setns(home.fileno(), 0)


class Instance:
    """One instance on this node."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.given = module.params
        self.run_id, self.id = self.given["run_id"], self.given["id"]
        self.dir = os.path.join(self.given["work_dir"], "instances", self.run_id, self.id)
        self.units = {unit: unit_name(self.run_id, self.id, unit) for unit in (*UNITS, TAP)}
        self.own = [*(self.units[unit] for unit in UNITS), slice_name(self.run_id, self.id)]
        self.all = [*self.own, self.units[TAP]]

    def path(self, *names: str) -> str:
        return os.path.join(self.dir, *names)

    @contextmanager
    def as_owner(self):
        """Whatever is read or written below the work dir, its owner could: a link planted there gains nobody anything."""
        if os.geteuid() != 0:
            yield
            return
        user, groups = pwd.getpwnam(self.given["owner"]), os.getgroups()
        os.setgroups([user.pw_gid])
        os.setegid(user.pw_gid)
        os.seteuid(user.pw_uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def status(self) -> str:
        return status(
            read_json(self.path("outcome.json")), show_units([self.units["workload"]])[self.units["workload"]]
        )

    def systemctl(self, *words: str) -> None:
        """Run systemctl. RuntimeError, and not fail_json, so that whoever starts can still clean up."""
        code, _, said = self.module.run_command(["systemctl", *words])
        if code != 0:
            raise RuntimeError(f"systemctl {' '.join(words)} exited with {code}: {said.strip()}")

    def done(self, changed: bool, **more: object) -> None:
        self.module.exit_json(changed=changed, status=self.status(), dir=self.dir, **more)

    # started

    def start(self) -> None:
        """Start the instance unless it runs or has ended."""
        given = self.given
        description = {self.path("instance.json"): json.dumps(given["description"], indent=2, sort_keys=True) + "\n"}
        units = {os.path.join(SYSTEMD, name): text for name, text in given["units"].items()}
        ended = bool(read_json(self.path("outcome.json")))
        diff = [] if ended else self.write({**description, **units}, check=True)
        if ended or (not diff and self.status() == "RUNNING"):
            self.done(False)
        if self.module.check_mode:
            self.module.exit_json(changed=True, diff=diff, status="PENDING", dir=self.dir)
        with self.as_owner():
            lacking = self.reserve(description)
        if lacking:  # told as root: as the owner this module could not even read itself
            self.module.fail_json(
                msg=f"{self.id}: no room on this node any more: {'; '.join(lacking)}; another run was faster, run again"
            )
        try:
            self.write(units)
            self.systemctl("daemon-reload")
            starts = [self.units[unit] for unit in STARTED if self.units[unit] in given["units"]]
            self.systemctl("enable", "--now", "--quiet", *starts)
            self.wait_healthy()
        except Exception as error:
            journal = self.journal((*UNITS, TAP), "--lines=30")
            self.conclude("FAILED")
            self.remove(self.all)
            self.module.fail_json(msg=f"{self.id} did not start: {error}\n{journal}", status="FAILED", dir=self.dir)
        self.done(True, diff=diff)

    def reserve(self, description: dict) -> list:
        """Take the node's room by writing the description, under the node's lock: two launches cannot take the same.

        Returns what is lacking, a reason each; then nothing of the instance is on the node, nor was.
        """
        instances = os.path.join(self.given["work_dir"], "instances")
        os.makedirs(instances, exist_ok=True)
        with open(os.path.join(instances, ".lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = [other for other in read_instances(self.given["work_dir"]) if other["dir"] != self.dir]
            lacking = shortages(self.given["description"], self.given["room"], others)
            if not lacking:
                for folder in ("logs", "checkpoints"):
                    os.makedirs(self.path(folder), exist_ok=True)
                self.write(description)
        return lacking

    def write(self, wanted: dict, check: bool = False) -> list:
        """Make files what they should be; return what differed as a diff."""
        diff = []
        for path, after in wanted.items():
            try:
                with open(path, encoding="utf-8") as handle:
                    before = handle.read()
            except OSError:
                before = ""
            if before == after:
                continue
            diff.append({"before_header": path, "after_header": path, "before": before, "after": after})
            if not check:
                replace(path, after)
        return diff

    def wait_healthy(self) -> None:
        """Until all that must answer answers 200 and the workload is at work, or has ended already, which a short one may.

        At work is a workload that reports progress; one that does not must have lived for a few seconds.
        """
        urls = self.given["health"]
        answers = dict.fromkeys(urls, "nothing")
        started = time.monotonic()
        while time.monotonic() < started + self.given["start_timeout"]:
            now = self.status()
            units = show_units([self.units[unit] for unit in urls])
            if now in ("COMPLETED", "FAILED") or any(unit["ActiveState"] == "failed" for unit in units.values()):
                break
            answers = {unit: self.ask(units[self.units[unit]]["MainPID"], url) for unit, url in urls.items()}
            at_work = os.path.exists(self.path("progress.json")) or time.monotonic() > started + SETTLED_SECONDS
            if set(answers.values()) == {"200"} and now == "RUNNING" and at_work:
                return
            time.sleep(0.1)
        if self.status() != "COMPLETED":
            said = "; ".join(f"{url} answered {answers[unit]}" for unit, url in urls.items())
            raise RuntimeError(f"{self.status()}; {said}")

    def ask(self, pid: str, url: str) -> str:
        """What a server says at a URL in the network of a process: its status, or why there is none."""
        if pid == "0":
            return "nothing"
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=2)
        try:
            with network_of(pid):
                connection.request("GET", parts.path)
                return str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        finally:
            connection.close()

    # stopped

    def stop(self) -> None:
        """Stop the instance: systemd ends it gracefully, and by force after TimeoutStopSec."""
        now = self.status() if os.path.isdir(self.dir) else ""
        if now not in ALIVE and not self.present(self.all):
            self.done(False)
        if self.module.check_mode:
            self.module.exit_json(changed=True, status=now, dir=self.dir)
        if now:
            self.conclude("FAILED" if now == "FAILED" else "STOPPED")
        self.remove(self.all)
        self.done(True)

    def conclude(self, outcome: str) -> None:
        """Write the outcome down before anything is stopped, so that the stop is not taken for the end of the work."""
        if not os.path.exists(self.path("outcome.json")):
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with self.as_owner():
                replace(self.path("outcome.json"), json.dumps({"outcome": outcome, "time": now}) + "\n")

    def present(self, names: list) -> list:
        """Those of the units whose files are there."""
        return [name for name in names if os.path.exists(os.path.join(SYSTEMD, name))]

    def remove(self, names: list) -> None:
        """Stop units, and whatever is in the slice among them, and remove them."""
        present = self.present(names)
        if not present:
            return
        self.systemctl("disable", "--quiet", *present)
        self.systemctl("stop", *present)
        for name in present:
            os.unlink(os.path.join(SYSTEMD, name))
        if not glob.glob(os.path.join(SYSTEMD, f"jarfleet-{self.run_id}-*")):  # they were the run's last ones here
            self.systemctl("stop", f"jarfleet-{self.run_id}.slice")
        self.systemctl("daemon-reload")
        self.module.run_command(["systemctl", "reset-failed", *present])  # fails when there is nothing to reset

    # collected

    def collect(self) -> None:
        """Leave consistent copies in `export/` for the controller to fetch."""
        if not os.path.isdir(self.dir):
            self.module.fail_json(msg=f"{self.id}: there is no {self.dir} on this node")
        now = self.status()
        if self.module.check_mode:
            self.done(False)
        if now not in ALIVE:
            self.conclude(now)  # systemd gave it up, or a person stopped it: a reboot must not start it again
        units = self.present(self.own)
        if units and now not in ALIVE:
            self.systemctl("stop", *units)  # waits for llama-server's end, and for it to be written down
        journal = self.journal(UNITS)  # not the tap's: the copy lies where the instance could read it
        log = self.path("export", "logs", f"{self.id}.log")
        with self.as_owner():
            for folder in ("logs", "db"):  # as in the run's folder on the controller
                os.makedirs(self.path("export", folder), exist_ok=True)
            if os.path.exists(self.path("experiments.db")):
                self.copy_database()
            if units or not os.path.exists(log):  # without units the log is complete, and the journal may forget
                replace(log, journal)
            for name in ("exits.jsonl", "stream.jsonl"):
                if os.path.exists(self.path("logs", name)):
                    copy_lines(self.path("logs", name), self.path("export", "logs", f"{self.id}.{name}"))
        if now not in ALIVE:
            self.remove(self.own)
        self.done(False)

    def copy_database(self) -> None:
        """SQLite's own backup: consistent while the workload writes. One file, no log beside it."""
        copy = self.path("export", "db", f"{self.id}.db")
        for left in (copy + ".new", copy + ".new-journal"):
            if os.path.exists(left):
                os.unlink(left)
        source = sqlite3.connect(
            "file:{}?mode=rw".format(urllib.request.pathname2url(self.path("experiments.db"))), uri=True
        )
        target = sqlite3.connect(copy + ".new")
        try:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
        finally:
            source.close()
            target.close()
        os.chmod(copy + ".new", 0o644)
        os.replace(copy + ".new", copy)

    def journal(self, of: tuple, *options: str) -> str:
        units = [f"--unit={self.units[unit]}" for unit in of]
        done = subprocess.run(
            ["journalctl", "--no-pager", "--quiet", "--output=short-iso-precise", *options, *units],
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        return done.stdout


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["started", "stopped", "collected"]},
            "run_id": {"type": "str", "required": True},
            "id": {"type": "str", "required": True},
            "work_dir": {"type": "path", "required": True},
            "owner": {"type": "str", "required": True},
            "description": {"type": "dict"},
            "units": {"type": "dict"},
            "room": {"type": "dict"},
            "health": {"type": "dict"},
            "start_timeout": {"type": "float", "default": 120},
        },
        required_if=[("state", "started", ("description", "units", "room", "health"))],
        supports_check_mode=True,
    )
    instance = Instance(module)
    try:
        {"started": instance.start, "stopped": instance.stop, "collected": instance.collect}[module.params["state"]]()
    except RuntimeError as error:
        module.fail_json(msg=f"{module.params['id']}: {error}")


if __name__ == "__main__":
    main()
