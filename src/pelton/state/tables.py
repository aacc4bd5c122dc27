"""All tables of the state, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
)

from pelton.state.column_types import PlainJson, PlainText

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows only in a column that is called INTEGER; it has 64 bits as well."""

generations = Table(
    "generations",
    metadata,
    Column("subject", PlainText, primary_key=True),
    Column("number", BigInteger, nullable=False),
    comment="How often a subject was changed; a server that sees a new number reads it again.",
)

keys = Table(
    "keys",
    metadata,
    Column("id", PlainText, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("label", PlainText, nullable=False),
    Column("scopes", PlainText, nullable=False, comment="their names, separated by blanks"),
    Column("created_s", Double, nullable=False),
    Column("expires_s", Double),
    Column("revoked_s", Double),
    Column("requests_per_s", Double),
    Column("burst", BigInteger, nullable=False),
)

routes = Table(
    "routes",
    metadata,
    Column("name", PlainText, primary_key=True),
    Column("policy", PlainJson, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("model", PlainText, primary_key=True),
    Column("label", PlainText, primary_key=True),
    Column("version", BigInteger, nullable=False),
    comment="Names of versions that move from one to the next.",
)

versions = Table(
    "versions",
    metadata,
    Column("model", PlainText, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", PlainText, nullable=False),
    Column("state", PlainText, nullable=False),
    Column("reason", PlainText, nullable=False),
    Column("published_s", Double, nullable=False),
    Column("actor", PlainText, nullable=False),
)

version_numbers = Table(
    "version_numbers",
    metadata,
    Column("model", PlainText, primary_key=True),
    Column("last", BigInteger, nullable=False),
    comment="The highest version that a model ever had or was promised.",
)

swaps = Table(
    "swaps",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("model", PlainText, nullable=False),
    Column("before", BigInteger),
    Column("after", BigInteger, nullable=False),
    Column("cause", PlainText, nullable=False),
    Column("numbers", PlainJson, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("actor", PlainText, nullable=False),
    Index(None, "model", "number"),
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("token", PlainText, nullable=False, unique=True, comment="recognises a repetition"),
    Column("at_s", Double, nullable=False),
    Column("actor", PlainText, nullable=False),
    Column("action", PlainText, nullable=False),
    Column("subject", PlainText, nullable=False),
    Column("before", PlainJson),
    Column("after", PlainJson),
    Index(None, "subject", "number"),
    comment="The audit trail; rows are never changed or removed.",
    sqlite_autoincrement=True,
)

exposures = Table(
    "exposures",
    metadata,
    Column("route", PlainText, primary_key=True),
    Column("salt", PlainText, primary_key=True),
    Column("unit", PlainText, primary_key=True),
    Column("enrolled", Boolean, primary_key=True),
    Column("forced", Boolean, primary_key=True),
    Column("by_key", Boolean, nullable=False),
    Column("arm", PlainText, nullable=False),
    Column("probability", Double, nullable=False),
    Column("at_s", Double, nullable=False, index=True),
)
