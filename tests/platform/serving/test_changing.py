import asyncio
import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import msgspec
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from headwise.errors import InputError, NotFound
from headwise.model_folder import ModelCard
from headwise.serving.app import create_app
from headwise.serving.batching import Batcher
from headwise.serving.bodies import json_response, read_json
from headwise.serving.changing import Slot
from headwise.serving.mlflow_server import Unreachable
from headwise.serving.service import Endpoint, Socket

PATH = "/v1/say"
CARD = ModelCard("parrot", "words", {}, {}, {}, {})


@dataclass
class Parrot:
    """Says its version and the word; `broken` ones fail on the words that they are told."""

    version: str
    broken: frozenset = frozenset()
    kind: str = "parrot"
    name: str = "parrot"
    card: ModelCard = CARD
    starts: int = 0
    ends: int = 0
    asked: list = field(default_factory=list)
    gate: asyncio.Event | None = None
    inference = None
    sockets = ()

    def __post_init__(self):
        self.batcher = Batcher(lambda words: [f"{self.version}: {word}" for word in words])

    @property
    def endpoints(self):
        operation = {"summary": f"Version {self.version}", "responses": {"200": {"description": "The word."}}}
        return [Endpoint(PATH, self._answer, operation, {}, 101, 1009)]

    def agreement(self, first, second):
        mine, theirs = (json.loads(body).split(": ")[1] for body in (first, second))
        return float(mine == theirs)

    @asynccontextmanager
    async def running(self):
        self.starts += 1
        async with self.batcher.running():
            yield
        self.ends += 1

    async def _answer(self, request):
        word = await read_json(request, msgspec.json.Decoder(str))
        self.asked.append(word)
        if self.gate:
            await self.gate.wait()
        if word in self.broken:
            raise ZeroDivisionError(word)
        if word == "wrong":
            raise InputError("not that word")
        return json_response(await self.batcher.submit(word))


class Shelf:
    """A registry in which the test puts versions."""

    def __init__(self, *parrots):
        self.parrots = {parrot.version: parrot for parrot in parrots}
        self.wanted = parrots[0].version
        self.down = self.lost = False
        self.loads = []

    def version(self):
        if self.down:
            raise InputError("the registry cannot be reached")
        return self.wanted

    def load(self, version):
        self.loads.append(version)
        if self.lost:
            raise Unreachable("the store cannot be reached")
        if version not in self.parrots:
            raise NotFound(f"version {version} is damaged")
        return self.parrots[version]


@asynccontextmanager
async def serving(shelf, **options):
    first = shelf.parrots[shelf.wanted]
    options = {"every": 3600.0, "probation": 3600.0} | options
    app = create_app([first], {"parrot": shelf}, **options)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://headwise") as client:
            yield client, app.state.slots[0]


async def say(client, word="ahoy"):
    answer = await client.post(PATH, json=word)
    return answer.json() if answer.status_code == 200 else answer.status_code


async def state(client):
    [model] = (await client.get("/v1/models")).json()["data"]
    return model


def run(test):
    return asyncio.run(test)


def test_an_alias_that_moves_changes_the_version_that_answers():
    async def test():
        old, new = Parrot("1"), Parrot("2")
        shelf = Shelf(old, new)
        async with serving(shelf) as (client, slot):
            assert await say(client) == "1: ahoy"
            shelf.wanted = "2"
            await slot.look()
            assert await say(client) == "2: ahoy"
            assert (await state(client))["version"] == "2"
            document = (await client.get("/openapi.json")).json()
            assert document["paths"][PATH]["post"]["summary"] == "Version 2"
            metrics = (await client.get("/metrics")).text
            assert 'headwise_model_changes_total{model="parrot",why="served"} 1.0' in metrics
            assert 'version="2"} 1.0' in metrics
            assert 'version="1"' not in metrics
            await slot.look()
            assert shelf.loads == ["2"]
        assert (old.starts, old.ends, new.starts, new.ends) == (1, 1, 1, 1)

    run(test())


def test_it_looks_by_itself_and_lets_the_old_version_go():
    async def test():
        old, new = Parrot("1"), Parrot("2")
        shelf = Shelf(old, new)
        async with serving(shelf, every=0.001, probation=0.001) as (client, _):
            shelf.wanted = "2"
            while not old.ends:
                await asyncio.sleep(0.001)
            assert await say(client) == "2: ahoy"

    run(asyncio.wait_for(test(), 30))


