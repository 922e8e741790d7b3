# SPDX-License-Identifier: MIT
"""A laboratory without privilege: network namespaces, and a wire with a round-trip time between two of them.

Nothing here has a name that outlives it. A namespace lives as long as a process is in it or a descriptor
holds it, an interface as long as its namespace, a child as long as its parent: kill -9 cleans up.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import gc
import math
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from mptcp_sockopt.cli import CannotRun, reason

from ._children import Handle as Handle
from ._children import close_from
from ._children import in_child as in_child

T = TypeVar("T")

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def _libc(function: str, *arguments: int) -> None:
    """unshare(2) and setns(2); os has them from Python 3.12 only."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


# ------------------------------------------------------------------------------------------- namespaces


def enter_private_network() -> None:
    """Move the calling process, a child with one thread, to a new network namespace: lo is up, and nearly
    every port is there for connect() to take.

    Without privilege to a new user namespace too, whose root the caller then is: uid and gid read 0.
    """
    try:
        try:
            _libc("unshare", _CLONE_NEWNET)
        except PermissionError:
            _enter_as_root_of_a_new_user_namespace()
        _furnish()
        _made.add(_identity())
    except OSError as error:
        off = ", ".join(f"{name}={value}" for name, value in _SWITCHES if _sysctl(name) == value)
        why = f"{error}, with {off}" if off else reason(error)
        raise CannotRun(f"a private network namespace may not be made here: {why}") from error


# With these values a system has no namespaces, or none for users without privilege.
_SWITCHES = (
    ("user.max_user_namespaces", "0"),
    ("user.max_net_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
)


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name.replace(".", "/")).read_text().strip()
    except OSError:
        return None  # this kernel has no such switch


