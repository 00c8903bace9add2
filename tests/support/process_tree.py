"""The processes that a command has started, from /proc: their words, and the TCP ports on which they listen."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from renalnet.runtime import process

_LISTENING: Final = "0A"
"""State of a listening socket in /proc/net/tcp (proc(5))."""


@dataclass(frozen=True)
class Port:
    """A TCP port on which a process listens."""

    pid: int
    command: str
    """Words of the process."""
    host: str
    """Address on which it listens; `0.0.0.0` and `::` are all interfaces."""
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine reach it."""
        address = ipaddress.ip_address(self.host)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def descendants(root: int) -> dict[int, str]:
    """Return the words of each process that a process has started, directly or not, by process id."""
    return {pid: words(pid) for pid in process.descendants(root)}


def words(pid: int) -> str:
    """Return the words of a process, joined by spaces; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def still_alive(pids: dict[int, str]) -> dict[int, str]:
    """Return those processes that have not ended; a zombie has."""
    return {pid: command for pid, command in pids.items() if process.start_of(pid)}


def listening(pids: dict[int, str]) -> list[Port]:
    """Return the ports on which processes listen."""
    sockets = _sockets()
    return [
        Port(pid, command, *sockets[inode])
        for pid, command in pids.items()
        for inode in sorted(_inodes(pid))
        if inode in sockets
    ]


def _inodes(pid: int) -> set[str]:
    found = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return found
    return found


def _sockets() -> dict[str, tuple[str, int]]:
    """Return address and port of each listening socket by its inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if fields[3] == _LISTENING:
                host, _, port = fields[1].partition(":")
                found[fields[9]] = (_address(host), int(port, 16))
    return found


def _address(digits: str) -> str:
    """Return an address that /proc states as words of 32 bits in the order of the machine, here little endian."""
    groups = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(groups)))
