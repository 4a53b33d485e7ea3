#!/usr/bin/env python3
"""A bad cable, where the kernel has no netem: passes frames on between two taps, both ways.

    relay.py TAP TAP LOSS DELAY REORDER

LOSS: the part of frames that vanish. DELAY: seconds that each takes; but for REORDER of them, which
overtake the others."""
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


def open_tap(name):
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def relay(taps, loss, delay, reorder):
    dice, waiting, count = random.Random(1), [], 0
    print("up", flush=True)
    while True:
        patience = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select(taps, [], [], patience)
        now = time.monotonic()
        for tap in readable:
            frame = os.read(tap, 65536)
            if dice.random() >= loss:
                due = now if dice.random() < reorder else now + delay
                heapq.heappush(waiting, (due, count, taps[1 - taps.index(tap)], frame))
                count += 1
        while waiting and waiting[0][0] <= now:
            _, _, tap, frame = heapq.heappop(waiting)
            try:
                os.write(tap, frame)
            except OSError:  # full, as a switch may be
                pass


if __name__ == "__main__":
    relay([open_tap(name) for name in sys.argv[1:3]], *map(float, sys.argv[3:]))
