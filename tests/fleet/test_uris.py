from __future__ import annotations

import pytest

from fleet.uris import other_uri, parting, place

OURS = "https://a.example/callback"


@pytest.mark.parametrize(
    ("theirs", "at", "words"),
    [
        (OURS, None, ""),
        (OURS + "/", 26, "character 27: Evergrant has nothing more, Tesla has /"),
        ("http://a.example/callback", 4, "character 5: Evergrant has s://a.example/callback, Tesla has ://"),
        ("https://a.example/callbacK", 25, "character 26: Evergrant has k, Tesla has K"),
    ],
)
def test_where_they_part(theirs: str, at: int | None, words: str) -> None:
    assert place(OURS, theirs) == at
    assert parting(OURS, theirs).startswith(words)


def test_the_other_one() -> None:
    assert other_uri(f"sent {OURS}, registered {OURS}/.", OURS) == f"{OURS}/"
    assert other_uri("nothing here", OURS) is None
