"""199 writers at once, and one who rolls back, each on a connection of its own.

A foreign commit is an append to the log that holds commands of others. The rollback is sent in one
piece with a scrape of the metrics before and one after it, which the API answers in turn: the first
says how many appends there were when the rollback was received. What is appended while the
controller waits for a core between the two counts as well, so the figure is an upper bound.
"""

import collections
import json
import math
import os
import threading

from common import Client, Server, metrics, plan, row, say

WRITERS = 199
SERVICES = 10
ROLLBACKS = 50
# Of each writer at most, so that no two shifts of a service name the same split.
WRITES = 500
# BATCH_MAX of controller/src/core/queue.rs: the most records of one append.
BATCH = 32


def write(address, number, stop, acknowledged, other):
    client = Client(address)
    service, first = f"w{number % SERVICES}", number // SERVICES * WRITES
    for n in range(WRITES):
        if stop.is_set():
            break
        reason = f"writer {number} command {n}"
        body = {"service": service, "splitBp": first + n + 1, "reason": reason}
        status, answer = client.call("POST", "/v1/plans/busy/shift", body)
        (acknowledged if status == 200 and answer["changed"] else other).append((reason, answer))
    client.close()


def scraped(client):
    status, text = client.receive()
    numbers = metrics(text)
    appends = numbers['crossfade_appends_total{outcome="done"}']
    return appends, numbers["crossfade_log_revision"], numbers["crossfade_commands_waiting"]


def roll_back(client, n):
    """Foreign commits between the rollback's arrival and its own, at most; who waited then."""
    client.post("/v1/plans/other/shift", {"split": "50%", "reason": f"up {n}"})
    scrape = Client.request("GET", "/metrics")
    body = {"reason": f"back {n}"}
    client.send(scrape, Client.request("POST", "/v1/plans/other/rollback", body), scrape)
    before, _, waiting = scraped(client)
    status, text = client.receive()
    done = Client.expect(status, json.loads(text))
    after, head, _ = scraped(client)
    # What was appended after the rollback's own record did not stand before it.
    foreign = after - before - 1 - math.ceil((head - done["revision"]) / BATCH)
    body = {"reason": f"on {n}"}
    client.post("/v1/plans/other/resume", body, revision=done["revision"])
    return done["changed"], foreign, waiting


def main():
    acknowledged, other, stop = [], [], threading.Event()
    plans = [plan("busy", SERVICES, "busy.example"), plan("other", 1, "other.example")]
    with Server(plans) as server:
        # 200 clients must not take the cores of what they measure.
        os.nice(19)
        threads = [
            threading.Thread(target=write, args=(server.tcp, n, stop, acknowledged, other))
            for n in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        client = Client(server.tcp)
        try:
            rolled = [roll_back(client, n) for n in range(ROLLBACKS)]
            busy = sum(thread.is_alive() for thread in threads)
        finally:
            stop.set()
        for thread in threads:
            thread.join()
        entries = client.history("busy")
        backs = [entry for entry in client.history("other") if entry["what"].startswith("rollback")]
        verified = client.get("/v1/audit/verify")
    foreign = collections.Counter(int(most) for _, most, _ in rolled)
    times = collections.Counter(entry["reason"] for entry in entries)
    reasons = [reason for reason, _ in acknowledged]
    lost = sum(times[reason] == 0 for reason in reasons)
    doubled = sum(count > 1 for count in times.values())
    say(f"{len(acknowledged)} commands acknowledged, {len(other)} not, {busy} writers still at it; "
        f"commands waiting when a rollback came: {max(w for _, _, w in rolled):.0f} at most; "
        f"foreign commits before a rollback: {dict(sorted(foreign.items()))}; audit {verified}")
    committed = sum(changed for changed, _, _ in rolled)
    always = committed == ROLLBACKS == len(backs) and busy == WRITERS and not other
    row(f"writers: {ROLLBACKS} rollbacks among {WRITERS} writers", "always; <= 1 foreign commit",
        f"{committed} of {ROLLBACKS}; <= 1 in {foreign[0] + foreign[1]}, most {max(foreign)}", always and max(foreign) <= 1)
    row(f"writers: {len(reasons)} commands in the log", "0 lost, 0 doubled",
        f"{lost} lost, {doubled} doubled", lost + doubled == 0 and len(reasons) >= WRITERS)


main()
