"""The opposite of a sandbox: a plain Python process next to the hidden data, believed blindly.

It is what attacks are tried on first: one that fails here is broken and would prove nothing about
a sandbox. The process inherits the environment and descriptors, runs all programs in one
interpreter, and sends pickles, each behind its length in eight bytes; the host unpickles them.
"""

import json
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from selftaught.testing.attacks.attack import Report
from selftaught.testing.attacks.attacked_host import CANARY

_WORKER = """
import os, pickle, struct, sys
job = pickle.load(sys.stdin.buffer)
hidden = job["hidden"]
def send(message):
    data = pickle.dumps(message)
    data = struct.pack(">Q", len(data)) + data
    while data:
        data = data[os.write(job["descriptor"], data):]
for program in job["programs"]:
    names = {"__name__": "program"}
    try:
        exec(program, names)
        message = ("returned", names["attack"](), "")
    except BaseException as error:
        message = ("raised", None, f"{type(error).__name__}: {error}")
    send(message)
"""


def run_in_plain_process(
    programs: list[str], *, limit_s: float, judge: Callable[[list[Report]], Any]
) -> Any:
    """Run programs without isolation; return what `judge` says of their reports.

    Args:
        programs: texts that define `attack()`; all run in one process.
        limit_s: seconds for all of them; a program that is not done then was not stopped by
            anything, and its report says `overdue`.
        judge: called while the process still lives, as a careless host would leave it.
    """
    read_end, write_end = os.pipe()
    output, process_output = os.pipe()
    os.set_inheritable(write_end, True)
    job = {"programs": programs, "hidden": CANARY, "descriptor": write_end}
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER],
        stdin=subprocess.PIPE,
        stdout=process_output,
        stderr=process_output,
        close_fds=False,
    )
    os.close(process_output)
    os.close(write_end)
    assert process.stdin is not None
    printed: list[bytes] = []
    done = threading.Event()
    reader = threading.Thread(target=_keep_everything, args=[output, printed, done])
    reader.start()
    try:
        process.stdin.write(pickle.dumps(job))
        process.stdin.close()
        deadline = time.monotonic() + limit_s
        reports = [_receive(read_end, process, deadline) for _ in programs]
        return judge(reports)
    finally:
        process.kill()
        process.wait()
        done.set()
        reader.join()
        os.close(read_end)
        os.close(output)


def _keep_everything(output: int, printed: list[bytes], done: threading.Event) -> None:
    # A grandchild may hold the other end for long: the end of the pipe is not waited for.
    while not done.is_set():
        if select.select([output], [], [], 0.02)[0]:
            part = os.read(output, 1 << 16)
            if not part:
                return
            printed.append(part)


def _receive(read_end: int, process: subprocess.Popen[bytes], deadline: float) -> Report:
    started = time.monotonic()
    try:
        (length,) = struct.unpack(">Q", _take(read_end, 8, deadline))
        data = _take(read_end, length, deadline)
        # Without isolation means this, too: whatever comes is executed.
        message = pickle.loads(data) if data[:1] == b"\x80" else json.loads(data)
    except TimeoutError:
        return Report(ended="overdue", seconds=time.monotonic() - started)
    except EOFError:
        code = process.wait(timeout=5)
        # A careless host takes an exit code of 0 for a success.
        ended = "returned" if code == 0 else "died"
        return Report(ended=ended, reason=f"exit code {code}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Report(ended="host broke", reason=type(error).__name__)
    seconds = time.monotonic() - started
    if isinstance(message, tuple) and len(message) == 3:
        return Report(ended=message[0], value=message[1], reason=message[2], seconds=seconds)
    return Report(ended="returned", value=message, seconds=seconds)


def _take(read_end: int, length: int, deadline: float) -> bytes:
    parts = []
    while length > 0:
        left_s = deadline - time.monotonic()
        readable = left_s > 0 and select.select([read_end], [], [], left_s)[0]
        if not readable:
            raise TimeoutError
        part = os.read(read_end, min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
