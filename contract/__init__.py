"""What controller, modules, nodes and workload agree on: names, statuses, and the type of everything they exchange.

Standard library only, Python 3.8 or later, and nothing else of this project. Every type is a frozen dataclass whose
`from_json` is its one reader and `to_json` its one writer; what is read is checked there.
"""

from .json_records import ContractError

__all__ = ["ContractError"]
