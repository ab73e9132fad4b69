"""Backends that say their name, on one address and port each.

Usage: backends.py KIND NAME=ADDRESS:PORT …     KIND: http, tcp or grpc (which needs grpcio)

Port 0 takes a free one. When all listen it prints one line of JSON, name to "ADDRESS:PORT". It ends with its
standard input. http: the body is the name; keep-alive. tcp: every line is answered with the name.
grpc: /crossfade.test.Backend/Who answers with the name, as bytes.
"""

import asyncio
import json
import os
import sys


def http(name):
    body = name.encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    async def serve(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return serve


def tcp(name):
    async def serve(reader, writer):
        try:
            while await reader.readline():
                writer.write(name.encode() + b"\n")
        except ConnectionError:
            pass
        writer.close()

    return serve


async def listen(kind, name, address, port):
    if kind == "grpc":
        return await listen_grpc(name, address, port)
    server = await asyncio.start_server({"http": http, "tcp": tcp}[kind](name), address, port, backlog=4096)
    return server, server.sockets[0].getsockname()[1]


async def listen_grpc(name, address, port):
    import grpc

    async def who(_request, _context):
        return name.encode()

    methods = {"Who": grpc.unary_unary_rpc_method_handler(who)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("crossfade.test.Backend", methods)])
    port = server.add_insecure_port(f"{address}:{port}")
    await server.start()
    return server, port


async def main():
    kind, listening, kept = sys.argv[1], {}, []
    for pair in sys.argv[2:]:
        name, place = pair.split("=")
        address, port = place.rsplit(":", 1)
        server, port = await listen(kind, name, address, int(port))
        kept.append(server)
        listening[name] = f"{address}:{port}"
    print(json.dumps(listening), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # whoever still talks has no claim to an orderly end


asyncio.run(main())
