"""What the operator's console needs: pausing, and what it shows at a glance."""

revision = "0002_console"
down_revision = "0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
