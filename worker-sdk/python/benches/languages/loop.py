"""Claims, changes and commits one object as often as a line of its input says; answers with the nanoseconds."""

import struct
import sys
import time

import hotpair

worker = hotpair.attach(sys.argv[1], sys.argv[2])
number = struct.Struct("<Q")


def block(count):
    for _ in range(count):
        with worker.claim(0) as job:
            value = job.value_mut(8)
            number.pack_into(value, 0, number.unpack_from(value)[0] + 1)
            job.stay_ready()


def plain(count):
    for _ in range(count):
        job = worker.claim(0)
        job.set_value(number.pack(1))
        job.stay_ready()
        job.commit()


def empty(count):
    for _ in range(count):
        job = worker.claim(0)
        job.stay_ready()
        job.commit()


for line in sys.stdin:
    kind, count = line.split()
    begun = time.perf_counter_ns()
    {"block": block, "plain": plain, "empty": empty}[kind](int(count))
    print(time.perf_counter_ns() - begun, flush=True)
