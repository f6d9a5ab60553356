"""What runs on a node beside an instance's llama-server.

Standard library only, Python 3.8 or later. The built-in workload is `python3 -m workload`; a program of the user's own
finds this package on its PYTHONPATH and starts with

    import workload

    instance = workload.Instance.load()
    reply = workload.llama.chat(instance.llama_url, [{"role": "user", "content": "Who are you?"}], max_tokens=48)
    database = workload.database.open(instance.database)
    with database.transaction() as connection:
        connection.execute("INSERT INTO notes ...")
"""

from . import database, llama
from .this_instance import ConfigError, Instance

__all__ = ["ConfigError", "Instance", "database", "llama"]
