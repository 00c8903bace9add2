"""What several tests share: painted inputs, studies of seconds, readers of what commands leave."""
