"""The host plane: rollback on hundreds of agents, kill -9 under traffic, memory. Needs root: everything runs in
network namespaces that it makes.

Agents follow the controller on loopback in the clear, as they do where nobody has joined; those in namespaces of their
own reach it through a socket of the file system. The swarm (xds/examples/swarm) stands for the agents that only ack.
"""

import array
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

if os.environ.get("CROSSFADE_BENCH_SPACE") is None:
    os.environ["CROSSFADE_BENCH_SPACE"] = "1"
    if os.geteuid() != 0:
        print("the host plane is measured in network namespaces, for which this must be root", file=sys.stderr)
        sys.exit(1)
    os.execvp("unshare", ["unshare", "-n", "--", sys.executable, *sys.argv])

from common import BINARY, PATIENCE, Server, now, quantile, question, row, say
from mesh_common import allow_files, resident, swarm

TYPE = "type.googleapis.com/crossfade.v1.HostTable"
STREAMS, REAL, ROLLBACKS = 500, 3, 50
KILLS = int(os.environ.get("HOST_KILLS", "500"))
SERVICES = 1000
NAMES = 5399


def run(*words):
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE)


def host_plan(name, services, ends=None):
    lines = [
        "apiVersion: crossfade.dev/v1alpha1",
        "kind: CutoverPlan",
        f"metadata: {{ name: {name} }}",
        "spec:",
        f"  zones: [{{ name: {name}.example. }}]",
        "  clients: [{ networks: [10.20.0.0/16], plane: host }]",
        "  steps: [{ split: 1%, bake: 10m }, { split: 100%, bake: 1h }]",
        "  services:",
    ]
    for n in range(services):
        part = f"{n >> 8}.{n & 255}"
        legacy, target = ends or (f"10.101.{part}", f"10.103.{part}")
        lines += [
            f"    - name: w{n}",
            f"      hosts: [w{n}.{name}.example]",
            f"      address: 10.100.{part}",
            "      ports: [{ name: main, port: 8080, protocol: tcp }]",
            f"      legacy: {{ endpoints: [{legacy}] }}",
            f"      target: {{ endpoints: [{target}] }}",
        ]
    return "\n".join(lines) + "\n"


