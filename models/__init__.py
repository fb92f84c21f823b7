"""The shared SQL token table: tables, queries, encryption and migrations."""
