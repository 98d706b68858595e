"""Accounts of this machine: their names, and how to run a command as one of them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def account_name(uid: int) -> str:
    """The name of an account, else its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def belongs_to(uid: int) -> str:
    """Message about a file that only account `uid` may use, with the command to run as that account."""
    name = account_name(uid)
    if name == str(uid):
        return f"belongs to account {uid}, which has no name on this machine; give it an owner with chown"
    way = f"runuser -u {name} -- owkai …" if os.geteuid() == 0 else f"sudo -u {name} owkai …"
    return f"belongs to account {name}; run the command as that account: {way}"


def out_of_reach(path: Path) -> str:
    """The same for a path that this account may not enter; names the owner of the nearest accessible folder."""
    for place in (path, *path.parents):
        try:
            return f"{place} {belongs_to(place.stat().st_uid)}"
        except OSError:
            continue
    return f"{path} cannot be reached by this account"