def test_a_request_is_answered_by_one_version_from_beginning_to_end():
    async def test():
        old, new = Parrot("1", gate=asyncio.Event()), Parrot("2")
        shelf = Shelf(old, new)
        async with serving(shelf, probation=0.0) as (client, slot):
            under_way = asyncio.create_task(say(client))
            while not old.asked:
                await asyncio.sleep(0)
            shelf.wanted = "2"
            await slot.look()
            assert await say(client) == "2: ahoy"
            for _ in range(7):
                await asyncio.sleep(0)
            assert not old.ends  # it still has one to answer
            old.gate.set()
            assert await under_way == "1: ahoy"
            while not old.ends:
                await asyncio.sleep(0.001)

    run(asyncio.wait_for(test(), 30))


def test_a_version_that_cannot_be_loaded_is_not_served_until_the_alias_moves_on(caplog):
    async def test():
        shelf = Shelf(Parrot("1"), Parrot("3"))
        async with serving(shelf) as (client, slot):
            shelf.wanted = "2"
            for _ in range(3):
                await slot.look()
            assert shelf.loads == ["2"]  # tried once
            assert await say(client) == "1: ahoy"
            assert (await state(client))["refused"] == {"2": "version 2 is damaged"}
            assert 'headwise_model_refused{model="parrot"} 1.0' in (await client.get("/metrics")).text
            shelf.wanted = "3"
            await slot.look()
            assert await say(client) == "3: ahoy"
            assert (await state(client))["refused"] == {}

    with caplog.at_level(logging.ERROR):
        run(test())
    assert "parrot: version 2 is not served: version 2 is damaged" in caplog.text


def test_a_version_that_fails_where_the_one_before_does_not_is_taken_back_and_nobody_notices():
    async def test():
        old, new = Parrot("1"), Parrot("2", broken=frozenset({"ahoy", "help"}), gate=asyncio.Event())
        shelf = Shelf(old, new)
        async with serving(shelf) as (client, slot):
            shelf.wanted = "2"
            await slot.look()
            together = [asyncio.create_task(say(client, word)) for word in ("ahoy", "help", "ahoy")]
            while len(new.asked) < 3:
                await asyncio.sleep(0)
            new.gate.set()
            assert await asyncio.gather(*together) == ["1: ahoy", "1: help", "1: ahoy"]
            assert await say(client, "fine") == "1: fine"
            await slot.look()
            assert shelf.loads == ["2"]
            assert (await state(client))["refused"] == {"2": "failed on a request (ZeroDivisionError: ahoy)"}
            assert (
                'headwise_model_changes_total{model="parrot",why="taken back"} 1.0'
                in (await client.get("/metrics")).text
            )
            while not new.ends:
                await asyncio.sleep(0.001)
        assert old.ends == 1

    run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize(("word", "status"), [("poison", 500), ("wrong", 422)])
def test_a_request_that_both_versions_refuse_takes_nothing_back(word, status):
    async def test():
        old, new = Parrot("1", broken=frozenset({"poison"})), Parrot("2", broken=frozenset({"poison"}))
        shelf = Shelf(old, new)
        async with serving(shelf) as (client, slot):
            shelf.wanted = "2"
            await slot.look()
            assert await say(client, word) == status
            assert await say(client) == "2: ahoy"

    run(test())


def test_after_its_probation_a_failure_is_a_failure():
    async def test():
        old, new = Parrot("1"), Parrot("2", broken=frozenset({"ahoy"}))
        shelf = Shelf(old, new)
        async with serving(shelf, probation=0.0) as (client, slot):
            shelf.wanted = "2"
            await slot.look()
            while not old.ends:
                await asyncio.sleep(0.001)
            assert await say(client) == 500
            assert await say(client, "fine") == "2: fine"

    run(asyncio.wait_for(test(), 30))


def test_while_the_registry_is_away_the_last_good_version_serves(caplog):
    async def test():
        shelf = Shelf(Parrot("1"), Parrot("2"))
        async with serving(shelf) as (client, slot):
            shelf.down = True
            for _ in range(3):
                await slot.look()
            assert await say(client) == "1: ahoy"
            assert (await state(client))["trouble"] == "the registry cannot be reached"
            assert 'headwise_registry_up{model="parrot"} 0.0' in (await client.get("/metrics")).text
            shelf.down, shelf.lost, shelf.wanted = False, True, "2"
            for _ in range(2):
                await slot.look()
            assert shelf.loads == ["2", "2"]  # not its fault: tried again
            assert await state(client) | {"refused": {}, "trouble": "the store cannot be reached"} == await state(
                client
            )
            shelf.lost = False
            await slot.look()
            assert await say(client) == "2: ahoy"
            assert (await state(client))["trouble"] == ""

    with caplog.at_level(logging.WARNING):
        run(test())
    assert caplog.text.count("version 1 goes on serving: the registry cannot be reached") == 1


