"""What the figures of the mesh share: plans, the swarm, Envoys, and what the kernel says of a process."""

import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from common import BINARY, PATIENCE, now

SWARM = os.environ["CROSSFADE_SWARM"]
# A command of the swarm may take this long; it has its own patience for each change.
LONG = 600
# Files that 5 000 connections need open in either process.
FILES = 12_000


def allow_files():
    """Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        raise RuntimeError(f"this needs {FILES} open files; the limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))


def mesh_plan(name, services, protocol="http"):
    """Services whose clients in 127.0.0.0/8 are split by proxies, two addresses on each side."""
    lines = [
        "apiVersion: crossfade.dev/v1alpha1",
        "kind: CutoverPlan",
        f"metadata: {{ name: {name} }}",
        "spec:",
        f"  zones: [{{ name: {name}.example. }}]",
        "  clients: [{ networks: [127.0.0.0/8], plane: mesh }]",
        "  steps: [{ split: 1%, bake: 10m }, { split: 100%, bake: 1h }]",
        "  services:",
    ]
    for n in range(services):
        part = f"{n >> 8}.{n & 255}"
        lines += [
            f"    - name: w{n}",
            f"      hosts: [w{n}.{name}.example]",
            f"      address: 10.0.{part}",
            f"      ports: [{{ name: main, port: 8080, protocol: {protocol} }}]",
            f"      legacy: {{ endpoints: [10.1.{part}, 10.2.{part}] }}",
            f"      target: {{ endpoints: [10.3.{part}, 10.4.{part}] }}",
        ]
    return "\n".join(lines) + "\n"


class Lines:
    """A child that answers each line of its standard input with a line of JSON."""

    def __init__(self, command, **more):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more)
        self.told = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            self.told.put(line)
        self.told.put("")

    def answer(self, at_most=LONG):
        line = self.told.get(timeout=at_most)
        if not line:
            raise RuntimeError(f"{self.child.args[0]} ended: {self.child.wait(PATIENCE)}")
        return json.loads(line)

    def send(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def ask(self, line):
        self.send(line)
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        try:
            self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def probe(address, *metadata):
    """The names that a node of this metadata wants, by type."""
    told = subprocess.run([SWARM, "probe", address, *metadata], check=True, capture_output=True, text=True, timeout=LONG)
    return json.loads(told.stdout)


def swarm(address, streams, names, *metadata):
    """So many streams that subscribe to these names; its first answer comes when all have them."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(names, file)
    return Lines([SWARM, "run", address, str(streams), file.name, *metadata])


def changes(triggers, rest=100):
    return json.dumps({"do": "changes", "triggers": triggers, "rest": rest})


def cpu(pid):
    """Seconds on a CPU, of all threads that live."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def resident(pid):
    """Bytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quiet(pid, idle=0.02, at_most=60):
    """Waits until the process does next to nothing for a second."""
    deadline = now() + at_most
    while now() < deadline:
        before = cpu(pid)
        time.sleep(1)
        if cpu(pid) - before < idle:
            return
    print(f"process {pid} did not come to rest", file=sys.stderr)


class Snapshot:
    """go-control-plane's snapshot cache with as many services."""

    def __enter__(self):
        self.child = subprocess.Popen([os.environ["CROSSFADE_TEST_SNAPSHOT"]], stdout=subprocess.PIPE, text=True)
        where = dict(self.child.stdout.readline().split() for _ in range(2))
        self.xds, self.http = where["xds"], where["http"]
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()

    def names(self):
        with urllib.request.urlopen(f"http://{self.http}/names") as answer:
            return json.load(answer)

    def shift(self, service, target):
        path = f"/shift?service={service}&target={target}"
        return {"to": self.http, "method": "POST", "path": path}


class Envoy:
    """A real Envoy with the bootstrap that Crossfade prints."""

    def __init__(self, xds, node, role="sidecar", bind=None):
        self.place = tempfile.mkdtemp(prefix="crossfade-envoy-")
        bound = ["--bind", bind] if bind else []
        command = [BINARY, "bootstrap", "envoy", "--role", role, "--node", node, "--controller", xds,
                   "--admin-port", "0", *bound]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.file = os.path.join(self.place, "bootstrap.json")
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(text)
        self.start()

    def start(self):
        with open(os.path.join(self.place, "log"), "a", encoding="utf-8") as log:
            command = [os.environ["CROSSFADE_TEST_ENVOY"], "-c", self.file, "--use-dynamic-base-id", "--concurrency", "1",
                       "-l", "warning"]
            self.child = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self):
        self.child.kill()
        self.child.wait()
