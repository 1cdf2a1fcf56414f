"""The chart's geometry: bars as high as their money."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway.console.charts import HEIGHT, WIDTH, spend_chart
from gateway.domain.pricing import usd

STARTS = [dt.datetime(2026, 11, day, tzinfo=dt.UTC) for day in range(1, 8)]
MONEY = st.integers(0, 10**12)


def row(day: int, cost: str, saved: str) -> dict[str, str]:
    return {"bucket": f"2026-11-{day:02}T00:00:00Z", "cost_usd": cost, "saved_usd": saved}


def test_a_day_without_a_call_has_a_bar_of_no_height():
    chart = spend_chart(STARTS, [row(2, "3", "1")], "day")
    assert [bar.spent_height for bar in chart.bars] == [0, 3 / 4 * HEIGHT, 0, 0, 0, 0, 0]
    assert chart.bars[1].saved_height == HEIGHT / 4
    assert chart.bars[1].label == "2 Nov"
    assert [label for _, label in chart.ticks] == ["$4.00", "$2.00", "$0.00"]
    assert chart.marks == ["1 Nov", "4 Nov", "7 Nov"]


def test_nothing_spent_is_said_to_be_empty():
    assert spend_chart(STARTS, [], "day").empty
    assert not spend_chart(STARTS, [row(1, "0", "0.065")], "day").empty


@given(st.lists(st.tuples(MONEY, MONEY), min_size=7, max_size=7))
def test_bars_fit_the_drawing_and_are_in_proportion(amounts: list[tuple[int, int]]):
    rows = [row(day, usd(cost), usd(saved)) for day, (cost, saved) in enumerate(amounts, 1)]
    chart = spend_chart(STARTS, rows, "day")
    top = max(Decimal(cost + saved) for cost, saved in amounts)
    for bar, (cost, saved) in zip(chart.bars, amounts, strict=True):
        assert 0 <= bar.x < bar.x + bar.width <= WIDTH
        assert 0 <= bar.saved_y <= HEIGHT
        assert abs(bar.saved_y + bar.saved_height - bar.spent_y) < 0.02
        assert abs(bar.spent_y + bar.spent_height - HEIGHT) < 0.02
        if top:
            highest = min(each.saved_y for each in chart.bars)
            scale = (HEIGHT - highest) / float(top)
            assert abs(bar.spent_height - cost * scale) < 0.1
            assert abs(bar.saved_height - saved * scale) < 0.1


def test_money_taken_back_makes_no_bar_below_the_line():
    chart = spend_chart(STARTS, [row(1, "-5", "0"), row(2, "1", "0")], "day")
    assert chart.bars[0].spent_height == 0
    assert chart.bars[0].spent == "-5"