def _enter_as_root_of_a_new_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _libc("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    # Only uid 0 keeps its capabilities over execve(2), and `ip` needs them.
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(text)


# Namespaces that this process, or the one it was forked from, went to.
_made: set[int] = set()


def _identity() -> int:
    """Of the calling thread's network namespace: an inode number."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def _furnish() -> None:
    _bring_up("lo")
    with contextlib.suppress(OSError):  # a comfort: clients run out of ports later
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("1024 65535")


def _bring_up(interface: str) -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, get_flags, struct.pack("16sH14x", interface.encode(), 0))
        name, flags = struct.unpack("16sH14x", answer)
        fcntl.ioctl(control, set_flags, struct.pack("16sH14x", name, flags | up))


def _namespace() -> int:
    """A descriptor of the calling thread's network namespace; the namespace lives as long as it is open."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def _away(enter: Callable[[], None]) -> Iterator[None]:
    """Be in the network namespace that enter() goes to, and home again."""
    home = _namespace()
    try:
        enter()
        yield
    finally:
        _enter(home)
        os.close(home)


def _enter(namespace: int) -> None:
    _libc("setns", namespace, _CLONE_NEWNET)


def _new_namespace() -> int:
    """A descriptor of a new network namespace, furnished; the caller stays where it is."""
    with _away(lambda: _libc("unshare", _CLONE_NEWNET)):
        _furnish()
        return _namespace()


# --------------------------------------------------------------------------------------------- the wire

_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS, _ETH_P_ALL = 33, 35, 3
_TIMESPEC = struct.Struct("ll")
_BUFFER = 4 << 20
_FRAME = 128 << 10  # the most that one read brings: 10 bytes about offloads, and up to 64 KiB
_BATCH = 64  # frames read in a row, before those that are due go first

_INTERFACE = "lab0"
_HOSTS = {socket.AF_INET: ("10.9.0.1", "10.9.0.2", 24), socket.AF_INET6: ("fd09::1", "fd09::2", 64)}
_PAIRS = f"""\
link add server up type veth peer name {_INTERFACE} netns /proc/self/fd/{{server}}
link add client up type veth peer name {_INTERFACE} netns /proc/self/fd/{{client}}
"""
# Both ends have one link-layer address and no ARP: then the kernel addresses every frame to that (the
# neighbour of an interface without ARP has the interface's own), and no handshake waits for a neighbour.
_CONFIGURE = f"""\
link set {_INTERFACE} address 02:00:00:00:09:00 arp off addrgenmode none
addr add {{address}}/{{prefix}} dev {_INTERFACE} {{flags}}
link set {_INTERFACE} up
"""


class Wire:
    """``with Wire(rtt=0.080) as wire:`` a path with a round-trip time between two network namespaces.

    The *server* namespace is the caller's own, which enter_private_network() made; the *client* namespace
    is new. Each has an interface (a veth, MTU 1500, offloads on). The far ends are in a third namespace,
    where a process carries frames between two packet sockets, in order, each rtt/2 seconds after it came
    (and some 0.1 ms; more when the machine is busy and the user is not root). Real kernels, no privilege.

    CannotRun names what is missing: the ``ip`` program, a kernel feature. RuntimeError in a namespace that
    enter_private_network() did not make.
    """

    def __init__(self, *, rtt: float, family: int = socket.AF_INET) -> None:
        if not (math.isfinite(rtt) and rtt >= 0):
            raise ValueError(f"not a round-trip time in seconds: {rtt}")
        self.rtt = rtt
        self.family = family
        self.server_address, self.client_address, self._prefix = _HOSTS[socket.AddressFamily(family)]
        self._held = contextlib.ExitStack()
        self._client = -1

    def __enter__(self) -> Wire:
        if _identity() not in _made:
            raise RuntimeError(
                "a wire is built where enter_private_network() leads, never in another's network"
            )
        with contextlib.ExitStack() as held:
            try:
                self._build(held)
            except OSError as error:
                raise CannotRun(
                    f"a wire between network namespaces may not be made here: {reason(error)}"
                ) from error
            self._held = held.pop_all()
        return self

    def _build(self, held: contextlib.ExitStack) -> None:
        with contextlib.ExitStack() as ours:
            server = ours.enter_context(_opened(_namespace()))
            wire = ours.enter_context(_opened(_new_namespace()))
            self._client = held.enter_context(_opened(_new_namespace()))
            with _away(lambda: _enter(wire)):
                _ip(_PAIRS.format(server=server, client=self._client), server, self._client)
                # The kernel would remove it with its far end, but in its own time.
                held.callback(_remove_interface)
                ends = [ours.enter_context(_packet_socket(far)) for far in ("server", "client")]
            self._configure(self.server_address)
            with _away(lambda: _enter(self._client)):
                self._configure(self.client_address)
            held.enter_context(Handle(lambda: _carry(ends, self.rtt / 2)))  # these hold the wire's namespace
            self._await_passage()

    def _configure(self, address: str) -> None:
        flags = "nodad" if self.family == socket.AF_INET6 else ""
        _ip(_CONFIGURE.format(address=address, prefix=self._prefix, flags=flags))

    def _await_passage(self) -> None:
        """Until a datagram came there and back. The kernel's workers make interfaces and IPv6 addresses ready
        some time after `ip` has ended; a SYN that was lost to that would cost a client a second."""
        deadline = time.monotonic() + 10 + self.rtt
        with contextlib.ExitStack() as ours:
            server = ours.enter_context(socket.socket(self.family, socket.SOCK_DGRAM))
            server.bind((self.server_address, 0))
            with _away(lambda: _enter(self._client)):
                client = ours.enter_context(socket.socket(self.family, socket.SOCK_DGRAM))
            server.setblocking(False)
            client.settimeout(0.005)
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):  # no route yet
                    client.sendto(b"?", server.getsockname())
                with contextlib.suppress(OSError):  # nor a datagram
                    server.sendto(b"!", server.recvfrom(1)[1])
                with contextlib.suppress(TimeoutError):
                    client.recv(1)
                    return
        raise CannotRun("a wire between network namespaces: nothing passes it")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def start_in_client(self, function: Callable[[], T]) -> Handle[T]:
        """Start function in a forked child in the client namespace; it ends with the wire at the latest.

        The caller's TCP sockets are closed in it: a listener that lives on in a client serves nobody.
        Pipes and Unix sockets stay.
        """

        def there() -> T:
            _drop_tcp_sockets()
            _enter(self._client)
            return function()

        return self._held.enter_context(Handle(there))

    def run_in_client(self, function: Callable[[], T], *, seconds: float) -> T:
        """Call function in a forked child in the client namespace; else as in_child()."""
        return self.start_in_client(function).result(seconds)


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _ip(commands: str, *descriptors: int) -> None:
    """Run ``ip -batch`` where the calling thread is."""
    try:
        subprocess.run(
            ["ip", "-batch", "-"],
            input=commands,
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except FileNotFoundError:
        raise CannotRun("the program ip (iproute2)") from None
    except subprocess.TimeoutExpired as error:
        raise CannotRun(f"a veth interface: {error}") from None
    except subprocess.CalledProcessError as error:
        raise CannotRun(f"a veth interface: ip says {error.stderr.strip()!r}") from None


def _remove_interface() -> None:
    with contextlib.suppress(CannotRun):  # it is gone when the wire's process was killed
        _ip(f"link del {_INTERFACE}")


def _packet_socket(interface: str) -> socket.socket:
    """Every frame that comes in by interface, and a way out."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: nothing before bind()
    sock.setblocking(False)
    # Frames are unfinished (checksums, segmentation left to hardware); this header says in what.
    sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # as much as net.core.rmem_max lets
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.bind((interface, _ETH_P_ALL))
    return sock


def _carry(ends: Sequence[socket.socket], delay: float) -> None:
    """Carry frames both ways, each delay seconds after it came, until killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the wire ends after those who use it
    gc.disable()  # no pauses; and no object of the caller's is collected here, with descriptors closed below
    with contextlib.suppress(PermissionError):  # without privilege it waits its turn on a busy machine
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    one, other = _alone_with(ends)
    lanes = [(one, other, collections.deque[tuple[float, bytes]]())]
    lanes.append((other, one, collections.deque()))
    buffer = bytearray(_FRAME)
    while True:
        for _, out, frames in lanes:
            while frames and frames[0][0] <= time.monotonic():
                with contextlib.suppress(OSError):  # lost, as on any wire
                    out.send(frames.popleft()[1])
        due = min((frames[0][0] for _, _, frames in lanes if frames), default=math.inf)
        patience = None if due == math.inf else max(0.0, due - time.monotonic())
        # select(2) waits to the microsecond; poll(2) and epoll(7) in Python to the millisecond.
        ready, _, _ = select.select([one, other], [], [], patience)
        for source, _, frames in lanes:
            if source in ready:
                frames.extend((came + delay, frame) for came, frame in _read_frames(source, buffer, delay))


def _read_frames(source: socket.socket, buffer: bytearray, delay: float) -> Iterator[tuple[float, bytes]]:
    """When each came, by time.monotonic(), and the frame."""
    with contextlib.suppress(OSError):  # nothing more for now, or an interface that is going
        for _ in range(_BATCH):
            size, ((_, _, stamp),), _, _ = source.recvmsg_into([buffer], _TIMESPEC.size + 32)
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            # How long it lay unread is part of its delay. A clock that was set is not heeded.
            age = min(max(0.0, time.time() - seconds - nanoseconds / 1e9), delay)
            yield time.monotonic() - age, bytes(memoryview(buffer)[:size])


def _alone_with(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """The sockets at low numbers (select(2) knows 1,024), every other descriptor but stdio closed."""
    moved = [os.dup(sock.fileno()) for sock in sockets]
    for number, descriptor in enumerate(moved, 3):
        os.dup2(descriptor, number)
    close_from(3 + len(moved))
    return [socket.socket(fileno=number) for number in range(3, 3 + len(moved))]


def _drop_tcp_sockets() -> None:
    """Put /dev/null in their place: objects of the caller's may still close their numbers."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of that listing
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    inet = sock.family in (socket.AF_INET, socket.AF_INET6)
                if inet:
                    os.dup2(null, int(name), inheritable=False)
    os.close(null)
