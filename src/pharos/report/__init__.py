"""Report: results as rows, tables and CI formats."""
