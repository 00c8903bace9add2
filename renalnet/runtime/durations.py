"""Durations as text."""


def duration_words(seconds: float) -> str:
    """Return a duration in its two largest units, such as 12 s, 4 min 10 s, 3 h 20 min or 11 d 19 h."""
    rest = round(seconds)  # first, so that 59.7 s is 1 min and not 60 s
    parts: list[tuple[int, str]] = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if parts or count or name == "s":
            parts.append((count, name))
    # A second unit of 0 is left out (3 h, not 3 h 0 min), but not the only one (0 s).
    return " ".join(f"{count} {name}" for place, (count, name) in enumerate(parts[:2]) if count or not place)
