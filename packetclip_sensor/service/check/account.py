"""The account that runs the sensor: it reads Zeek's logs, and has no right of root's or of root's group."""

from __future__ import annotations

import os
import pwd


def trouble(user: str | None = None) -> str | None:
    """What is wrong with an account's groups, and the remedy; None where nothing is, or where the account has no entry.

    A Zeek that was built from source leaves its logs to group root, and who joins that may read and write what root's group may.

    Args:
        user: its name; without one, the account of this process.
    """
    try:
        entry = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid) if user else [os.getegid(), *os.getgroups()]
    if entry.pw_uid == 0 or 0 not in groups:
        return None
    name = entry.pw_name
    instead = f"let it read Zeek's logs by setfacl -R -m u:{name}:rX,d:u:{name}:rX FOLDER"
    return f"user {name} is in group root and may do what that group may; take it out (gpasswd -d {name} root), and {instead}"
