"""Several machines that train together: they meet and compare their bundles before anything else is started."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import struct
import time
from datetime import timedelta
from pathlib import Path
from typing import Self

from torch.distributed import DistError, PrefixStore, Store, TCPStore

from .failure import Failure

WAIT_S = 600.0
"""How long the machines wait for each other; FINETUI_NODES_S says otherwise."""
_LOOK_S = 0.2
_TRY_S = 5.0
_LEAVE_S = 10.0
_SIOCGIFADDR = 0x8915


class Node:
    """One of several machines, as the environment names it: NNODES, NODE_RANK and MASTER (HOST:PORT of number 0)."""

    def __init__(self, count: int, number: int, host: str, port: int) -> None:
        self.count = count
        self.number = number
        self._place = host, port
        self._seconds = float(os.environ.get("FINETUI_NODES_S") or WAIT_S)

    @classmethod
    def from_environment(cls) -> Self | None:
        """This machine, or None where it trains alone."""
        count = int(os.environ.get("NNODES") or 1)
        host, _, port = os.environ.get("MASTER", "").rpartition(":")
        return None if count == 1 else cls(count, int(os.environ["NODE_RANK"]), host, int(port))

    def meet(self, bundle: Path) -> Store:
        """Wait for all machines, and hold their bundles against number 0's.

        Gives what they met by; as long as that is kept, torch.distributed.run of number 0 listens by it too. Raises
        Failure (processes) that names the machines that have not come, or (bundle-mismatch) those with other bundles.
        """
        until = time.monotonic() + self._seconds
        kept = self._connect(until)
        store = PrefixStore("nodes", kept)
        mine = {"host": socket.gethostname(), "bundle": bundle_digest(bundle)}
        store.set(f"here/{self.number}", json.dumps(mine))
        missing = self._await(store, "here", until)
        if missing:
            names = ", ".join(map(str, missing))
            raise Failure("processes", f"after {self._seconds:g} s machine {names} of {self.count} has not come")
        said = [json.loads(store.get(f"here/{number}")) for number in range(self.count)]
        store.set(f"read/{self.number}", "")
        first = said[0]["bundle"]
        others = [
            f"machine {number} ({one['host']}) has {one['bundle'][:16]}…"
            for number, one in enumerate(said)
            if one["bundle"] != first
        ]
        if others:
            if self.number == 0:  # with it goes what the others read from
                self._await(store, "read", time.monotonic() + _LEAVE_S)
            raise Failure("bundle-mismatch", f"machine 0 ({said[0]['host']}) has {first[:16]}…, {', '.join(others)}")
        return kept

    def choose_interface(self) -> None:
        """Let gloo use the network that leads to number 0, and not what this machine's own name stands for."""
        if "GLOO_SOCKET_IFNAME" not in os.environ and (name := interface_to(self._place[0])):
            os.environ["GLOO_SOCKET_IFNAME"] = name

    def _connect(self, until: float) -> Store:
        """In short attempts: a signal is not heard within one."""
        while True:
            limit = timedelta(seconds=_TRY_S)
            try:
                return TCPStore(*self._place, None, self.number == 0, limit, wait_for_workers=False, multi_tenant=True)
            except (DistError, RuntimeError) as error:
                if self.number == 0 or time.monotonic() > until:
                    place = f"{self._place[0]}:{self._place[1]}"
                    act = "cannot listen on" if self.number == 0 else "does not reach"
                    host = socket.gethostname()
                    raise Failure(
                        "processes", f"machine {self.number} ({host}) {act} MASTER {place}: {error}"
                    ) from error
                time.sleep(_LOOK_S)

    def _await(self, store: Store, word: str, until: float) -> list[int]:
        """The machines that have not left a word in time."""
        while True:
            missing = [number for number in range(self.count) if not store.check([f"{word}/{number}"])]
            if not missing or time.monotonic() > until:
                return missing
            time.sleep(_LOOK_S)


def bundle_digest(bundle: Path) -> str:
    """What tells one bundle from another: SHA-256 of its manifest, which is its id; of its lock where it has none."""
    manifest = bundle / "manifest-sha256.txt"
    decides = manifest if manifest.is_file() else bundle / "lock.json"
    return hashlib.sha256(decides.read_bytes()).hexdigest()


def interface_to(host: str) -> str | None:
    """Name of the network interface that a machine is reached through; None where that cannot be told."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # nothing is sent
            mine = probe.getsockname()[0]
            named = {_address(probe, name): name for _, name in socket.if_nameindex()}
    except OSError:
        return None
    return named.get(mine)


def _address(probe: socket.socket, interface: str) -> str | None:
    """IPv4 address of an interface; None where it has none."""
    try:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()))
    except OSError:
        return None
    return socket.inet_ntoa(answer[20:24])
