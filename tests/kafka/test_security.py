"""The roles against a broker that wants TLS, passwords and rights: each has those alone that `packetclip setup kafka` prints."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from kafka_broker import Broker, BrokerUnavailableError, Site, merged, replayed, site
from machine import unavailable
from receivers import certificate

pytest.importorskip("confluent_kafka")

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.kafka import clients, setup

pytestmark = [
    pytest.mark.xdist_group("kafka"),
    pytest.mark.skipif(not os.environ.get("PACKETCLIP_SLOW"), reason="a broker of its own: `make kafka` runs it"),
]
USERS = "admin", "route", "judge", "alert"
PROPERTIES = """
listeners=SASL_SSL://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}}
advertised.listeners=SASL_SSL://127.0.0.1:{{port}}
inter.broker.listener.name=SASL_SSL
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="admin" password="admin secret" {users};
ssl.keystore.type=PEM
ssl.keystore.location={pem}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
"""


class Guarded(Site):
    """Each role logs in as a user of its own; what makes the topics, and the shipper, as the administrator."""

    def settings(self, role: str) -> dict[str, Any]:
        user = role.rstrip("0123456789")
        user = user if user in USERS else "admin"
        secret = self.folder / f"{user}.secret"
        secret.touch(mode=0o600)
        secret.write_text(f"{user} secret")
        login = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": user}
        kafka = self._settings["kafka"] | {
            "client": login | {"ssl.ca.location": str(self.folder / "ca.pem")},
            "secrets": {"sasl.password": str(secret)},
        }
        return self._settings | {"kafka": kafka}


def grant(client: AdminClient, command: str) -> None:
    """Do what a command of kafka-acls.sh does."""
    parser = argparse.ArgumentParser()
    for option in ("bootstrap-server", "allow-principal", "topic", "group", "transactional-id"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--operation", action="append")
    parser.add_argument("--resource-pattern-type", default="literal")
    parser.add_argument("--add", action="store_true")
    asked = parser.parse_args(shlex.split(command)[1:])
    kind, name = next(
        (kind, name)
        for kind, name in (("TOPIC", asked.topic), ("GROUP", asked.group), ("TRANSACTIONAL_ID", asked.transactional_id))
        if name
    )
    pattern = ResourcePatternType[asked.resource_pattern_type.upper()]
    who = asked.allow_principal.lower().replace("user:", "User:")
    for operation in asked.operation:
        allowed = AclOperation[operation.upper()], AclPermissionType.ALLOW
        binding = AclBinding(ResourceType[kind], name, pattern, who, "*", *allowed)
        client.create_acls([binding])[binding].result()


def test_each_role_works_by_tls_and_password_with_the_rights_that_setup_prints(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_text(pem.read_text().split("-----BEGIN PRIVATE KEY-----")[0])
    users = " ".join(f'user_{user}="{user} secret"' for user in USERS)
    try:
        broker = Broker(tmp_path, PROPERTIES.format(users=users, pem=pem, ca=ca))
    except BrokerUnavailableError as err:
        unavailable(str(err))
    names = "demo-dict-patator-ftp", "demo-udp-hping"
    logs = {log: merged(log, *names) for log in ("packet", "flow")}
    alone = replayed(tmp_path, logs["packet"], logs["flow"])
    try:
        with site(broker.address, tmp_path, "guarded", kind=Guarded) as running:
            config, _ = running.config("setup")
            client = AdminClient(clients.options(config.kafka))
            for command in setup.acls(config):
                grant(client, command)
            for log, lines in logs.items():
                running.ship(log, lines)
            for role in ("route", "judge", "alert"):
                assert setup.check(running.config(f"{role}1")[0]) == []
                running.thread(role)
            running.await_all(time.time())
            assert running.documents() == alone
            config, _ = running.config("route1")
            (tmp_path / "route.secret").write_text("another")
            with pytest.raises(ConfigError, match=r"kafka\.brokers .*Authentication failed.*kafka\.secrets right"):
                clients.partitions(config.kafka, f"{running.name}.packet")
    finally:
        broker.kill()
