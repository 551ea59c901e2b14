"""The compilers of this machine: where they are, and which files they need inside the sandbox.

Found by asking the compiler itself. A toolchain is mounted read-only, only for tasks that permit
it, and runs inside the sandbox like what it compiles.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache

import msgspec

from selftaught.errors import UsageError
from selftaught.permissions import SOURCE_SUFFIXES, Compiler

GIB = 1 << 30
LANGUAGES: tuple[Compiler, ...] = ("c", "c++", "rust", "go")
_ASK_S = 20.0
_GNU = {"c": ("gcc", "cc1", ("-std=gnu17",)), "c++": ("g++", "cc1plus", ("-std=gnu++17",))}
_INCLUDES = re.compile(r"search starts here:\n(.*?)End of search list", re.DOTALL)
_NEEDED = {"c": "gcc", "c++": "g++", "rust": "rustc, and gcc to link", "go": "go"}


class Toolchain(msgspec.Struct, frozen=True, kw_only=True):
    """How to compile one file of a language in the sandbox.

    Attributes:
        language: which.
        version: as the compiler says it.
        command: the compiler with its arguments; it turns `source_name` into `program`, both in
            the working folder.
        source_name: the file that the candidate's text is written to.
        programs: what may be executed: files, and folders for all beneath them.
        paths: further files and folders that it reads; all are mounted read-only.
        links: symbolic links to make: name and target.
        environment: of the compiler.
        memory_bytes: address space of each of its processes.
        processes: processes and threads that it may have at once.
    """

    language: str
    version: str
    command: tuple[str, ...]
    source_name: str
    programs: tuple[str, ...]
    paths: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    memory_bytes: int = GIB
    processes: int = 16

    @property
    def mounted(self) -> tuple[str, ...]:
        """Everything that has to be there, without what lies beneath something else of it."""
        return _outermost([*self.programs, *self.paths])


@cache
def find_toolchain(language: Compiler) -> Toolchain:
    """Return the compiler of a language.

    Raises:
        UsageError: there is none on PATH, or it does not answer.
    """
    try:
        if language in _GNU:
            return _gnu(language)
        return _rust() if language == "rust" else _go()
    except (OSError, subprocess.SubprocessError, LookupError) as error:
        raise UsageError(
            f"No compiler for {language} can be used here ({error}). Install "
            f"{_NEEDED[language]} and see that it is on PATH; `selftaught doctor` lists what is "
            "found."
        ) from error


def _gnu(language: str) -> Toolchain:
    name, compiler, standard = _GNU[language]
    driver = _program(name, must_contain=("gcc", "g++"))
    helpers = [_asked(driver, f"-print-prog-name={tool}") for tool in (compiler, "collect2")]
    programs = {os.path.dirname(os.path.realpath(path)) for path in helpers}
    folders = set()
    for file in ("libgcc.a", "crt1.o"):
        folders.add(os.path.dirname(os.path.realpath(_asked(driver, f"-print-file-name={file}"))))
    told = _run([driver, "-E", "-v", "-x", language, os.devnull]).stderr
    found = _INCLUDES.findall(told)
    includes = {
        os.path.realpath(p.strip()) for part in found for p in part.split("\n") if p[:1] == " "
    }
    links, tools = [], []
    for tool in ("as", "ld"):
        path = shutil.which(_asked(driver, f"-print-prog-name={tool}"))
        if path is None:
            raise LookupError(f"{name} finds no {tool}")
        tools.append(os.path.realpath(path))
        if os.path.realpath(path) != path:
            links.append((path, os.path.realpath(path)))
    search = dict.fromkeys(os.path.dirname(name) for name, _ in links)
    return Toolchain(
        language=language,
        version=_first_line(driver, "--version"),
        command=(driver, "-O2", *standard, "-o", "program", "program" + SOURCE_SUFFIXES[language],
                 "-lm"),
        source_name="program" + SOURCE_SUFFIXES[language],
        programs=_outermost([driver, *tools, *programs]),
        paths=_outermost([*folders, *filter(os.path.isdir, includes)]),
        links=tuple(links),
        environment=(("PATH", os.pathsep.join(search) or "/usr/bin"),),
    )  # fmt: skip


def _rust() -> Toolchain:
    # Asked, because what is on PATH may choose among several.
    sysroot = os.path.realpath(_asked(_program("rustc"), "--print=sysroot"))
    rustc = os.path.join(sysroot, "bin", "rustc")
    linker = _gnu("c")
    lib = os.path.join(sysroot, "lib")
    # There is no /proc to find itself by.
    environment = (*linker.environment, ("LD_LIBRARY_PATH", lib))
    return Toolchain(
        language="rust",
        version=_first_line(rustc, "--version"),
        command=(rustc, "--sysroot", sysroot, "--edition=2021", "-O", "-C",
                 f"linker={linker.command[0]}", "-o", "program", "program.rs"),
        source_name="program.rs",
        # It may bring a linker of its own along.
        programs=_outermost([rustc, lib, *linker.programs]),
        paths=linker.paths,
        links=linker.links,
        environment=environment,
        memory_bytes=4 * GIB,
        processes=64,
    )  # fmt: skip


def _go() -> Toolchain:
    go = _program("go")
    root = os.path.realpath(_asked(go, "env", "GOROOT"))
    environment = {
        "GOROOT": root, "GOCACHE": "/build/cache", "GOPATH": "/build/go", "GO111MODULE": "off",
        "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0", "GOTELEMETRY": "off",
        "HOME": "/build", "PATH": f"{root}/bin",
    }  # fmt: skip
    return Toolchain(
        language="go",
        version=_first_line(go, "version"),
        command=(f"{root}/bin/go", "build", "-o", "program", "program.go"),
        source_name="program.go",
        programs=(root,),
        paths=(),
        environment=tuple(environment.items()),
        memory_bytes=4 * GIB,
        processes=64,
    )


def _program(name: str, must_contain: tuple[str, ...] = ()) -> str:
    """The real path of a program on PATH, past caches that only pass for it."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, name)
        real = os.path.realpath(path)
        is_it = not must_contain or any(part in os.path.basename(real) for part in must_contain)
        if os.path.isfile(real) and os.access(real, os.X_OK) and is_it:
            # One that chooses by its own name must be called by it.
            return real if must_contain else path
    raise LookupError(f"there is no {name} on PATH")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_ASK_S,
        check=True,
        cwd="/",
    )


def _asked(*command: str) -> str:
    return _run(list(command)).stdout.strip()


def _first_line(*command: str) -> str:
    return _asked(*command).partition("\n")[0]


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths without those beneath others, sorted."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(top + "/") for top in kept):
            kept.append(path)
    return tuple(kept)
