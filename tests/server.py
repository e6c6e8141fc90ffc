"""A PostgreSQL server for the tests: its own data, its own port, and nobody else's server is touched."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from comparisons import children, kill

USER, PASSWORD = "conveyor", "opensesame"
ACCOUNT = "postgres"  # the package makes it; root may not run the server
MISSING = "PostgreSQL's server is not installed: scripts/test --all does that (Debian: apt-get install postgresql)"


def program(name: str) -> str:
    """Debian keeps the server's programs where no PATH leads."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = str(kept[-1]) if kept else shutil.which(name)
    assert found, MISSING
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """A server in a folder."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []} if os.getuid() == 0 else {}
        if self.account:
            shutil.chown(folder, ACCOUNT, ACCOUNT)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        words = ["-U", USER, "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--encoding=UTF8", "--no-sync"]
        command = [program("initdb"), "-D", str(folder / "data"), *words]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **self.account)

    def start(self) -> None:
        """Starts it, and waits until it answers. What was killed may hold its memory for a moment: then once more."""
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        command = [program("postgres"), "-D", str(self.folder / "data")]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        for _ in range(300):
            if self.process is None or self.process.poll() is not None:
                with open(self.folder / "log", "a") as log:
                    self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self.account)
            with contextlib.suppress(psycopg.OperationalError), self.connection():
                return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """All of its processes at once, as by a power cut."""
        kill([self.process.pid, *children(self.process.pid)])
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # which waits for nobody
            self.process.wait(timeout=60)

    def connection(self) -> psycopg.Connection:
        return psycopg.connect(self.url("postgres"), autocommit=True)

    def create(self, database: str) -> str:
        """A new database: its URL."""
        with self.connection() as connection:
            connection.execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server that stands in a folder of its own, which its account can reach, and goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="conveyor-postgresql-"))
    try:
        server = Server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
