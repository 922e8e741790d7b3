# SPDX-License-Identifier: MIT
"""PID 1 of the guest: a bare CPython, no shell, no network but lo, of the modules those of sock_diag(7).

Everything it finds goes out on the serial port that REPORT= on the kernel's command line names, one JSON
object a line, with a checksum in front because the kernel may write to the same port. The last word is
"done"; the host takes a guest without it for broken.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
import zlib
from pathlib import Path
from typing import Any

PYTHON = sys.executable or f"/usr/bin/python3.{sys.version_info[1]}"
CHECKOUT = Path("/checkout")
COUNTS = Path("/tmp/counts.json")

# Files below tests/ that stay out, and why. All others run.
LEFT_OUT = {
    r"project/.*": "about the checkout, its build, and the host's side of this",
    r"test_(fuzz|lies)\.py": "they compile C",
    r"test_(door|types)\.py": "about imports and annotations; they start Python dozens of times",
    r"test_(selftest|ktap)\.py|cli/.*": "about command lines; the guest runs the self test itself, twice",
    r"testing/test_(paths|pytest_plugin)\.py": "they want veth, a module that is not in the image",
    r"servers/.*": "about reuseport audit, as reuseport/",
    r"fleet/.*": "about deploy/, with a Prometheus",
    r"symptoms/.*": "about the words of a page; its tests want iproute2, gcc and veth",
    r"findings/.*": "the guest runs the programs of docs/findings itself",
    r"recipes/.*": "about other libraries, which pip installs",
    r"reuseport/.*": "reuseport does not read MPTCP's options, and its tests want iproute2",
}


def say(kind: str, **words: Any) -> None:
    """One line for the host."""
    text = json.dumps({"kind": kind, **words})
    data = f"\n@@{zlib.crc32(text.encode()):08x} {text}\n".encode()
    port = os.open(f"/dev/{os.environ['REPORT']}", os.O_WRONLY | os.O_NOCTTY)
    while data:
        data = data[os.write(port, data) :]
    os.close(port)


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def mount() -> None:
    libc = ctypes.CDLL(None)
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None)


def bring_up_lo() -> None:
    set_flags, up, running = 0x8914, 0x1, 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, set_flags, struct.pack("16sH14x", b"lo", up | running))


def load_modules(*names: str) -> None:
    """Those of them in /modules, in an order in which none needs a later one."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name in names:
        path = Path(f"/modules/{name}.ko")
        if path.exists():
            data = path.read_bytes()
            if libc.init_module(data, ctypes.c_ulong(len(data)), b""):
                raise OSError(ctypes.get_errno(), f"init_module: {os.strerror(ctypes.get_errno())}", name)


