"""What the sensor says of a bad configuration: messages.txt has each text with its message.

To add one, write the text with a line `=> ` below it, then make the messages anew and read the difference:
`PYTHONPATH=. python tests/config/test_messages.py`
"""

from __future__ import annotations

from pathlib import Path

from packetclip_sensor.config import config_file
from packetclip_sensor.errors import ConfigError

MESSAGES = Path(__file__).with_name("messages.txt")


def message(text: str) -> str:
    try:
        config_file.parse(text, "sensor.yaml", Path("/etc/packetclip"))
    except ConfigError as err:
        return str(err)
    return "nothing is wrong"


def anew(messages: str) -> str:
    """The same texts with the messages of now; a blank line stands between two."""
    texts = [block.partition("\n=> ")[0] for block in messages.rstrip("\n").split("\n\n")]
    return "\n\n".join(f"{text}\n=> {message(text)}" for text in texts) + "\n"


def test_each_mistake_is_answered_in_one_line_with_its_place_and_the_remedy() -> None:
    messages = MESSAGES.read_text(encoding="utf-8")
    assert anew(messages) == messages
    assert "nothing is wrong" not in messages


if __name__ == "__main__":
    MESSAGES.write_text(anew(MESSAGES.read_text(encoding="utf-8")), encoding="utf-8")
