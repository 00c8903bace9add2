"""What a study found, computed from its tables; nothing is drawn here."""
