"""The program of a hostile instance: it tries what DESIGN says that an instance cannot do, and reports what came of it.

Run on a node as an instance's own program. `hostile` attacks, `filler` fills its folder without end, and `victim` is
their neighbour, which only lives. What each attack got is written to findings.json: "refused: <why>", or what it got.
"""

import ctypes
import json
import os
import socket
import sqlite3
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

from workload import Instance

ME = Instance.load()
HOME = ME.dir
SIBLING = HOME.parent / "victim"
WORK_DIR = HOME.parents[2]
LIBC = ctypes.CDLL(None, use_errno=True)
ESCAPES = "\x1b[31mred \x1b]0;owned\x07 \x9b2J \u202egnp.exe"


def called(name, *arguments):
    """Call libc; OSError as Python would raise it."""
    if getattr(LIBC, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return "done"


def others():
    """The processes in sight that are in no control group of this instance's."""
    return [status.parent.name for status in Path("/proc").glob("[0-9]*/cgroup") if "-hostile-" not in text(status)]


def text(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def looked_into():
    """The processes of others whose file system can be seen through theirs."""
    found = []
    for pid in others():
        try:
            found += [(pid, name) for name in os.listdir(f"/proc/{pid}/root/home/jar")][:2]
        except OSError:
            continue
    return found


def signalled():
    """The processes and threads that take a signal from here."""
    found = []
    for pid in range(2, 200_000):
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        found.append(pid)
    return found


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise OSError(done.stderr.strip() or done.stdout.strip())
    return done.stdout.strip()


def suid():
    path = HOME / "suid"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o4755)
    return oct(path.stat().st_mode)


def replaced(name):
    """Put a file of our own in the place of one of root's."""
    mine = HOME / "mine"
    mine.write_text("{}")
    return os.replace(mine, HOME / name)


# Calls of the kernel that no instance needs, by their numbers.
CALLS = {
    "x86_64": {
        "io_uring_setup": 425, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250,
        "open_by_handle_at": 304, "process_vm_readv": 310, "kexec_load": 246, "reboot": 169, "swapon": 167,
        "init_module": 175, "chroot": 161, "pivot_root": 155, "setns": 308, "fanotify_init": 300, "acct": 163,
    },
}  # fmt: skip


def kernel(name):
    """Make a call of the kernel with arguments that would be valid enough to tell whether it is allowed."""
    number = CALLS[os.uname().machine][name]
    if LIBC.syscall(number, 1, 0, 0, 0, 0) == -1 and ctypes.get_errno() in (1, 38):  # EPERM, ENOSYS
        raise OSError(ctypes.get_errno(), "refused")
    return "allowed"


def filled(path, most):
    """Write into a folder until it is full; what was written if that is more than `most` bytes."""
    written = 0
    try:
        with open(f"{path}/full", "wb") as file:
            while written <= most:
                written += file.write(b"x" * 2**20)
                file.flush()
        return f"{written} bytes"
    finally:
        os.unlink(f"{path}/full")


def forked():
    """Make processes until that is refused; how many there were if that is more than its limit."""
    children = []
    try:
        while len(children) <= 600:
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
        return f"{len(children)} processes"
    finally:
        for child in children:
            os.kill(child, 9)
        for child in children:
            os.waitpid(child, 0)


def taken():
    """Take twice its memory; whether whoever did so lives on."""
    child = os.fork()
    if child == 0:
        Path("/proc/self/oom_score_adj").write_text("1000")
        memory = bytearray(2 * 2**30)
        memory[::4096] = b"x" * (len(memory) // 4096)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 9:
        raise MemoryError("killed")
    return "2 GB"


def shared():
    """Make segments of System V's shared memory: a number that all of a node share, unless each has its own."""
    made = [LIBC.shmget(0, 4096, 0o1600) for _ in range(100)]
    return [] if -1 in made else made[:0]


PORTS = set(range(9000, 9101)) - {ME.ports["llama"], ME.port}


def opens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


ATTACKS = {
    "see processes of others": others,
    "look into other processes' file systems": looked_into,
    "list the SSH user's home": lambda: [name for name in os.listdir("/home/jar") if name != WORK_DIR.name],
    "read the SSH user's keys": lambda: Path("/home/jar/.ssh/authorized_keys").read_text(),
    "write the SSH user's home": lambda: Path("/home/jar/.profile").write_text("evil"),
    "list root's home": lambda: os.listdir("/root"),
    "list the neighbours' folders": lambda: [name for name in os.listdir(HOME.parent) if name != HOME.name],
    "list other runs": lambda: [name for name in os.listdir(HOME.parents[1]) if name != HOME.parent.name],
    "read the neighbour's database": lambda: (SIBLING / "experiments.db").read_bytes()[:16],
    "write the neighbour's folder": lambda: (SIBLING / "evil").write_text("evil"),
    "read the copies for the controller": lambda: os.listdir(WORK_DIR / "copies"),
    "list all models and releases": lambda: [*os.listdir(WORK_DIR / "models"), *os.listdir(WORK_DIR / "releases")][2:],
    "change the release": lambda: Path(os.environ["PYTHONPATH"], "evil.py").write_text("evil"),
    "change the model": lambda: open(ME.model["path"], "ab").close(),
    "forge the exit log": lambda: open(HOME / "logs/exits.jsonl", "a").write("{}\n"),
    "replace the exit log": lambda: replaced("logs/exits.jsonl"),
    "remove the exit log": lambda: os.unlink(HOME / "logs/exits.jsonl"),
    "move the logs away": lambda: os.rename(HOME / "logs", HOME / "logs.old"),
    "change its description": lambda: (HOME / "instance.json").write_text("{}"),
    "replace its description": lambda: replaced("instance.json"),
    "forge its start": lambda: replaced("logs/workload.start.json"),
    "become root by sudo": lambda: output("sudo", "-n", "id"),
    "become root by setuid": lambda: called("setuid", 0),
    "make a setuid program": suid,
    "make a user namespace": lambda: called("unshare", 0x10000000),
    "mount": lambda: called("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "make a device": lambda: os.mknod(HOME / "mem", 0o20666, os.makedev(1, 1)),
    "see a device": lambda: [name for name in ("fuse", "kmsg", "mem", "net/tun") if Path("/dev", name).exists()],
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, 0),
    "set the host's name": lambda: socket.sethostname("evil"),
    "set a kernel parameter": lambda: Path("/proc/sys/kernel/panic").write_text("1"),
    "read the kernel's log": lambda: called("klogctl", 3, ctypes.create_string_buffer(100), 100) and "read",
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "ask the system bus": lambda: Path("/run/dbus/system_bus_socket").stat(),
    "stop the neighbour by systemctl": lambda: output("systemctl", "stop", f"jarfleet-{ME.run_id}-victim-workload"),
    "read the journal": lambda: output("journalctl", "--lines=1", "--quiet"),
    "list the node's units": lambda: os.listdir("/etc/systemd/system"),
    "write units": lambda: Path("/etc/systemd/system/evil.service").write_text("[Service]"),
    "see the node's sockets": lambda: [str(path) for path in Path("/run").rglob("*") if path.is_socket()],
    "raise its memory limit": lambda: [
        path.write_text("-1") for path in Path("/sys/fs/cgroup").rglob("memory*limit_in_bytes")
    ] or Path("/sys/fs/cgroup/memory.max").write_text("max"),
    "trace a process": lambda: called("ptrace", 16, 1, 0, 0),
    "raise its priority": lambda: os.nice(-5),
    "reach the neighbour's llama-server": lambda: [port for port in PORTS if opens(port)],
    "reach the node's own services": lambda: [port for port in (22, 53, 80, 111) if opens(port)],
    "see a network": lambda: [name for name in os.listdir("/proc/self/net/dev_snmp6") if name != "lo"],
    **{f"call {name}": partial(kernel, name) for name in CALLS[os.uname().machine]},
    "open a VSOCK socket": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "open a socket of the kernel's cryptography": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "run in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "lower its chance to be killed": lambda: Path("/proc/self/oom_score_adj").write_text("-1000"),
    "join another control group": lambda: [
        path.write_text(str(os.getpid())) for path in Path("/sys/fs/cgroup").rglob("cgroup.procs")
    ],
    "link to a file of root's": lambda: os.link("/etc/passwd", HOME / "passwd"),
    "read the keys of instances": lambda: os.listdir("/var/lib/jarfleet/credentials"),
    "read the receipts of instances": lambda: os.listdir("/var/lib/jarfleet/probes"),
    "replace the node's program": lambda: Path("/opt/jarfleet/node.pyz").write_text("evil"),
    "replace llama-server": lambda: next(Path("/opt/llama.cpp").iterdir()).joinpath("evil").write_text("evil"),
    "leave a job to cron": lambda: Path("/var/spool/cron/crontabs/root").write_text("* * * * * id"),
    "fill the node's /tmp": lambda: filled("/tmp", 300 * 2**20),  # noqa: S108 - its own
    "fill the node's shared memory": lambda: filled("/dev/shm", 300 * 2**20),  # noqa: S108 - its own
    "make a file larger than its limit": lambda: os.truncate(HOME / "mine", 5 * 2**30),
    "make more processes than it may": forked,
    "take more memory than it may": taken,
    "use up the node's System V memory": shared,
    "reach the SSH server of another node": lambda: socket.create_connection(("10.77.0.12", 22), 2) and "reached",
}  # fmt: skip


def tried(attack):
    try:
        got = attack()
    except Exception as error:
        return f"refused: {error}"
    return "refused: nothing there" if got in ([], "", b"") else f"got {got!r}"[:500]


def plant():
    """What a collection and a status would fall for: links, pipes, and files of names that the controller uses."""
    export = HOME / "export"
    for name in ("db", "logs"):
        (export / name).mkdir(parents=True)
    for name in ("manifest.json", "plan.json", "memory.json", "report.html", "db/victim.db", "logs/victim.log"):
        (export / name).write_text("forged")
    (export / "events.jsonl").symlink_to("/etc/passwd")
    (HOME / "experiments.db").symlink_to("/etc/shadow")
    (HOME / "outcome.json").write_text(json.dumps({"outcome": "COMPLETED", "time": "$(touch /tmp/owned)"}))
    os.mkfifo(HOME / "progress.json")
    print(ESCAPES, flush=True)


def fill():
    """Make files without end, of some size, and a tree that is deeper than a path is long."""
    (HOME / "progress.json").write_text("{}")
    os.chdir(HOME)
    for _ in range(2000):
        os.mkdir("deeper")
        os.chdir("deeper")
    os.chdir(HOME)
    for number in range(10**9):
        with open(f"file{number}", "wb") as file:
            file.write(b"x" * 2**14)


def swap():
    """What a collection may find: a file when it looks, and a link when it opens."""
    aside, stream = HOME / "aside", HOME / "logs/stream.jsonl"
    while True:
        for make in (lambda: aside.symlink_to("/etc/shadow"), lambda: aside.write_text('{"honest": 1}\n')):
            make()
            os.replace(aside, stream)


def flood():
    """Print as much as one can, and once in between something that its neighbour would miss."""
    line = "x" * 2000
    for _ in range(100_000):
        print(line)


def main():
    if ME.id == "filler":
        fill()
    if ME.id == "hostile":
        found = {name: tried(attack) for name, attack in ATTACKS.items()}
        plant()
        (HOME / "findings.new").write_text(json.dumps({"attacks": found, "signalled": signalled()}))
        threading.Thread(target=swap, daemon=True).start()
        flood()
        (HOME / "findings.new").rename(HOME / "findings.json")
    else:
        with sqlite3.connect(HOME / "experiments.db") as database:
            database.execute("CREATE TABLE IF NOT EXISTS kept (what)")
            database.execute("INSERT INTO kept VALUES ('mine')")
        (HOME / "progress.json").write_text("{}")
        for number in range(900):
            print(f"the victim lives {number}", flush=True)
            time.sleep(0.1)
    time.sleep(900)


main()
