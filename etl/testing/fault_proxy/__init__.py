"""A proxy in front of any HTTP server, which makes one chosen request go wrong; it needs Linux.

    with FaultProxy("http://127.0.0.1:4443") as proxy:
        job = subprocess.Popen(["etl", "run", "job.toml"], env={**os.environ, "STORAGE_EMULATOR_HOST": proxy.url})
        proxy.at(7, Kill(lambda: job.pid, when="after"))   # the server did it, and nobody heard
        job.wait()                                         # -9; now run it again, and compare

To try every request of a job, let N grow until `proxy.log` of a run that was not struck is shorter than N.
"""

from etl.testing.fault_proxy.counter import Counter, Seen
from etl.testing.fault_proxy.faults import (
    Answer,
    CutRequest,
    Damage,
    Delay,
    Drop,
    Fault,
    Kill,
    Stop,
    Truncate,
)
from etl.testing.fault_proxy.messages import Head
from etl.testing.fault_proxy.proxy import FaultProxy

__all__ = [
    "Answer",
    "Counter",
    "CutRequest",
    "Damage",
    "Delay",
    "Drop",
    "Fault",
    "FaultProxy",
    "Head",
    "Kill",
    "Seen",
    "Stop",
    "Truncate",
]
