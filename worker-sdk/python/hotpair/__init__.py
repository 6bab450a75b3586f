"""Workers of hotpair in Python.

A worker claims a ready object, works on it in place and commits; what it emits leaves when the back-up has the commit. Leaving a
``with`` block commits; an exception gives the object back.

>>> import struct
>>> import hotpair
>>> from hotpair.testing import Pair
>>> pair = Pair(["calls"], ["sip"])  # stands in for a running pair
>>> pair.deliver("calls", b"call-1", b"INVITE")
>>> worker = hotpair.attach(pair.space, "calls")
>>> with worker.claim() as call:
...     for message in call.messages:
...         assert message.payload == b"INVITE"  # read in place
...         value = call.value_mut(8)  # a private copy, changed in place; zeros in a new object
...         answered, = struct.unpack_from("<Q", value)
...         struct.pack_into("<Q", value, 0, answered + 1)
...         call.answer("sip", message, b"answer %d" % (answered + 1))
...     call.set_timer(32)
>>> pair.next_packet("sip")
('sip', ('127.0.0.1', 5060), b'answer 1')
"""

from os import PathLike, fspath

from ._native import (
    KEY_BYTES_MAX,
    Conflict,
    Error,
    Job,
    KeyTaken,
    Message,
    Misuse,
    NoRoom,
    NoSuchName,
    NotCommitted,
    NotTaken,
    Other,
    Unknown,
    Worker,
)

__all__ = [
    "KEY_BYTES_MAX",
    "Conflict",
    "Error",
    "Job",
    "KeyTaken",
    "Message",
    "Misuse",
    "NoRoom",
    "NoSuchName",
    "NotCommitted",
    "NotTaken",
    "Other",
    "Unknown",
    "Worker",
    "attach",
    "attach_remote",
]


def attach(space: str, queue: str) -> Worker:
    """A worker of ``queue`` in the region ``space`` of this host, as ``hotpair status`` calls it.

    >>> import hotpair
    >>> hotpair.attach("no.such.region", "calls")
    Traceback (most recent call last):
        ...
    hotpair.NoSuchName: cannot attach to the space "no.such.region": no region at /dev/shm/hotpair.no.such.region
    """
    return Worker.attach(space, queue)


def attach_remote(
    pki: str | PathLike[str],
    nodes: str,
    queue: str,
    *,
    prefetch: int = 0,
    patience: float = 0.0,
) -> Worker:
    """A worker of another host.

    ``pki`` is the directory with the certificate ``worker``. ``nodes`` names both nodes and the addresses of their gateways. A call
    waits for ``patience`` seconds for an answer; zero is the usual.

    >>> import hotpair
    >>> from hotpair.testing import Pair
    >>> pair = Pair(["calls"], gateways=True)
    >>> worker = hotpair.attach_remote(pair.pki, pair.nodes, "calls")  # node-a=10.0.0.1:7400;node-b=10.0.0.2:7400
    >>> pair.deliver("calls", b"a", b"hello")
    >>> with worker.claim() as job:
    ...     job.set_value(job.messages[0].payload)
    >>> pair.object("calls", b"a")["value"]
    b'hello'
    """
    return Worker.attach_remote(fspath(pki), nodes, queue, prefetch=prefetch, patience=patience)
