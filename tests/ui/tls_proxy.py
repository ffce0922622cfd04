"""What a share link looks like from a browser: TLS in front of the program, and other people's pages beside it."""

import asyncio
import datetime
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path) -> Path:
    """A self-made certificate with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gradio.live")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "tls.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def tls_proxy(folder: Path, port: int, pages: Mapping[str, str]) -> Iterator[int]:
    """Listens with TLS and gives its port. A host of `pages` is answered with its page, any other by the program at
    `port`, as a tunnel does it: the Host stays, X-Forwarded-For and -Proto are added."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        serve = partial(_serve, port=port, pages=pages)
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def _serve(
    client: asyncio.StreamReader, answer: asyncio.StreamWriter, port: int, pages: Mapping[str, str]
) -> None:
    """One connection, one request."""
    with suppress(OSError, asyncio.IncompleteReadError):
        lines = (await client.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        host = next((line[5:].strip() for line in lines if line.lower().startswith("host:")), "")
        if host in pages:
            body = pages[host].encode()
            head = ["HTTP/1.1 200 OK", "Content-Type: text/html", f"Content-Length: {len(body)}", "Connection: close"]
            answer.write("\r\n".join([*head, "", ""]).encode() + body)
            await answer.drain()
        else:
            program, request = await asyncio.open_connection("127.0.0.1", port)
            lines = [line for line in lines if not line.lower().startswith("connection:")]
            lines += ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "Connection: close"]
            request.write("\r\n".join([*lines, "", ""]).encode())
            upward = asyncio.ensure_future(_copy(client, request))
            await _copy(program, answer)
            upward.cancel()
            request.close()
    answer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await source.read(65536):
            target.write(part)
            await target.drain()
