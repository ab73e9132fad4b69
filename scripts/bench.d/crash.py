"""SIGKILL at random moments while four writers shift; then it starts again over the same log.

What was under way unanswered is sent again with its idempotency key, as a client would. Every
command that was acknowledged, at once or on the second try, must be in the history exactly once.
"""

import collections
import os
import random
import signal
import socket
import threading
import time

from common import Client, PATIENCE, Server, addresses, asker, now, plan, question, quantile, row, say

CRASHES = 300
WRITERS = 4
# The most of a writer's time before a kill: some ten commands.
TIME_MAX = 0.06
ASKED = question("w0.bench.example")


class Writer:
    """Shifts a service of its own by one basis point after the other."""

    def __init__(self, number):
        self.service, self.count = f"w{number}", 0
        self.acknowledged, self.pending = [], None

    def step(self, client):
        if self.pending is None:
            self.count += 1
            self.pending = f"{self.service}-{self.count}"
        body = {"service": self.service, "splitBp": self.count % 10_000 + 1, "reason": self.pending}
        client.post("/v1/plans/bench/shift", body, key=self.pending)
        self.acknowledged.append(self.pending)
        self.pending = None

    def run(self, path):
        try:
            client = Client(path)
            while True:
                self.step(client)
        except (OSError, ValueError):
            return


def wait_for_dns(server, begun):
    sock = asker(server.dns)
    sock.settimeout(0.05)
    while now() - begun < PATIENCE:
        try:
            sock.send(ASKED)
            if addresses(sock.recv(512), ASKED):
                return now() - begun
        except OSError:
            time.sleep(0.001)
    raise RuntimeError("no DNS answer")


def wait_for_api(server, begun):
    while now() - begun < PATIENCE:
        try:
            client = server.client()
            client.send(Client.request("GET", "/readyz"))
            if client.receive()[0] == 200:
                return client, now() - begun
        except OSError:
            pass
        time.sleep(0.001)
    raise RuntimeError("the API is not ready")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def splits(client):
    status = client.get("/v1/plans/bench/status")
    return {service["name"]: service["splitBp"] for service in status["services"]}


def crash(server, writers):
    threads = [threading.Thread(target=writer.run, args=(server.unix,)) for writer in writers]
    for thread in threads:
        thread.start()
    time.sleep(random.uniform(0, TIME_MAX))
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(PATIENCE)
    server.process.stdout.close()
    for thread in threads:
        thread.join()


def main():
    random.seed(1)
    writers = [Writer(n) for n in range(WRITERS)]
    times, unverified, wrong, under_way, answered_late = [], 0, 0, 0, 0
    text = plan("bench", WRITERS, "bench.example")
    server = Server([text], api=free_port(), dns=free_port())
    with server:
        for n in range(CRASHES):
            crash(server, writers)
            begun = now()
            server.start()
            dns = wait_for_dns(server, begun)
            client, api = wait_for_api(server, begun)
            times.append(max(dns, api))
            unverified += client.call("GET", "/v1/audit/verify")[0] != 200
            under_way += sum(writer.pending is not None for writer in writers)
            present = splits(client)
            for writer in writers:
                # The state says the last command that was acknowledged, or the one under way.
                counts = {writer.count, writer.count - (writer.pending is not None)}
                expected = {count % 10_000 + 1 if count else 0 for count in counts}
                wrong += present[writer.service] not in expected
                if writer.pending is not None:
                    body = {"service": writer.service, "splitBp": writer.count % 10_000 + 1,
                            "reason": writer.pending}
                    done = client.post("/v1/plans/bench/shift", body, key=writer.pending)
                    answered_late += done["repeated"]
                    writer.acknowledged.append(writer.pending)
                    writer.pending = None
            client.close()
            if n % 50 == 49:
                say(f"{n + 1} crashes, {sum(len(w.acknowledged) for w in writers)} commands")
        client = server.client()
        found = collections.Counter(entry["reason"] for entry in client.history("bench"))
    acknowledged = [reason for writer in writers for reason in writer.acknowledged]
    lost = sum(found[reason] == 0 for reason in acknowledged) + wrong
    doubled = sum(count > 1 for count in found.values())
    say(f"{len(acknowledged)} commands; {under_way} were under way at a kill, of which "
        f"{answered_late} were in the log; serving again: p50 {quantile(times, 0.5):.3f} s, "
        f"p99 {quantile(times, 0.99):.3f} s, max {max(times):.3f} s")
    row(f"crash: {CRASHES} kills, {len(acknowledged)} commands", "0 lost, 0 doubled, audit verifies",
        f"{lost} lost, {doubled} doubled, {unverified} audits failed",
        lost + doubled + unverified == 0 and len(acknowledged) >= CRASHES)
    row("crash: serving again, slowest", "<= 1 s", f"{max(times):.2f} s", max(times) <= 1)


main()
