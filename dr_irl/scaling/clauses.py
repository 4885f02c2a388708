"""Cuts a text into clauses by rules: sentence ends, conjunctions, list items, lines."""

import re
from collections.abc import Iterator

_MIN_WORDS = 3
_EMOJI = "[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\u200d]"
_END = re.compile(
    # A point ends nothing before a letter or digit: 3.5, 10:30 and example.com stay whole. Closing quotes, and emoji,
    # belong to what they close. The lookbehind starts each run of points once, which keeps the search linear.
    rf"(?:(?<![.!?…])[.!?…]++|[;:])[\"'”’)\]»]*+(?: ?{_EMOJI})*(?= |$)"
    # Chinese has no spaces; after a comma or colon a straight quote opens, after a full stop it closes.
    r"|(?:[。！？]+[\"']?|[；：，]+|…{2,})[”’」』）》]*"
    r"|,(?= (?:(?:and|but|or|so|because|which|while|if)\b|\(?\w\)))"
    r"|(?<= )[-–](?= )|—+"
    r"|(?= •)"
)
_GOES_ON = re.compile(
    # What stands before a cut and the two characters after it. An abbreviation of the last kind may also end a
    # sentence; a capital then begins the next.
    r"\b(?:(?:Mrs?|Ms|Dr|Prof|St|al|pp|[Cc]f|[Ff]ig|[Vv]s|[Aa]pprox|[Ee]\.g|[Ii]\.e|[A-HJ-Z])\. ."
    r"|[Nn]o\. \d|(?:[Ee]tc|[ap]\.m|Inc|Ltd|Jr|Sr)\. [^A-Z])$"
)
_LONGEST_ABBREVIATION = 8
_NUMBER = re.compile(r"\W{0,4}\d{1,3}\.")
_WORD = re.compile(r"[぀-ヿ一-鿿]|[^\W_]\S*")  # Chinese and Japanese: a character


def split_clauses(text: str) -> list[str]:
    """Split a text into clauses; fragments of fewer than three words join the next clause, a last one the one before.

    Nothing but white space changes, and no clause is empty.
    """
    clauses: list[list[str]] = []
    words = _MIN_WORDS  # of the latest clause
    for piece in (piece for line in text.splitlines() for piece in _pieces(" ".join(line.split()))):
        if words >= _MIN_WORDS:
            clauses.append([])
            words = 0
        clauses[-1].append(piece)
        words += len(_WORD.findall(piece))
    if len(clauses) > 1 and words < _MIN_WORDS:
        last = clauses.pop()
        clauses[-1] += last
    return [" ".join(clause) for clause in clauses]


def _pieces(line: str) -> Iterator[str]:
    """Cut one line, whose white space is single spaces, wherever a clause ends."""
    start = 0
    for found in _END.finditer(line):
        end = found.end()
        before = line[max(start, end - _LONGEST_ABBREVIATION) : end + 2]
        if _GOES_ON.search(before) or _NUMBER.fullmatch(line, start, end):
            continue
        if piece := line[start:end].strip():
            yield piece
        start = end
    if rest := line[start:].strip():
        yield rest
