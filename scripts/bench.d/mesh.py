"""Weight changes to thousands of streams, beside go-control-plane's snapshot cache under the same load.

The swarm (xds/examples/swarm) is the load: Delta streams, each on a connection of its own, subscribed by name to
the clusters, endpoint sets and routes of 50 services. A time is from before the command is sent until the ack is
handed to the connection that sends it, of every stream and change. CPU is the server's, by the kernel's account of its threads,
memory its resident set, less that before the streams, after it has come to rest.
"""

import json
import os
import signal
import time

from common import PATIENCE, Server, metrics, now, quantile, row, say
from common import Client
from mesh_common import (Envoy, Snapshot, allow_files, changes, cpu, mesh_plan, probe, quiet, resident, swarm)

STREAMS = int(os.environ.get("MESH_STREAMS", "5000"))
SERVICES = 50
CHANGES = 20
ROLLBACK_STREAMS = 1000
ROLLBACKS = 50
ENVOYS = 3
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"


class Measured:
    """What one server did."""

    def __init__(self, name, pid, load, trigger, base):
        told = load.answer()
        quiet(pid)
        self.memory = (resident(pid) - base) / STREAMS / 1000
        # The first changes warm both sides up.
        load.ask(changes([trigger(n, 1) for n in range(3)]))
        before = cpu(pid)
        self.changes = load.ask(changes([trigger(n % SERVICES, n + 100) for n in range(CHANGES)]))
        self.cpu = (cpu(pid) - before) / CHANGES
        self.p99 = self.changes["all"]["p99"]
        say(f"{name}: {STREAMS} streams served after {told['seconds']:.1f} s, {self.memory:.0f} KB per stream, "
            f"{1e3 * self.cpu / STREAMS:.3f} ms of CPU per stream and change; acked {figures(self.changes['all'])}; "
            f"{self.changes['resources_per_stream']} resources per stream and change; {failures(told, self.changes)}")


def figures(times):
    return ", ".join(f"{name} {times[name]:.0f} ms" for name in ("p50", "p99", "max"))


def failures(*answers):
    found = [answer["failed"] for answer in answers if answer["failed"]]
    return f"streams that ended: {json.dumps(found)}" if found else "no stream ended"


def shift(server):
    def trigger(service, bp):
        body = {"service": f"w{service}", "splitBp": bp}
        return {"to": f"127.0.0.1:{server.api}", "method": "POST", "path": "/v1/plans/bench/shift", "body": body}

    return trigger


def names(server):
    """What a sidecar wants, but for listeners: what the peer has."""
    found = probe(f"127.0.0.1:{server.xds}", "crossfade.role=sidecar")
    found.pop(LISTENER, None)
    count = {url.rsplit(".", 1)[1]: len(names) for url, names in found.items()}
    say(f"each stream: {count}")
    return found


def encodings(server):
    client = server.client()
    client.send(Client.request("GET", "/metrics"))
    scrape = metrics(client.receive()[1])
    client.close()
    return scrape.get("crossfade_xds_encodings_total", float("nan"))


def peer():
    with Snapshot() as snapshot:
        base = resident(snapshot.child.pid)
        with swarm(snapshot.xds, STREAMS, snapshot.names()) as load:
            return Measured("go-control-plane", snapshot.child.pid, load, snapshot.shift, base)


def storm(server, load):
    """A crash; all come back at once when it serves again, with the versions they have."""
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(PATIENCE)
    server.process.stdout.close()
    load.ask(json.dumps({"do": "hold"}))
    server.start()
    server.wait_for_lines()
    told = load.ask(json.dumps({"do": "storm", "trigger": shift(server)(7, 4321)}))
    say(f"back after a crash: all asked within {told['asked_seconds']:.2f} s, {figures(told['all'])} until a change "
        f"made then was acked, {told['resent']} resources resent; {failures(told)}")
    took = told["all"]["max"] / 1e3
    row(f"mesh: {STREAMS} streams reconnect after a crash", "<= 10 s, 0 resent",
        f"{took:.2f} s, {told['resent']} resent", took <= 10 and told["resent"] == 0)


