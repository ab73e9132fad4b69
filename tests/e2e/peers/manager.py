"""A service manager of one service: starts it again whenever it ends, and keeps what it hands over.

Usage: manager.py PLACE PROGRAM ARGUMENT...

Speaks sd_notify(3) with FDSTORE=1, FDSTOREREMOVE=1 and FDNAME=, and sd_listen_fds(3). Writes the
process that said READY=1 to PLACE/ready. Ends, with the service, by SIGTERM.
"""

import array
import os
import signal
import socket
import sys


def main():
    place, argv = sys.argv[1], sys.argv[2:]
    path = os.path.join(place, "notify")
    notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notes.bind(path)
    notes.settimeout(0.02)
    store = []  # (name, descriptor)
    child = start(path, store, argv)

    def end(*_):
        os.kill(child, signal.SIGKILL)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        try:
            size = array.array("i").itemsize * 16
            text, ancillary, _, _ = notes.recvmsg(4096, socket.CMSG_SPACE(size))
            take(place, child, store, text.decode(), ancillary)
            continue
        except TimeoutError:
            pass
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            child = start(path, store, argv)


def take(place, child, store, text, ancillary):
    """One message of the service."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    name = fields.get("FDNAME", "stored")
    if fields.get("FDSTOREREMOVE") == "1":
        for entry in [entry for entry in store if entry[0] == name]:
            os.close(entry[1])
            store.remove(entry)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if fields.get("FDSTORE") == "1":
        store.extend((name, descriptor) for descriptor in descriptors)
    if fields.get("READY") == "1":
        fresh = os.path.join(place, "ready.new")
        with open(fresh, "w") as file:
            file.write(str(child))
        os.rename(fresh, os.path.join(place, "ready"))


def start(path, store, argv):
    """Starts the service with what it handed over before."""
    child = os.fork()
    if child:
        return child
    # First out of the way of the numbers that they are to have.
    high = [os.dup2(descriptor, 500 + at) for at, (_, descriptor) in enumerate(store)]
    for at, descriptor in enumerate(high):
        os.dup2(descriptor, 3 + at, inheritable=True)
        os.close(descriptor)
    os.environ["NOTIFY_SOCKET"] = path
    if store:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(store))
        os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in store)
    os.execv(argv[0], argv)


main()
