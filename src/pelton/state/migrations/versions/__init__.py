"""One file for each step from the first tables to those of `pelton.state.tables`.

A file that was released is never changed. A new step is a new file that names the one before it
as its `down_revision`; a test compares what all of them make with the tables that are used.
SQLite changes a column only by `op.batch_alter_table`, which copies the table.
"""
