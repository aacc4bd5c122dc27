"""Shuts this process off from the machine, for good: Linux namespaces and limits of resources.

Called in a process that has one thread, in two steps, with a fork between them: only a process
that is born into a namespace of processes is in it.

    leave_the_machine   namespaces of its own: users, processes, network, System V IPC
    lock_in             mounts of its own: the file system becomes read-only, save for one small
                        folder in memory; what shall be hidden is; no privileges are left, and
                        none can be had

The first process in the namespace is its init: when it ends, the kernel kills all the others
(pid_namespaces(7)). What is mounted from outside cannot be unmounted by a namespace that is made
inside (mount_namespaces(7)). This needs Linux 5.14, and that unprivileged users may have user
namespaces.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38

MOUNT_SETATTR = 442
"""Number of the system call, the same on every architecture (since Linux 5.12)."""
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1

CAPABILITY_VERSION_3 = 0x20080522
CAPABILITIES = 64

NO_CORE_BYTES = 1
"""Too little for a core file; and unlike 0, it also keeps a program from being handed one (core(5),
piping core dumps)."""

LEAST_PID_MAX = 301
"""The kernel keeps 300 numbers to itself, and refuses a smaller bound."""


class CannotConfine(Exception):
    """The system does not let a process be shut off; the message says what it refused."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a confined process may use.

    Attributes:
        cpu_s: seconds of computing, from the time when its request comes.
        memory_bytes: address space of each process, besides what it shares with the server; 0
            for as much as it likes, which a model on a GPU needs.
        file_bytes: all that it writes to its folder, which lies in memory, and also any one file.
        processes: how many processes and threads there may be at once.
    """

    cpu_s: int = 30
    memory_bytes: int = 8 * 1024**3
    file_bytes: int = 64 * 1024**2
    processes: int = 256


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def leave_the_machine() -> None:
    """Move into namespaces of its own, where its user and group keep their numbers.

    Raises:
        CannotConfine: the system does not allow it, or is no Linux.
    """
    if sys.platform != "linux":
        raise CannotConfine("only Linux can shut a process off from network and files")
    user, group = os.geteuid(), os.getegid()
    spaces = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC
    _call("unshare (user namespaces)", "unshare", spaces)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        raise CannotConfine(f"the system refuses to map users: {error.strerror}") from None


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    _call("prctl (PDEATHSIG)", "prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def lock_in(folder: str, hidden: Iterable[str], bounds: Bounds) -> None:
    """Give up everything but the right to read files and to write to one folder.

    Args:
        folder: an empty folder; what is written to it lies in memory, and ends with the process.
        hidden: files and folders that shall look empty; those that do not exist are left out.
        bounds: what it may use; that of computing begins with `limit_computing`.

    Raises:
        CannotConfine: the system does not allow it.
    """
    _call("unshare (mounts)", "unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _bound_namespaces(bounds)
    size = f"size={bounds.file_bytes},mode=0700"
    for path in map(Path, hidden):
        if path.is_dir():
            _mount("tmpfs", str(path), "tmpfs", MS_NOSUID | MS_NODEV, "size=4096,mode=0755")
        elif path.exists():
            _mount("/dev/null", str(path), None, MS_BIND)
    _mount_own_processes()
    _make_read_only()
    for writable in ("/dev/shm", folder):  # noqa: S108 -- a mount of its own, nobody else's
        if Path(writable).is_dir():
            _mount("tmpfs", writable, "tmpfs", MS_NOSUID | MS_NODEV, size)
    os.chdir(folder)
    _give_up_privileges()
    _limit(resource.RLIMIT_CORE, NO_CORE_BYTES)
    _limit(resource.RLIMIT_FSIZE, bounds.file_bytes)
    _limit(resource.RLIMIT_NPROC, bounds.processes)
    if bounds.memory_bytes:
        _limit(resource.RLIMIT_AS, bounds.memory_bytes)


def limit_computing(cpu_s: int) -> None:
    """Allow this process so many more seconds of computing; it is killed after that."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + cpu_s)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


def _bound_namespaces(bounds: Bounds) -> None:
    """Bound what a limit per user does not: the processes of root, and further namespaces.

    Both are of the namespaces alone, and only some systems have them or let them be written.
    """
    for name, value in (
        ("kernel/pid_max", max(LEAST_PID_MAX, bounds.processes)),
        ("user/max_user_namespaces", 0),
    ):
        try:
            Path("/proc/sys", name).write_text(str(value))
        except OSError:
            continue


def _mount_own_processes() -> None:
    """Show no processes but those of the namespace, where /proc may be mounted anew.

    In many containers it may not; what can then be seen of the server is what any user sees.
    """
    try:
        _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except CannotConfine:
        return


def _make_read_only() -> None:
    attributes = _MountAttributes(MOUNT_ATTR_RDONLY, 0, 0, 0)
    # `syscall` takes whatever it is given as a long.
    arguments = map(ctypes.c_long, (MOUNT_SETATTR, AT_FDCWD))
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    where = (ctypes.c_char_p(b"/"), ctypes.c_long(AT_RECURSIVE))
    _call("mount_setattr", "syscall", *arguments, *where, ctypes.byref(attributes), size)


def _give_up_privileges() -> None:
    _call("prctl (NO_NEW_PRIVS)", "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(CAPABILITIES):
        # Beyond the last one that this kernel knows it says that there is none.
        _libc().prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    head = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    _call("capset", "capset", head, (ctypes.c_uint32 * 6)())


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str = ""
) -> None:
    texts = [None if each is None else os.fsencode(each) for each in (source, target, kind)]
    _call(f"mount of {kind or target}", "mount", *texts, ctypes.c_ulong(flags), options.encode())


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(told: str, name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) < 0:
        error = os.strerror(ctypes.get_errno())
        raise CannotConfine(f"the system refuses {told}: {error}")
