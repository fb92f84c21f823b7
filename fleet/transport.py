"""HTTP with one total deadline a call, and an exact answer to "did the request leave this process?".

`requests` and urllib3 know connect and read time-outs, and a read time-out starts anew with every byte: a
server that drips one byte a second holds a call for ever. Here the sockets themselves look at the deadline
of the call that runs in their thread before each operation, so that names, connecting, TLS, a proxy's
CONNECT, sending, the status line, headers, chunks and body all draw on the same seconds.
"""

from __future__ import annotations

import ipaddress
import json as jsonlib
import logging
import math
import os
import selectors
import socket
import ssl
import sys
import threading
import time
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from fleet.deadline import Deadline, DeadlinePassed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LIMIT = 262_144
"""The most bytes of a body that are read."""

IDLE_SECONDS = 1.5
"""A pooled connection that was idle for longer is not used again: its server may be closing it at this
very moment, and then nobody could say whether the request arrived."""

STAGGER_SECONDS = 0.25
"""How long one address may take before the next one is tried beside it (RFC 8305, section 8)."""

_PIECE = 16_384  # one TLS record


class TransportError(Exception):
    """No whole answer. The message names the host and the reason, never what was sent."""


class NotSent(TransportError):
    """Nothing of the request left this process: whatever it asks for has not happened."""


class OutcomeUnknown(TransportError):
    """The request was sent, in part at least, and no whole answer came: it may or may not have happened.

    `partial` holds what came of the body, `status` the status if one came; neither is in the message.
    """

    def __init__(self, message: str, *, status: int | None = None, partial: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.partial = partial


@dataclass(frozen=True, repr=False)
class Answer:
    """A whole answer. `headers` ignore case; the repr shows no body, because bodies carry tokens."""

    status: int
    headers: Mapping[str, str] = field(default_factory=CaseInsensitiveDict)
    body: bytes = b""

    def json(self) -> Any:
        """The parsed body. Raises ValueError where it is not JSON."""
        try:
            return jsonlib.loads(self.body)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, body of {len(self.body)} bytes)"


# --- the call that runs in this thread ----------------------------------------------------------------


class _Flight:
    """What the sockets have to know about the call that uses them."""

    __slots__ = ("admits", "allowance", "before_send", "deadline", "ended", "hook_error", "sent")

    def __init__(
        self,
        deadline: Deadline,
        before_send: Callable[[], None] | None,
        limit: int,
        admits: Callable[[str], bool] | None,
    ) -> None:
        self.deadline = deadline
        self.admits = admits
        self.before_send = before_send
        # Bytes off the wire, TLS taken off: room for headers and for the framing of small chunks. It ends
        # what neither the body's limit nor a passed deadline would end, e.g. a flood of "100 Continue".
        self.allowance: float = 4 * limit + 131_072
        self.sent = False
        self.ended = False  # the other side closed its half
        self.hook_error: BaseException | None = None


class _Thread(threading.local):
    flight: _Flight | None = None


_running = _Thread()


def _flight() -> _Flight:
    flight = _running.flight
    if flight is None:
        raise RuntimeError("this session works through fleet.transport.call only")
    return flight


class _TooMuch(Exception):
    """More bytes than anybody needs for an answer."""


class _HookRaised(Exception):
    """`before_send` raised; what it raised is on the flight, so that urllib3 can't dress it up."""


# --- sockets ------------------------------------------------------------------------------------------


class _BoundReads:
    """Reads and writes that take no longer than the running call's deadline leaves."""

    def _receive(self, receive: Callable[[], int]) -> int:
        flight = _flight()
        remaining = flight.deadline.remaining
        # Past the deadline what has already arrived is still taken, without waiting: a process that was
        # stopped and woke up late must not throw away the tokens that lie in its own kernel's buffer.
        self.settimeout(remaining)  # type: ignore[attr-defined]
        try:
            count = receive()
        except (BlockingIOError, ssl.SSLWantReadError):
            raise TimeoutError("timed out") from None
        flight.allowance -= count
        flight.ended = count == 0
        if flight.allowance < 0:
            raise _TooMuch
        return count

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        receive = super().recv_into  # type: ignore[misc]
        return self._receive(lambda: receive(buffer, nbytes or 0, flags))

    def recv(self, bufsize: int = 1024, flags: int = 0) -> bytes:
        buffer = bytearray(bufsize)
        return bytes(buffer[: self.recv_into(buffer, bufsize, flags)])

    def send(self, data: Any, flags: int = 0) -> int:
        remaining = _flight().deadline.remaining
        if remaining <= 0:
            raise TimeoutError("timed out")
        self.settimeout(remaining)  # type: ignore[attr-defined]
        sent: int = super().send(data, flags)  # type: ignore[misc]
        return sent

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view[:_PIECE], flags) :]


