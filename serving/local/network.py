"""A pod's own network on one machine: each declared port gets a free port of 127.0.0.1.

The flags, environment values and addresses that name a declared port are rewritten to match.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence

from serving.errors import PlayerError
from serving.local.identity import port_holder

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral range: an outgoing connection never takes the port of a restart.
FIRST_PORT, LAST_PORT = 20000, 32000
NOBODY = 1
"""Port that refuses connections: what localhost:P means in a pod where nobody declares P."""

_ADDRESS = re.compile(r"\b(localhost|127\.0\.0\.1):(\d+)\b")
_FLAG = re.compile(r"^(--[\w-]*port=)(\d+)$")
_BARE_FLAG = re.compile(r"^--[\w-]*port$")


def is_free(port: int) -> bool:
    """True if nothing listens on 127.0.0.1:port or on all addresses."""
    with socket.socket() as probe:
        # As servers do: without it, connections that ended a moment ago count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def check_port_free(port: int) -> None:
    """Raises PlayerError naming a taken port, who holds it if known, and what to do."""
    if not is_free(port):
        holder = port_holder(port) or "a process of another user"
        raise PlayerError(
            f"port {port} of {LOOPBACK} is taken by {holder}; end it or set another gateway_port"
            " in player.yaml"
        )


def free_ports(taken: Collection[int]) -> Iterator[int]:
    """Free ports in random order, none of `taken` and none twice. Raises PlayerError."""
    candidates = random.sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT)
    for port in candidates:
        if port not in taken and is_free(port):
            yield port
    raise PlayerError(f"no free port between {FIRST_PORT} and {LAST_PORT}; end some servers")


def rewrite_args(args: Sequence[str], ports: Mapping[int, int]) -> tuple[str, ...]:
    """Args with `--x_port=P`, `--x-port P` and localhost:P moved to the allocated ports."""
    moved: list[str] = []
    for index, arg in enumerate(args):
        flag = _FLAG.match(arg)
        if flag and int(flag[2]) in ports:
            moved.append(f"{flag[1]}{ports[int(flag[2])]}")
        elif index and _BARE_FLAG.match(args[index - 1]) and arg.isdigit():
            moved.append(str(ports.get(int(arg), arg)))
        else:
            moved.append(rewrite_addresses(arg, ports))
    return tuple(moved)


def rewrite_env(name: str, value: str, ports: Mapping[int, int]) -> str:
    """The value of one variable; a bare number moves only where the name ends in PORT."""
    if name.upper().endswith("PORT") and value.isdigit():
        return str(ports.get(int(value), value))
    return rewrite_addresses(value, ports)


def rewrite_addresses(text: str, ports: Mapping[int, int]) -> str:
    return _ADDRESS.sub(lambda m: f"{LOOPBACK}:{ports.get(int(m[2]), NOBODY)}", text)
