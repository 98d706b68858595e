"""The Debian package in a bare Debian: installed, started as its unit would, upgraded, removed, purged."""

from __future__ import annotations

import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from config.load import load_settings
from owkai.build import archive, debian
from tests.binary import running
from tests.binary.bundles import Bundle, rename_version
from tests.binary.chroot import ENVIRONMENT, Chroot
from tests.owkai.servers import SECRET, wait_for
from tests.postgres import Database

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "/usr/lib/systemd/system/owkai.service"
SETTINGS = "/etc/owkai/owkai.toml"
DATA = "/var/lib/owkai"
AS_ROOT = {"PATH": ENVIRONMENT["PATH"], "HOME": "/root"}
MAXIMUM_EXPOSURE = 2.0  # of systemd-analyze, from 0 (closed) to 10; services average 9


def dpkg(chroot: Chroot, *arguments: str) -> str:
    done = chroot.run("dpkg", *arguments, user="root", env=AS_ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def unit(chroot: Chroot) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(chroot.inside(SERVICE))
    return parser


@pytest.fixture
def equipped(chroot: Chroot, package: Path) -> Chroot:
    """With the package installed."""
    shutil.copy(package, chroot.inside("/srv/owkai.deb"))
    dpkg(chroot, "--install", "/srv/owkai.deb")
    return chroot


@pytest.fixture
def next_package(package: Path, bundle: Bundle) -> Iterator[Path]:
    """The same package as a later release."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        tree = bundle.unpack(scratch / "runtime")
        (tree / "SETTLED").unlink(missing_ok=True)
        rename_version(tree, "99.0.0")
        (tree / "MANIFEST").write_text(archive.manifest_of(tree)[0], encoding="utf-8")
        target = scratch / "owkai.deb"
        debian.write(ROOT, tree, scratch, target, version="99.0.0", glibc="2.35", manual="", time=0, level=1)
        yield target


def configure(chroot: Chroot, database: Database) -> None:
    """As docs/tasks/install.md says: settings without secrets, secrets in files of the service's own."""
    dsn, password = re.sub(r"(//[^:]+):[^@]+@", r"\1@", database.dsn), re.findall(r"//[^:]+:([^@]+)@", database.dsn)[0]
    file = chroot.inside(SETTINGS)
    text = file.read_text(encoding="utf-8")
    text = re.sub('# dsn = ".*"', f'dsn = "{dsn}"\nslot = "owkai_{database.name}"', text)
    text = text.replace("# password_file", "password_file").replace("# jwt_secret_file", "jwt_secret_file")
    file.write_text(f"{text}\n[server]\nport = 0\n", encoding="utf-8")
    for name, secret in (("db.password", password), ("jwt.secret", SECRET)):
        place = chroot.inside(f"/etc/owkai/{name}")
        place.write_text(secret)
        place.chmod(0o600)
        subprocess.run(["chroot", str(chroot.path), "chown", "owkai:owkai", f"/etc/owkai/{name}"], check=True)


def test_it_installs_and_runs_on_nothing_but_a_bare_system(equipped: Chroot, bundle: Bundle) -> None:
    told = equipped.run("owkai", "version", "--check", user="owkai")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"owkai {bundle.version}\n")
    assert told.stdout.endswith("every file is as built\n")
    assert equipped.run("getent", "passwd", "owkai").stdout.rstrip().endswith(":/nonexistent:/usr/sbin/nologin")
    assert dpkg(equipped, "--verify", debian.PACKAGE) == ""
    code = [path.lstat() for path in equipped.inside(f"/{debian.HOME}").rglob("*")]
    assert len(code) > 3000
    assert [one for one in code if one.st_uid != 0 or (not stat.S_ISLNK(one.st_mode) and one.st_mode & 0o022)] == []
    data, settings = equipped.inside(DATA).stat(), equipped.inside("/etc/owkai").stat()
    owner = int(equipped.run("id", "-u", "owkai").stdout)
    assert (stat.S_IMODE(data.st_mode), data.st_uid) == (0o700, owner)
    assert (stat.S_IMODE(settings.st_mode), settings.st_uid, settings.st_gid) == (0o750, 0, data.st_gid)


def test_its_settings_name_the_place_of_the_data_and_what_the_operator_fills_in(equipped: Chroot) -> None:
    loaded = load_settings(equipped.inside(SETTINGS), {}, {})
    assert loaded.settings.cache.directory == Path(DATA)
    assert list(loaded.origins) == ["cache.directory"]


