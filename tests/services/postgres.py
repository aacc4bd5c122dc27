"""A PostgreSQL server of our own for the tests: on a Unix socket, in a temporary folder.

It is told not to sync to the disk, so it is quick; what is committed still outlives the death of
its processes, which is what the tests bring about.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
"""Where Debian keeps PostgreSQL's programs, off the search path."""

USER = "pelton"
PASSWORD_USER = "guarded"
PASSWORD = "s3cret:p@ss/word"

CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
full_page_writes = off
max_connections = 60
shared_buffers = 16MB
"""

ACCESS = f"local all {PASSWORD_USER} scram-sha-256\nlocal all all trust\n"


class Postgres:
    """A running server; its databases are made one by one."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._programs = programs
        self._numbers = itertools.count(1)
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._as_user = ["runuser", "-u", "postgres", "--"]
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)

    def make(self) -> None:
        """Make the cluster and start it."""
        self._call("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION.format(folder=self.folder))
        (self._data / "pg_hba.conf").write_text(ACCESS)
        self.start()
        self.execute(f"CREATE ROLE {PASSWORD_USER} LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        self._call("pg_ctl", "-D", self._data, "-l", self.folder / "log", "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `fast` ends its connections well, `immediate` as if it had crashed."""
        self._call("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def freeze(self) -> None:
        """Have it say nothing, as a machine that swaps; connections stay open."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """Have it go on."""
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        number = int((self._data / "postmaster.pid").read_text().split()[0])
        first = psutil.Process(number)
        return [first, *first.children(recursive=True)]

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run one statement outside of any transaction and return what it prints."""
        where = ["-h", self.folder, "-U", USER, "-d", database]
        return self._call("psql", *where, "-v", "ON_ERROR_STOP=1", "-Atqc", statement)

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str, user: str = USER) -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def _call(self, program: str, *arguments: str | Path) -> str:
        command = [*self._as_user, self._programs / program, *arguments]
        with tempfile.TemporaryFile("w+") as output:  # the server keeps a pipe open for ever
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=60
            )
            output.seek(0)
            text = output.read()
        assert done.returncode == 0, f"{program}: {text}"
        return text.strip()


def find_programs() -> Path | None:
    """Return the folder with PostgreSQL's programs, the newest version's first."""
    found = shutil.which("initdb")
    folders = [*INSTALLED, *([Path(found).resolve().parent] if found else [])]
    return folders[0] if folders else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole session."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    # A short name: a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="pelton-pg-") as folder:
        server = Postgres(Path(folder), programs)
        try:
            server.make()
            yield server
        finally:
            server.stop()
