"""A proxyless gRPC client that follows xDS, as tests/e2e/peers/go/client is one in Go.

Usage: GRPC_XDS_BOOTSTRAP=bootstrap.json client.py xds:///HOST:PORT

For each line "ask N" on standard input it makes N calls and prints one line of JSON: who answered how often and
what failed.
"""

import collections
import json
import sys

import grpc

# How long one call may take, the wait for a connection among it.
PATIENCE = 20


def ask(who, count):
    sides, failures, errors = collections.Counter(), 0, []
    for _ in range(count):
        try:
            sides[who(b"", timeout=PATIENCE, wait_for_ready=True).decode()] += 1
        except grpc.RpcError as error:
            failures += 1
            errors.append(f"{error.code()}: {error.details()}")
    return {"sides": sides, "failures": failures, "errors": errors[:5]}


def main():
    with grpc.insecure_channel(sys.argv[1]) as channel:
        who = channel.unary_unary("/crossfade.test.Backend/Who")
        for line in sys.stdin:
            verb, count = line.split()
            assert verb == "ask", line
            print(json.dumps(ask(who, int(count))), flush=True)


main()
