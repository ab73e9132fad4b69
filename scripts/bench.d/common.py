"""What the figures share: a real controller, a client of its API, DNS questions, and a row to print."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BINARY = os.environ["CROSSFADE_BINARY"]
# How long anything may take before a figure gives up.
PATIENCE = 30


def row(figure, must, measured, ok):
    """The one line of standard output that `scripts/bench` reads."""
    print("\t".join([figure, must, measured, "ok" if ok else "short"]))


def say(text):
    print(text, file=sys.stderr)


def quantile(values, share):
    """The value that `share` of them do not exceed: p99 of 1 000 is the 990th."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-int(len(ordered) * share * 1000) // 1000) - 1))]


def plan(name, services, zone, after=False):
    """A plan of so many services with a host each, two addresses of either family on each side."""
    lines = [
        "apiVersion: crossfade.dev/v1alpha1",
        "kind: CutoverPlan",
        f"metadata: {{ name: {name} }}",
        "spec:",
        f"  zones: [{{ name: {zone}. }}]",
        "  steps:",
        "    - { split: 1%, bake: 10m }",
        "    - { split: 100%, bake: 1h }",
        "  services:",
    ]
    for n in range(services):
        part = f"{n >> 8}.{n & 255}"
        lines += [f"    - name: w{n}", f"      hosts: [w{n}.{zone}]"]
        if after and n:
            lines.append(f"      after: [w{n - 1}]")
        lines += [
            f"      address: 10.0.{part}",
            "      ports: [{ name: http, port: 8080, protocol: http }]",
            f"      legacy: {{ endpoints: [10.1.{part}, 10.2.{part}, 'fd00:1::{n + 1:x}'] }}",
            f"      target: {{ endpoints: [10.3.{part}, 10.4.{part}, 'fd00:3::{n + 1:x}'] }}",
        ]
    return "\n".join(lines) + "\n"


class Client:
    """One keep-alive connection to the API, with as little as possible around the socket."""

    def __init__(self, address):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def close(self):
        self.socket.close()

    @staticmethod
    def request(method, path, body=None, key=None, revision=None):
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
        if body is not None:
            head += f"content-type: application/json\r\ncontent-length: {len(text)}\r\n"
        if key is not None:
            head += f"idempotency-key: {key}\r\n"
        if revision is not None:
            head += f'if-match: "{revision}"\r\n'
        return head.encode() + b"\r\n" + text

    def send(self, *requests):
        self.socket.sendall(b"".join(requests))

    def receive(self):
        """Status and body of the next answer."""
        data = self.rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.more()
        head = data[:end].lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        whole = end + 4 + length
        while len(data) < whole:
            data += self.more()
        self.rest = data[whole:]
        return int(head[9:12]), data[end + 4 : whole]

    def more(self):
        part = self.socket.recv(1 << 18)
        if not part:
            raise ConnectionError("the API closed the connection")
        return part

    def call(self, method, path, body=None, **conditions):
        """Status and the answer's JSON."""
        self.send(self.request(method, path, body, **conditions))
        status, text = self.receive()
        return status, json.loads(text)

    def get(self, path):
        return self.expect(*self.call("GET", path))

    def post(self, path, body, **conditions):
        return self.expect(*self.call("POST", path, body, **conditions))

    @staticmethod
    def expect(status, answer):
        if status != 200:
            raise RuntimeError(f"{status}: {answer}")
        return answer

    def history(self, plan, down_to=0):
        """Entries newer than revision `down_to`, newest first."""
        entries, before = [], ""
        while True:
            page = self.get(f"/v1/plans/{plan}/history?limit=1000{before}")
            entries += [entry for entry in page["entries"] if entry["revision"] > down_to]
            if page["before"] is None or page["before"] <= down_to + 1:
                return entries
            before = f"&before={page['before']}"


def metrics(text):
    """The value of every line of a scrape."""
    lines = (line.rsplit(" ", 1) for line in text.decode().splitlines() if line[:1] != "#")
    return {name.removesuffix("{}"): float(value) for name, value in lines}


class Server:
    """`crossfade serve` in a directory of its own, on loopback."""

    def __init__(self, plans, threads=2, api=None, dns=None, xds=None):
        self.place = tempfile.mkdtemp(prefix="crossfade-bench-", dir=os.environ.get("BENCH_DISK"))
        self.data = os.path.join(self.place, "data")
        self.files = []
        for n, text in enumerate(plans):
            self.files.append(os.path.join(self.place, f"{n}.yaml"))
            with open(self.files[-1], "w", encoding="utf-8") as file:
                file.write(text)
        self.threads, self.api, self.dns, self.xds = threads, api or 0, dns or 0, xds or 0
        self.process = None

    def __enter__(self):
        self.start()
        self.wait_for_lines()
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
        shutil.rmtree(self.place, ignore_errors=True)

    def start(self):
        self.process = subprocess.Popen(
            [BINARY, "serve", *self.files, "--data", self.data, "--log", "warn"]
            + ["--api", f"127.0.0.1:{self.api}", "--dns", f"127.0.0.1:{self.dns}"]
            + ["--xds", f"127.0.0.1:{self.xds}", "--dns-threads", str(self.threads)],
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
        )

    def wait_for_lines(self):
        """It prints what it has bound; then it serves."""
        while line := self.process.stdout.readline().decode():
            if line.startswith("api http://"):
                self.api = int(line.rsplit(":", 1)[1])
            if line.startswith("dns "):
                self.dns = int(line.split(" ")[1].rsplit(":", 1)[1])
            if line.startswith("xds "):
                self.xds = int(line.split(" ")[1].rsplit(":", 1)[1])
                return
        raise RuntimeError(f"the server did not start: {self.process.wait(PATIENCE)}")

    @property
    def unix(self):
        return os.path.join(self.data, "crossfade.sock")

    @property
    def tcp(self):
        return ("127.0.0.1", self.api)

    def client(self):
        return Client(self.unix)


def question(name, number=1):
    """An A question with the bits that `dig` sets."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + b"\0\1\0\1"


def addresses(answer, asked):
    """The A records of an answer to `asked`; None unless it is NOERROR with some."""
    _, flags, _, count, _, _ = struct.unpack_from("!6H", answer)
    if flags & 15 or not count:
        return None
    # Every record is a pointer to the question's name, type, class, TTL, length and four octets.
    first = len(asked)
    return {answer[at + 12 : at + 16] for at in range(first, first + 16 * count, 16)}


def asker(port):
    """A socket of its own port that asks the DNS server."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.connect(("127.0.0.1", port))
    sock.settimeout(1)
    return sock


def now():
    return time.perf_counter()
