"""Rows of Parquet, JSONL and CSV files as people have them. Light to import but for `reading`, which needs Arrow."""
