"""Time and memory of `crossfade check` for a large plan."""

import os
import tempfile

from common import BINARY, now, plan, row, say

SERVICES = 10_000
ROUNDS = 5


def main():
    times, peaks = [], []
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        text = plan("large", SERVICES, "large.example", after=True)
        file.write(text)
        file.flush()
        for _ in range(ROUNDS):
            begun = now()
            child = os.posix_spawn(BINARY, [BINARY, "check", file.name], os.environ,
                                   file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
            _, status, usage = os.wait4(child, 0)
            times.append(now() - begun)
            peaks.append(usage.ru_maxrss / 1024)
            if status:
                raise RuntimeError(f"the plan is not valid: {status}")
    say(f"{len(text)} bytes; {', '.join(f'{took:.3f} s' for took in times)}")
    row(f"check: {SERVICES} services, slowest of {ROUNDS}", "<= 1 s", f"{max(times):.2f} s",
        max(times) <= 1)
    row(f"check: {SERVICES} services, peak memory", "<= 200 MB", f"{max(peaks):.0f} MiB",
        max(peaks) * 1.048576 <= 200)


main()
