from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.outcome import Lost, Refused, UpstreamFailure, judge
from gateway.domain.picture import ImageUnusable, inspect_picture
from gateway.providers.base import Order, ProviderKey
from gateway.providers.sandbox import MAGIC_SEEDS, SandboxProvider

KEY = ProviderKey("pk_sandbox", "")


class Sleeps:
    """Time that passes at once and is remembered."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def order(**changes: Any) -> Order:
    parameters = {
        "prompt": "A fox",
        "num_images": 1,
        "image_size": {"width": 256, "height": 320},
        "output_format": "jpeg",
    }
    return Order("gen_1", "flux-pro", parameters | changes)


def sandbox() -> SandboxProvider:
    return SandboxProvider(delay_s=1, sleep=Sleeps())


async def addresses(**changes: Any) -> list[str]:
    answer = await sandbox().buy(order(**changes), KEY)
    return [image.url or "" for image in answer.images]


@pytest.mark.parametrize(("output_format", "extension"), [("jpeg", "jpg"), ("png", "png")])
async def test_draws_what_was_asked(output_format: str, extension: str) -> None:
    [address] = await addresses(seed=5, output_format=output_format)
    facts = inspect_picture(await sandbox().fetch(address))
    assert (facts.extension, facts.width, facts.height) == (extension, 256, 320)


async def test_equal_orders_give_equal_pictures_even_after_a_restart() -> None:
    [first], [again] = await addresses(seed=5), await addresses(seed=5)
    assert first == again
    assert await sandbox().fetch(first) == await sandbox().fetch(again)


async def test_a_difference_past_what_is_typeset_gives_another_picture() -> None:
    [one], [other] = await addresses(seed=5, prompt="x" * 4000), await addresses(seed=5, prompt="x" * 3999)
    assert max(len(one), len(other)) < 1000
    assert await sandbox().fetch(one) != await sandbox().fetch(other)


async def test_the_pictures_of_one_answer_differ() -> None:
    drawn = {await sandbox().fetch(address) for address in await addresses(seed=5, num_images=4)}
    assert len(drawn) == 4


async def test_without_a_seed_it_picks_one_and_says_so() -> None:
    answers = [await sandbox().buy(order(), KEY) for _ in range(2)]
    assert answers[0].seed != answers[1].seed
    assert not {answer.seed for answer in answers} & set(MAGIC_SEEDS)


async def test_the_price_is_left_to_the_catalogue() -> None:
    answer = await sandbox().buy(order(seed=2**63 - 1), KEY)
    assert (answer.cost_micro_usd, answer.seed, answer.nsfw) == (None, 2**63 - 1, (False,))
    assert answer.inference_id


@pytest.mark.parametrize(
    ("seed", "status", "proof"),
    [
        (900400, 400, "not_bought"),
        (900403, 403, "not_bought"),
        (900429, 429, "not_bought"),
        (900500, 500, "not_bought"),
        (900503, 503, "not_bought"),
        (900408, None, "unknown"),
        (900504, None, "unknown"),
    ],
)
async def test_a_magic_seed_fails_as_its_number_says(seed: int, status: int | None, proof: str) -> None:
    with pytest.raises(UpstreamFailure) as failed:
        await sandbox().buy(order(seed=seed), KEY)
    event = failed.value.event
    assert judge(event).proof == proof
    assert isinstance(event, Refused | Lost)
    assert event.status == status if isinstance(event, Refused) else event.timed_out == (seed == 900408)


@pytest.mark.parametrize(("seed", "seconds"), [(5, 1), (900010, 10), (900030, 30)])
async def test_a_magic_seed_takes_its_time(seed: int, seconds: float) -> None:
    sleeps = Sleeps()
    await SandboxProvider(delay_s=1, sleep=sleeps).buy(order(seed=seed), KEY)
    assert sleeps.seconds == [seconds]


@pytest.mark.parametrize(("asked", "came"), [(1, 1), (2, 1), (4, 3)])
async def test_a_magic_seed_leaves_one_picture_out(asked: int, came: int) -> None:
    assert len(await addresses(seed=900206, num_images=asked)) == came


async def test_a_magic_seed_gives_a_dead_address() -> None:
    [address] = await addresses(seed=900404)
    with pytest.raises(ImageUnusable) as refused:
        await sandbox().fetch(address)
    assert not refused.value.permanent


async def test_a_magic_seed_gives_bytes_that_are_no_picture() -> None:
    [address] = await addresses(seed=900415)
    with pytest.raises(ImageUnusable):
        inspect_picture(await sandbox().fetch(address))


@pytest.mark.parametrize("address", ["", "sandbox:", "sandbox:AAAA", "sandbox:é", "https://cdn.example/1.jpg"])
async def test_fetches_its_own_addresses_only(address: str) -> None:
    with pytest.raises(ImageUnusable) as refused:
        await sandbox().fetch(address)
    assert refused.value.permanent


def test_every_magic_seed_is_described() -> None:
    assert all(magic.description.endswith(".") for magic in MAGIC_SEEDS.values())
    assert len(MAGIC_SEEDS) == 12
