"""Device and management protocols: MQTT and SNMP."""

from __future__ import annotations

from training.lab.clients.base import RNG, Params, habit, tool


@habit
async def mqtt(p: Params) -> None:
    """Publish a few readings, as a device that wakes up does."""
    for _ in range(RNG.randint(1, p.get("count", 3))):
        bind = ["-A", p["src"]] if p.get("src") else []
        topic = f"home/{RNG.randrange(9)}/temp"
        await tool(
            "mosquitto_pub",
            "-h",
            p["host"],
            "-p",
            p["port"],
            *bind,
            "-t",
            topic,
            "-m",
            "x" * RNG.randint(4, 300),
            "-q",
            RNG.randrange(3),
        )


@habit
async def mqtt_listen(p: Params) -> None:
    """Subscribe and stay."""
    await tool("mosquitto_sub", "-h", p["host"], "-p", p["port"], "-t", "home/#", "-k", "5", limit_s=p["seconds"])


@habit
async def snmp(p: Params) -> None:
    """A monitoring station that reads a table or a value from every target in turn."""
    for host in p["hosts"]:
        far = f"udp6:[{host}]" if ":" in host else host
        if RNG.random() < 0.4:
            await tool(
                "snmpbulkwalk",
                "-v2c",
                "-c",
                "public",
                "-t",
                "0.5",
                "-r",
                "0",
                far,
                RNG.choice(["1.3.6.1.2.1.2", "1.3.6.1.2.1.1"]),
                limit_s=5,
            )
        else:
            await tool("snmpget", "-v2c", "-c", "public", "-t", "0.5", "-r", "0", far, "1.3.6.1.2.1.1.3.0", limit_s=5)