class _BoundSocket(_BoundReads, socket.socket):
    pass


class _BoundTLSSocket(_BoundReads, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(max(_flight().deadline.remaining, 0.001))
        super().do_handshake(block)


# --- names and connecting -----------------------------------------------------------------------------

_Address = tuple[Any, ...]


class _Lookup:
    """One question to the resolver, shared by everybody who asks it meanwhile.

    `getaddrinfo` can't be timed out nor cancelled, so it runs in a daemon thread; sharing keeps a resolver
    that hangs from collecting a thread for each call.
    """

    _lock = threading.Lock()
    _under_way: dict[tuple[str, int], _Lookup] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, host: str, port: int) -> None:
        self.key = (host, port)
        self.done = threading.Event()
        self.addresses: Sequence[_Address] = ()
        self.failed = False

    @classmethod
    def forget_all(cls) -> None:
        """In a forked child the threads of the lookups do not exist."""
        cls._lock = threading.Lock()
        cls._under_way = {}

    @classmethod
    def of(cls, host: str, port: int) -> _Lookup:
        with cls._lock:
            lookup = cls._under_way.get((host, port))
            if lookup is None:
                lookup = cls._under_way[host, port] = cls(host, port)
                try:
                    threading.Thread(target=lookup._run, name="fleet-lookup", daemon=True).start()
                except BaseException:
                    del cls._under_way[host, port]
                    raise
        return lookup

    def _run(self) -> None:
        try:
            self.addresses = socket.getaddrinfo(*self.key, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            self.failed = True
        finally:
            with self._lock:
                if self._under_way.get(self.key) is self:
                    del self._under_way[self.key]
            self.done.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Lookup.forget_all)


def _resolve(host: str, port: int, deadline: Deadline) -> Sequence[_Address]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    lookup = _Lookup.of(host, port)
    if not lookup.done.wait(deadline.remaining):
        raise NotSent(f"{host}: the name was not resolved in time")
    if lookup.failed or not lookup.addresses:
        raise NotSent(f"{host}: the name could not be resolved")
    return lookup.addresses


