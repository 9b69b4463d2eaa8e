"""The stock client of OpenAI against a server on a real socket."""

from __future__ import annotations

import base64
import io
import json
import logging
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from tests.conftest import FakeGenerator
from tests.serving.conftest import Served, pixels, png
from topcoat.pictures.inspection import inspect_bytes

Serve = Callable[..., Served]
Connect = Callable[[Served], openai.OpenAI]


@pytest.fixture
def connect() -> Iterator[Callable[[Served], openai.OpenAI]]:
    """Makes clients of a server."""
    with ExitStack() as stack:

        def client(served: Served) -> openai.OpenAI:
            made = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
            return stack.enter_context(made)

        yield client


def _own(answer: Any) -> dict[str, Any]:
    """What the answer says besides OpenAI's fields."""
    return answer.to_dict()["topcoat"]


def _files(answer: Any) -> list[bytes]:
    return [base64.b64decode(image.b64_json) for image in answer.data]


def test_a_generation(serve: Serve, connect: Connect) -> None:
    client = connect(serve({"baseline": True}))
    asked = {"seed": 7, "num_inference_steps": 2, "strength": 0.5, "head": "embedded"}
    first = client.images.generate(
        model="mini", prompt="old man", n=2, size="32x32", output_format="webp", quality="high", extra_body=asked
    )
    again = client.images.generate(prompt="old man", output_format="webp", extra_body=asked | {"seed": 8})
    assert _files(first)[1] == _files(again)[0] != _files(first)[0]
    assert (first.output_format, first.size, first.background) == ("webp", "32x32", "opaque")
    own = _own(first)
    assert [image["seed"] for image in own["images"]] == [7, 8] and own["images"][0]["strength"] == 0.5
    assert own["head"]["name"] == "embedded" and own["steps"] == 2 and own["ignored"] == ["quality"]
    assert set(own["seconds"]) == {"queued", "generator", "head", "total"}
    facts = inspect_bytes(_files(first)[0], "the answer")
    assert facts["format"] == "WebP" and facts["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    baseline = client.images.generate(model="mini-baseline", prompt="old man")
    assert _own(baseline)["head"] is None


def test_an_edit_with_a_mask(serve: Serve, connect: Connect) -> None:
    client = connect(serve())
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    source, mask = png(exif=exif), io.BytesIO()
    shape = np.zeros((40, 40, 4), np.uint8)
    shape[:, :20, 3] = 255
    Image.fromarray(shape).save(mask, "PNG")
    answer = client.images.edit(image=("a.png", source), mask=("b.png", mask.getvalue()), prompt="")
    changed = pixels(_files(answer)[0])
    np.testing.assert_array_equal(changed[:, :20], pixels(source)[:, :20])
    assert not np.array_equal(changed[:, 20:], pixels(source)[:, 20:])
    facts = inspect_bytes(_files(answer)[0], "the answer")
    assert facts["exif"]["Make"] == "Camera"
    assert facts["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")


def test_several_pictures_of_several_sizes_in_one_edit(serve: Serve, connect: Connect) -> None:
    client = connect(serve())
    answer = client.images.edit(
        model="embedded", image=[png(40), png(24)], prompt="any", output_format="jpeg", extra_body={"strength": 0.5}
    )
    assert [pixels(file).shape for file in _files(answer)] == [(40, 40, 3), (24, 24, 3)]
    assert _own(answer)["images"][1]["strength"] == 0.5


def test_the_models(serve: Serve, connect: Connect) -> None:
    client = connect(serve())
    assert [model.id for model in client.models.list()] == ["mini", "embedded"]
    assert _own(client.models.retrieve("embedded"))["serves"] == "edits"
    with pytest.raises(openai.NotFoundError, match="use one of: mini, embedded"):
        client.models.retrieve("dall-e-3")


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        ({"size": "64x64"}, None, "size 64x64 is not served; use one of: 32x32"),
        ({"size": "large"}, "size", "size: string should match pattern"),
        ({"n": 0}, "n", "n: input should be greater than or equal to 1, not 0"),
        ({"n": 11}, None, "a request of 11 images is not possible; ask for 1 to 10"),
        ({"prompt": " "}, None, "prompt 0 is empty"),
        ({"response_format": "url"}, None, "ask for b64_json"),
        ({"stream": True}, None, "stream and partial_images are not served"),
        ({"output_compression": 50}, None, "PNG is lossless"),
        ({"background": "transparent"}, None, "use auto or opaque"),
        ({"extra_body": {"sead": 1}}, "sead", "sead: unknown field"),
        ({"extra_body": {"strength": 3}}, "strength", "strength: input should be less than or equal to 2"),
        ({"extra_body": {"head": "../../etc"}}, None, "no head '../../etc' is served"),
        ({"extra_body": {"guidance_scale": 2}}, None, "has its own size and guidance alone"),
        ({"extra_body": {"identity_floor": 0.9}, "model": "mini-baseline"}, None, None),
    ],
)
def test_a_mistake_is_one_sentence_in_openais_shape(
    serve: Serve, connect: Connect, asked: dict[str, Any], param: str | None, says: str | None
) -> None:
    generate: Any = connect(serve()).images.generate
    with pytest.raises(openai.APIStatusError) as caught:
        generate(**{"prompt": "old man", **asked})
    body = caught.value.body
    assert isinstance(body, dict) and set(body) == {"message", "type", "param", "code"}
    if says is None:
        assert isinstance(caught.value, openai.NotFoundError) and body["code"] == "model_not_found"
    else:
        assert isinstance(caught.value, openai.BadRequestError) and body["type"] == "invalid_request_error"
        assert says in body["message"] and body["param"] == param and "\n" not in body["message"]


