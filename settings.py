"""Every setting, read once from the environment or `.env`. Nothing else reads the environment."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from functools import cache, cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ROOT = Path(__file__).resolve().parent

TESLA_AUTH = "https://auth.tesla.com/oauth2/v3"
TESLA_DEFAULTS = {
    "tesla_authorize_url": f"{TESLA_AUTH}/authorize",
    # The domain dedicated to Fleet API: Tesla rate limits the older auth.tesla.com for token calls
    # (Tesla's developer pages, "Third-Party Tokens").
    "tesla_token_url": "https://fleet-auth.prd.vn.cloud.tesla.com/oauth2/v3/token",
    "tesla_jwks_url": f"{TESLA_AUTH}/discovery/keys",
    "tesla_issuer": TESLA_AUTH,
    "tesla_fleet_url_na": "https://fleet-api.prd.na.vn.cloud.tesla.com",
    "tesla_fleet_url_eu": "https://fleet-api.prd.eu.vn.cloud.tesla.com",
    "tesla_fleet_url_cn": "https://fleet-api.prd.cn.vn.cloud.tesla.cn",
}
"""Tesla's own endpoints, as its developer pages name them."""

SANDBOX_CLIENT_ID = "evergrant-sandbox"
SANDBOX_CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - opens nothing but the stand-in on this machine


def sandbox_endpoints(origin: str) -> dict[str, str]:
    """The sandbox's counterparts of `TESLA_DEFAULTS`; `origin` is like ``http://localhost:9000``."""
    auth = f"{origin}/oauth2/v3"
    return {
        "tesla_authorize_url": f"{auth}/authorize",
        "tesla_token_url": f"{auth}/token",
        "tesla_jwks_url": f"{auth}/discovery/keys",
        "tesla_issuer": auth,
        "tesla_fleet_url_na": f"{origin}/na",
        "tesla_fleet_url_eu": f"{origin}/eu",
        "tesla_fleet_url_cn": f"{origin}/cn",
    }


class SettingsError(Exception):
    """A setting is missing or malformed; the message names it and says what to do."""