def test_no_request_fails_while_versions_come_and_go():
    async def test():
        parrots = [Parrot(str(version)) for version in range(11)]
        parrots[5].broken = frozenset({"ahoy"})
        shelf = Shelf(*parrots)
        answers = []

        async def client_at_work(client):
            for _ in range(53):  # one after the other
                answer = await say(client)
                answers.append(answer)

        async with serving(shelf, probation=0.0) as (client, slot):
            at_work = [asyncio.create_task(client_at_work(client)) for _ in range(7)]
            for version in range(1, 11):
                shelf.wanted = str(version)
                slot._probation = 3600.0 if version == 5 else 0.0
                await slot.look()
                seen = len(answers)
                while len(answers) < min(seen + 13, 7 * 53):
                    await asyncio.sleep(0)
            await asyncio.gather(*at_work)
        assert len(answers) == 7 * 53
        assert all(str(answer).endswith(": ahoy") for answer in answers)
        assert not any(answer.startswith("5:") for answer in answers)
        assert [parrot.ends for parrot in parrots] == [1] * 11

    run(asyncio.wait_for(test(), 60))


async def shadowed(client, outcome, number):
    line = f'headwise_shadow_requests_total{{model="parrot",outcome="{outcome}",version="2"}} {number}.0'
    while line not in (text := (await client.get("/metrics")).text):
        await asyncio.sleep(0.001)
    return text


def test_a_shadow_is_asked_the_same_and_nobody_sees_it():
    async def test():
        champion, candidate = Parrot("1"), Parrot("2", broken=frozenset({"help"}))
        app = create_app([champion], shadows=[candidate])
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://headwise") as client:
                for word in ("ahoy", "help", "wrong", "land"):
                    assert await say(client, word) == (422 if word == "wrong" else f"1: {word}")
                await shadowed(client, "failed", 1)
                text = await shadowed(client, "answered", 2)
                assert 'headwise_shadow_agreement_sum{model="parrot",version="2"} 2.0' in text
                assert candidate.asked == ["ahoy", "help", "land"]  # what was refused is no question
                assert (await state(client))["shadow"] == "2"
        assert (candidate.starts, candidate.ends) == (1, 1)

    run(asyncio.wait_for(test(), 30))


def test_a_slow_shadow_holds_nobody_up():
    async def test():
        champion, candidate = Parrot("1"), Parrot("2", gate=asyncio.Event())
        app = create_app([champion], shadows=[candidate])
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://headwise") as client:
                for _ in range(67):  # one is being asked, 64 wait
                    assert await say(client) == "1: ahoy"
                await shadowed(client, "passed over", 2)

    run(asyncio.wait_for(test(), 30))


def test_a_shadow_of_nothing_is_refused():
    with pytest.raises(InputError, match="no parrot is served"):
        create_app([Parrot("1", kind="ape")], shadows=[Parrot("2")])


def test_a_version_that_no_longer_talks_says_so_and_the_one_before_finishes_its_talk():
    class Talker(Parrot):
        @property
        def sockets(self):
            return [Socket("/v1/talk", self._talk, 7)]

        async def _talk(self, socket):
            await socket.accept()
            await socket.send_text(await socket.receive_text())
            await socket.close()

    shelf = Shelf(Talker("1"), Parrot("2"))
    app = create_app([shelf.parrots["1"]], {"parrot": shelf}, every=3600.0)
    with TestClient(app) as client:
        with client.websocket_connect("/v1/talk") as socket:
            shelf.wanted = "2"
            client.portal.call(app.state.slots[0].look)
            socket.send_text("still here")
            assert socket.receive_text() == "still here"
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/v1/talk"):
            pass
    assert refused.value.status_code == 404
    assert refused.value.json()["detail"] == "version 2 of parrot has no /v1/talk"


def test_a_slot_without_a_source_watches_nothing():
    async def test():
        slot = Slot(Parrot("1"))
        async with slot.running():
            assert len(asyncio.all_tasks()) == 2  # this test and the batcher's worker

    run(test())
