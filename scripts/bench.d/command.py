"""A shift or rollback through the API, answered and durable, against one bare SQLite commit.

One keep-alive connection on the unix socket. After each command a row of the same size is committed
to a database of its own beside the log, with the log's settings; only the ratio means something.
"""

import os
import sqlite3

from common import Server, now, plan, quantile, row, say

ROUNDS = 1000
WARM_UP = 50
# The mean size of the records of shifts of this plan, in bytes, as the log has them.
RECORD = 305


def bare(path):
    """The settings of controller/src/store/sqlite/database.rs."""
    base = sqlite3.connect(path, isolation_level=None)
    for setting in ["locking_mode=EXCLUSIVE", "synchronous=EXTRA", "journal_mode=DELETE"]:
        base.execute(f"PRAGMA {setting}").fetchall()
    base.execute("CREATE TABLE log (revision INTEGER PRIMARY KEY, bytes BLOB) STRICT")
    return base


def timed(work):
    begun = now()
    work()
    return now() - begun


def main():
    shifts, rollbacks, commits = [], [], []
    with Server([plan("bench", 2, "bench.example")]) as server:
        client = server.client()
        base = bare(os.path.join(server.data, "bare.db"))
        post = lambda verb, body: client.post(f"/v1/plans/bench/{verb}", body)
        commit = lambda: base.execute("INSERT INTO log (bytes) VALUES (?)", (os.urandom(RECORD),))
        for n in range(WARM_UP + ROUNDS):
            split = {"service": "w0", "splitBp": n % 9999 + 1, "reason": f"round {n}"}
            took = [
                timed(lambda: post("shift", split)),
                timed(commit),
                timed(lambda: post("rollback", {"service": "w0", "reason": f"round {n}"})),
                timed(commit),
            ]
            revision = client.get("/v1/plans/bench/status")["revision"]
            client.post("/v1/plans/bench/resume", {}, revision=revision)
            if n >= WARM_UP:
                shifts.append(took[0])
                rollbacks.append(took[2])
                commits += [took[1], took[3]]
        base.close()
    say(f"{'':<14}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}")
    for name, times in [("shift", shifts), ("rollback", rollbacks), ("bare commit", commits)]:
        figures = [quantile(times, 0.5), quantile(times, 0.99), max(times)]
        say(f"{name:<14}" + "".join(f"{1e3 * figure:>10.3f}" for figure in figures))
    for name, times in [("shift", shifts), ("rollback", rollbacks)]:
        p50, p99 = (quantile(times, share) / quantile(commits, share) for share in (0.5, 0.99))
        row(f"command: {name}, p99 of {ROUNDS}", "<= 3 x bare commit",
            f"{p99:.2f} x (p50 {p50:.2f} x)", p99 <= 3)


main()
