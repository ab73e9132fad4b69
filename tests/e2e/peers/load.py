"""Load from many source addresses, and what became of it.

Usage: load.py KIND ADDRESS:PORT FIRST COUNT [HOST]     KIND: http or tcp

Clients are COUNT addresses from FIRST on (all of 127.0.0.0/8 is ours). HOST is what HTTP clients call the
server. Commands are lines on standard input; each is answered with one line of JSON:

  sweep     every client asks once, over a new connection: {"sides": [name of who answered, or null], "failures", "errors"}
  start N   constant load from now on: N clients at a time, one after the other, over connections that are
            kept (http), or N connections that talk all the time and are never closed by us (tcp)
  report    since the last report or start: {"requests", "failures", "errors", "sides": {name: requests},
            "moves": {"a>b": times that a client went from a to b}, "open": connections, "closed": connections that the other side closed}
  stop      a last report; the load ends
"""

import asyncio
import collections
import ipaddress
import json
import sys

# How long one request may take.
PATIENCE = 20
# Clients of a sweep that ask at the same time.
AT_ONCE = 64
# Between two lines on a long TCP connection.
PAUSE = 0.05


class Client:
    """One source address and, where it keeps one, its connection."""

    def __init__(self, kind, server, source, host):
        self.kind, self.server, self.source = kind, server, source
        self.request = b"GET / HTTP/1.1\r\nhost: %s\r\n\r\n" % host.encode() if kind == "http" else b"who\n"
        self.reader = self.writer = self.side = None

    async def ask(self):
        """Who answers. HTTP may close a kept connection between requests: that is not a failure."""
        if self.kind == "http" and self.writer and (self.reader.at_eof() or self.writer.is_closing()):
            self.close()
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.exchange()
        except BaseException:
            self.close()
            raise

    async def exchange(self):
        if not self.writer:
            address, port = self.server
            self.reader, self.writer = await asyncio.open_connection(
                address, port, local_addr=(self.source, 0), limit=1 << 14)
        self.writer.write(self.request)
        if self.kind == "tcp":
            line = await self.reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError("closed")
            return line.strip().decode()
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]) if b"content-length:" in head else 0
        body = await self.reader.readexactly(length)
        if head[9:12] != b"200":
            raise ConnectionError(f"{head[9:12].decode()}: {body[:200].decode(errors='replace')}")
        if b"connection: close" in head:
            self.close()
        return body.decode()

    def close(self):
        if self.writer:
            self.writer.close()
        self.reader = self.writer = None


class Load:
    def __init__(self, clients):
        self.clients, self.tasks, self.left, self.on = clients, [], collections.deque(), False
        self.begin()

    def begin(self):
        self.requests = self.failures = self.closed = 0
        self.errors, self.sides, self.moves = [], collections.Counter(), collections.Counter()

    def failed(self, error):
        self.failures += 1
        if len(self.errors) < 5:
            self.errors.append(f"{type(error).__name__}: {error}")

    def answered(self, client, side):
        self.requests += 1
        self.sides[side] += 1
        if client.side not in (None, side):
            self.moves[f"{client.side}>{side}"] += 1
        client.side = side

    def report(self):
        told = {
            "requests": self.requests, "failures": self.failures, "errors": self.errors, "sides": self.sides,
            "moves": self.moves, "open": sum(c.writer is not None for c in self.clients), "closed": self.closed,
        }
        self.begin()
        return told

    async def sweep(self):
        sides, gate = [None] * len(self.clients), asyncio.Semaphore(AT_ONCE)
        self.begin()

        async def one(n, client):
            fresh = Client(client.kind, client.server, client.source, "")
            fresh.request = client.request
            async with gate:
                try:
                    sides[n] = await fresh.ask()
                except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                    self.failed(error)
                fresh.close()

        await asyncio.gather(*(one(n, client) for n, client in enumerate(self.clients)))
        return {"sides": sides, "failures": self.failures, "errors": self.errors}

    async def work(self):
        """Takes one client after the other, as long as the load lasts."""
        while self.on:
            client = self.left.popleft()
            try:
                self.answered(client, await client.ask())
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.failed(error)
                await asyncio.sleep(0.01)
            self.left.append(client)
            await asyncio.sleep(0)

    async def talk(self, client):
        """One long connection, opened anew when the other side closes it."""
        while self.on:
            stood = client.writer is not None
            try:
                self.answered(client, await client.ask())
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.closed += stood
                self.failed(error)
            await asyncio.sleep(PAUSE)

    def start(self, count):
        self.begin()
        self.on = True
        if self.clients[0].kind == "tcp":
            self.tasks = [asyncio.create_task(self.talk(client)) for client in self.clients[:count]]
            return
        self.left = collections.deque(self.clients)
        self.tasks = [asyncio.create_task(self.work()) for _ in range(min(count, len(self.clients)))]

    async def stop(self):
        self.on = False
        await asyncio.gather(*self.tasks)
        self.tasks = []
        told = self.report()
        for client in self.clients:
            client.close()
            client.side = None
        return told


async def main():
    kind, place, first, count = sys.argv[1:5]
    address, port = place.rsplit(":", 1)
    host, first = (sys.argv[5:] or [place])[0], ipaddress.ip_address(first)
    load = Load([Client(kind, (address, int(port)), str(first + n), host) for n in range(int(count))])
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, *rest = line.split()
        if verb == "start":
            load.start(int(rest[0]))
            answer = {"started": int(rest[0])}
        elif verb in ("sweep", "stop"):
            answer = await getattr(load, verb)()
        else:
            answer = load.report()
        print(json.dumps(answer), flush=True)


asyncio.run(main())
