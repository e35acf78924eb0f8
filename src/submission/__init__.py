"""From predictions to a file that the leaderboard accepts."""
