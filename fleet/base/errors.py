"""The errors of this package. Each message names the file or key and what to do: plugins can show it unchanged."""


class FleetError(Exception):
    """An error that the user can fix. The base of all below: catch this class to handle them all."""


class RunError(FleetError):
    """A run's folder is missing, exists already, or is damaged, or a run id is not valid."""


class SearchError(FleetError):
    """No node has a run or instance of that name."""


class MergeError(FleetError):
    """The merged database itself cannot be read or written (a bad source is reported instead, never raised)."""


class ExportError(FleetError):
    """The merged database cannot be exported to files."""


class ReleaseError(FleetError):
    """The code cannot be staged as a release."""


class ModelError(FleetError):
    """A model file is missing, not a GGUF file, or not the one that was declared."""


class PlanFileError(FleetError):
    """A file is not a saved plan, or its plan cannot be applied."""


class PlanChanged(PlanFileError):
    """Something that a saved plan depended on has changed. `changes` names each, with before and after."""

    def __init__(self, source: str, changes: list[str]) -> None:
        self.changes = changes
        advice = "plan anew, or mend what changed"
        super().__init__("\n".join([f"{source}: the plan does not hold any more; {advice}:", *changes]))


class SourceError(FleetError):
    """The source archive of llama.cpp cannot be obtained, or is not the one that was declared."""


class SigningError(FleetError):
    """A manifest cannot be signed, or its signature is not valid."""


class Unsigned(SigningError):
    """A manifest has no signature."""


class CheckpointError(FleetError):
    """A checkpoint does not exist, or cannot be used."""


class ResumeRejected(FleetError):
    """A run cannot be resumed. `reasons` names everything that stands against it."""

    def __init__(self, run_id: str, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("\n".join([f"{run_id} cannot be resumed; nothing was changed:", *reasons]))


class ControlError(FleetError):
    """The control loop cannot be started, stopped, or asked."""


class ReplayRejected(FleetError):
    """A run cannot be repeated as recorded. `differences` names everything that differs from its record."""

    def __init__(self, run_id: str, differences: list[str]) -> None:
        self.differences = differences
        super().__init__("\n".join([f"{run_id} cannot be run again as it was; nothing was changed:", *differences]))
