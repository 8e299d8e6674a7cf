"""The database: engine, columns, tables, schema, URLs and driver errors."""
