"""The program of three peers: a and b are honest members of a hive, and c, compromised, poses as b.

`stranger`, of another run, has the open network and a's and b's node. What each attack got is written to findings.json.
"""

import json
import runpy
import socket
import sys
import time
from dataclasses import replace

from workload import Instance
from workload.client import Unavailable, exchange
from workload.peers import CODE, EPOCH, NONCE, SENDER, Asked, Peer, own_keys

ME = Instance.load()


def posted(to: Peer, sender: str) -> str:
    """What comes of a letter to a peer in somebody's name."""
    message = {"run_id": run_id(to), "sender": sender, "topic": "add", "round": 1, "body": {"content": "forged"}}
    data = json.dumps(message).encode()
    asked = Asked(sender, 1, to.id, "5f", "POST", "/messages", data)
    headers = {SENDER: sender, EPOCH: "1", NONCE: "5f", CODE: asked.code(to.key)}
    return str(exchange(to.url, "POST", "/messages", data, headers, 5).status)


def run_id(to: Peer) -> str:
    """As everybody may ask."""
    return json.loads(exchange(to.url, "GET", "/health", b"", {}, 5).content)["run_id"]


def connects(address: str, port: int) -> str:
    socket.create_connection((address, port), 2).close()
    return "connected"


def tried(attack) -> str:
    try:
        return attack()
    except (OSError, Unavailable) as error:
        return f"refused: {error}"


def main() -> None:
    if ME.id in "ab":
        runpy.run_module("workload", run_name="__main__")
        return
    if ME.id == "c":
        a = Peer.of(ME, "a")
        while tried(lambda: posted(a, "c")) != "200":
            time.sleep(0.2)
        found = {
            "write in its own name": posted(a, "c"),
            "write in b's name with its own key": tried(lambda: posted(replace(a, own_id="b"), "b")),
            "write in b's name with a key that it made": tried(lambda: posted(replace(a, own_id="b", key="00"), "b")),
            "the keys that it has": " ".join(sorted(own_keys())),
            "reach a's node": tried(lambda: connects("10.77.0.11", 22)),
            "reach its own node": tried(lambda: connects("10.77.0.12", 22)),
            "reach its own node's loopback": tried(lambda: connects("127.0.0.1", 22)),
            "reach a past its way": tried(lambda: connects("10.77.0.11", int(sys.argv[1]))),
        }
    else:
        ports = [int(word) for word in sys.argv[1:]]
        found = {}
        for address in ("10.77.0.11", "127.0.0.1"):
            for port in ports:
                peer = Peer("a", f"http://{address}:{port}", "b", "00" * 32)
                found[f"write to {port} of {address} in b's name"] = tried(lambda peer=peer: posted(peer, "b"))
    (ME.dir / "progress.json").write_text("{}")
    (ME.dir / "findings.new").write_text(json.dumps(found))
    (ME.dir / "findings.new").rename(ME.dir / "findings.json")
    time.sleep(900)


main()
