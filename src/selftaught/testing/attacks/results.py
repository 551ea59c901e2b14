"""Attacks on what comes back, and on what the host knows and must not tell."""

from selftaught.testing.attacks.attack import (
    MIB,
    Attack,
    Report,
    filled_the_host,
    overran,
)
from selftaught.testing.attacks.attacked_host import AttackedHost

# Writes on every descriptor that there may be but the standard ones.
_EVERYWHERE = """
import pickle, zlib
def everywhere(data):
    for descriptor in range(3, 256):
        left = data
        try:
            while left:
                left = left[os.write(descriptor, left):]
        except OSError:
            pass
def framed(body):
    return struct.pack(">Q", len(body)) + body
"""

_HONEST = "def attack():\n    return 'an honest answer'\n"


def _is_forged(report: Report, host: AttackedHost) -> bool:
    return report.ended == "returned" and report.value != "an honest answer"


def _ran_in_the_host(report: Report, host: AttackedHost) -> bool:
    return (host.folder / "ran").exists()


def _host_broke(report: Report, host: AttackedHost) -> bool:
    return report.ended == "host broke" or overran(report, host)


FORGING = (
    Attack(
        name="exit_before_the_result",
        gains="a success without an answer",
        body="def attack():\n    os._exit(0)",
        succeeds=lambda report, host: report.ended == "returned",
    ),
    Attack(
        name="write_the_next_programs_answer",
        gains="the score of another program, or its own twice",
        body=_EVERYWHERE
        + """
def attack():
    everywhere(zlib.decompress(HOST["frame"]) * 3)
    return 1
""",
        frame_text="99.0",
        afterwards=_HONEST,
        succeeds=_is_forged,
    ),
    Attack(
        name="frame_of_length_2_to_60",
        gains="a host that waits, or takes that much memory",
        body=_EVERYWHERE
        + """
def attack():
    everywhere(struct.pack(">Q", 1 << 60) + b"x" * 64)
    everywhere(b"\\xff" * 64)
    time.sleep(1000)
""",
        succeeds=_host_broke,
        time_limit_s=0.5,
        lasts=True,
    ),
    Attack(
        name="pickle_in_a_frame",
        gains="code that runs in the host",
        body=_EVERYWHERE
        + """
class Payload:
    def __reduce__(self):
        return os.mkdir, (os.path.join(HOST["folder"], "ran"),)
def attack():
    data = pickle.dumps(Payload())
    everywhere(framed(data))
    everywhere(data)
    return data
""",
        succeeds=_ran_in_the_host,
    ),
    Attack(
        name="return_an_object",
        gains="code that runs in the host",
        body="""
            class Payload:
                def __reduce__(self):
                    return os.mkdir, (os.path.join(HOST["folder"], "ran"),)
            sys.modules["__main__"].Payload = Payload
            def attack():
                return Payload()
        """,
        succeeds=_ran_in_the_host,
    ),
    Attack(
        name="return_an_array_of_objects",
        gains="code that runs in the host",
        needs="numpy",
        body="""
            import numpy
            class Payload:
                def __reduce__(self):
                    return os.mkdir, (os.path.join(HOST["folder"], "ran"),)
            def attack():
                array = numpy.empty(1, dtype=object)
                array[0] = Payload()
                return array
        """,
        succeeds=_ran_in_the_host,
    ),
)


def _bomb(name: str, gains: str, text: str) -> Attack:
    """An attack on the host's decoder with a JSON text in the frame of an answer."""
    body = _EVERYWHERE + (
        "def attack():\n    everywhere(zlib.decompress(HOST['frame']))\n    time.sleep(1000)\n"
    )
    return Attack(
        name=name, gains=gains, body=body, frame_text=text, succeeds=_host_broke, time_limit_s=0.5
    )


DECODING = (
    _bomb("nest_lists_deeply", "a host that crashes", "[" * 1_000_000),
    _bomb("nest_objects_deeply", "a host that crashes", '{"a":' * 400_000),
    _bomb("send_a_number_of_many_digits", "a host that computes", "[" + "9" * 2_000_000 + "]"),
    _bomb("end_in_the_middle", "a host that waits or breaks", '{"a": [1, 2'),
    _bomb("send_what_is_no_text", "a host that breaks", "[\\ud800\x00"),
)

FLOODING = (
    Attack(
        name="print_200_mb",
        gains="the host's memory, and a log that nobody can read",
        facts={"bytes": 200 * MIB},
        control_facts={"bytes": 100 * MIB},
        body="""
            def attack():
                for n in range(HOST["bytes"] >> 20):
                    print("x" * (1 << 20))
                    print("x", file=sys.stderr)
                return HOST["bytes"]
        """,
        succeeds=filled_the_host,
        time_limit_s=10.0,
    ),
    Attack(
        name="write_200_mb_to_standard_output",
        gains="the host's memory, past a front around print",
        facts={"bytes": 200 * MIB},
        control_facts={"bytes": 100 * MIB},
        body="""
            def attack():
                for n in range(HOST["bytes"] >> 16):
                    os.write(1, b"x" * (1 << 16))
                return HOST["bytes"]
        """,
        succeeds=filled_the_host,
        time_limit_s=10.0,
    ),
    Attack(
        name="return_300_mb",
        gains="the host's memory",
        facts={"bytes": 300 * MIB},
        control_facts={"bytes": 100 * MIB},
        body="def attack():\n    return 'x' * HOST['bytes']",
        succeeds=filled_the_host,
        memory_bytes=2048 * MIB,
        time_limit_s=10.0,
    ),
)


def _tampering(name: str, body: str, look: str) -> Attack:
    """An attack on the next program, which looks whether it finds what this one changed."""
    afterwards = f"def attack():\n    {look}\n"
    return Attack(
        name=name,
        gains="the behaviour of every later program",
        body=body,
        afterwards=afterwards,
    )


TAMPERING = (
    _tampering(
        "tamper_with_modules",
        "def attack():\n    sys.modules['json'] = sys.modules['os']\n    return 1",
        "import json\n    return not hasattr(json, 'dumps')",
    ),
    _tampering(
        "tamper_with_builtins",
        "import builtins\ndef attack():\n    builtins.sum = lambda items: 99\n    return 1",
        "return sum([1]) == 99",
    ),
    _tampering(
        "tamper_with_time",
        "def attack():\n    time.time = time.monotonic = time.process_time = lambda: 0.0\n"
        "    return 1",
        "return time.time() == 0.0",
    ),
    _tampering(
        "tamper_with_a_function_of_a_module",
        "import math\ndef attack():\n    math.sqrt = lambda x: 99.0\n    return 1",
        "import math\n    return math.sqrt(4) == 99.0",
    ),
    _tampering(
        "leave_a_message_for_the_next_program",
        "def attack():\n    os.environ['LEFT'] = sys.left = 'x'\n    return 1",
        "return hasattr(sys, 'left') or 'LEFT' in os.environ",
    ),
    _tampering(
        "leave_a_hook_for_the_next_program",
        "def attack():\n    sys.setprofile(lambda *a: setattr(sys, 'hooked', 1))\n    return 1",
        "return hasattr(sys, 'hooked')",
    ),
)

ATTACKS = FORGING + DECODING + FLOODING + TAMPERING
