"""Builds the project's Python environments from their locks, and checks the machine first.

Runs with nothing but the standard library, because it runs before anything is installed:

    python3 environments/build.py check --port 8080
    python3 environments/build.py build main drift
    python3 environments/build.py lock main        # after pyproject.toml changed
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "environments"
STAMP = ".seatrial-lock"
UNPACKED = 4  # wheels unpack to about four times their size (measured: torch 4.1, the rest 3.6)
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


@dataclass(frozen=True)
class Environment:
    """One virtual environment: the extras it holds, and what goes in without its dependencies."""

    name: str
    folder: str
    extras: str
    without_dependencies: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return ROOT / self.folder

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def lock(self) -> Path:
        return LOCKS / f"{self.name}.lock"

    def fingerprint(self) -> str:
        """Changes when the lock, the project's metadata or the interpreter change."""
        import tomllib  # noqa: PLC0415 - an older Python is told so by `check`, not by a traceback

        metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
        installed = [metadata["build-system"], metadata["project"], metadata["tool"]["setuptools"]]
        text = f"{sys.version} {ROOT} {self.without_dependencies} {installed}"
        return hashlib.sha256(self.lock.read_bytes() + text.encode()).hexdigest()

    def is_built(self) -> bool:
        stamp = self.path / STAMP
        return stamp.is_file() and stamp.read_text() == self.fingerprint()


ENVIRONMENTS = {
    "main": Environment("main", ".venv", "pipelines,predictor,local,dev"),
    # A lightweight component needs only kfp itself at run time; kfp's own pins clash with Alibi's.
    "drift": Environment("drift", ".venv-drift", "drift", ("kfp==2.17.0",)),
    # Seldon's wrapper wants protobuf 3, Flask 2 and the pkg_resources of an older setuptools.
    "seldon": Environment("seldon", ".venv-seldon", "seldon"),
    # Peers that benchmarks compare with; nothing else needs them.
    "bench": Environment("bench", ".venv-bench", "bench"),
}


class Refused(Exception):
    """The machine lacks something; the message says what and how to get it."""


def check(ports: Sequence[int]) -> None:
    """Raises Refused when Python, a tool or a port is not as it must be."""
    if sys.version_info[:2] != (3, 11):
        raise Refused(
            f"Python is {platform.python_version()}, this project needs 3.11; "
            "install python3.11 and run 'make PYTHON=python3.11 ...'"
        )
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise Refused(f"{sys.platform} on {platform.machine()} is not supported; use 64-bit Linux")
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Refused(f"Python has no module {module}; 'apt-get install python3.11-venv'")
    for tool in ("git", "make"):
        if shutil.which(tool) is None:
            raise Refused(f"{tool} is not on PATH; 'apt-get install {tool}'")
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise Refused(
                    f"port {port} on 127.0.0.1 is taken; end what listens there "
                    f"('ss -ltnp sport = :{port}' names it; 'seatrial down' if it is ours) "
                    "or choose another, as in 'make demo PORT=18080'"
                ) from None


def build(names: Sequence[str]) -> None:
    """Builds each environment whose lock changed since it was built; leaves the others alone.

    Two at a time: pip unpacks on one core.
    """
    wanted = [e for e in map(ENVIRONMENTS.__getitem__, names) if not e.is_built()]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        building = [pool.submit(_build, environment) for environment in wanted]
        try:
            for done in concurrent.futures.as_completed(building):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def lock(name: str) -> None:
    """Resolves the extras anew and writes `environments/<name>.lock`."""
    environment = ENVIRONMENTS[name]
    with tempfile.TemporaryDirectory(prefix="seatrial-lock-") as scratch:
        python = _new_venv(Path(scratch) / "venv")
        wanted = [f"{ROOT}[{environment.extras}]", "setuptools>=77"]
        pins = [f"{p.name}=={p.version.split('+')[0]}" for p in _resolve(python, wanted)]
    pins = sorted(pin for pin in pins if not pin.startswith("seatrial=="))
    header = f"# [{environment.extras}], locked by 'make lock'. Edit pyproject.toml instead.\n"
    _write(environment.lock, header + "\n".join(pins) + "\n")
    print(f"{environment.lock.relative_to(ROOT)}: {len(pins)} packages")


@dataclass(frozen=True)
class _Package:
    name: str
    version: str
    url: str


def _build(environment: Environment) -> None:
    started = time.monotonic()
    _say(f"{environment.folder}: resolving {environment.lock.relative_to(ROOT)}")
    if environment.path.exists():
        shutil.rmtree(environment.path)
    python = _new_venv(environment.path)
    packages = _resolve(python, ["-r", str(environment.lock)])
    megabytes = _download_size(packages) / 1e6
    cuda = any(p.name.lower().startswith("nvidia-") for p in packages)
    _say(
        f"{environment.folder}: {len(packages)} packages, {megabytes:,.0f} MB to download at most"
        + (" (pip takes torch's CUDA build on this machine)" if cuda else "")
        + f", about {megabytes * UNPACKED / 1000:.1f} GB on disk"
    )
    free = shutil.disk_usage(ROOT).free / 1e6
    if free < megabytes * (UNPACKED + 1) + 500:
        raise Refused(
            f"{ROOT} has {free / 1000:.1f} GB free, {environment.folder} needs about "
            f"{(megabytes * (UNPACKED + 1) + 500) / 1000:.1f} GB; free some space"
        )
    pins = [f"{p.name}=={p.version}" for p in packages] + list(environment.without_dependencies)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        _pip(python, "install", "--quiet", "--no-deps", "-r", file.name)
    _pip(python, "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    _write(environment.path / STAMP, environment.fingerprint())
    _say(f"{environment.folder}: built in {time.monotonic() - started:.0f} s")


def _new_venv(path: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    return path / "bin" / "python"


def _resolve(python: Path, wanted: Sequence[str]) -> list[_Package]:
    with tempfile.TemporaryDirectory(prefix="seatrial-resolve-") as scratch:
        report = Path(scratch) / "report.json"
        _pip(
            *(python, "install", "--quiet", "--dry-run", "--ignore-installed"),
            *("--report", str(report), *wanted),
        )
        items = json.loads(report.read_text())["install"]
    return [
        _Package(i["metadata"]["name"], i["metadata"]["version"], i["download_info"]["url"])
        for i in items
    ]


def _download_size(packages: Sequence[_Package]) -> int:
    def size(package: _Package) -> int:
        url = urllib.parse.urlsplit(package.url)
        if url.scheme == "file":
            return Path(urllib.parse.unquote(url.path)).stat().st_size
        request = urllib.request.Request(package.url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.headers.get("content-length") or 0)
        except OSError:
            return 0  # a mirror that answers no HEAD; the sum is then a lower bound

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return sum(pool.map(size, packages))


def _pip(python: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(python), *PIP, *arguments], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if re.match(r"ERROR|error", line)]
        raise Refused(f"pip failed: {(lines or done.stderr.splitlines() or ['no message'])[0]}")


def _write(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".partial")
    with partial.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the project's Python environments.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="Python, tools and ports, before anything starts")
    checking.add_argument("--port", type=int, action="append", default=[])
    for name in ("build", "lock"):
        command = commands.add_parser(name)
        command.add_argument("environments", nargs="+", choices=sorted(ENVIRONMENTS))
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            check(options.port)
        elif options.command == "build":
            build(options.environments)
        else:
            for name in options.environments:
                lock(name)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
