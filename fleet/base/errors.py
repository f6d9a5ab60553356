"""The faults of this package. Each message names the file or key and what to do: a plugin can pass it on as it is."""


class FleetError(Exception):
    """A fault that the user can mend. The base of all below: catch this one to map them once."""


class RunError(FleetError):
    """A run's folder is missing, taken, damaged, or its id is not one."""


class SearchError(FleetError):
    """No run or instance of that name is on any node."""


class MergeError(FleetError):
    """The merged database itself cannot be read or written (a bad source is reported instead, never raised)."""


class ExportError(FleetError):
    """The merged database cannot be written as files."""


class ReleaseError(FleetError):
    """The code cannot be staged as a release."""


class ModelError(FleetError):
    """A model file is missing, not a GGUF file, or not the one that was declared."""


class PlanFileError(FleetError):
    """A file is no saved plan, or the plan in it cannot be applied."""


class PlanChanged(PlanFileError):
    """Something that a saved plan depended on has changed. `changes` names each, with before and after."""

    def __init__(self, source: str, changes: list[str]) -> None:
        self.changes = changes
        advice = "plan anew, or mend what changed"
        super().__init__("\n".join([f"{source}: the plan does not hold any more; {advice}:", *changes]))


class SourceError(FleetError):
    """The source archive of llama.cpp cannot be had or is not the one that was declared."""


class SigningError(FleetError):
    """A manifest cannot be signed, or its signature does not hold."""


class Unsigned(SigningError):
    """A manifest has no signature."""


class ReplayRejected(FleetError):
    """A run cannot be repeated as it was. `differences` names each thing that is not as its record says."""

    def __init__(self, run_id: str, differences: list[str]) -> None:
        self.differences = differences
        super().__init__("\n".join([f"{run_id} cannot be run again as it was; nothing was changed:", *differences]))
