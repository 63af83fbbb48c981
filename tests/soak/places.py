"""Where the study of a soak lies: in the S3 server's bucket, or in a directory on a small tmpfs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.service.drive import ROOT
from tests.soak.s3_server import BUCKET, COMMITS, CONTROL, PORT

START_LIMIT_S = 60.0
TMPFS_MIB = 64


class S3Place:
    """A bucket on a server of our own, which can be told to fail."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = ""

    def start(self) -> None:
        """Start the server, with what the one before has saved; its address goes into the environment's key."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            os.environ[name] = "test"
        self._directory.mkdir(parents=True, exist_ok=True)
        port = self._directory / PORT
        port.unlink(missing_ok=True)
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.s3_server", "0", str(self._directory)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for the soak, which ends it when all others have ended
            )
        end = time.monotonic() + START_LIMIT_S
        while not port.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the S3 server does not start: {self._directory}/server.log")
            time.sleep(0.1)
        address = f"127.0.0.1:{port.read_text()}"
        self._url = f"http://{address}"
        self.uri = f"s3://{BUCKET}/studies/soak?endpoint_override={address}&scheme=http&region=us-east-1"

    def fault(self, kind: str, seconds: float) -> None:
        """Begin one of :data:`tests.soak.s3_server.FAULTS`."""
        self._ask(f"fault?kind={kind}&seconds={seconds:.3f}")

    def read(self, name: str) -> bytes:
        """A file of the study, whatever fault there is; raises OSError if it is not there."""
        return self._ask(f"object/studies/soak/{name}")

    def hits(self) -> dict[str, int]:
        """How many requests each kind of fault has met since the server started."""
        return {kind: int(count) for kind, count in (line.split() for line in self._ask("hits").decode().splitlines())}

    def commits(self) -> list[float]:
        """When runs were committed, in seconds since 1970."""
        return read_times(self._directory / COMMITS)

    def watch(self) -> None:
        """The server writes commits down by itself."""

    def fetch(self, to: Path) -> None:
        """The published study as a directory."""
        from pyarrow import fs

        to.mkdir(parents=True, exist_ok=True)
        filesystem, root = fs.FileSystem.from_uri(self.uri)
        fs.copy_files(root, str(to), source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem())

    def stop(self) -> None:
        """End the server; it saves its objects."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def _ask(self, what: str) -> bytes:
        request = urllib.request.Request(f"{self._url}{CONTROL}{what}", method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


class DiskPlace:
    """A directory on a tmpfs of :data:`TMPFS_MIB`, which a ballast can fill. Only root may mount one."""

    def __init__(self, directory: Path) -> None:
        self._mount, self._saved, self._commits = (directory / name for name in ("mount", "saved", COMMITS))
        self._changed = 0.0
        self.uri = str(self._mount / "studies" / "soak")

    def start(self) -> None:
        """Mount it, with what the soak before has saved; raises OSError where that is not allowed."""
        self._mount.mkdir(parents=True, exist_ok=True)
        if os.path.ismount(self._mount):  # the soak before was killed
            self._ballast.unlink(missing_ok=True)
            return
        command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "tmpfs", str(self._mount)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip() or "no tmpfs can be mounted")
        if self._saved.exists():
            shutil.copytree(self._saved, self._mount, dirs_exist_ok=True)

    @property
    def _ballast(self) -> Path:
        return self._mount / "ballast"

    def fill(self) -> None:
        """Leave not one byte free."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(2**16))
            except OSError:
                return

    def free(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """A file of the study; raises OSError if it is not there."""
        return (Path(self.uri) / name).read_bytes()

    def hits(self) -> dict[str, int]:
        """Nothing counts them here."""
        return {}

    def watch(self) -> None:
        """Write down when the directory of the runs' shards has changed: something was committed, or merged."""
        with suppress(FileNotFoundError):
            changed = (Path(self.uri) / "ledger" / "runs").stat().st_mtime
            if changed != self._changed:
                self._changed = changed
                with self._commits.open("a") as file:
                    file.write(f"{changed:.3f}\n")

    def commits(self) -> list[float]:
        """When runs were committed, in seconds since 1970."""
        return read_times(self._commits)

    def fetch(self, to: Path) -> None:
        """The published study as a directory."""
        shutil.copytree(self.uri, to, dirs_exist_ok=True)

    def stop(self) -> None:
        """Keep what is there, and unmount."""
        if not os.path.ismount(self._mount):
            return
        self.free()
        unfinished = self._saved.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(self._mount, unfinished)
        shutil.rmtree(self._saved, ignore_errors=True)
        unfinished.rename(self._saved)
        subprocess.run(["umount", "--lazy", str(self._mount)], check=True)


Place = S3Place | DiskPlace


def read_times(path: Path) -> list[float]:
    """The numbers of a file, one a line."""
    return [float(line) for line in path.read_text().splitlines()] if path.exists() else []