def test_the_units_own_command_serves_reports_and_drains(equipped: Chroot, database: Database, tmp_path: Path) -> None:
    key = running.filled(database)
    configure(equipped, database)
    service = unit(equipped)["Service"]
    assert service["Type"] == "notify"
    address = equipped.inside("/run/notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        address.chmod(0o777)

        def heard() -> str:
            assert select.select([manager], [], [], 60)[0], "the service manager heard nothing for a minute"
            return manager.recv(4096).decode()

        environment = {"PATH": ENVIRONMENT["PATH"], "NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "200000"}
        command = service["ExecStart"].split()
        with running.serving(equipped, *command, log=tmp_path / "log", user=service["User"], env=environment) as server:
            assert server.process.poll() is None, server.log_path.read_text()
            while "READY=1" not in heard():
                pass
            wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
            running.assert_answers_are_those_of_the_source(server, key, database)
            while not re.fullmatch(r"WATCHDOG=1\nSTATUS=sync streaming, .*", heard()):
                pass
            server.signal(signal.SIGTERM)
            while "STOPPING=1" not in heard():
                pass
            assert server.wait() == 0
    owner = equipped.inside(DATA).stat().st_uid
    assert {path.stat().st_uid for path in equipped.inside(DATA).iterdir()} == {owner}


def test_an_upgrade_keeps_settings_cache_and_keys(
    equipped: Chroot, database: Database, next_package: Path, tmp_path: Path
) -> None:
    running.filled(database)
    configure(equipped, database)
    command = unit(equipped)["Service"]["ExecStart"].split()
    key = equipped.run(
        "owkai", "keys", "create", "--config", SETTINGS, "--org", "1", "--role", "user", "--email", "k@example.com",
        user="owkai",
    ).stdout.strip()  # fmt: skip
    with running.serving(equipped, *command, log=tmp_path / "old.log", user="owkai") as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "the first copy")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    edited = equipped.inside(SETTINGS).read_bytes()
    shutil.copy(next_package, equipped.inside("/srv/next.deb"))
    dpkg(equipped, "--install", "/srv/next.deb")
    assert equipped.inside(SETTINGS).read_bytes() == edited
    assert equipped.run("owkai", "version", "--check", user="owkai").stdout.startswith("owkai 99.0.0\n")
    with running.serving(equipped, *command, log=tmp_path / "new.log", user="owkai") as server:
        wait_for(lambda: server.get("/readyz")[0] == 200, "readiness")
        running.assert_answers_are_those_of_the_source(server, key, database)
        assert "copied" not in server.messages()


def test_a_removal_keeps_what_the_operator_made_and_a_purge_what_cannot_be_made_again(equipped: Chroot) -> None:
    for name in ("keys.json", "audit.jsonl"):
        equipped.inside(f"{DATA}/{name}").write_text("{}")
    secret = equipped.inside("/etc/owkai/db.password")
    secret.write_text("secret")
    subprocess.run(["chroot", str(equipped.path), "chown", "owkai:owkai", "/etc/owkai/db.password"], check=True)
    dpkg(equipped, "--remove", debian.PACKAGE)
    assert not equipped.inside(f"/{debian.HOME}").exists()
    assert not equipped.inside("/usr/bin/owkai").is_symlink()
    assert equipped.inside(SETTINGS).is_file()
    assert sorted(path.name for path in equipped.inside(DATA).iterdir()) == ["audit.jsonl", "keys.json"]
    told = dpkg(equipped, "--purge", debian.PACKAGE)
    for path in (SETTINGS, "/var/cache/owkai", SERVICE):
        assert not equipped.inside(path).exists(), path
    for kept in (f"{DATA}/keys.json", f"{DATA}/audit.jsonl", "/etc/owkai/db.password"):
        assert equipped.inside(kept).is_file()
        assert kept in told
    # No file belongs to a number without an account.
    assert equipped.run("getent", "passwd", str(secret.stat().st_uid)).stdout.startswith("owkai:")
    assert "userdel owkai" in told
    assert "owkai" not in dpkg(equipped, "--list")


def test_cfg_08_the_unit_is_closed_and_right(equipped: Chroot) -> None:
    file = str(equipped.inside(SERVICE))
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", file], capture_output=True, text=True, check=True
    )
    exposure = float(re.findall(r"Overall exposure level for owkai.service: ([\d.]+)", told.stdout)[0])
    assert exposure <= MAXIMUM_EXPOSURE
    service = unit(equipped)["Service"]
    wanted = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes", "CapabilityBoundingSet": ""}
    assert wanted.items() <= dict(service).items()
    assert (service["LimitCORE"], service["RestartPreventExitStatus"]) == ("0", "2 4")


def test_the_manual_page_names_every_command(equipped: Chroot) -> None:
    page = equipped.inside("/usr/share/man/man1/owkai.1.gz")
    shown = subprocess.run(
        ["man", "--local-file", str(page)], env={**ENVIRONMENT, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert shown.stderr == ""
    plain = re.sub(r".\x08", "", shown.stdout)
    for command in ("serve", "check", "verify", "keys create", "sync drop", "config sample", "version", "demo"):
        assert f"owkai {command}" in plain
