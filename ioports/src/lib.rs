//! I/O ports: packets in, packets out, at the edge of the region.