def test_a_full_queue_is_429_with_a_time(serve: Serve, connect: Connect) -> None:
    served = serve({"max_queue": 2})
    with served.engine.load.holding(1), pytest.raises(openai.RateLimitError) as caught:
        connect(served).images.generate(prompt="old man", n=2)
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    connect(served).images.generate(prompt="old man", n=2)


def test_a_late_request_is_504(serve: Serve, connect: Connect) -> None:
    served = serve({"timeout_seconds": 1e-6})
    with pytest.raises(openai.InternalServerError, match="took more than") as caught:
        connect(served).images.generate(prompt="old man")
    assert caught.value.status_code == 504 and caught.value.code == "timeout"


def test_a_model_that_fails_is_a_server_error(
    serve: Serve, connect: Connect, fake_generators: tuple[FakeGenerator, FakeGenerator]
) -> None:
    fake_generators[0].fails_on = 13
    client = connect(serve())
    with pytest.raises(openai.InternalServerError, match="cannot be painted"):
        client.images.generate(prompt="old man", extra_body={"seed": 13})
    client.images.generate(prompt="old man", extra_body={"seed": 14})


def test_health_and_metrics(serve: Serve, connect: Connect) -> None:
    served = serve()
    connect(served).images.generate(prompt="old man", n=3)
    read = {}
    for name in ("health", "ready", "metrics"):
        with urllib.request.urlopen(f"{served.url}/{name}") as response:
            read[name] = response.read()
    assert json.loads(read["health"]) == {"status": "ok"} and json.loads(read["ready"]) == {"ready": True}
    lines = read["metrics"].decode().splitlines()
    assert 'topcoat_images_total{route="/v1/images/generations"} 3.0' in lines
    assert 'topcoat_requests_total{route="/v1/images/generations",status="200"} 1.0' in lines
    assert "topcoat_held_images 0.0" in lines


@pytest.mark.parametrize("log_prompts", [False, True])
def test_prompts_are_in_the_log_only_if_that_is_asked_for(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture, log_prompts: bool
) -> None:
    client = connect(serve(log_prompts=log_prompts))
    with caplog.at_level(logging.DEBUG):
        client.images.generate(prompt="a very secret person")
    own = [record.getMessage() for record in caplog.records if not record.name.startswith(("openai", "httpx"))]
    assert any("POST /v1/images/generations" in text for text in own)
    assert any("secret" in text for text in own) is log_prompts
