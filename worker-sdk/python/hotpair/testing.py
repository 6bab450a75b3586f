"""A pair in this process, for tests of workers.

>>> import hotpair
>>> from hotpair.testing import Pair
>>> pair = Pair(["calls"], ["sip"])
>>> pair.deliver("calls", b"call-1", b"INVITE")
>>> with hotpair.attach(pair.space, "calls").claim(0) as call:
...     call.set_value(b"up")
...     call.set_timer(3600)
>>> pair.kill_primary()  # what was released is on the other one
>>> pair.object("calls", b"call-1")["value"]
b'up'
>>> pair.advance(3600)
>>> with hotpair.attach(pair.space, "calls").claim(10) as call:
...     assert call.timer_due
"""

from ._native import Pair

__all__ = ["Pair"]
