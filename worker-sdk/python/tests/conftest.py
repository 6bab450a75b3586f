import pytest

import hotpair
from hotpair.testing import Pair

PATIENCE = 30


@pytest.fixture(params=["local", "remote"])
def place(request):
    """A pair, and workers of either kind: the same tests run through both."""
    return Place(request.param == "remote")


@pytest.fixture
def local():
    return Place(False)


class Place:
    def __init__(self, remote):
        self.remote = remote
        self.pair = Pair(["work", "done"], ["out"], gateways=remote)

    def worker(self, queue="work"):
        if not self.remote:
            return hotpair.attach(self.pair.space, queue)
        return hotpair.attach_remote(
            self.pair.pki, self.pair.nodes, queue, prefetch=1, patience=PATIENCE
        )

    def send(self, key, text):
        self.pair.deliver("work", key, text)

    def value(self, key, queue="work"):
        return self.pair.object(queue, key)["value"]


def next_of(worker):
    job = worker.claim(PATIENCE)
    assert job is not None, "an object is ready"
    return job
