"""Real traffic through a real Envoy while the split changes a thousand times, each change acked before the next.

Clients, backends and the Envoy are on addresses of their own in 127.0.0.0/8; the programs are those of the tests
(tests/e2e/peers). A TCP connection counts as closed when it ends for any reason.
"""

import os
import time

from common import PATIENCE, Server, now, row, say
from mesh_common import Envoy, Lines, allow_files

SHIFTS = int(os.environ.get("MESH_SHIFTS", "1000"))
CLIENTS = 2000
LONG = 200
GATEWAY, LEGACY, TARGET, FIRST = "127.58.0.1", "127.58.0.11", "127.58.0.21", "127.59.0.1"
PORT = 8080
STEPS = [0, 1, 500, 3000, 7000, 9999, 10000]


def traffic_plan(protocol):
    return f"""apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: {{ name: bench }}
spec:
  zones: [{{ name: bench.example. }}]
  clients: [{{ networks: [127.0.0.0/8], plane: mesh }}]
  steps: [{{ split: 1%, bake: 10m }}, {{ split: 100%, bake: 1h }}]
  services:
    - name: web
      hosts: [web.bench.example]
      address: 10.255.58.10
      ports: [{{ name: main, port: {PORT}, protocol: {protocol} }}]
      legacy: {{ endpoints: [{LEGACY}] }}
      target: {{ endpoints: [{TARGET}] }}
"""


def program(name, *args):
    place = os.path.join(os.path.dirname(__file__), "../../tests/e2e/peers", name)
    return Lines([os.environ["CROSSFADE_TEST_MESH_PYTHON"], place, *args])


class World:
    """A controller, an Envoy as its gateway, and both backends."""

    def __init__(self, protocol):
        self.protocol, self.server = protocol, Server([traffic_plan(protocol)])

    def __enter__(self):
        self.server.__enter__()
        self.client = self.server.client()
        self.backends = program("backends.py", self.protocol, f"legacy={LEGACY}:{PORT}", f"target={TARGET}:{PORT}")
        self.backends.answer(PATIENCE)
        self.envoy = Envoy(f"127.0.0.1:{self.server.xds}", "edge", "gateway", GATEWAY)
        deadline = now() + PATIENCE
        while not any(sink["id"] == "edge" and sink["lag"] == 0 for sink in self.client.get("/v1/sinks")["sinks"]):
            if now() > deadline:
                raise RuntimeError("the Envoy does not come")
            time.sleep(0.05)
        time.sleep(1)
        return self

    def __exit__(self, *error):
        self.envoy.stop()
        self.backends.__exit__()
        self.server.__exit__(*error)

    def load(self, clients):
        return program("load.py", self.protocol, f"{GATEWAY}:{PORT}", FIRST, str(clients), f"web.bench.example:{PORT}")

    def shift(self, bp):
        self.client.post("/v1/plans/bench/shift", {"service": "web", "splitBp": bp})
        deadline = now() + PATIENCE
        while True:
            mesh = self.client.get("/v1/plans/bench/status")["services"][0]["planes"]["mesh"]
            if mesh["ackedBp"] == mesh["intendedBp"] == bp:
                return
            if now() > deadline:
                raise RuntimeError(f"not acked: {mesh}")
            time.sleep(0.002)

    def many(self):
        begun = now()
        for n in range(1, SHIFTS + 1):
            self.shift(n * 3701 % 10_001)
        return now() - begun


def sides(load):
    told = load.ask("sweep")
    if told["failures"]:
        raise RuntimeError(f"a sweep failed: {told['errors']}")
    return [side == "target" for side in told["sides"]]


def requests():
    with World("http") as world, world.load(CLIENTS) as constant, world.load(CLIENTS) as load:
        constant.ask("start 8")
        back = apart = 0
        way = []
        for bp in STEPS:
            world.shift(bp)
            way.append(sides(load))
            if len(way) > 1:
                back += sum(a and not b for a, b in zip(way[-2], way[-1]))
        for bp, before in reversed(list(zip(STEPS, way))):
            world.shift(bp)
            apart += sum(a != b for a, b in zip(before, sides(load)))
        shares = ", ".join(f"{bp} bp: {sum(side)}" for bp, side in zip(STEPS, way))
        say(f"of {CLIENTS} addresses on target: {shares}")
        constant.ask("report")
        took = world.many()
        told = constant.ask("stop")
    say(f"{SHIFTS} shifts in {took:.1f} s, {told['requests']} requests, {told['errors']}")
    row(f"mesh: {SHIFTS} shifts through Envoy under load", "0 failed requests",
        f"{told['failures']} of {told['requests']} failed", told["failures"] == 0 and told["requests"] > SHIFTS)
    row(f"mesh: {CLIENTS} addresses through Envoy, up and down", "0 backward, exact retrace",
        f"{back} backward, {apart} off the path", back + apart == 0)


def connections():
    with World("tcp") as world, world.load(LONG) as load:
        load.ask(f"start {LONG}")
        took = world.many()
        told = load.ask("stop")
    say(f"{SHIFTS} shifts in {took:.1f} s, {told['requests']} lines, {told['errors']}")
    row(f"mesh: {SHIFTS} TCP shifts, {LONG} long connections", "0 closed",
        f"{told['closed']} closed, {told['open']} open, {told['failures']} failed",
        told["closed"] + told["failures"] == 0 and told["open"] == LONG)


def main():
    allow_files()
    requests()
    connections()


main()
