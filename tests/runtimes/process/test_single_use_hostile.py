"""A signed object may do what it likes: to itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import pytest

from pelton.errors import DeadlineExceeded, LoadFailed, ModelFailed
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.confinement import Bounds
from pelton.runtimes.process.single_use import SingleUse, SingleUseTerms
from pelton.specs import ModelSpec
from runtimes.process.single_use_models import MODEL, SHAPES, answer, does, processes_with
from support_server import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux namespaces")

BOUNDS = Bounds(cpu_s=1, memory_bytes=1024**3, file_bytes=1024**2, processes=64)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model, a secret, and what must not be touched."""
    place: Path = tmp_path_factory.mktemp("place")
    (place / "model").mkdir()
    (place / "model" / "model.py").write_text(MODEL)
    (place / "model" / "shapes.py").write_text(SHAPES)
    (place / "keys.toml").write_text("a secret")
    (place / "state").mkdir()
    (place / "state" / "keys.db").write_text("another secret")
    return place


@pytest.fixture(scope="module")
def workers(place: Path) -> Iterator[SingleUse]:
    spec = ModelSpec("tiny", 1, place / "model", "python")
    hidden = (str(place / "keys.toml"), str(place / "state"), str(place / "not there"))
    workers = SingleUse(spec, RuntimeOptions(), SingleUseTerms(BOUNDS, hidden))
    yield workers
    workers.close()


@pytest.fixture(autouse=True)
def _well_afterwards(workers: SingleUse) -> Iterator[None]:
    yield
    assert answer(workers, "told = 'well'") == "well"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os._exit(7)", "ended by itself with exit code 7"),
        ("import ctypes; ctypes.string_at(0)", r"crashed \(SIGSEGV\)"),
        ("import os; os.abort()", "crashed"),
        ("import os; os.closerange(3, 1000)", "ended by itself|SIGKILL"),
        ("while True: pass", r"was killed \(SIGKILL\)"),
        ("raise SystemExit", "raised SystemExit"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("bytearray(8 << 30)", "raised MemoryError"),
        ("x = []\nwhile True: x.append(bytearray(1 << 24))", "raised MemoryError"),
        ("def f(): f()\nf()", "raised RecursionError"),
        ("open('x', 'wb').write(bytes(4 << 20))", "raised OSError|SIGXFSZ"),
        ("import os\nfor n in range(1000): open(str(n), 'wb').write(bytes(1 << 19))", "OSError"),
    ],
)
def test_its_end_is_told_as_a_failure_of_its_own(workers: SingleUse, code: str, told: str) -> None:
    with pytest.raises(ModelFailed, match=told):
        answer(workers, code)


def test_one_that_hangs_is_ended_at_its_deadline(workers: SingleUse) -> None:
    with pytest.raises(DeadlineExceeded):
        answer(workers, "import time; time.sleep(1000)", time.monotonic() + 0.3)


def test_one_that_hangs_without_a_deadline_is_ended_too(place: Path) -> None:
    spec = ModelSpec("tiny", 1, place / "model", "python")
    workers = SingleUse(spec, RuntimeOptions(), SingleUseTerms(BOUNDS, time_limit_s=1.0))
    with pytest.raises(DeadlineExceeded):
        answer(workers, "import time; time.sleep(1000)")
    workers.close()


@pytest.mark.parametrize("end", ["told = 1", "os._exit(1)", "time.sleep(1000)"])
def test_what_it_started_ends_with_it(workers: SingleUse, end: str) -> None:
    mark = uuid.uuid4().hex
    code = textwrap.dedent(f"""
        import os, subprocess, sys, time
        line = [sys.executable, "-c", "import time; time.sleep(1000)", {mark!r}]
        subprocess.Popen(line, start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv(line[0], line)
            os._exit(0)
        {end}
        """)
    try:
        answer(workers, code, time.monotonic() + 2.0)
    except (ModelFailed, DeadlineExceeded):
        assert end != "told = 1"
    assert processes_with(mark) == []


def test_it_cannot_start_processes_without_end(workers: SingleUse) -> None:
    code = """
        import os, time
        told = 0
        try:
            while told < 2000:
                if os.fork() == 0:
                    time.sleep(1000)
                told += 1
        except OSError:
            pass
        """
    # The kernel numbers what is root's up to 300, and bounds what is anybody else's as told.
    assert 0 < answer(workers, textwrap.dedent(code)) < (301 if os.geteuid() == 0 else 64)


