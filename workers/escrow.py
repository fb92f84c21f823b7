"""Where Tesla's answers wait while SQL is down: encrypted, in Redis and in a file, whichever can be had.

What a sign-in brought is an answer of Tesla's, too.

The file is for the process that wrote it and its neighbours on the same machine; Redis is for all. What is
taken out is removed only after it has been settled, and settling twice changes nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import secrets
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from models.answers import Answer
from models.consent import SignIn
from models.crypto import Unopenable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis

    from models.crypto import Keyring

log = logging.getLogger(__name__)

_OWNERS = "evergrant:escrow"  # a set: whose answers wait in Redis
_SUFFIX = ".sealed"
_KINDS: dict[str, type[Answer | SignIn]] = {"answer": Answer, "signin": SignIn}


class EscrowFull(Exception):
    """Neither Redis nor the file system takes it."""


class Escrow:
    """`folder` is made when it is first needed."""

    def __init__(self, *, keyring: Keyring, redis: Redis, folder: Path) -> None:
        self._keyring = keyring
        self._redis = redis
        self._folder = folder

    def put(self, answer: Answer | SignIn) -> bool:
        """Keeps the answer; True when it is on this machine's disk, False when only Redis has it. Raises
        `EscrowFull` when neither place takes it."""
        text = self._seal(answer)
        on_disk = in_redis = False
        try:
            self._write_file(answer, text)
            on_disk = True
        except OSError as error:
            log.error("owner %s: the escrow's folder takes nothing: %s", answer.owner, error.strerror)
        try:
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(_key(answer.owner), answer.correlation_id, text)
            pipe.sadd(_OWNERS, answer.owner)
            pipe.execute()
            in_redis = True
        except RedisError as error:
            log.error("owner %s: Redis takes nothing into the escrow: %s", answer.owner, type(error).__name__)
        if not on_disk and not in_redis:
            raise EscrowFull
        return on_disk

    def drain(self, owner: str, settle: Callable[[Answer | SignIn], object]) -> int:
        """Hands each answer of this owner's to `settle`, and forgets those for which that returned.

        Returns how many. What `settle` raises goes through, and that answer stays.
        """
        drained = 0
        for text, forget in self._held(owner):
            if (answer := self._open(owner, text)) is not None:
                settle(answer)
                forget()
                drained += 1
        return drained

    def owners(self) -> set[str]:
        """Whose answers wait, here or in Redis."""
        found = {owner for owner, _ in map(_read_file, self._files("*")) if owner is not None}
        with contextlib.suppress(RedisError):
            found |= {_text(owner) for owner in self._redis.smembers(_OWNERS)}
        return found

    def count(self) -> int:
        """For how many owners answers wait, as far as can be seen from here; quick however many they are."""
        here = {path.name.partition(".")[0] for path in self._files("*")}
        in_redis = 0
        with contextlib.suppress(RedisError):
            in_redis = self._redis.scard(_OWNERS)
        return max(len(here), in_redis)

    # --- the two places --------------------------------------------------------------------------

    def _held(self, owner: str) -> Iterator[tuple[str, Callable[[], object]]]:
        for path in self._files(_digest(owner)):
            _, text = _read_file(path)
            if text is not None:
                yield text, lambda path=path: path.unlink(missing_ok=True)  # type: ignore[misc]
        try:
            in_redis = self._redis.hgetall(_key(owner))
        except RedisError:
            return
        for field, sealed in in_redis.items():
            yield _text(sealed), lambda field=field: self._forget_in_redis(owner, _text(field))  # type: ignore[misc]

    def _forget_in_redis(self, owner: str, correlation_id: str) -> None:
        # In one script, so that an answer that comes in between keeps its owner in the set.
        with contextlib.suppress(RedisError):
            self._redis.eval(
                "redis.call('hdel', KEYS[1], ARGV[1]) "
                "if redis.call('exists', KEYS[1]) == 0 then redis.call('srem', KEYS[2], ARGV[2]) end",
                2,
                _key(owner),
                _OWNERS,
                correlation_id,
                owner,
            )

    def _files(self, prefix: str) -> list[Path]:
        try:
            # The folder is all but always empty or absent: one look at it, and no more.
            names = os.listdir(self._folder)  # noqa: PTH208 - names are all that is needed
        except OSError:
            return []
        return [
            self._folder / name
            for name in sorted(names)
            if name.endswith(_SUFFIX) and (prefix == "*" or name.startswith(prefix))
        ]

    def _write_file(self, answer: Answer | SignIn, text: str) -> None:
        """Whole or not at all, and on the disk when it returns."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{_digest(answer.owner)}.{answer.correlation_id}{_SUFFIX}"
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            draft.touch(mode=0o600, exist_ok=False)
            with draft.open("w") as file:
                json.dump({"owner": answer.owner, "answer": text}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # --- sealing ---------------------------------------------------------------------------------

    def _seal(self, answer: Answer | SignIn) -> str:
        kind = next(kind for kind, made in _KINDS.items() if isinstance(answer, made))
        sealed = self._keyring.seal(answer.to_json(), owner=answer.owner, column=kind, generation=0)
        return f"{kind}:{base64.b64encode(sealed).decode()}"

    def _open(self, owner: str, text: str) -> Answer | SignIn | None:
        kind, _, encoded = text.partition(":")
        try:
            sealed = base64.b64decode(encoded)
            return _KINDS[kind].from_json(self._keyring.open(sealed, owner=owner, column=kind, generation=0))
        except (Unopenable, ValueError, KeyError, TypeError) as error:
            # It stays: a key that comes back opens it, or the version that wrote it.
            log.error("owner %s: an answer in the escrow does not open: %s", owner, error)
            return None


def _key(owner: str) -> str:
    return f"{_OWNERS}:{owner}"


def _digest(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _read_file(path: Path) -> tuple[str | None, str | None]:
    try:
        content = json.loads(path.read_text())
        return content["owner"], content["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None  # taken by another process just now
