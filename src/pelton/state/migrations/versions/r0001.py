"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the first tables."""
    _generations()
    _keys()
    _routes()
    _labels()
    _versions()
    _swaps()
    _changes()
    _exposures()


def _generations() -> None:
    op.create_table(
        "generations",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_generations"),
        comment="How often a subject was changed; a server that sees a new number reads it again.",
    )


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False, comment="their names, separated by blanks"),
        sa.Column("created_s", sa.Double, nullable=False),
        sa.Column("expires_s", sa.Double),
        sa.Column("revoked_s", sa.Double),
        sa.Column("requests_per_s", sa.Double),
        sa.Column("burst", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
    )


def _routes() -> None:
    op.create_table(
        "routes",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_routes"),
    )


def _labels() -> None:
    op.create_table(
        "labels",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("model", "label", name="pk_labels"),
        comment="Names of versions that move from one to the next.",
    )


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("published_s", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name="pk_versions"),
    )
    op.create_table(
        "version_numbers",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_version_numbers"),
        comment="The highest version that a model ever had or was promised.",
    )


def _swaps() -> None:
    op.create_table(
        "swaps",
        sa.Column("number", _Number, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("before", sa.BigInteger),
        sa.Column("after", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("numbers", sa.Text, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_swaps"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_swaps_model_number", "swaps", ["model", "number"])


def _changes() -> None:
    op.create_table(
        "changes",
        sa.Column("number", _Number, nullable=False),
        sa.Column("token", sa.Text, nullable=False, comment="recognises a repetition"),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.PrimaryKeyConstraint("number", name="pk_changes"),
        sa.UniqueConstraint("token", name="uq_changes_token"),
        comment="The audit trail; rows are never changed or removed.",
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_subject_number", "changes", ["subject", "number"])


def _exposures() -> None:
    op.create_table(
        "exposures",
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("enrolled", sa.Boolean, nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("by_key", sa.Boolean, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("route", "salt", "unit", "enrolled", "forced", name="pk_exposures"),
    )
    op.create_index("ix_exposures_at_s", "exposures", ["at_s"])
