"""A guesser for ssh and SMB by the libraries that such scripts use: paramiko and impacket, which Debian's Python has.

Started as a file inside a namespace of the lab with the system's Python (python3-paramiko, python3-impacket).
"""

import argparse
import contextlib
import itertools
import logging
import threading
import time
from pathlib import Path


def ssh(host: str, port: int, user: str, password: str) -> None:
    """One connection and one password, as SSHClient.connect does it."""
    import paramiko  # noqa: PLC0415 - only one of the two libraries is needed

    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507 - a guesser asks for no host key
    with contextlib.suppress(paramiko.SSHException, EOFError):
        client.connect(host, port, user, password, timeout=8, look_for_keys=False, allow_agent=False)
    client.close()


def smb(host: str, port: int, user: str, password: str) -> None:
    """One connection and one session setup with NTLMv2."""
    from impacket.smbconnection import SessionError, SMBConnection  # noqa: PLC0415

    with contextlib.suppress(SessionError):
        made = SMBConnection(host, host, sess_port=port, timeout=8)
        made.login(user, password)
        made.logoff()


def main() -> None:
    """Try pairs until `--seconds` are over; the same list again from its start where it was short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("ssh", "smb"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--passwords", type=Path, required=True)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=14.0)
    o = parser.parse_args()
    pairs = itertools.cycle([(u, p) for u in o.users.read_text().split() for p in o.passwords.read_text().split()])
    until, lock, once = time.monotonic() + o.seconds, threading.Lock(), {"ssh": ssh, "smb": smb}[o.kind]

    def work() -> None:
        while time.monotonic() < until:
            with lock:
                user, password = next(pairs)
            with contextlib.suppress(OSError):
                once(o.host, o.port, user, password)
            time.sleep(o.pause)

    for _ in range(o.parallel):  # the process ends with the last of them
        threading.Thread(target=work).start()


if __name__ == "__main__":
    main()
