"""The official OpenAI client against a gateway: `openai_client.py BASE_URL TOKEN`."""

import sys

import openai


def client(base_url: str, token: str, **options) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key=token, max_retries=0, timeout=20, **options)


def refused(without_right_key: openai.OpenAI) -> None:
    try:
        without_right_key.models.list()
    except openai.AuthenticationError as error:
        assert error.status_code == 401, error
        assert error.response.headers["www-authenticate"].startswith("Bearer"), error.response.headers
    else:
        raise AssertionError("the gateway let a wrong key pass")


def main(base_url: str, token: str) -> None:
    gateway = client(base_url, token)
    messages = [{"role": "user", "content": "Hello"}]

    assert [model.id for model in gateway.models.list()] == ["test-model"]

    completion = gateway.chat.completions.create(model="test-model", messages=messages)
    assert completion.choices[0].message.content == "Hello, world", completion

    stream = gateway.chat.completions.create(model="test-model", messages=messages, stream=True)
    pieces = [chunk.choices[0].delta.content for chunk in stream]
    assert pieces == ["Hello", ", ", "world"], pieces

    refused(client(base_url, "wrong-key"))
    refused(client(base_url, token[:-1]))
    keyless = openai.DefaultHttpxClient(event_hooks={"request": [lambda request: request.headers.pop("authorization")]})
    refused(client(base_url, token, http_client=keyless))
    print("ok")


main(*sys.argv[1:])
