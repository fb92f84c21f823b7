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


def downgrade() -> None:
    for table in ("api_key_owners", "api_keys"):
        op.drop_table(table)
    op.drop_column("grants", "client_id")