def test_it_has_no_network(workers: SingleUse) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
            import socket
            told = []
            for address in ({server.getsockname()!r}, ("1.1.1.1", 53)):
                try:
                    socket.create_connection(address, timeout=5)
                    told.append("connected")
                except OSError as error:
                    told.append(error.strerror)
            """
        assert answer(workers, textwrap.dedent(code)) == ["Network is unreachable"] * 2


def test_it_sees_no_secrets_in_its_environment(monkeypatch, place: Path) -> None:
    monkeypatch.setenv("PELTON_SECRET", "hidden")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    workers = SingleUse(ModelSpec("tiny", 1, place / "model", "python"), RuntimeOptions())
    code = "import os; told = [dict(os.environ), open('/proc/self/environ').read()]"
    names, raw = answer(workers, code)
    workers.close()
    assert "HOME" in names
    assert not {"PELTON_SECRET", "AWS_SECRET_ACCESS_KEY"} & names.keys()
    assert "hidden" not in raw


def test_it_cannot_look_into_the_server(workers: SingleUse) -> None:
    code = f"""
        told = []
        for name in ("environ", "mem", "maps", "fd/0"):
            try:
                open("/proc/{os.getpid()}/" + name, "rb").read(1)
                told.append(name)
            except OSError:
                pass
        """
    assert answer(workers, textwrap.dedent(code)) == []


def test_it_sees_no_processes_but_its_own(workers: SingleUse) -> None:
    code = "import os; told = [name for name in os.listdir('/proc') if name.isdigit()]"
    assert answer(workers, code) == ["1"]


def test_it_cannot_signal_the_server(workers: SingleUse) -> None:
    code = f"""
        import os
        told = []
        for pid in ({os.getpid()}, {os.getppid()}):
            try:
                os.kill(pid, 0)
                told.append(pid)
            except ProcessLookupError:
                pass
        """
    assert answer(workers, textwrap.dedent(code)) == []


def test_what_is_hidden_looks_empty(workers: SingleUse, place: Path) -> None:
    code = f"""
        import ctypes, os
        libc = ctypes.CDLL(None)
        for path in ({str(place / "keys.toml")!r}, {str(place / "state")!r}):
            libc.unshare(0x10020000)
            libc.umount2(path.encode(), 2)
        told = [open({str(place / "keys.toml")!r}).read(), os.listdir({str(place / "state")!r})]
        """
    assert answer(workers, textwrap.dedent(code)) == ["", []]


def test_it_does_not_see_the_sockets_of_the_systems_services(workers: SingleUse) -> None:
    assert answer(workers, "import os; told = os.listdir('/run')") == []


def test_it_does_not_see_the_shared_memory_of_clients(workers: SingleUse) -> None:
    shared = shared_memory.SharedMemory(create=True, size=16)
    try:
        assert answer(workers, "import os; told = os.listdir('/dev/shm')") == []
    finally:
        shared.close()
        shared.unlink()


@pytest.mark.parametrize("where", ["model/model.py", "model/new.py", "state/new", "new"])
def test_it_cannot_change_what_the_server_has(workers: SingleUse, place: Path, where: str) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    code = f"""
        import ctypes
        ctypes.CDLL(None).mount(None, b"/", None, 0x1000 | 0x20, None)  # remount, bind
        try:
            open({str(place / where)!r}, "w").write("changed")
            told = "written"
        except OSError as error:
            told = error.strerror
        """
    assert answer(workers, textwrap.dedent(code)) == "Read-only file system"
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_it_has_no_privileges_and_gets_none(workers: SingleUse) -> None:
    code = "told = [x for x in open('/proc/self/status') if x.startswith(('Cap', 'NoNew'))]"
    told = dict(line.split(":\t") for line in answer(workers, code))
    assert {name: int(value, 16) for name, value in told.items()} == {
        "CapInh": 0,
        "CapPrm": 0,
        "CapEff": 0,
        "CapBnd": 0,
        "CapAmb": 0,
        "NoNewPrivs": 1,
    }


def test_a_reply_that_it_forges_is_checked(workers: SingleUse) -> None:
    code = """
        import os, struct, socket, stat
        text = b'["done",[],[["<f8",[9],1,99999999999,1]],[0.0,{"d":{"told":{"a":0}}}]]'
        text = text.replace(b"[0.0", b'[0.0')
        for fd in range(3, 1000):
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.write(fd, struct.pack("<IIQ", 16 + len(text), len(text), 0) + text)
            except OSError:
                pass
        """
    with pytest.raises(ModelFailed, match="sent a reply that makes no sense"):
        answer(workers, textwrap.dedent(code))


def test_where_a_process_cannot_be_shut_off_nothing_is_served(place: Path) -> None:
    """In a user namespace that allows no further ones, as some systems are set up."""
    code = f"""
        import ctypes, os
        from pathlib import Path
        user = os.geteuid()
        assert ctypes.CDLL(None).unshare(0x10000000) == 0  # before anything starts a thread
        Path("/proc/self/uid_map").write_text(f"{{user}} {{user}} 1")
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        from pelton.errors import LoadFailed
        from pelton.runtimes.contract import RuntimeOptions
        from pelton.runtimes.process.single_use import SingleUse
        from pelton.specs import ModelSpec
        workers = SingleUse(ModelSpec("tiny", 1, Path({str(place / "model")!r}), "python"),
                            RuntimeOptions())
        try:
            workers.start()
        except LoadFailed as error:
            print(error.message)
        workers.close()
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert "no worker for signed objects can be started: the system refuses unshare" in done.stdout


def test_a_model_in_a_hidden_folder_is_refused_at_once(place: Path) -> None:
    terms = SingleUseTerms(hidden=(str(place),))
    with pytest.raises(LoadFailed, match="it lies in a folder that is hidden"):
        SingleUse(ModelSpec("tiny", 1, place / "model", "python"), RuntimeOptions(), terms)


def test_a_server_that_is_killed_leaves_no_worker(place: Path, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    code = f"""
        import math, os, sys
        from pathlib import Path
        from pelton.runtimes.contract import RuntimeOptions
        from pelton.runtimes.process.single_use import SingleUse
        from pelton.specs import ModelSpec
        workers = SingleUse(ModelSpec({mark!r}, 1, Path({str(place / "model")!r}), "python"),
                            RuntimeOptions())
        workers.start()
        print("ready", flush=True)
        workers.run([memoryview({bytes(does("import time; time.sleep(1000)"))!r})], math.inf)
        """
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    # The server, and keeper and worker of the request and of the one that stands ready next.
    until(lambda: len(processes_with(mark)) == 5, 30)
    server.kill()
    server.communicate()
    until(lambda: not processes_with(mark), 30)
    assert list(tmp_path.iterdir()) == []
