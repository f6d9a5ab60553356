"""What the project installs: each pin with its hash, all that pyproject.toml asks for, what an advisory says of it."""

import json
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import audit, sbom

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / audit.LOCK


def test_every_pin_has_a_hash() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK.read_text(), flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert len(entries) == len(audit.pins(LOCK)) > 100
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_has_what_pyproject_asks_for() -> None:
    """After a change of the dependencies: make lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in [*project["dependencies"], *extras["analysis"], *extras["dev"]]]
    pinned = audit.pins(LOCK)
    missing = [
        str(one)
        for one in wanted
        if one.name != project["name"]
        and not any(name == canonicalize_name(one.name) and version in one.specifier for name, version in pinned)
    ]
    assert missing == []


LOCKED = "one==1.5 \\\n    --hash=sha256:00\nTwo_Words==2.0 ; python_version < '3.12' \\\n    --hash=sha256:00\n"


def advisory(name: str, **affected: object) -> dict[str, object]:
    package = {"ecosystem": "PyPI", "name": name}
    return {"id": "X-1", "summary": "bad", "affected": [{"package": package, **affected}]}


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (advisory("one", versions=["1.4", "1.5"]), ["one"]),
        (advisory("one", versions=["1.4"]), []),
        (advisory("two-words", versions=["2.0"]), ["two-words"]),
        (advisory("three", versions=["1.5"]), []),
        (advisory("one", ranges=[{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.6"}]}]), ["one"]),
        (advisory("one", ranges=[{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.5"}]}]), []),
        (
            advisory("one", ranges=[{"type": "ECOSYSTEM", "events": [{"introduced": "1"}, {"last_affected": "1.5"}]}]),
            ["one"],
        ),
        (advisory("one", ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}]), []),
        ({**advisory("one", versions=["1.5"]), "withdrawn": "2026-01-01T00:00:00Z"}, []),
    ],
)
def test_an_advisory_applies_to_the_versions_that_it_names(
    tmp_path: Path, known: dict[str, object], found: list[str]
) -> None:
    (tmp_path / "lock").write_text(LOCKED)
    (tmp_path / "one.json").write_text(json.dumps([known]))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("X-1.json", json.dumps(known))
    for name in ("one.json", "all.zip"):
        read = audit.findings(tmp_path / "lock", audit.advisories(tmp_path / name))
        assert [one.package for one in read] == found


@pytest.mark.parametrize("text", ["not JSON", "[1]", '{"id": 1, "affected": [{"package": {"ecosystem": "PyPI"}}]}'])
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(text)
    assert audit.main(str(tmp_path / "a.json")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_bill_of_materials_has_every_pin_with_its_hashes() -> None:
    lock = LOCK.read_text()
    made = json.loads(sbom.bill(lock, {"name": "jarfleet", "version": "1"}))
    assert (made["bomFormat"], made["metadata"]["component"]["name"]) == ("CycloneDX", "jarfleet")
    assert sorted((one["name"], one["version"]) for one in made["components"]) == sorted(audit.pins(LOCK))
    listed = sorted(digest["content"] for one in made["components"] for digest in one["hashes"])
    assert listed == sorted(re.findall(r"sha256:([0-9a-f]{64})", lock))
