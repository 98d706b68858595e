"""The one file unpacks once, into a place of its own, whatever happens meanwhile, and says what it lacks."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.binary.bundles import Bundle
from tests.binary.chroot import ACCOUNT, ENVIRONMENT, HOME, Chroot
from tests.owkai.servers import wait_for

UNPACKING = "this is done once"


def start(
    bundle: Bundle, runtime: Path | None, *, cwd: Path = Path("/"), **environment: str
) -> subprocess.CompletedProcess[str]:
    """`owkai version`, unpacked in `runtime`."""
    where = {} if runtime is None else {"OWKAI_RUNTIME_DIR": str(runtime)}
    return subprocess.run(
        [bundle.path, "version"], env={**where, **environment}, cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def kept(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runtime folder with the program unpacked; a test that changes it leaves it whole again."""
    runtime = tmp_path_factory.mktemp("kept") / "runtime"
    bundle.unpack(runtime)
    return runtime


def test_the_second_start_unpacks_nothing(bundle: Bundle, kept: Path) -> None:
    again = start(bundle, kept)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith(f"owkai {bundle.version}\n")


def test_sup_05_what_is_unpacked_is_private_and_written_by_its_owner_alone(installed: Chroot, bundle: Bundle) -> None:
    first = installed.run("owkai", "version")
    assert first.returncode == 0
    assert UNPACKING in first.stderr
    runtime = installed.inside(f"{HOME}/.cache/owkai")
    owner = installed.inside(HOME).stat().st_uid
    assert owner != 0
    for folder in (runtime.parent, runtime, runtime / bundle.folder_name):
        assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) == (0o700, owner)
    inside = [path.lstat() for path in runtime.rglob("*")]
    assert len(inside) > 3000
    assert [
        one for one in inside if one.st_uid != owner or (not stat.S_ISLNK(one.st_mode) and one.st_mode & 0o022)
    ] == []


