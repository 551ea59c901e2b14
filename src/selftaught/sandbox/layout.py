"""Which paths of this machine a sandboxed interpreter may read: its library, nothing else."""

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

import msgspec

GUEST = Path(__file__).parent / "guest"


class Layout(msgspec.Struct, frozen=True):
    """Read-only paths for a zygote.

    Attributes:
        read_paths: the standard library and the shared libraries it needs.
        library_paths: those of them that any program needs, whatever its language.
        hidden_paths: folders beneath them where other packages lie; made empty.
        module_paths: the packages that a task asks for.
        search_paths: the folders those are in, for the guest's module search.
    """

    read_paths: tuple[str, ...]
    library_paths: tuple[str, ...]
    hidden_paths: tuple[str, ...]
    module_paths: tuple[str, ...]
    search_paths: tuple[str, ...]


def layout_for(modules: tuple[str, ...]) -> Layout:
    """Return the paths for a zygote that preloads the given third-party modules.

    Raises:
        ModuleNotFoundError: a module is not installed here.
    """
    stdlib = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    # In a virtual environment platstdlib names a folder that holds no library of its own.
    stdlib = {path for path in stdlib if path and os.path.isdir(os.path.join(path, "encodings"))}
    libraries = [*stdlib, "/etc/ld.so.cache"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    for root in ("/lib", "/usr/lib", "/usr/local/lib"):
        if multiarch and os.path.isdir(f"{root}/{multiarch}"):
            libraries.append(f"{root}/{multiarch}")
    if not multiarch or not os.path.isdir(f"/usr/lib/{multiarch}"):
        libraries += ["/usr/lib", "/usr/lib64"]
    libraries.append("/lib64")
    prefix_lib = Path(sys.base_prefix) / "lib"
    libraries += [str(path) for path in prefix_lib.glob("libpython*.so*")]
    hidden = [
        os.path.join(path, name) for path in stdlib for name in ("site-packages", "dist-packages")
    ]
    module_paths = _module_paths(modules)
    search_paths = dict.fromkeys(os.path.dirname(path) for path in module_paths)
    return Layout(
        read_paths=tuple(libraries),
        library_paths=tuple(path for path in libraries if path not in stdlib),
        hidden_paths=tuple(hidden),
        module_paths=tuple(module_paths),
        search_paths=tuple(search_paths),
    )


def _module_paths(modules: tuple[str, ...]) -> list[str]:
    paths: list[str] = []
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"the module {name!r} is not installed")
        if spec.submodule_search_locations:
            for location in spec.submodule_search_locations:
                paths.append(location)
                libs = f"{location}.libs"
                if os.path.isdir(libs):
                    paths.append(libs)
        elif spec.origin and os.path.isabs(spec.origin):
            paths.append(spec.origin)
    return paths
