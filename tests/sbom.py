"""`make sbom`: requirements.lock as a CycloneDX bill of materials, each package with its version and hashes."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from tests.audit import LOCK, PIN

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill(lock: str, project: dict[str, str]) -> str:
    """Return the bill of materials of a lock's text, as JSON; the same for the same lock but for its serial number."""
    bom = Bom()
    root = bom.metadata.component = Component(
        name=project["name"], version=project["version"], type=ComponentType.APPLICATION, bom_ref=project["name"]
    )
    starts = [*PIN.finditer(lock)]
    for pin, following in zip(starts, [*starts[1:], None], strict=True):
        name, version = canonicalize_name(pin[1]), pin[2]
        hashes = HASH.findall(lock, pin.end(), following.start() if following else len(lock))
        component = Component(
            name=name, version=version, type=ComponentType.LIBRARY, bom_ref=f"{name}=={version}",
            purl=PackageURL("pypi", name=name, version=version),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in hashes],
        )  # fmt: skip
        bom.components.add(component)
    bom.register_dependency(root, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def main(target: Path) -> None:
    """Write the bill of materials of this clone."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    target.parent.mkdir(exist_ok=True)
    target.write_text(bill(LOCK.read_text(), project) + "\n")
    print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