class Settings(BaseSettings):
    """The contract: a field's name in capitals is the setting's name. Units are in each description."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env", env_ignore_empty=False, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    tesla_client_id: str = Field("", description="The app's client id; unset: the sandbox.")
    tesla_client_secret: SecretStr = Field(
        SecretStr(""), description="The app's client secret; empty for open-source apps, which have none."
    )
    tesla_authorize_url: str = Field("", description="Where browsers are sent to sign in.")
    tesla_token_url: str = Field("", description="Where codes and refresh tokens are exchanged.")
    tesla_jwks_url: str = Field("", description="The keys that sign id tokens.")
    tesla_issuer: str = Field("", description="The `iss` of id tokens; several separated by commas.")
    tesla_fleet_url_na: str = Field("", description="Fleet API for North America and Asia-Pacific.")
    tesla_fleet_url_eu: str = Field("", description="Fleet API for Europe, the Middle East and Africa.")
    tesla_fleet_url_cn: str = Field("", description="Fleet API for China.")
    tesla_scopes: str = Field(
        "openid offline_access user_data vehicle_device_data vehicle_location vehicle_cmds "
        "vehicle_charging_cmds",
        description="The scopes to ask for, separated by spaces. Without `openid offline_access` there is "
        "no refresh token.",
    )
    public_url: str = Field("http://localhost:8000", description="How browsers reach the web app.")
    return_urls: str = Field(
        "",
        description="Where sign-in links may lead back to, separated by spaces: each URL allows its own "
        "origin and path, and what is below it.",
    )
    database_url: SecretStr = Field(SecretStr(""), description="SQLAlchemy URL; unset: SQLite.")
    redis_url: SecretStr = Field(SecretStr(""), description="Redis or Valkey; unset: the embedded Valkey.")
    encryption_keys: SecretStr = Field(
        SecretStr(""), description="`id:base64 of 32 bytes`, several by commas or lines; the first encrypts."
    )
    encryption_keys_file: Path | None = Field(None, description="A file with the same.")
    secret_key: SecretStr = Field(SecretStr(""), description="Signs cookies; unset: made once and kept.")
    operator_password: SecretStr = Field(
        SecretStr(""), description="For the console and Flower; unset: generated, kept and printed."
    )
    bind: str = Field("127.0.0.1", description="The address that web, Flower and sandbox listen on.")
    web_port: int = Field(8000, ge=1, le=65535, description="The web app's port.")
    flower_port: int = Field(5555, ge=1, le=65535, description="Flower's port.")
    flower_url: str = Field(
        "", description="How browsers reach Flower; unset: at FLOWER_PORT on PUBLIC_URL's host."
    )
    sandbox_port: int = Field(9000, ge=1, le=65535, description="The sandbox's port.")
    sandbox_url: str = Field(
        "", description="How the processes reach the sandbox; unset: as browsers do, at SANDBOX_PORT."
    )
    sandbox_token_seconds: int = Field(60, ge=1, description="How long the sandbox's access tokens live, s.")
    evergrant_home: Path = Field(Path("var"), description="State folder.")
    refresh_at: float = Field(
        0.75, gt=0, lt=1, description="Share of an access token's life after which it is refreshed."
    )
    sweep_seconds: float = Field(5, gt=0, le=3600, description="How often beat sweeps, s.")
    attempt_deadline: float = Field(
        15, gt=0, le=300, description="What one call to the token endpoint may take in all, s."
    )
    lanes: int = Field(8, ge=1, le=100, description="How many user-keyed queues there are.")
    worker_concurrency: int = Field(16, ge=1, description="Refreshes under way at once in one worker.")
    refresh_rate: float = Field(
        100, gt=0, description="The most calls to the token endpoint a second, all workers together."
    )
    webhook_networks: str = Field(
        "",
        description="Private networks that webhooks may be sent to, like `192.168.1.0/24`, several by "
        "commas; into these http:// will do.",
    )
    webhook_deadline: float = Field(10, gt=0, le=60, description="What one webhook may take in all, s.")
    webhook_first_wait: float = Field(
        5, gt=0, le=3600, description="When a webhook that was not taken is sent again, s; then ever later."
    )
    webhook_days: float = Field(
        5, gt=0, le=30, description="After so many days of trying a webhook is given up, d."
    )
    event_days: float = Field(
        90, ge=31, description="How long it is kept what happened to a grant, days; see REFRESHED_DAYS."
    )
    refreshed_days: float = Field(
        7,
        ge=1,
        description="How long routine refreshes are kept, days: a million owners add 4 million a day.",
    )
    log_level: Annotated[str, NoDecode] = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @model_validator(mode="before")
    @classmethod
    def _unset_means_unset(cls, values: Any) -> Any:
        """An empty value is the same as none, so that `NAME=` in a compose file keeps the default.

        `PUBLIC_URL` follows `WEB_PORT` where only that is set.
        """
        values = {name: value for name, value in values.items() if value != ""}
        if "web_port" in values:
            values.setdefault("public_url", f"http://localhost:{values['web_port']}")
        return values

    @field_validator("public_url")
    @classmethod
    def _an_origin(cls, value: str) -> str:
        value = value.rstrip("/")
        url = urlsplit(value)
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
            raise ValueError("must look like https://example.com, without a query or fragment")
        return value

    @field_validator("return_urls")
    @classmethod
    def _urls(cls, value: str) -> str:
        for entry in value.split():
            url = urlsplit(entry)
            if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
                raise ValueError("must be URLs like https://app.example.com/tesla, separated by spaces")
        return value

    @field_validator("evergrant_home")
    @classmethod
    def _from_the_root(cls, value: Path) -> Path:
        return value if value.is_absolute() else ROOT / value

    @field_validator("webhook_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        for network in filter(None, value.split(",")):
            try:
                ip_network(network.strip())
            except ValueError:
                raise ValueError("must be networks like 192.168.1.0/24, separated by commas") from None
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        scopes = self.tesla_scopes.split()
        if not {"openid", "offline_access"} <= set(scopes):
            raise ValueError(
                "TESLA_SCOPES must contain openid and offline_access: without them Tesla issues no "
                "refresh token"
            )
        return self

    # --- Tesla, or the sandbox -------------------------------------------------------------------

    @cached_property
    def uses_sandbox(self) -> bool:
        """True while no Tesla credentials are set and at least one endpoint is left to the sandbox."""
        return not self.tesla_client_id and not all(
            getattr(self, name)
            for name in ("tesla_authorize_url", "tesla_token_url", "tesla_jwks_url", "tesla_issuer")
        )

    @cached_property
    def client_id(self) -> str:
        return self.tesla_client_id or SANDBOX_CLIENT_ID

    @cached_property
    def client_secret(self) -> str:
        """Empty for an open-source app; the sandbox's own where no app is configured."""
        secret = self.tesla_client_secret.get_secret_value()
        return secret if self.tesla_client_id or secret else SANDBOX_CLIENT_SECRET

    def endpoint(self, name: str) -> str:
        """The effective URL of e.g. ``tesla_token_url``: as set, else the sandbox's, else Tesla's."""
        value: str = getattr(self, name)
        if value:
            return value.rstrip("/") if name.startswith("tesla_fleet_url") else value
        return self._defaults[name]

    @cached_property
    def _defaults(self) -> dict[str, str]:
        if not self.uses_sandbox:
            return TESLA_DEFAULTS
        browsers = sandbox_endpoints(f"http://localhost:{self.sandbox_port}")
        if not self.sandbox_url:
            return browsers
        # Where browsers are sent, and what the sandbox calls itself, is the same for everybody.
        ours = sandbox_endpoints(self.sandbox_url.rstrip("/"))
        return ours | {name: browsers[name] for name in ("tesla_authorize_url", "tesla_issuer")}

    @cached_property
    def fleet_urls(self) -> dict[str, str]:
        """Region code (``NA``, ``EU``, ``CN``) to Fleet API base URL."""
        return {region: self.endpoint(f"tesla_fleet_url_{region.lower()}") for region in ("NA", "EU", "CN")}

    @cached_property
    def redirect_uri(self) -> str:
        return f"{self.public_url}/callback"

    # --- where things are kept -------------------------------------------------------------------

    @cached_property
    def database(self) -> str:
        """The SQLAlchemy URL, with psycopg 3 as PostgreSQL's driver."""
        url = self.database_url.get_secret_value()
        if not url:
            return f"sqlite:///{self.evergrant_home / 'evergrant.db'}"
        scheme, separator, rest = url.partition("://")
        if separator and scheme in {"postgres", "postgresql"}:
            return f"postgresql+psycopg://{rest}"
        return url

    @cached_property
    def valkey_socket(self) -> Path:
        """Where the embedded Valkey listens. A socket's path has room for about 100 bytes, so a deep
        `EVERGRANT_HOME` moves it into a private folder of the same user's under the temporary folder."""
        socket = self.evergrant_home / "valkey" / "valkey.sock"
        if len(str(socket).encode()) <= 100:
            return socket
        name = hashlib.sha256(str(self.evergrant_home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"evergrant-{name}" / "valkey.sock"

    @cached_property
    def redis(self) -> str:
        """The URL for redis-py."""
        return self.redis_url.get_secret_value() or f"unix://{self.valkey_socket}"

    def secret(self, name: str, make: str | None = None) -> str:
        """The text of a secret that is made once and kept under `EVERGRANT_HOME` with mode 600."""
        path = self.evergrant_home / "secrets" / name
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Written aside and linked into place: several processes may start at once, and all must
            # end up with the same secret.
            draft = path.with_name(f".{name}.{secrets.token_hex(8)}")
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_text(make if make is not None else secrets.token_urlsafe(32))
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
            return path.read_text().strip()

    @cached_property
    def cookie_key(self) -> str:
        return self.secret_key.get_secret_value() or self.secret("secret_key")

    @cached_property
    def console_password(self) -> str:
        return self.operator_password.get_secret_value() or self.secret(
            "operator_password", secrets.token_urlsafe(12)
        )

    @cached_property
    def keys(self) -> str:
        """The encryption keys' text, for `models.crypto.Keyring.parse`."""
        if text := self.encryption_keys.get_secret_value():
            return text
        if self.encryption_keys_file is not None:
            try:
                return self.encryption_keys_file.read_text()
            except OSError as error:
                raise SettingsError(
                    f"ENCRYPTION_KEYS_FILE={self.encryption_keys_file} can't be read ({error.strerror}). "
                    "Make it readable for this user, or unset it."
                ) from None
        import base64

        return self.secret("encryption_keys", "k1:" + base64.b64encode(secrets.token_bytes(32)).decode())


@cache
def get_settings() -> Settings:
    """The settings of this process.

    Raises `SettingsError`, with one line for each setting that is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            name = "_".join(str(part) for part in problem["loc"]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {message}" if name else message)
        raise SettingsError("\n".join(lines)) from None
