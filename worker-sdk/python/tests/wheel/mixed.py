"""Adds the messages of each object to what it counts, until it is killed: mixed.py SPACE QUEUE. One of three; see mixed.rs."""

import struct
import sys

import hotpair

worker = hotpair.attach(sys.argv[1], sys.argv[2])
while (job := worker.claim()) is not None:
    with job:
        value = job.value_mut(32)
        counts = list(struct.unpack("<4Q", value))
        counts[0] += len(job.messages)
        counts[1] += 1
        struct.pack_into("<4Q", value, 0, *counts)
