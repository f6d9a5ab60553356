"""No secret of an address gets into a record or a message."""

import pytest

from fleet.artifacts.models import origin
from fleet.base.addresses import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/m.gguf", "https://host/m.gguf"),
        ("https://host/m.gguf?token=secret", "https://host/m.gguf"),
        ("https://host/m.gguf#secret", "https://host/m.gguf"),
        ("ssh://git@host:22/x.git", "ssh://host:22/x.git"),
        (
            "fatal: 'https://u:secret@host/x?a=secret': no, and https://host/y",
            "fatal: 'https://host/x': no, and https://host/y",
        ),
        ("https://host/a@b.gguf", "https://host/a@b.gguf"),
        ("/a/path?not=an#address", "/a/path?not=an#address"),
        ("file:///srv/m.gguf", "file:///srv/m.gguf"),
    ],
)
def test_user_password_query_and_fragment_are_taken_out(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


def test_the_manifest_gets_a_models_address_without_its_token() -> None:
    declared = {"url": "https://host/m.gguf?token=secret", "sha256": "a" * 64}
    assert origin(declared) == {"url": "https://host/m.gguf"}