def ours():
    with Server([mesh_plan("bench", SERVICES)]) as server:
        found, pid = names(server), server.process.pid
        base = resident(pid)
        with swarm(f"127.0.0.1:{server.xds}", STREAMS, found, "crossfade.role=sidecar") as load:
            before = encodings(server)
            measured = Measured("crossfade", pid, load, shift(server), base)
            measured.encodings = (encodings(server) - before) / (CHANGES + 3)
            storm(server, load)
    return measured


def large():
    theirs, mine = peer(), ours()
    row(f"mesh: a weight change acked by {STREAMS} streams, p99 of {CHANGES}", "<= 1 s", f"{mine.p99:.0f} ms", mine.p99 <= 1000)
    ratio = mine.p99 / theirs.p99
    row("mesh: the same beside go-control-plane's p99", "<= 0.6 x",
        f"{ratio:.2f} x ({theirs.p99:.0f} ms)", ratio <= 0.6)
    ratio = mine.cpu / theirs.cpu
    row("mesh: server CPU of the same beside go-control-plane's", "<= 0.4 x",
        f"{ratio:.2f} x ({mine.cpu:.2f} s : {theirs.cpu:.2f} s)", ratio <= 0.4)
    row("mesh: resident memory per idle stream", "<= 35 KB",
        f"{mine.memory:.0f} KB (go-control-plane {theirs.memory:.0f} KB)", mine.memory <= 35)
    row("mesh: encodings per changed resource", "1", f"{mine.encodings:.2f}", mine.encodings == 1)


def acked(client, split):
    """Whether everybody has this split of w0, and who is not there."""
    status = client.get("/v1/plans/bench/status")
    service = next(service for service in status["services"] if service["name"] == "w0")
    mesh, sinks = service["planes"]["mesh"], status["sinks"]
    return mesh["ackedBp"] == mesh["intendedBp"] == split and sinks["acked"] == sinks["expected"], sinks


def wait_until_acked(client, split):
    deadline = now() + PATIENCE
    while now() < deadline:
        done, sinks = acked(client, split)
        if done:
            return sinks
        time.sleep(0.001)
    raise RuntimeError(f"not acked: {sinks}")


def rollback():
    """The controller's own word: a rollback is done when every sink has acked it."""
    times, envoys = [], []
    with Server([mesh_plan("bench", SERVICES)]) as server:
        xds, client = f"127.0.0.1:{server.xds}", server.client()
        try:
            envoys += [Envoy(xds, f"envoy-{n}", "gateway", f"127.61.0.{n + 1}") for n in range(ENVOYS)]
            with swarm(xds, ROLLBACK_STREAMS, names(server), "crossfade.role=sidecar") as load:
                load.answer()
                for n in range(ROLLBACKS):
                    client.post("/v1/plans/bench/shift", {"service": "w0", "splitBp": 5000 + n})
                    sinks = wait_until_acked(client, 5000 + n)
                    if sinks["expected"] < ROLLBACK_STREAMS + ENVOYS:
                        raise RuntimeError(f"not everybody is there: {sinks}")
                    begun = now()
                    client.post("/v1/plans/bench/rollback", {"service": "w0"})
                    wait_until_acked(client, 0)
                    times.append(now() - begun)
                    revision = client.get("/v1/plans/bench/status")["revision"]
                    client.post("/v1/plans/bench/resume", {}, revision=revision)
        finally:
            for envoy in envoys:
                envoy.stop()
    p99 = 1e3 * quantile(times, 0.99)
    row(f"mesh: rollback acked by {ROLLBACK_STREAMS} streams and {ENVOYS} Envoys, p99 of {ROLLBACKS}", "<= 1 s",
        f"{p99:.0f} ms (p50 {1e3 * quantile(times, 0.5):.0f} ms)", p99 <= 1000)


def main():
    allow_files()
    large()
    rollback()


main()
