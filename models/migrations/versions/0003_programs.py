"""What programs need: keys, sign-in links, webhooks and their outbox."""

revision = "0003_programs"
down_revision = "0002_console"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
