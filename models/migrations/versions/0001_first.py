"""The token table, its events and spares, sign-ins under way, erasures and signs of life."""

import sqlalchemy as sa
from alembic import op

from models.session import Instant, OwnerId

revision = "0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "grants",
        sa.Column("owner", OwnerId, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("consent_id", sa.String(32), nullable=False),
        sa.Column("said_at", Instant(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("access_token", sa.LargeBinary()),
        sa.Column("refresh_token", sa.LargeBinary()),
        sa.Column("previous_refresh_token", sa.LargeBinary()),
        sa.Column("previous_until", Instant()),
        sa.Column("previous_attempt", sa.BigInteger()),
        sa.Column("requested_scopes", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("region", sa.String(8), nullable=False),
        sa.Column("fleet_url", sa.Text(), nullable=False),
        sa.Column("connected_at", Instant(), nullable=False),
        sa.Column("refreshed_at", Instant(), nullable=False),
        sa.Column("access_expires_at", Instant()),
        sa.Column("refresh_at", Instant()),
        sa.Column("claimed_until", Instant()),
        sa.Column("retry_at", Instant()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(64)),
        sa.Column("last_error_at", Instant()),
        sa.Column("attempt_id", sa.String(32)),
        sa.Column("attempt_number", sa.BigInteger(), nullable=False),
        sa.Column("attempt_started_at", Instant()),
        sa.Column("attempt_deadline", Instant()),
        sa.Column("token_attempt", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_grants"),
    )
    op.create_index("ix_grants_refresh_at", "grants", ["refresh_at"])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("owner", OwnerId),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("detail", sa.Text()),
        sa.Column("generation", sa.BigInteger()),
        sa.Column("correlation_id", sa.String(32)),
        sa.Column("access_expires_at", Instant()),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_owner_id", "events", ["owner", "id"])
    op.create_table(
        "spares",
        sa.Column("owner", OwnerId, nullable=False),
        sa.Column("attempt_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("refresh_token", sa.LargeBinary(), nullable=False),
        sa.Column("ends_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "attempt_number", name="pk_spares"),
    )
    op.create_index("ix_spares_ends_at", "spares", ["ends_at"])
    op.create_table(
        "signins",
        sa.Column("state", sa.String(64), nullable=False),
        sa.Column("browser", sa.String(64), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("code_verifier", sa.Text()),
        sa.Column("ends_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("state", name="pk_signins"),
    )
    op.create_index("ix_signins_ends_at", "signins", ["ends_at"])
    op.create_table(
        "erasures",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "at", name="pk_erasures"),
    )
    op.create_index("ix_erasures_at", "erasures", ["at"])
    op.create_table(
        "pulses",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pulses"),
    )


def downgrade() -> None:
    for table in ("pulses", "erasures", "signins", "spares", "events", "grants"):
        op.drop_table(table)