def python(*arguments: str, cwd: str, limit: float) -> dict[str, Any]:
    """Run Python to its end: code (None after limit seconds), out, and the seconds it took."""
    start = uptime()
    with subprocess.Popen(
        [PYTHON, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=limit)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            code = None
    return {"code": code, "out": out.decode(errors="replace"), "seconds": round(uptime() - start, 1)}


def self_test(option: str) -> None:
    """The exit status, the totals, and what did not pass."""
    found = python("-m", "mptcp_sockopt.selftest", *[option] * (option == "-6"), cwd="/", limit=120)
    lines = found.pop("out").splitlines()
    totals = [line for line in lines if line.startswith(("# Totals", "1..0"))]
    remarkable = [line for line in lines if line.startswith("not ok") or "# SKIP" in line]
    say("selftest", option=option, totals=totals, remarkable=remarkable, last=lines[-3:], **found)


def probe(module: str) -> None:
    found = python("-m", f"tests.kernels.{module}", cwd=str(CHECKOUT), limit=240)
    for line in found["out"].splitlines():
        if line.startswith('{"kind": '):
            say(**json.loads(line))
    if found["code"] != 0:
        found["out"] = found["out"][-3000:]
        say("probe failed", **found)


def roll() -> None:
    """Restart under load, by every strategy; the naive one is the control, which must lose somebody."""
    for words in ("", "-6", "--mptcp", "--mptcp -6"):
        command = f"-m reuseport roll {words} --conns 20000 --restarts 100 --seconds 600"
        say("roll", words=words, **python(*command.split(), cwd="/", limit=3600))


def tests_to_run() -> tuple[list[str], dict[str, list[str]]]:
    """Files, and those that stay out by their reason."""
    files, out = [], {reason: [] for reason in LEFT_OUT.values()}  # type: tuple[list[str], dict[str, list[str]]]
    folder = CHECKOUT / "tests"
    for name in sorted(str(path.relative_to(folder)) for path in folder.rglob("test_*.py")):
        for pattern, reason in LEFT_OUT.items():
            if re.fullmatch(pattern, name):
                out[reason].append(name)
                break
        else:
            files.append(f"tests/{name}")
    return files, out


def run_tests(require_mptcp: bool) -> None:
    files, out = tests_to_run()
    say("left out", files=out)
    # Asserts as they are: to rewrite them under emulation takes as long as to run them.
    words = "-m pytest -q --assert=plain --durations=15 --color=no -p no:cacheprovider"
    found = python(
        *words.split(),
        *["-p", "tests.kernels.guest_pytest"],
        *["--require-mptcp"] * require_mptcp,
        *files,
        cwd=str(CHECKOUT),
        limit=float(os.environ.get("LIMIT", "1200")),  # the host's for all of it; a busy one is given more
    )
    found["out"] = found["out"][-30000:] if found["code"] else ""
    counts = json.loads(COUNTS.read_text()) if COUNTS.exists() else None
    say("pytest", files=files, counts=counts, **found)


def planted(what: str) -> None:
    """Something that the host must not take for a pass."""
    if what == "crash":
        raise RuntimeError("planted")
    if what == "hang":
        signal.pause()
    if what == "panic":
        Path("/proc/sys/kernel/sysrq").write_text("1")
        Path("/proc/sysrq-trigger").write_text("c")
    if what == "poweroff":
        power_off()
    if what == "fail":
        test = "def test_planted() -> None:\n    assert False, 'planted'\n"
        (CHECKOUT / "tests" / "test_planted.py").write_text(test)


def main() -> None:
    name = os.uname()
    say(
        "boot",
        release=name.release,
        machine=name.machine,
        up=uptime(),
        python=sys.version.split()[0],
        bits=struct.calcsize("P") * 8,
        byteorder=sys.byteorder,
    )
    planted(os.environ.get("PLANT", ""))
    load_modules("inet_diag", "tcp_diag", "mptcp_diag")
    enabled = Path("/proc/sys/net/mptcp/enabled")
    mptcp = enabled.exists() and enabled.read_text().strip() == "1"
    say("sysctl", enabled=mptcp)
    probe("probe")
    if os.environ.get("ROLL"):
        roll()
    if not os.environ.get("ASK"):
        self_test("-4")
        self_test("-6")
        run_tests(mptcp)
    load_modules("af_packet", "veth")  # only now: the tests of paths take too long under emulation
    probe("faults")
    say("done", up=uptime())


def power_off() -> None:
    time.sleep(0.2)  # for what the port has not sent yet
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)


def init() -> None:
    """Do the work in a child, and reap whoever is left over: that is what PID 1 is for."""
    mount()
    os.environ.update(
        PATH="/usr/bin:/bin",
        HOME="/tmp",
        PYTHONPATH="/site",
        MPTCP_SOCKOPT_EMULATED="1",  # repeat less: support.rounds()
        LC_ALL="C.UTF-8",
    )
    Path("/proc/sys/kernel/printk").write_text("1")  # the kernel's own words, but the last
    bring_up_lo()
    worker = os.fork()
    if worker == 0:
        try:
            main()
        except BaseException:
            say("crash", error=traceback.format_exc())
        os._exit(0)
    while os.wait()[0] != worker:
        pass
    power_off()


if __name__ == "__main__":
    try:
        init()
    except BaseException:
        say("crash", error=traceback.format_exc())
    power_off()
