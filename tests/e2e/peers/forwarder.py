"""A legacy VM with an agent that is frozen at 100 %: it forwards whatever reaches it to the target's gateway,
but never what comes from the gateway's own addresses, which it serves itself.

Usage: forwarder.py ADDRESS:PORT GATEWAY:PORT EGRESS NAME

Prints one line of JSON when it listens. Commands are lines on standard input, answered with one line of JSON:

  report    since the last report: {"forwarded": connections, "served": connections}
"""

import asyncio
import ipaddress
import json
import sys


def place(text):
    address, port = text.rsplit(":", 1)
    return address, int(port)


async def pipe(reader, writer):
    try:
        while data := await reader.read(1 << 14):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def main(listen, gateway, egress, name):
    egress = ipaddress.ip_network(egress)
    counts = {"forwarded": 0, "served": 0}
    body = name.encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    async def serve(reader, writer):
        counts["served"] += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def accept(reader, writer):
        if ipaddress.ip_address(writer.get_extra_info("peername")[0]) in egress:
            return await serve(reader, writer)
        counts["forwarded"] += 1
        there = await asyncio.open_connection(*place(gateway))
        await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer))

    address, port = place(listen)
    await asyncio.start_server(accept, address, port)
    print(json.dumps({"listens": listen}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "report":
            print(json.dumps(counts), flush=True)
            counts.update(forwarded=0, served=0)


asyncio.run(main(*sys.argv[1:]))
