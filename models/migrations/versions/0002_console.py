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
    # that has the row. These two are worth it: nothing else shows a million owners by expiry or last refresh.
    _index("grants", "state", "access_expires_at", "owner")
    _index("grants", "state", "refreshed_at", "owner")
    _index("grants", "state", "owner", where="state <> 'alive'")
    _index("grants", "failures", "owner", where="failures > 0")
    _index("grants", "paused_at", "owner", where="paused_at IS NOT NULL")
    op.add_column("events", sa.Column("late", sa.Float()))
    _index("events", "kind", "id", where="kind <> 'refreshed'")
    _index("events", "id", name="ix_events_rare_id", where="kind <> 'refreshed'")


def _index(table: str, *columns: str, name: str | None = None, where: str | None = None) -> None:
    only = None if where is None else sa.text(where)
    op.create_index(
        name or f"ix_{table}_{'_'.join(columns)}",
        table,
        list(columns),
        postgresql_where=only,
        sqlite_where=only,
    )
