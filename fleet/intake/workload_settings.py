"""Which instances of an experiment know each other, and a check of the minds' settings before anything is sent."""

from __future__ import annotations

from pathlib import Path

from placement import Experiment, Fault, Instance
from workload.settings import Settings
from workload.this_instance import ConfigError
from workload.this_instance import Instance as OnNode


class Peers:
    """Which instances of an experiment know of each other, by id."""

    def __init__(self, experiment: Experiment) -> None:
        self.all = tuple(instance.id for instance in experiment.instances)
        self.observers = experiment.observers

    def known_to(self, id: str) -> tuple[str, ...]:
        """Return the instances that `id` knows of: all of the run, itself included, except those that observe it."""
        observers = self.observers.get(id)
        return tuple(other for other in self.all if other not in observers) if observers else self.all

    def of(self, instance: Instance) -> list[str]:
        """Return the peers that an instance may talk to; never observed ones, whose port serves the stream relay."""
        if instance.network == "isolated":
            return []
        return [id for id in self.all if id != instance.id and id not in self.observers]


def workload_faults(experiment: Experiment, own_command: bool, own_code: bool) -> list[Fault]:
    """Return the faults in what the instances are to run: a command needs no code, but code needs a command.

    Without a command they run the built-in workload; its settings are checked here as the workload checks them on the
    node.
    """
    source = str(experiment.path)
    if own_command or experiment.command:
        return []
    if own_code:
        problem = "given without a command; add experiment_command, or command in the experiment file"
        return [Fault("experiment_code_src", "", problem)]
    faults, peers = [], Peers(experiment)
    for instance in experiment.instances:
        on_node = OnNode(
            run_id="",
            id=instance.id,
            dir=Path(),
            llama_url="",
            peers=dict.fromkeys(peers.of(instance), "http://peer"),
            observes=dict.fromkeys(instance.observes, "http://relay"),
            instances=peers.known_to(instance.id),
            workload=dict(experiment.workload),
            config=dict(instance.config),
            context_size=instance.context_size,
        )
        try:
            Settings.of(on_node)
        except ConfigError as error:
            faults += [Fault(source, f"instances.{instance.id}", problem) for problem in str(error).split("; ")]
    return faults
