#!/usr/bin/python
# Documentation of the action plugin control.
from __future__ import annotations

DOCUMENTATION = r"""
module: control
short_description: Start or stop the control loop, and tell it what a person wants
description:
  - C(linked) returns, for one node, what the loop needs to attend it, with the command that opens a connection; it opens none.
  - C(started) writes the loop's settings and starts it on this machine as a process of its own; with other settings than it runs with it is
    started again. It fails where C(coordinator_host) is another machine.
  - C(stopped) ends it, and waits for its end.
  - C(run_stopped) notes that a person wants a run stopped, so that nothing of it is started elsewhere.
options:
  state: {description: The step., choices: [linked, started, stopped, run_stopped], required: true, type: str}
  work_dir: {description: "For C(linked), the node's C(remote_work_dir).", type: str, default: ""}
  owner: {description: "For C(linked), the user by whom Ansible logs in.", type: str, default: ""}
  memory_percent: {description: "For C(linked), above this use of memory the node is DEGRADED.", type: float, default: 90}
  disk_percent: {description: "For C(linked), above this use of its disk it is DEGRADED.", type: float, default: 95}
  maintenance: {description: "For C(linked), whether a person keeps instances off it.", type: bool, default: false}
  project: {description: "The project's clone; for C(started).", type: path, default: ""}
  takeover: {description: "Whether it takes the nodes over from another controller's loop, with the runs that act for that.", type: bool, default: false}
  runs_dir: {description: "Folder of all runs; for C(started).", type: path, default: ""}
  gone: {description: "With C(takeover), nodes of which it is known that nothing there obeys the other controller any more; none - all may.", type: list, elements: str, default: []}
  hook: {description: "A command that is given each event as JSON on its standard input.", type: list, elements: str, default: []}
  run_id: {description: "For C(run_stopped), the run; empty - none.", type: str, default: ""}
  instance: {description: "For C(run_stopped), one instance; empty - all.", type: str, default: ""}
author: [Jarfleet]
"""

EXAMPLES = r"""
- name: Start the control loop
  control: {state: started, project: "{{ playbook_dir }}/.."}
"""

RETURN = r"""
node: {description: What the loop needs to attend the node., returned: when linked, type: dict}
folder: {description: Where the loop keeps its state and its log., returned: when started, type: str}
"""
