"""The migrations, forward only; an applied one is never edited."""
