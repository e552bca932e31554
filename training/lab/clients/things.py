"""Device and management protocols: MQTT, SNMP and CoAP."""

import asyncio

from training.lab.clients.base import RNG, Params, habit, tool, type_into
from training.lab.clients.logins import bracket


@habit
async def mqtt(p: Params) -> None:
    """Publish a few readings, as a device that wakes up does."""
    for _ in range(RNG.randint(1, p.get("count", 3))):
        bind = ["-A", p["src"]] if p.get("src") else []
        topic = f"home/{RNG.randrange(9)}/temp"
        said = ("-t", topic, "-m", "x" * RNG.randint(4, 300), "-q", RNG.randrange(3))
        await tool("mosquitto_pub", "-h", p["host"], "-p", p["port"], *bind, *said)


@habit
async def mqtt_listen(p: Params) -> None:
    """Subscribe and stay."""
    await tool("mosquitto_sub", "-h", p["host"], "-p", p["port"], "-t", "home/#", "-k", "5", limit_s=p["seconds"])


@habit
async def mqtt_busy(p: Params) -> None:
    """A busy broker: subscribers that stay, and publishers on open connections with tens of messages a second each."""

    async def publisher() -> None:
        far = ("-h", p["host"], "-p", p["port"], "-t", f"plant/{RNG.randrange(40)}", "-q", RNG.randrange(2), "-l")
        readings = (b"x" * RNG.randint(10, 200) + b"\n" for _ in range(int(p["rate"] * p["seconds"])))
        process = await type_into(["mosquitto_pub", *far], readings, lambda: RNG.expovariate(p["rate"]))
        await process.communicate()

    listen = ("mosquitto_sub", "-h", p["host"], "-p", p["port"], "-t", "plant/#")
    everyone = [tool(*listen, limit_s=p["seconds"]) for _ in range(p["listeners"])]
    await asyncio.gather(*everyone, *(publisher() for _ in range(p["publishers"])), return_exceptions=True)


@habit
async def coap(p: Params) -> None:
    """Ask devices over CoAP: their resources, a reading, a value set, or readings as they change (RFC 7252, RFC 7641)."""
    for host in RNG.sample(p["hosts"], min(len(p["hosts"]), p.get("count", 3))):
        far = f"coap://{bracket(host)}"
        ways: list[list[str]] = [
            [f"{far}/.well-known/core"],
            [f"{far}/time"],
            ["-s", "6", f"{far}/time"],
            ["-m", "put", "-e", str(RNG.randrange(10**6)), f"{far}/example_data"],
        ]
        bind = ["-a", p["src"]] if p.get("src") else []
        await tool("coap-client-notls", "-B", 2, *bind, *RNG.choice(ways), limit_s=8)


def agent(host: str) -> str:
    """The host as net-snmp's tools want it."""
    return f"udp6:[{host}]" if ":" in host else host


@habit
async def snmp(p: Params) -> None:
    """A monitoring station that reads a table or a value from every target in turn."""
    for host in p["hosts"]:
        asks = ("-v2c", "-c", "public", "-t", "0.5", "-r", "0", agent(host))
        if RNG.random() < 0.4:
            await tool("snmpbulkwalk", *asks, RNG.choice(["1.3.6.1.2.1.2", "1.3.6.1.2.1.1"]), limit_s=5)
        else:
            await tool("snmpget", *asks, "1.3.6.1.2.1.1.3.0", limit_s=5)
