"""What programs need: keys, sign-in links, webhooks and their outbox; which app a grant was made with."""

import sqlalchemy as sa
from alembic import op

from models.session import Instant, OwnerId

revision = "0003_programs"
down_revision = "0002_console"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("grants", sa.Column("client_id", sa.Text()))
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("restricted", sa.Boolean(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ends_at", Instant()),
        sa.Column("last_used_at", Instant()),
        sa.Column("revoked_at", Instant()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_table(
        "api_key_owners",
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("owner", OwnerId, nullable=False),
        sa.PrimaryKeyConstraint("key", "owner", name="pk_api_key_owners"),
    )

    op.create_table(
        "signin_links",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("owner", OwnerId),
        sa.Column("return_url", sa.Text()),
        sa.Column("ends_at", Instant(), nullable=False),
        sa.Column("used_at", Instant()),
        sa.PrimaryKeyConstraint("id", name="pk_signin_links"),
    )
    op.create_index("ix_signin_links_ends_at", "signin_links", ["ends_at"])
    op.add_column("signins", sa.Column("link", sa.String(64)))
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("rotation", sa.Integer(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary()),
        sa.Column("previous_until", Instant()),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("off_because", sa.String(16)),
        sa.Column("failing_since", Instant()),
        sa.Column("claim", sa.String(32)),
        sa.Column("claimed_until", Instant()),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        sa.Column("endpoint", sa.String(32), nullable=False),
        sa.Column("message", sa.String(40), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("owner", OwnerId),
        sa.Column("reason", sa.String(64)),
        sa.Column("detail", sa.Text()),
        sa.Column("generation", sa.BigInteger()),
        sa.Column("correlation_id", sa.String(32)),
        sa.Column("ends_at", Instant()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.Column("next_at", Instant()),
        sa.Column("tried_at", Instant()),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    for columns in (["endpoint", "id"], ["type", "at"], ["owner"]):
        op.create_index(f"ix_webhook_deliveries_{'_'.join(columns)}", "webhook_deliveries", columns)
    waits = sa.text("next_at IS NOT NULL")
    op.create_index(
        "ix_webhook_deliveries_endpoint_next_at",
        "webhook_deliveries",
        ["endpoint", "next_at"],
        postgresql_where=waits,
        sqlite_where=waits,
    )
    op.create_table(
        "imports",
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("attempt_id", sa.String(32)),
        sa.Column("attempt_deadline", Instant()),
        sa.Column("owner", OwnerId),
        sa.Column("reason", sa.String(64)),
        sa.Column("detail", sa.Text()),
        sa.Column("newer", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("token", name="pk_imports"),
    )
    for column in ("at", "owner"):
        op.create_index(f"ix_imports_{column}", "imports", [column])


def downgrade() -> None:
    for table in (
        *("imports", "webhook_deliveries", "webhook_endpoints"),
        *("signin_links", "api_key_owners", "api_keys"),
    ):
        op.drop_table(table)
    op.drop_column("signins", "link")
    op.drop_column("grants", "client_id")
