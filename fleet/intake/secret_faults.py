"""Secrets: where they must not stand, and whether those that instances ask for were given.

An experiment file is recorded, signed and repeated word for word, so it may name a secret and never hold one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fleet.base.addresses import holds_secret, redacted
from placement import Experiment, Fault


def secret_faults(experiment: Experiment, given: Collection[str]) -> Iterator[Fault]:
    """Yield the faults of an experiment. given: the names of the secrets in `experiment_secrets`."""
    file = str(experiment.path)
    for key, text in _texts(experiment.raw):
        if holds_secret(text):
            problem = (
                f"the address {redacted(text)} holds a password or token, and every record would hold it too;"
                " for a model give the whole address as default_model, in a file of ansible-vault's"
            )
            yield Fault(file, key, problem)
    for instance in experiment.instances:
        for name in instance.secrets:
            if name not in given:
                problem = f"{name} was not given; put it into experiment_secrets, in a file of ansible-vault's"
                yield Fault(file, f"instances.{instance.id}.secrets", problem)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            named = inner.get("id", number) if isinstance(inner, Mapping) else number
            yield from _texts(inner, f"{key}.{named}")
