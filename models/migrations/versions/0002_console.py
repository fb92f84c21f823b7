"""What the operator's console needs: pausing, and what it shows at a glance."""

import sqlalchemy as sa
from alembic import op

from models.session import Instant

revision = "0002_console"
down_revision = "0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("grants", sa.Column("paused_at", Instant()))
    # A refresh moves a row to another place in `refresh_at`'s index, and so writes an entry into every index
    # that has the row: 6 µs of PostgreSQL's CPU for each of these two. They are worth it: nothing else shows
    # a million owners by expiry or by last refresh.
    _index("grants", "state", "access_expires_at", "owner")
    _index("grants", "state", "refreshed_at", "owner")
    _index("grants", "state", "owner", where="state <> 'alive'")
    _index("grants", "failures", "owner", where="failures > 0")
    _index("grants", "paused_at", "owner", where="paused_at IS NOT NULL")
    op.add_column("events", sa.Column("late", sa.Float()))
    _index("events", "kind", "id", where="kind <> 'refreshed'")
    _index("events", "id", name="ix_events_rare_id", where="kind <> 'refreshed'")
    op.create_table(
        "surveys",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("begun_at", Instant(), nullable=False),
        sa.Column("at", Instant()),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("numbers", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_surveys"),
    )
    op.create_table(
        "tallies",
        sa.Column("minute", Instant(), nullable=False),
        sa.Column("refreshed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("ended", sa.Integer(), nullable=False),
        sa.Column("timed", sa.Integer(), nullable=False),
        sa.Column("late_sum", sa.Float(), nullable=False),
        sa.Column("late_max", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("minute", name="pk_tallies"),
    )
    op.create_table(
        "rolled",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rolled"),
    )


def _index(table: str, *columns: str, name: str | None = None, where: str | None = None) -> None:
    only = None if where is None else sa.text(where)
    op.create_index(
        name or f"ix_{table}_{'_'.join(columns)}",
        table,
        list(columns),
        postgresql_where=only,
        sqlite_where=only,
    )
