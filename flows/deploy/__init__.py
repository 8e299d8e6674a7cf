"""Set up a Prefect server, and run nights on a schedule."""