def test_sup_04_nothing_of_the_working_folder_or_the_environment_is_imported(
    bundle: Bundle, kept: Path, tmp_path: Path
) -> None:
    for name in ("config", "tornado", "click", "sitecustomize", "usercustomize", "owkai", "encodings"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(77)\n")
    here = str(tmp_path)
    python = {"PYTHONPATH": here, "PYTHONSTARTUP": f"{here}/config.py", "PYTHONHOME": here, "PYTHONUSERBASE": here}
    done = start(bundle, kept, cwd=tmp_path, **python, PYTHONINSPECT="1", PYTHONBREAKPOINT="config.x")
    assert (done.returncode, done.stderr) == (0, "")
    library = {"LD_LIBRARY_PATH": here}
    shutil.copy("/bin/true", tmp_path / "libpython3.so")
    for found in (kept / bundle.folder_name / "lib").glob("lib*.so*"):
        (tmp_path / found.name).write_bytes(b"not a library")
    assert start(bundle, kept, cwd=tmp_path, **library).returncode == 0


def test_starts_at_once_unpack_one_time(bundle: Bundle, tmp_path: Path) -> None:
    environment = {"OWKAI_RUNTIME_DIR": str(tmp_path / "runtime")}
    starts = [
        subprocess.Popen(
            [bundle.path, "version"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    outcomes = [(*one.communicate(timeout=100), one.returncode) for one in starts]
    assert [code for _, _, code in outcomes] == [0, 0, 0, 0]
    assert sum(UNPACKING in errors for _, errors, _ in outcomes) == 1


def test_a_start_killed_while_it_unpacks_leaves_nothing_that_the_next_one_trusts(
    bundle: Bundle, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    first = subprocess.Popen(
        [bundle.path, "version"], env={"OWKAI_RUNTIME_DIR": str(runtime)}, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: any(runtime.glob(".new-*/packages")), "the first files")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (runtime / bundle.folder_name).exists()
    again = start(bundle, runtime)
    assert again.returncode == 0
    assert UNPACKING in again.stderr
    assert [path.name for path in runtime.iterdir() if path.name != ".lock"] == [bundle.folder_name]


def damaged(folder: Path) -> Iterator[str]:
    """Changes the unpacked folder in one way after the other; yields what was done."""
    (folder / "bin" / "owkai").write_bytes(b"\x7fELF")
    yield "another program"
    (folder / "app" / "owkai" / "cli.pyc").unlink()
    yield "a missing module"
    (folder / "app" / "tornado.py").write_text("raise SystemExit(77)")
    yield "a module more"
    (folder / "share" / "LICENSE").chmod(0o666)
    yield "a file others can write to"
    (folder / "MANIFEST").write_text("d app\n")
    yield "another manifest"
    wait_for((folder / "SETTLED").exists, "the disk")
    (folder / "SETTLED").unlink()
    yield "a folder that may not have reached the disk"
    text = folder / "share" / "LICENSE"
    text.write_bytes(text.read_bytes()[::-1])
    yield "other contents of the same size"
    shutil.rmtree(folder / "lib" / "python")
    (folder / "lib" / "python").symlink_to("/usr/lib/python3")
    yield "a folder that leads elsewhere"


def test_an_unpacked_folder_that_was_changed_is_unpacked_again(bundle: Bundle, kept: Path) -> None:
    for what in damaged(kept / bundle.folder_name):
        again = start(bundle, kept)
        assert again.returncode == 0, what
        assert UNPACKING in again.stderr, what
        assert start(bundle, kept).stderr == "", what


def test_an_altered_byte_that_no_start_notices_is_found_by_check(bundle: Bundle, kept: Path) -> None:
    file = kept / bundle.folder_name / "share" / "LICENSE"
    before, data = file.stat(), file.read_bytes()
    file.write_bytes(data[:-2] + b"x\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    environment = {"OWKAI_RUNTIME_DIR": str(kept)}
    found = subprocess.run(
        [bundle.path, "version", "--check"], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "not as built:\nshare/LICENSE" in found.stderr
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    mended = subprocess.run(
        [bundle.path, "version", "--check"], env=environment, capture_output=True, text=True, check=False
    )
    assert mended.returncode == 0
    assert "every file is as built" in mended.stdout


def test_a_damaged_or_cut_file_says_so_and_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    data = bundle.path.read_bytes()
    broken, runtime = tmp_path / "owkai", tmp_path / "runtime"
    end = bundle.launcher_bytes + bundle.payload_bytes
    # In the middle, and the last byte of the checksum over everything before it.
    for place in (end - bundle.payload_bytes // 2, end - 1):
        broken.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        broken.chmod(0o755)
        done = start(Bundle(broken), runtime)
        assert done.returncode == 2
        assert done.stderr.endswith("owkai: this file is damaged; compare it with SHA256SUMS and fetch it again\n")
        assert "folder" not in done.stderr
        assert [path.name for path in runtime.iterdir()] == [".lock"]
    broken.write_bytes(data[: len(data) // 2])
    done = start(Bundle(broken), runtime)
    assert done.returncode == 2
    assert "cut short or was changed" in done.stderr


def make_private_folder(chroot: Chroot, path: str) -> None:
    """A folder of the account's own."""
    chroot.inside(path).mkdir(mode=0o700, exist_ok=True)
    chroot.inside(path).chmod(0o700)
    subprocess.run(["chroot", str(chroot.path), "chown", f"{ACCOUNT}:{ACCOUNT}", path], check=True)


# -- places that will not do -----------------------------------------------------------------------------------------


def test_a_folder_mounted_noexec_is_named_and_another_one_taken(installed: Chroot) -> None:
    make_private_folder(installed, "/srv/ada")
    with installed.mounted(HOME, "-o", "noexec"):
        make_private_folder(installed, HOME)
        refused = installed.run("owkai", "version")
        assert refused.returncode == 2
        assert f"{HOME}/.cache/owkai: is on a file system mounted noexec" in refused.stderr
        assert "Name one in OWKAI_RUNTIME_DIR: private (mode 0700)" in refused.stderr
        elsewhere = installed.run("owkai", "version", env={**ENVIRONMENT, "OWKAI_RUNTIME_DIR": "/srv/ada/run"})
        assert elsewhere.returncode == 0


def test_a_read_only_root_needs_one_folder_to_write(installed: Chroot) -> None:
    root = str(installed.path)
    subprocess.run(["mount", "--bind", root, root], check=True)
    try:
        with installed.mounted("/proc", kind="proc"), installed.mounted("/srv", "-o", "mode=0755"):
            make_private_folder(installed, "/srv/ada")
            subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
            refused = installed.run("owkai", "version")
            assert refused.returncode == 2
            assert f"{HOME}/.cache/owkai: {HOME}/.cache: Read-only file system" in refused.stderr
            accepted = installed.run("owkai", "version", env={**ENVIRONMENT, "OWKAI_RUNTIME_DIR": "/srv/ada/run"})
            assert accepted.returncode == 0, accepted.stderr
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def test_a_full_file_system_is_named_before_it_is_filled(installed: Chroot) -> None:
    with installed.mounted("/srv", "-o", "mode=1777,size=100m"):
        refused = installed.run("owkai", "version", env={**ENVIRONMENT, "OWKAI_RUNTIME_DIR": "/srv/owkai"})
        assert refused.returncode == 2
        assert "/srv/owkai: has 1" in refused.stderr
        assert list(installed.inside("/srv/owkai").iterdir()) == [installed.inside("/srv/owkai/.lock")]


def test_sup_05_a_folder_that_others_can_change_is_refused(installed: Chroot) -> None:
    others = installed.inside("/srv/shared")
    others.mkdir()
    others.chmod(0o777)
    refused = installed.run("owkai", "version", env={**ENVIRONMENT, "OWKAI_RUNTIME_DIR": "/srv/shared/owkai"})
    assert refused.returncode == 2
    assert "can change the contents of /srv/shared" in refused.stderr
    (others / "mine").mkdir(mode=0o755)
    refused = installed.run("owkai", "version", env={**ENVIRONMENT, "OWKAI_RUNTIME_DIR": "/srv/shared/mine/owkai"})
    assert refused.returncode == 2
    installed.inside("/srv/trap").symlink_to("/srv/shared")
    refused = installed.run("owkai", "version", env={**ENVIRONMENT, "OWKAI_RUNTIME_DIR": "/srv/trap"})
    assert refused.returncode == 2
    assert "/srv/trap: is not a folder" in refused.stderr


def test_an_account_without_a_home_is_told_what_to_name(installed: Chroot) -> None:
    refused = installed.run("owkai", "version", env={"PATH": ENVIRONMENT["PATH"]})
    assert refused.returncode == 2
    assert "Neither HOME nor XDG_CACHE_HOME is set.\nName one in OWKAI_RUNTIME_DIR" in refused.stderr
    service = installed.run("owkai", "version", env={"PATH": ENVIRONMENT["PATH"], "CACHE_DIRECTORY": f"{HOME}/a:/b"})
    assert service.returncode == 0
    assert f"{HOME}/a/runtime/" in service.stderr


def test_an_older_or_no_glibc_is_named_before_anything_is_unpacked(installed: Chroot, bundle: Bundle) -> None:
    number = bundle.libc.partition("_")[2]
    library = installed.inside("/usr/lib/x86_64-linux-gnu/libc.so.6")
    environment = {"HOME": HOME, "PATH": os.environ["PATH"]}
    command = ["chroot", f"--userspec={ACCOUNT}:{ACCOUNT}", str(installed.path), "/usr/local/bin/owkai", "version"]
    library.write_bytes(library.read_bytes().replace(bundle.libc.encode() + b"\0", b"GLIBC_0.00\0"))
    old = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert old.returncode == 2
    assert f"is older than this program needs ({bundle.libc}, that is glibc {number} or newer)" in old.stderr
    library.unlink()
    installed.inside("/lib64").unlink()
    none = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert none.returncode == 2
    assert "this machine has no glibc for x86-64" in none.stderr
    assert not any(installed.inside(f"{HOME}/.cache/owkai").glob("[0-9]*"))