class Keeper:
    """What a service manager does for a notifying service with a descriptor store: it keeps the sockets, starts the
    process again at once, and knows when it is ready."""

    def __init__(self, command):
        self.command = command
        self.place = tempfile.mkdtemp(prefix="crossfade-keeper-")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.path.join(self.place, "notify"))
        self.kept, self.ready = [], threading.Event()
        self.lock = threading.Lock()
        self.child = None
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        size = array.array("i").itemsize
        while True:
            try:
                text, extra, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(16 * size))
            except OSError:
                return
            said = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
            fds = array.array("i")
            for level, kind, data in extra:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(data[: len(data) - len(data) % size])
            with self.lock:
                if "FDSTOREREMOVE" in said:
                    gone = [fd for name, fd in self.kept if name == said.get("FDNAME")]
                    self.kept = [(name, fd) for name, fd in self.kept if name != said.get("FDNAME")]
                    for fd in gone:
                        os.close(fd)
                if "FDSTORE" in said:
                    self.kept += [(said.get("FDNAME", "stored"), fd) for fd in fds]
            if said.get("READY") == "1":
                self.ready.set()

    def start(self):
        self.ready.clear()
        with self.lock:
            kept = list(self.kept)
        env = dict(os.environ, NOTIFY_SOCKET=os.path.join(self.place, "notify"))
        if kept:
            env |= {"LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(name for name, _ in kept)}
        # Descriptors from 3 on; the number of the process is known only within it.
        moves = "".join(f"exec {3 + n}<&{100 + n} {100 + n}<&-; " for n in range(len(kept)))
        script = f'{moves}export LISTEN_PID=$$; exec "$@"'

        def place():
            for n, (_, fd) in enumerate(kept):
                os.dup2(fd, 100 + n)

        self.child = subprocess.Popen(
            ["bash", "-c", script, "agent", *self.command], env=env, preexec_fn=place, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def again(self):
        """Kills it and starts it again; how long until it was ready."""
        begun = now()
        self.child.kill()
        self.child.wait(PATIENCE)
        self.start()
        if not self.ready.wait(PATIENCE):
            raise RuntimeError("the agent is not ready again")
        return now() - begun

    def stop(self):
        self.child.terminate()
        self.child.wait(PATIENCE)
        self.socket.close()
        shutil.rmtree(self.place, ignore_errors=True)


def agent(controller, data, name, names=False):
    command = [BINARY, "agent", "run", "--controller", controller, "--node", name, "--data", data, "--log", "warn",
               "--address", "10.20.255.254"]
    return command + (["--names", f"127.0.0.1:{NAMES}"] if names else [])


def ask(data):
    """The agent's own status."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(os.path.join(data, "agent.sock"))
        asking.sendall(b'{"ask":"status"}\n')
        text = b""
        while part := asking.recv(1 << 20):
            text += part
    return json.loads(text)


def until(what, check):
    deadline = now() + PATIENCE
    while now() < deadline:
        try:
            if check():
                return
        except OSError:
            pass
        time.sleep(0.002)
    raise RuntimeError(f"it did not come to pass: {what}")


def holds(data, count):
    return lambda: len(ask(data)["services"]) == count and ask(data)["broken"] is None


BRIDGE = """
import asyncio, sys
async def copy(reader, writer):
    try:
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def main():
    side, path, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    async def joined(reader, writer):
        there = await (asyncio.open_connection("127.0.0.1", port) if side == "controller" else asyncio.open_unix_connection(path))
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
    server = await (asyncio.start_unix_server(joined, path) if side == "controller" else asyncio.start_server(joined, "127.0.0.1", port))
    await server.serve_forever()
asyncio.run(main())
"""


class Away:
    """An agent in a network namespace of its own."""

    def __init__(self, place, number, port):
        self.space = f"cfbench-{os.getpid()}-{number}"
        run("ip", "netns", "add", self.space)
        run("ip", "-n", self.space, "link", "set", "lo", "up")
        self.data = os.path.join(place, f"agent-{number}")
        inside = ["ip", "netns", "exec", self.space]
        bridge = [*inside, sys.executable, "-c", BRIDGE, "agent", os.path.join(place, "bridge"), str(port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": sys.stderr}
        self.children = [subprocess.Popen(bridge, **quiet)]
        command = [*inside, *agent(f"127.0.0.1:{port}", self.data, f"real-{number}")]
        self.children.append(subprocess.Popen(command, **quiet))

    def stop(self):
        for child in self.children:
            child.kill()
            child.wait(PATIENCE)
        run("ip", "netns", "del", self.space)


def rollback():
    """Done when the controller has every ack and every real agent says what its kernel holds."""
    times = []
    place = tempfile.mkdtemp(prefix="crossfade-agents-")
    with Server([host_plan("bench", 50)]) as server:
        xds, client = f"127.0.0.1:{server.xds}", server.client()
        bridge = subprocess.Popen(
            [sys.executable, "-c", BRIDGE, "controller", os.path.join(place, "bridge"), str(server.xds)])
        until("the bridge", lambda: os.path.exists(os.path.join(place, "bridge")))
        agents = [Away(place, n, server.xds) for n in range(REAL)]
        try:
            for one in agents:
                until("the real agents", holds(one.data, 50))
            with swarm(xds, STREAMS, {TYPE: ["bench"]}, "crossfade.role=agent") as load:
                load.answer()
                for n in range(ROLLBACKS):
                    client.post("/v1/plans/bench/shift", {"service": "w0", "splitBp": 5000 + n})
                    sinks = acked(client, agents, 5000 + n)
                    if sinks["expected"] < STREAMS + REAL:
                        raise RuntimeError(f"not everybody is there: {sinks}")
                    begun = now()
                    client.post("/v1/plans/bench/rollback", {"service": "w0"})
                    acked(client, agents, 0)
                    times.append(now() - begun)
                    revision = client.get("/v1/plans/bench/status")["revision"]
                    client.post("/v1/plans/bench/resume", {}, revision=revision)
        finally:
            for one in agents:
                one.stop()
            bridge.kill()
            shutil.rmtree(place, ignore_errors=True)
    p99 = 1e3 * quantile(times, 0.99)
    row(f"host: rollback applied on {STREAMS} acking and {REAL} real agents, p99 of {ROLLBACKS}", "<= 1 s",
        f"{p99:.0f} ms (p50 {1e3 * quantile(times, 0.5):.0f} ms)", p99 <= 1000)


def acked(client, agents, split):
    deadline = now() + PATIENCE
    while now() < deadline:
        status = client.get("/v1/plans/bench/status")
        service = next(service for service in status["services"] if service["name"] == "w0")
        host, sinks = service["planes"]["host"], status["sinks"]
        if host["ackedBp"] == host["intendedBp"] == split and sinks["acked"] == sinks["expected"]:
            if all(has(one.data, split) for one in agents):
                return sinks
        time.sleep(0.001)
    raise RuntimeError(f"not applied: {sinks}")


def has(data, split):
    status = ask(data)
    return status["broken"] is None and any(
        one["service"] == "bench/w0" and one["splitBp"] == split for one in status["services"])


# Ends by a reset: else ports of the VM, whose address all share towards the servers, are used up by connections that
# wait out their time at the server.
CLIENTS = """
import json, random, select, socket, struct, sys, time
done = failed = 0
why = {}
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    s = socket.socket()
    s.setsockopt(socket.SOL_IP, 15, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.settimeout(3)
    try:
        s.bind((f"10.20.{random.randrange(256)}.{random.randrange(1, 255)}", 0))
        s.connect(("10.100.0.0", 8080))
        if s.recv(16) not in (b"legacy", b"target"):
            raise OSError("nobody's answer")
        done += 1
    except OSError as error:
        failed += 1
        why[str(error)] = why.get(str(error), 0) + 1
    s.close()
print(json.dumps({"done": done, "failed": failed, "why": why}), flush=True)
"""

BACKEND = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 8080))
s.listen(1024)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(sys.argv[1].encode())
    c.close()
"""


class Street:
    """Clients and both backends beside this namespace, which is the VM."""

    def __init__(self):
        self.spaces, self.children = {}, []
        for role, net in (("client", 10), ("legacy", 30), ("target", 40)):
            space = self.spaces[role] = f"cfbench-{os.getpid()}-{role}"
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
            # Named namespaces are reached by their file from here as well.
            run("ip", "link", "add", f"to{net}", "type", "veth", "peer", "name", "vm0", "netns", space)
            run("ip", "address", "add", f"10.{net}.0.1/24", "dev", f"to{net}")
            run("ip", "link", "set", f"to{net}", "up")
            run("ip", "-n", space, "address", "add", f"10.{net}.0.2/24", "dev", "vm0")
            run("ip", "-n", space, "link", "set", "vm0", "up")
            run("ip", "-n", space, "route", "add", "default", "via", f"10.{net}.0.1")
        run("ip", "route", "add", "10.20.0.0/16", "via", "10.10.0.2")
        run("ip", "-n", self.spaces["client"], "route", "add", "local", "10.20.0.0/16", "dev", "lo")
        with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as file:
            file.write("1")
        for role in ("legacy", "target"):
            self.child(role, BACKEND, role)

    def child(self, role, program, *args):
        command = ["ip", "netns", "exec", self.spaces[role], sys.executable, "-c", program, *args]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        self.children.append(child)
        return child

    def stop(self):
        for child in self.children:
            child.kill()
            child.wait(PATIENCE)
        for space in self.spaces.values():
            run("ip", "netns", "del", space)


class Asker:
    """Asks the stub again and again."""

    def __init__(self, name):
        self.asked = self.failed = 0
        self.going = True
        self.name = name
        self.thread = threading.Thread(target=self.ask)
        self.thread.start()

    def ask(self):
        while self.going:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(3)
                asking.connect(("127.0.0.1", NAMES))
                try:
                    asking.send(question(self.name))
                    fine = asking.recv(512)[3] & 15 == 0
                except OSError:
                    fine = False
            self.asked += 1
            self.failed += not fine
            time.sleep(0.001)

    def stop(self):
        self.going = False
        self.thread.join()


def kills():
    street = Street()
    place = tempfile.mkdtemp(prefix="crossfade-kills-")
    data = os.path.join(place, "agent")
    try:
        with Server([host_plan("bench", 1, ("10.30.0.2", "10.40.0.2"))]) as server:
            keeper = Keeper(agent(f"127.0.0.1:{server.xds}", data, "vm", names=True))
            keeper.start()
            until("the agent", holds(data, 1))
            server.client().post("/v1/plans/bench/shift", {"service": "w0", "splitBp": 5000})
            until("the split", lambda: has(data, 5000))
            clients, asker, times = street.child("client", CLIENTS), Asker("w0.bench.example"), []
            for n in range(KILLS):
                # At any moment of its life: while it starts, while it follows, while it rests.
                time.sleep((n * 7919 % 97) / 1000)
                times.append(keeper.again())
            clients.stdin.write("\n")
            clients.stdin.flush()
            told = json.loads(clients.stdout.readline())
            asker.stop()
            keeper.stop()
    finally:
        street.stop()
        shutil.rmtree(place, ignore_errors=True)
    say(f"kill -9: {told['done']} connections, {told['failed']} failed {told['why']}; "
        f"{asker.asked} queries, {asker.failed} failed; back within {1e3 * quantile(times, 0.5):.0f} ms (p50), "
        f"{1e3 * quantile(times, 0.99):.0f} ms (p99)")
    row(f"host: {KILLS} x kill -9 of the agent under traffic", "0 connections, 0 queries failed",
        f"{told['failed']} of {told['done']}, {asker.failed} of {asker.asked}", told["failed"] == asker.failed == 0)
    worst = 1e3 * max(times)
    row("host: back after kill -9, slowest", "<= 300 ms", f"{worst:.0f} ms", worst <= 300)


def memory():
    place = tempfile.mkdtemp(prefix="crossfade-memory-")
    data = os.path.join(place, "agent")
    with Server([host_plan("bench", SERVICES)]) as server:
        child = subprocess.Popen(agent(f"127.0.0.1:{server.xds}", data, "vm", names=True), stdout=subprocess.DEVNULL)
        try:
            until("all services", holds(data, SERVICES))
            for n in range(20):
                server.client().post("/v1/plans/bench/shift", {"service": f"w{n}", "splitBp": 100 * (n + 1)})
            until("the shifts", lambda: any(one["splitBp"] == 2000 for one in ask(data)["services"]))
            time.sleep(3)
            used = resident(child.pid) / 1e6
        finally:
            child.terminate()
            child.wait(PATIENCE)
    shutil.rmtree(place, ignore_errors=True)
    row(f"host: resident memory of an agent with {SERVICES} services", "<= 30 MB", f"{used:.1f} MB", used <= 30)


def main():
    allow_files()
    run("ip", "link", "set", "lo", "up")
    memory()
    rollback()
    kills()


main()
