"""More doors to guess passwords at: a login form, SMTP, IMAP, POP3, redis and a second ssh server, all on the file server.

Only captures whose attack needs one have it, and there benign clients use it too, so that a port alone says nothing.
"""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from training.lab.plan import Capture, Habit, Host, Service
from training.lab.profiles import IN_FIRST

HERE = Path(__file__).parent
PORTS = {
    "forms": ([8088, 8181, 9090], [7001, 8500, 9443]),
    "smtp": ([25, 587, 2525], [465, 1025, 5525]),
    "imap": ([143, 143, 1143], [220, 10143]),
    "pop3": ([110, 110, 1110], [995, 10110]),
    "redis": ([6379, 6379, 6380], [7379, 16379]),
    "dropbear": ([22, 8022, 22222], [922, 22002]),
}
"""Service to the ports of the profiles that train and to those of the others."""


def added(capture: Capture, needs: tuple[str, ...]) -> Capture:
    """The capture with these services on the file server and with benign clients of them, drawn from its seed and name."""
    rng = random.Random(f"{capture.seed}/{capture.profile}/{capture.name}/logins")
    files = capture.host("files")
    services, habits = list(files.services), list(capture.habits)
    for name in needs:
        taken = {service.port for service in services}
        ports = PORTS[name][capture.profile not in ("first", *IN_FIRST)]
        number = rng.choice([p for p in ports if p not in taken])
        services.append(Service(name, number, {"delay": rng.choice([0, 1, 2])}))
        habits += _use(name, capture, files, number, rng)
    hosts = [replace(host, services=services) if host.name == "files" else host for host in capture.hosts]
    return replace(capture, hosts=hosts, habits=habits)


def _use(name: str, capture: Capture, files: Host, number: int, rng: random.Random) -> list[Habit]:
    """Right logins, now and then a wrong one, from two clients."""
    where, right = f"{files.address}:{number}", f"{capture.user}:{capture.password}"
    made = []
    for client in rng.sample(["c1", "c2", "c3"], 2):
        user = rng.choice([right, right, right, f"{capture.user}:{capture.password}x"])
        options, urls = {
            "forms": (["-d", f"user={user.replace(':', '&password=')}"], [f"http://{where}/login"]),
            "smtp": (["--user", user], [f"smtp://{where}"]),
            "imap": (["--user", user], [f"imap://{where}/INBOX"]),
            "pop3": (["--user", user], [f"pop3://{where}/"]),
            "redis": ([], [f"dict://{where}/auth:{user.split(':')[1]}", f"dict://{where}/info"]),
            "dropbear": ([], []),
        }[name]
        every, at = rng.uniform(1.5, 6), rng.uniform(0.5, 4)
        if name == "dropbear":
            ends = {"src": capture.host(client).address, "host": files.address, "port": number, "user": capture.user}
            secret = {"password": capture.password, "key": "{shared}/client", "work": "{work}"}
            made.append(Habit(client, "ssh_mistyped", at, every * 3, ends | secret | {"wrong": rng.randint(0, 1)}))
        else:
            made.append(Habit(client, "curl", at, every, {"urls": urls, "options": options, "count": rng.randint(1, 2)}))
    return made


def _server(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    account = [capture.user, capture.password, str(service.options.get("delay", 0) * 0.3)]
    return [sys.executable, "-E", str(HERE / "forms.py"), service.name, str(service.port), *account]


def _dovecot(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    (work / "users").write_text(f"{capture.user}:{{PLAIN}}{capture.password}\n")
    text = f"""base_dir = {work}/run
log_path = {work}/log
protocols = {service.name}
listen = *, ::
ssl = no
disable_plaintext_auth = no
auth_failure_delay = {service.options.get("delay", 2)} s
passdb {{
  driver = passwd-file
  args = {work}/users
}}
userdb {{
  driver = static
  args = uid=4242 gid=4242 home={work}/home/%u
}}
mail_location = maildir:{work}/home/%u
service {service.name}-login {{
  inet_listener {service.name} {{
    port = {service.port}
  }}
  inet_listener {service.name}s {{
    port = 0
  }}
}}
"""
    (work / "home").mkdir(exist_ok=True)
    (work / "home").chmod(0o777)
    (work / "dovecot.conf").write_text(text)
    return ["dovecot", "-F", "-c", str(work / "dovecot.conf")]


def _redis(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    listen = ["--bind", "*", "-::*", "--port", str(service.port), "--requirepass", capture.password]
    return ["redis-server", *listen, "--save", "", "--dir", str(work)]


def _dropbear(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    key = work / "key"
    subprocess.run(["dropbearkey", "-t", "ed25519", "-f", str(key)], check=True, capture_output=True)
    return ["dropbear", "-F", "-E", "-p", str(service.port), "-r", str(key), "-P", str(work / "pid")]


MAKERS = {"forms": _server, "smtp": _server, "imap": _dovecot, "pop3": _dovecot, "redis": _redis, "dropbear": _dropbear}
