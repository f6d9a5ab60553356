"""The nodes' image: Debian bookworm by debootstrap, `image/rootfs` copied over it, `image/finish` run in it."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.nodes.machine import Machine, NodesError, run

RECIPE = Path(__file__).parent / "image"
REPOSITORY = "localhost/jarfleet-node"
CHANGES = ('CMD ["/usr/local/sbin/jarinit"]', "STOPSIGNAL SIGRTMIN+3", "ENV container=podman")


def tag() -> str:
    """The image's name for today's recipe: a changed recipe is another image."""
    digest = hashlib.sha256(repr(CHANGES).encode())
    for path in sorted(path for path in RECIPE.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(RECIPE)}\0".encode() + path.read_bytes() + b"\0")
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}"


def ensure(machine: Machine) -> str:
    """The image's name; built (about a minute, needs a Debian mirror) unless it exists. Images of older recipes go."""
    wanted = tag()
    have = machine.podman("images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY).split()
    if wanted not in have:
        _build(machine, wanted)
        for old in have:
            # A node that still runs from it keeps it; the next build tries again.
            subprocess.run(["podman", "rmi", old], env=machine.env, cwd=machine.run_dir, capture_output=True)
    return wanted


def _build(machine: Machine, name: str) -> None:
    print("building the nodes' image (once; about a minute)", flush=True)
    root = machine.state / "image-root"
    shutil.rmtree(root, ignore_errors=True)
    packages = ",".join((RECIPE / "packages").read_text().split())
    run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root))
    # Modes and owners are set here: a checkout's depend on the umask and on the user.
    rsync = ("rsync", "-r", "--perms", "--chmod=D755,F644", "--chown=root:root")
    run(*rsync, f"{RECIPE}/rootfs/", f"{root}/")
    run(*rsync, f"{RECIPE}/finish", f"{root}/")
    run("chroot", str(root), "sh", "/finish")
    changes = [argument for change in CHANGES for argument in ("--change", change)]
    with subprocess.Popen(["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
        command = ["podman", "import", "--quiet", *changes, "-", name]
        imported = subprocess.run(
            command, stdin=tar.stdout, env=machine.env, cwd=machine.run_dir, capture_output=True, text=True
        )
    if tar.returncode or imported.returncode:
        raise NodesError(f"the image could not be imported into podman: {imported.stderr.strip()}")
    shutil.rmtree(root)
