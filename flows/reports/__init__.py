"""Reports for people: nights, promotions, audits and the leaderboard, for terminals, Markdown and HTML."""
