"""A build of llama.cpp as it is installed on a node: what is sent, and what the node must compute with it first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleet.artifacts.verification_model import VerificationModel


def artifacts(build: Path, destination: str, name: str, device: str, model: VerificationModel) -> list[dict[str, Any]]:
    """Return what brings a build to a node, in the form that the action `push` takes.

    build: its folder on the controller; destination: on the node. device: one that llama-server must name there, or "".
    The node verifies it with a generated model, never with a user's: this runs as root.
    """
    on_node = f"{destination.rpartition('/')[0]}/verify-{model.sha256}.gguf"
    return [
        {
            "name": "model that verifies llama.cpp",
            "src": str(model.path),
            "dest": on_node,
            "sha256": model.sha256,
            "root_owned": True,
        },
        {
            "name": f"llama.cpp {name}",
            "src": str(build),
            "dest": destination,
            "root_owned": True,
            # --version also exits 0 on a processor that lacks its instructions.
            "verify": [
                ["{path}/bin/llama-bench", "-m", on_node, "-p", "16", "-n", "8", "-r", "1", "-o", "jsonl"],
                ["{path}/bin/llama-server", "--list-devices"],
            ],
            "expect": device,
        },
    ]
