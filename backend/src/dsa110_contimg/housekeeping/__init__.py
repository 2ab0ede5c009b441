"""What keeps an installation sound for months: backups, retention, and a doctor."""
