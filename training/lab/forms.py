"""The lab's login servers of its own: a web form and an SMTP server that asks for a password.

Started as a file inside a namespace, so it imports nothing but the standard library:
`forms.py forms|smtp PORT USER PASSWORD DELAY_S`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import sys
from urllib.parse import parse_qs

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
FORM = b'<html><title>Sign in</title><form method="post" action="/login"><input name="user"><input name="password"></form></html>'


class Door:
    """One account and how long a wrong password takes."""

    def __init__(self, user: str, password: str, delay_s: float) -> None:
        self.user, self.password, self.delay_s = user, password, delay_s

    async def opens(self, user: str, password: str) -> bool:
        """True for the right pair; a wrong one waits first."""
        if (user, password) == (self.user, self.password):
            return True
        await asyncio.sleep(self.delay_s)
        return False

    async def forms(self, reader: Reader, writer: Writer) -> None:
        """GET shows the form, POST to any path tries it: 302 to /home, or 200 with the form and `Invalid login`."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                asked = (await reader.readexactly(int(fields.get("content-length", "0")))).decode("latin-1")
                status, more, body = "200 OK", "", FORM
                if head[0].startswith("POST"):
                    sent = {key: values[0] for key, values in parse_qs(asked).items()}
                    if await self.opens(sent.get("user", ""), sent.get("password", "")):
                        status, more, body = "302 Found", "Location: /home\r\nSet-Cookie: session=1\r\n", b""
                    else:
                        body = FORM + b"<p>Invalid login</p>"
                stays = fields.get("connection", "keep-alive") != "close" and head[0].endswith("1.1")
                more += f"Content-Length: {len(body)}\r\nConnection: {'keep-alive' if stays else 'close'}\r\n"
                writer.write(f"HTTP/1.1 {status}\r\nServer: lab\r\nContent-Type: text/html\r\n{more}\r\n".encode() + body)
                await writer.drain()
                if not stays:
                    break
        writer.close()

    async def smtp(self, reader: Reader, writer: Writer) -> None:
        """EHLO, AUTH PLAIN and AUTH LOGIN (RFC 4954), QUIT; anything else is answered with 250."""

        async def said(text: str) -> str:
            writer.write(text.encode() + b"\r\n")
            await writer.drain()
            line = await asyncio.wait_for(reader.readline(), 60)
            if not line:
                raise OSError("closed")
            return line.decode("latin-1").strip()

        with contextlib.suppress(OSError, TimeoutError, ValueError, binascii.Error):
            line = await said("220 mail.lab.test ESMTP")
            while not line.upper().startswith("QUIT"):
                word, answer = line.upper(), "250 OK"
                if word.startswith("EHLO"):
                    answer = "250-mail.lab.test\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME"
                elif word.startswith("AUTH"):
                    answer = "235 2.7.0 welcome" if await self._auth(line, said) else "535 5.7.8 authentication failed"
                line = await said(answer)
            writer.write(b"221 bye\r\n")
            await writer.drain()
        writer.close()

    async def _auth(self, line: str, said: object) -> bool:
        assert callable(said)
        parts = line.split(" ")
        if parts[1].upper() == "PLAIN":
            coded = parts[2] if len(parts) > 2 else await said("334 ")
            _, user, password = base64.b64decode(coded).decode("latin-1").split("\0")
        else:
            coded = parts[2] if len(parts) > 2 else await said("334 VXNlcm5hbWU6")
            user = base64.b64decode(coded).decode("latin-1")
            password = base64.b64decode(await said("334 UGFzc3dvcmQ6")).decode("latin-1")
        return await self.opens(user, password)


async def main(kind: str, port: int, door: Door) -> None:
    """Listen on both address families until killed."""
    await asyncio.start_server(door.forms if kind == "forms" else door.smtp, None, port, backlog=256)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Door(sys.argv[3], sys.argv[4], float(sys.argv[5]))))
