"""Pictures and the report: data in, matplotlib Figure out."""
