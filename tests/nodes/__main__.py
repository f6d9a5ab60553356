"""Command line of the test nodes: `python -m tests.nodes VERB ...` from the repository's root, as root."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.nodes import PACKAGES, Cluster, NodesError
from tests.nodes.checks import CHECKS, run_check
from tests.nodes.cluster import INVENTORY, read_inventory


def memory_limit(word: str) -> tuple[str, int | None]:
    """NAME[:MiB] as a pair; ValueError, which argparse turns into a usage error, if it is neither."""
    name, colon, limit = word.partition(":")
    if not re.fullmatch("[a-z0-9][a-z0-9-]*", name):
        raise ValueError(word)
    return name, int(limit) if colon else None


def up(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Bring up the inventory's nodes, or the named ones and tell Ansible where they are."""
    if not arguments.nodes:
        cluster.up(read_inventory(arguments.inventory))
        return 0
    planned = read_inventory(arguments.inventory) if arguments.inventory.exists() else []
    nodes = cluster.up_adhoc(dict(arguments.nodes), planned)
    inventory = cluster.inventory([node.name for node in nodes])
    if arguments.write_inventory:
        arguments.write_inventory.write_text(inventory)
    else:
        print(inventory, end="")
    return 0


def show(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """List the nodes."""
    rows = [
        {"name": node.name, "address": node.address, "state": node.state, "memory_mb": node.memory_mb}
        for node in cluster.nodes().values()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['name']:<16}{row['address']:<16}{row['state']:<10}{row['memory_mb'] or '-'}")
    return 0


def enter(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Run a command in the node; with a terminal, an interactive one. Its exit status is ours."""
    terminal = ["--interactive", "--tty"] if sys.stdin.isatty() else []
    command = ["podman", "exec", *terminal, cluster.node(arguments.node).name, *(arguments.command or ["bash"])]
    return subprocess.run(command, env=cluster.machine.env, cwd=cluster.machine.run_dir).returncode


def change(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """The verbs that are a method of the cluster and take names of nodes only."""
    getattr(cluster, arguments.verb.replace("-", "_"))(*arguments.nodes)
    return 0


def check(cluster: Cluster, arguments: argparse.Namespace) -> int:
    """Run every check; a FAIL line says what was seen instead."""
    failed = 0
    for name in CHECKS:
        try:
            run_check(cluster, name)
            print(f"ok    {name}", flush=True)
        except (AssertionError, NodesError) as error:
            failed += 1
            print(f"FAIL  {name}: {error}", flush=True)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """The verbs and their arguments."""
    result = argparse.ArgumentParser(prog="python -m tests.nodes", description=__doc__)
    verbs = result.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("up", help="bring nodes up: the inventory's, or those named")
    verb.add_argument(
        "nodes", nargs="*", type=memory_limit, metavar="NAME[:MiB]", help="a node that is in no inventory"
    )
    verb.add_argument("--inventory", type=Path, default=INVENTORY)
    verb.add_argument("--write-inventory", type=Path, metavar="FILE", help="for named nodes; default: print it")
    verb.set_defaults(action=up)
    verb = verbs.add_parser("list", help="name, address, state and memory limit (MiB) of every node")
    verb.add_argument("--json", action="store_true")
    verb.set_defaults(action=show)
    verb = verbs.add_parser("exec", help="run a command in a node: exec NODE -- COMMAND ...")
    verb.add_argument("node")
    verb.add_argument("command", nargs="*")
    verb.set_defaults(action=enter)
    verbs.add_parser("check", help="verify what the nodes promise").set_defaults(action=check)
    verbs.add_parser("packages", help="Debian packages needed").set_defaults(action=None)
    for name, count, text in (
        ("down", "*", "remove nodes (default: all, and whatever `up` changed on this machine)"),
        ("power-cut", "+", "kill nodes at once"),
        ("start", "+", "start nodes after a power cut"),
        ("reboot", "+", "shut nodes down in order and start them"),
        ("freeze", "+", "hang nodes"),
        ("thaw", "+", "end a freeze"),
        ("cut", 1, "cut a node off from everybody"),
        ("partition", 2, "cut two nodes off from each other"),
        ("heal", "*", "undo the cuts and partitions of nodes (default: of all)"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("nodes", nargs=count, metavar="NODE")
        verb.set_defaults(action=change)
    return result


def main() -> int:
    """Exit status: 0 done, 1 failed with a message, 2 wrong usage."""
    arguments = parser().parse_args()
    if arguments.verb == "packages":
        print(*PACKAGES)
        return 0
    try:
        return int(arguments.action(Cluster(), arguments))
    except NodesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
