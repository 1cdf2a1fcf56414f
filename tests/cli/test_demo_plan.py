"""The sample calls: the same every time, of every kind, and nothing in them that would take long."""

from __future__ import annotations

from collections import Counter

from gateway.cli.demo_plan import PEOPLE, TEAMS, plan

CALLS = plan(300, model="flux-pro", seed=1)


def test_the_same_number_gives_the_same_calls_and_another_others():
    assert plan(300, model="flux-pro", seed=1) == CALLS
    assert plan(300, model="flux-pro", seed=2) != CALLS


def test_there_are_as_many_as_asked_for_in_their_order():
    for count in (1, 2, 17, 300):
        assert len(plan(count, model="flux-pro", seed=3)) == count
    assert [call.at for call in CALLS] == sorted(call.at for call in CALLS)
    assert all(0 <= call.at < 1 for call in CALLS)


def test_there_is_something_of_everything():
    bodies = Counter(str(sorted(call.body.items())) for call in CALLS if "seed" in call.body)
    assert sum(times - 1 for times in bodies.values()) > 100, "asked for again"
    assert len({call.at for call in CALLS}) < len(CALLS), "at once"
    assert {call.person for call in CALLS} == set(range(len(PEOPLE)))
    assert any("seed" not in call.body for call in CALLS)
    assert {900400, 900500, 900504} <= {call.body.get("seed") for call in CALLS}
    assert any(call.body["size"] == "wide" for call in CALLS)
    assert {call.tags.partition(",")[2] for call in CALLS} == {"env=prod", "env=staging"}


def test_everybody_is_in_a_team_that_there_is():
    assert {person.team for person in PEOPLE} == set(TEAMS)
