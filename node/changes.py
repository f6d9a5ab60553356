"""What an operation changes, as Ansible shows a diff."""

from __future__ import annotations

from typing import Dict, NamedTuple


class Change(NamedTuple):
    """A file that differs from what it should be, as Ansible shows a diff."""

    path: str
    before: str
    after: str

    def to_diff(self) -> Dict[str, str]:
        """As an item of a module's `diff`."""
        return {"before_header": self.path, "after_header": self.path, "before": self.before, "after": self.after}
