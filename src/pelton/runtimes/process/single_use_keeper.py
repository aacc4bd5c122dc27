"""Stands between the server and a single-use worker: starts it shut off, and sees it end.

Started with the arguments NAME SOCKET LIFELINE REPLIES REQUESTS ORDERS: the first five as those
of `worker.py`, and what `lock_in` takes as JSON. It is small and imports nothing that starts
threads, since a process that has some cannot be moved or forked safely.

    server --- keeper --- worker, the first process of its namespace --- whatever it starts

The worker runs code of strangers and cannot see the keeper, nor any process outside. When the
server closes its end of the lifeline, or ends, the keeper kills the worker, and with it the
kernel kills all that is in the namespace. The keeper then ends as the worker did.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from pathlib import Path

from pelton.runtimes.process import confinement

SIGNALLED = 128
"""Added to the number of the signal that ended the worker, as shells do."""


def main(arguments: list[str]) -> None:
    """Start the worker, and return only in it, when it is done.

    Args:
        arguments: as the head of this file says.
    """
    _, sock, lifeline, replies, requests, orders = arguments
    folder, hidden, bounds = json.loads(orders)
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, signal.SIG_IGN)  # the server's alone
    trouble = ""
    try:
        confinement.leave_the_machine()
    except confinement.CannotConfine as error:
        trouble = str(error)
    worker = os.fork()
    if worker:
        for inherited in (sock, replies, requests):
            os.close(int(inherited.partition(":")[0]))
        _watch(worker, int(lifeline), folder)
    os.close(int(lifeline))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        if not trouble:
            confinement.end_with_parent()
            confinement.lock_in(folder, hidden, confinement.Bounds(**bounds))
    except confinement.CannotConfine as error:
        trouble = str(error)
    # Only now, and only here, since it starts threads.
    from pelton.runtimes.process import single_use_worker

    single_use_worker.main(sock, replies, requests, trouble, bounds["cpu_s"])


def _watch(worker: int, lifeline: int, folder: str) -> None:
    """Wait for the end of the worker or of the lifeline, and end this process as the worker did."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if hasattr(os, "pidfd_open"):
        poll.register(os.pidfd_open(worker), select.POLLIN)
    if any(fd == lifeline for fd, _ in poll.poll()):
        os.kill(worker, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with contextlib.suppress(OSError):
        Path(
            folder
        ).rmdir()  # what the worker wrote was in memory, and only the worker saw it there
    os._exit(code if code >= 0 else SIGNALLED - code)


if __name__ == "__main__":
    main(sys.argv[1:])