def _connect(
    host: str,
    port: int,
    deadline: Deadline,
    options: Iterable[tuple[int, int, Any]],
    admits: Callable[[str], bool] | None,
) -> _BoundSocket:
    """A connected socket to the first address that answers. Raises NotSent."""
    waiting = list(_resolve(host, port, deadline))
    if admits is not None:
        waiting = [found for found in waiting if admits(str(found[4][0]))]
        if not waiting:
            raise NotSent(f"{host}: its address is not one that may be called")
    reason = "no connection in time"
    pending: dict[int, _BoundSocket] = {}
    with selectors.DefaultSelector() as selector:
        try:
            next_start = 0.0
            while waiting or pending:
                remaining = deadline.remaining
                if remaining <= 0:
                    raise NotSent(f"{host}:{port}: no connection in time")
                if waiting and (not pending or time.monotonic() >= next_start):
                    family, kind, protocol, _, address = waiting.pop(0)
                    try:
                        sock = _BoundSocket(family, kind, protocol)
                    except OSError as error:
                        reason = _words(error)
                        continue
                    pending[sock.fileno()] = sock
                    try:
                        for option in options:
                            sock.setsockopt(*option)
                        sock.setblocking(False)
                        sock.connect(address)
                    except BlockingIOError:
                        selector.register(sock, selectors.EVENT_WRITE)
                        next_start = time.monotonic() + STAGGER_SECONDS
                    except OSError as error:
                        pending.pop(sock.fileno()).close()
                        reason = _words(error)
                        continue
                    else:
                        return pending.pop(sock.fileno())
                pause = min(remaining, max(0.0, next_start - time.monotonic())) if waiting else remaining
                for key, _ in selector.select(pause):
                    code = pending[key.fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    selector.unregister(key.fd)
                    if code == 0:
                        return pending.pop(key.fd)
                    pending.pop(key.fd).close()
                    reason = _words(OSError(code, os.strerror(code)))
                    next_start = 0.0
        finally:
            for sock in pending.values():
                sock.close()
    raise NotSent(f"{host}:{port}: {reason}")


# --- connections and pools ----------------------------------------------------------------------------


class _Held:
    """Mixed into urllib3's connections: connects under the deadline, and lets a request go in one piece,
    right after a last look at the deadline."""

    sock: Any
    idle_since: float = 0.0
    _held: list[bytes] | None = None

    def _new_conn(self) -> socket.socket:
        flight = _flight()
        host, port, options = self._dns_host, self.port, self.socket_options or ()  # type: ignore[attr-defined]
        sock = _connect(host.strip("[]"), port, flight.deadline, options, flight.admits)
        sock.settimeout(max(flight.deadline.remaining, 0.001))
        sys.audit("http.client.connect", self, host, port)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        flight = _flight()
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self._held = []
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
            data = b"".join(self._held)
        finally:
            self._held = None
        if flight.before_send is not None:
            try:
                flight.before_send()
            except BaseException as error:
                flight.hook_error = error
                raise _HookRaised from None
        # From here to the send nothing may wait: a process that was stopped and woke up late must not send.
        flight.deadline.check()
        flight.sent = True
        first = True
        view = memoryview(data)
        while view:
            try:
                count = self.sock.send(view[:_PIECE])
            except OSError as error:
                if first and not isinstance(self.sock, ssl.SSLSocket):
                    flight.sent = False  # the kernel took not one byte
                    raise NotSent(f"{self.host}: {_words(error)}") from None  # type: ignore[attr-defined]
                raise
            first = False
            view = view[count:]

    def getresponse(self) -> Any:
        response = super().getresponse()  # type: ignore[misc]
        if _flight().ended:  # http.client takes the end of the stream for the end of the headers
            response.close()
            raise IncompleteRead(b"")
        return response

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held.append(bytes(data))


class _BoundHTTP(_Held, HTTPConnection):
    pass


class _BoundHTTPS(_Held, HTTPSConnection):
    pass


class _Fresh:
    """Mixed into urllib3's pools: leaves alone what has been idle for too long."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)  # type: ignore[misc]
        if conn.sock is not None and time.monotonic() - conn.idle_since > IDLE_SECONDS:
            conn.close()
        return conn

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc]


class _HTTPPool(_Fresh, HTTPConnectionPool):
    ConnectionCls = _BoundHTTP


class _HTTPSPool(_Fresh, HTTPSConnectionPool):
    ConnectionCls = _BoundHTTPS


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


def _tls_context(verify: Any, cert: Any) -> ssl.SSLContext:
    """Made once for a session: loading the authorities anew for each connection costs milliseconds."""
    context = create_urllib3_context()
    context.sslsocket_class = _BoundTLSSocket
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        path = certifi.where() if verify in (True, None) else str(verify)
        context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})  # noqa: PTH112
    if isinstance(cert, str):
        context.load_cert_chain(cert)
    elif cert:
        context.load_cert_chain(*cert)
    return context


class _Adapter(HTTPAdapter):
    """requests' own adapter on the pools above."""

    def __init__(self, pool_size: int) -> None:
        self._contexts: dict[Any, ssl.SSLContext] = {}
        self._pid = os.getpid()
        self._pool_size = pool_size
        super().__init__(pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def context(self, verify: Any, cert: Any) -> ssl.SSLContext:
        context = self._contexts.get((verify, cert))
        if context is None:
            context = self._contexts[verify, cert] = _tls_context(verify, cert)
        return context

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("socks"):
            raise NotSent("SOCKS proxies are not supported: set an http:// proxy")
        if proxy.lower().startswith("https:"):
            kwargs.setdefault("proxy_ssl_context", self.context(True, None))
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        url = urlsplit(request.url or "")
        host = {"scheme": url.scheme, "host": url.hostname, "port": url.port}
        return host, {"ssl_context": self.context(verify, cert)} if url.scheme == "https" else {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to do: the context has it all."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if self._pid != os.getpid():  # a forked child must not write into its parent's connections
            self.__init__(self._pool_size)  # type: ignore[misc]
        return super().send(request, *args, **kwargs)


# urllib3 logs what it can't parse of a header section, and that may be any part of an answer.
logging.getLogger("urllib3.connection").addFilter(
    lambda record: not str(record.msg).startswith("Failed to parse headers")
)


class _Session(requests.Session):
    """Remembers what the environment says about proxies and authorities for each URL."""

    def __init__(self, pool_size: int, admits: Callable[[str], bool] | None) -> None:
        super().__init__()
        self.admits = admits
        self._ways: OrderedDict[str, tuple[str, dict[str, Any]]] = OrderedDict()
        adapter = _Adapter(pool_size)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def way(self, url: str) -> tuple[str, dict[str, Any]]:
        """The encoded URL, and `proxies`, `verify` and `cert` for it."""
        way = self._ways.get(url)
        if way is None:
            prepared = requests.PreparedRequest()
            prepared.prepare_url(url, None)
            settings: Any = self.merge_environment_settings(prepared.url, {}, True, None, None)
            way = (prepared.url or url, dict(settings) | ({} if self.admits is None else {"proxies": {}}))
            self._ways[url] = way
            while len(self._ways) > 64:
                self._ways.popitem(last=False)
        return way


def session(*, pool_size: int = 16, admits: Callable[[str], bool] | None = None) -> requests.Session:
    """A session that keeps connections alive, for `call` only.

    Up to `pool_size` connections a host are kept. Thread-safe and fork-safe. Proxies and authorities are
    taken from the environment as requests does (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE), once for each
    URL. No retries, no redirects, no cookies, no .netrc.

    `admits` says of an IP address whether it may be called. It is asked between looking up a name and
    connecting, so the address that it has seen is the one that is called; for the same reason there is no
    proxy then.
    """
    return _Session(pool_size, admits)


_HEADERS = {"User-Agent": "evergrant", "Accept": "application/json", "Accept-Encoding": "identity"}


def call(
    session: requests.Session,
    method: str,
    url: str,
    *,
    deadline: Deadline,
    before_send: Callable[[], None] | None = None,
    headers: Mapping[str, str] | None = None,
    data: Mapping[str, str] | bytes | str | None = None,
    json: Any = None,
    limit: int = LIMIT,
) -> Answer:
    """One HTTP call that has ended, one way or the other, when `deadline` passes.

    `data` is a form (a mapping) or the body itself, `json` is sent as JSON. `before_send` is called when
    the connection stands, right before the first byte of the request; what it raises comes out unchanged,
    and nothing is sent then. `limit` is the most bytes of a body that are read.

    Raises `NotSent` when nothing left this process, `OutcomeUnknown` when the request did and no whole
    answer came.
    """
    if not isinstance(session, _Session):
        raise TypeError("call needs a session made by fleet.transport.session")
    flight = _Flight(deadline, before_send, limit, session.admits)
    outer, _running.flight = _running.flight, flight
    status: int | None = None
    body = bytearray()
    try:
        deadline.check()
        target, way = session.way(url)
        request = _request(method, target, _HEADERS)
        _fill(request, headers, data, json)
        response = session.get_adapter(target).send(request, **way)
        raw = response.raw
        status = response.status_code
        try:
            # `read1` hands over what has come, so that nothing of it is lost when the rest does not come.
            while len(body) <= limit and (piece := raw.read1(limit + 1 - len(body), decode_content=False)):
                body += piece
            if len(body) > limit:
                raise _TooMuch
            return Answer(status, response.headers, _decoded(bytes(body), response.headers, limit))
        except BaseException:
            raw.close()
            raise
        finally:
            raw.release_conn()
    except Exception as error:
        if flight.hook_error is not None and not isinstance(flight.hook_error, DeadlinePassed):
            raise flight.hook_error from None
        if isinstance(error, NotSent):
            raise
        message = f"{_host(url)}: {_words(flight.hook_error or error)}"
        if flight.sent:
            raise OutcomeUnknown(message, status=status, partial=bytes(body)) from None
        raise NotSent(message) from None
    finally:
        _running.flight = outer


class Stream:
    """An answer whose body is still on its way. It must be closed.

    `headers` are pairs, as they came.
    """

    def __init__(self, raw: Any, flight: _Flight, url: str) -> None:
        self.status: int = raw.status
        self.headers: list[tuple[str, str]] = list(raw.headers.iteritems())
        self._raw = raw
        self._flight = flight
        self._url = url
        self._is_read = False
        self._ahead = b""

    def peek(self, limit: int, idle: float) -> bytes:
        """The body's first bytes, `limit` or a little more, which `pieces` brings all the same."""
        ahead = bytearray()
        for piece in self.pieces(idle):
            ahead += piece
            if len(ahead) >= limit:
                break
        self._ahead = bytes(ahead)
        return self._ahead

    def pieces(self, idle: float) -> Iterator[bytes]:
        """The body as it comes, undecoded; `idle` is how many seconds each piece may take.

        Raises `OutcomeUnknown` when it breaks off.
        """
        if self._ahead:
            yield self._ahead
            self._ahead = b""
        while True:
            self._flight.deadline = Deadline(idle)
            outer, _running.flight = _running.flight, self._flight
            try:
                piece = self._raw.read1(_PIECE, decode_content=False)
            except Exception as error:
                raise OutcomeUnknown(f"{_host(self._url)}: {_words(error)}", status=self.status) from None
            finally:
                _running.flight = outer
            if not piece:
                self._is_read = True
                return
            yield piece

    def close(self) -> None:
        """Gives the connection back where the body has been read, else ends it."""
        if not self._is_read:
            self._raw.close()
        self._raw.release_conn()


def stream(
    session: requests.Session,
    method: str,
    base: str,
    path: str,
    *,
    deadline: Deadline,
    headers: Mapping[str, str],
    body: bytes,
) -> Stream:
    """Sends a request to the URL `base` + `path` as it is; `deadline` is for the answer's headers to come.

    Raises `NotSent` when nothing left this process, `OutcomeUnknown` when the request did and no answer came.
    """
    if not isinstance(session, _Session):
        raise TypeError("stream needs a session made by fleet.transport.session")
    flight = _Flight(deadline, None, 0, session.admits)
    flight.allowance = math.inf
    outer, _running.flight = _running.flight, flight
    try:
        target, way = session.way(base)
        request = _request(method, target.rstrip("/") + path, headers)
        if body or method not in {"GET", "HEAD"}:
            request.headers["Content-Length"] = str(len(body))
        request.body = body or None
        response = session.get_adapter(target).send(request, **way)
        return Stream(response.raw, flight, base)
    except NotSent:
        raise
    except Exception as error:
        message = f"{_host(base)}: {_words(error)}"
        raise (OutcomeUnknown if flight.sent else NotSent)(message) from None
    finally:
        _running.flight = outer


def _request(method: str, url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method = method
    request.url = url
    request.headers = CaseInsensitiveDict(headers)
    request.hooks = {}
    return request


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no URL"


def _fill(
    request: requests.PreparedRequest,
    headers: Mapping[str, str] | None,
    data: Mapping[str, str] | bytes | str | None,
    json: Any,
) -> None:
    body: bytes | None = None
    if json is not None:
        body = jsonlib.dumps(json).encode()
        request.headers["Content-Type"] = "application/json"
    elif data is not None:
        if isinstance(data, bytes):
            body = data
        elif isinstance(data, str):
            body = data.encode()
        else:
            body = urlencode(data).encode()
        request.headers["Content-Type"] = "application/x-www-form-urlencoded"
    if body is not None:
        request.headers["Content-Length"] = str(len(body))
    elif request.method not in {"GET", "HEAD"}:
        request.headers["Content-Length"] = "0"
    request.headers.update(headers or {})
    request.body = body


def _decoded(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """The body as it was meant: an edge may compress although nobody asked it to."""
    if headers.get("Content-Encoding", "").strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return body
    plain = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, limit + 1)
    if len(plain) > limit:
        raise _TooMuch
    return plain


def _words(error: BaseException) -> str:
    """Why, in words, from whatever is wrapped in whatever. Never quotes an error's own text freely: it may
    hold parts of a request or an answer."""
    seen = 0
    cause: BaseException | None = error
    while cause is not None and seen < 8:
        seen += 1
        if isinstance(cause, (DeadlinePassed, TimeoutError, urllib3.exceptions.TimeoutError)):
            return "the deadline passed"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate was not accepted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or 'no reason given'})"
        if isinstance(cause, _TooMuch):
            return "the answer is too large"
        if isinstance(cause, OSError) and str(cause).startswith("Tunnel connection failed"):
            return "the proxy refused to connect"
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            return cause.strerror.lower()
        inner = next(
            (
                arg
                for arg in (getattr(cause, "reason", None), *cause.args[::-1])
                if isinstance(arg, BaseException)
            ),
            None,
        )
        if inner is None and not isinstance(cause, (HTTPException, zlib.error)):
            inner = cause.__cause__ or cause.__context__
        if inner is None:
            break
        cause = inner
    if isinstance(cause, HTTPException):
        return f"the answer broke off or is not HTTP ({type(cause).__name__})"
    return f"the call failed ({type(cause or error).__name__})"
