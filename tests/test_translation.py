"""Translators: NLLB through a small random network of the real class, Papago through a server on this machine."""

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from src.errors import ProjectError
from src.translation import (
    CachedTranslator,
    NllbTranslator,
    PapagoTranslator,
    RefusedTranslation,
    Translator,
    degenerate,
)
from src.translation.nllb import DECODINGS


@pytest.mark.parametrize(
    ("text", "translation", "target", "reason"),
    [
        ("강아지", "puppy", "en", ""),
        ("a dog runs", "개가 달린다", "ko", ""),
        ("개 두 마리", "2", "en", "no letters"),
        ("a dog", ", , , ,", "ko", "no letters"),
        ("a dog", "", "ko", "empty"),
        ("a dog", "개, , , , ,", "ko", "mostly punctuation"),
        ("a dog runs", "개 개 개 개 개", "ko", "one word over and over"),
        ("a dog runs on", "the dog of the dog of the dog of", "en", "the same words over and over"),
        ("a dog runs", "a dog runs", "ko", "no Hangul in a Korean answer"),
        ("강아지", "강아지 puppy", "en", "Hangul in an English answer"),
        (
            "개",
            "a dog is an animal that lives with people and barks at all who come near to its house",
            "en",
            "far longer than the text",
        ),
        ("3", "3", "en", ""),
    ],
)
def test_degenerate(text: str, translation: str, target: str, reason: str) -> None:
    assert degenerate(text, translation, target) == reason


# NLLB ----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def nllb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random M2M100 network with a real NllbTokenizer of single characters, saved as a checkpoint."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    symbols = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz.,강아지고양이사과개가"]
    tokenizer = NllbTokenizer(
        vocab={symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))},
        merges=[],
        extra_special_tokens=["eng_Latn", "kor_Hang"],
        src_lang="eng_Latn",
    )
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=128,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    folder = tmp_path_factory.mktemp("nllb")
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def nllb(nllb_folder: Path) -> NllbTranslator:
    return NllbTranslator.load(str(nllb_folder), batch_size=2, max_new_tokens=8)


@pytest.mark.parametrize(("source", "target"), [("ko", "en"), ("en", "ko")])
def test_nllb_tells_the_model_both_languages(nllb: NllbTranslator, source: str, target: str) -> None:
    codes = {"ko": "kor_Hang", "en": "eng_Latn"}
    seen: dict[str, list] = {"input": [], "output": []}
    generate = nllb.model.generate

    def spy(**arguments):
        output = generate(**arguments)
        seen["input"].append(arguments["input_ids"])
        seen["output"].append(output)
        return output

    nllb.model.generate = spy
    answers = nllb.try_translate(["강아지" if source == "ko" else "a dog"] * 3, source, target)
    assert len(answers) == 3
    first = seen["input"][0][0].tolist()
    assert first[0] == nllb.tokenizer.convert_tokens_to_ids(codes[source])
    # the answer begins with the language asked for (after the decoder's start token)
    assert seen["output"][0][0, 1].item() == nllb.tokenizer.convert_tokens_to_ids(codes[target])
    assert seen["input"][0].shape[0] == 2, "batches of batch_size"


def test_nllb_retries_a_degenerate_answer_with_another_decoding(
    nllb: NllbTranslator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def decode(texts: list[str], source: str, target: str, decoding: dict) -> list[str]:
        calls.append((list(texts), decoding))
        return [", , ," if text == "나쁜 것" and len(calls) < 3 else "an apple" for text in texts]

    monkeypatch.setattr(nllb, "_decode", decode)
    assert nllb.translate(["사과", "나쁜 것", " "], "ko", "en") == ["an apple", "an apple", ""]
    assert [texts for texts, _ in calls] == [["사과", "나쁜 것"], ["나쁜 것"], ["나쁜 것"]]
    assert [decoding for _, decoding in calls] == list(DECODINGS)


def test_nllb_refuses_what_no_decoding_translates(nllb: NllbTranslator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nllb, "_decode", lambda texts, *_: [", , ,"] * len(texts))
    assert nllb.try_translate(["사과"], "ko", "en") == [None]
    with pytest.raises(RefusedTranslation, match=r"no usable translation of '사과' \(1 of 1\)"):
        nllb.translate(["사과"], "ko", "en")


def test_nllb_keeps_the_order_of_texts(nllb: NllbTranslator) -> None:
    texts = ["a dog and a cat and a bird", "a", "an apple", "dog"]
    together = nllb._decode(texts, "en", "ko", {"num_beams": 1})
    assert together == [nllb._decode([text], "en", "ko", {"num_beams": 1})[0] for text in texts]


def test_a_tokenizer_without_the_languages_is_refused(nllb: NllbTranslator) -> None:
    with pytest.raises(ProjectError, match="no language token 'kor_Kore' for ko"):
        NllbTranslator(nllb.model, nllb.tokenizer, codes={"ko": "kor_Kore", "en": "eng_Latn"})
    with pytest.raises(ProjectError, match="not 'kr'"):
        nllb.translate(["a"], "kr", "en")
    with pytest.raises(ProjectError, match="to itself"):
        nllb.translate(["a"], "en", "en")


# Papago --------------------------------------------------------------------------------------------------------------
class Service(ThreadingHTTPServer):
    """A stand-in for the service: answers from a script, keeps the requests."""

    script: list[tuple[int, dict | bytes]]
    requests: list[tuple[dict, dict]]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = {key: values[0] for key, values in parse_qs(body).items()}
        self.server.requests.append((fields, {key.lower(): value for key, value in self.headers.items()}))
        status, answer = self.server.script.pop(0) if self.server.script else (200, None)
        if answer is None:
            answer = {"message": {"result": {"translatedText": "사과" if fields["target"] == "ko" else "apple"}}}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    server.script, server.requests = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def papago(server: Service, **options: object) -> PapagoTranslator:
    url = f"http://127.0.0.1:{server.server_address[1]}/nmt/v1/translation"
    return PapagoTranslator(client_id="id", client_secret="hush", url=url, timeout=5, pause=0.01, **options)


def test_papago_sends_what_the_service_wants(service: Service) -> None:
    assert papago(service).translate(["사과", ""], "ko", "en") == ["apple", ""]
    ((fields, headers),) = service.requests
    assert fields == {"source": "ko", "target": "en", "text": "사과"}
    assert headers["x-ncp-apigw-api-key-id"] == "id" and headers["x-ncp-apigw-api-key"] == "hush"
    papago(service, honorific=True).translate(["an apple"], "en", "ko")
    assert service.requests[-1][0] == {"source": "en", "target": "ko", "text": "an apple", "honorific": "true"}


def test_papago_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCP_CLIENT_ID", raising=False)
    monkeypatch.setenv("NCP_CLIENT_SECRET", "x")
    with pytest.raises(ProjectError, match=r"NCP_CLIENT_ID not set.*export NCP_CLIENT_ID"):
        PapagoTranslator()


@pytest.mark.parametrize(
    ("status", "body", "message", "asked"),
    [
        (401, {"error": {"errorCode": "200", "message": "Authentication Failed"}}, "Check NCP_CLIENT_ID", 1),
        (429, {"error": {"errorCode": "400", "message": "Quota Exceeded"}}, "quota is used up", 1),
        (429, {"error": {"errorCode": "420", "message": "Rate Limited"}}, "Too many requests", 3),
        (400, {"errorCode": "N2MT05", "errorMessage": "target error"}, "code N2MT05.*target error", 1),
        (413, {"error": {"errorCode": "430", "message": "Entity Too Large"}}, "too long", 1),
        (503, b"busy", "HTTP 503.*busy.*again later", 3),
        (200, b"<html>", "unexpected form: '<html>'", 1),
    ],
)
def test_papago_says_what_is_wrong(service: Service, status: int, body: dict | bytes, message: str, asked: int) -> None:
    service.script = [(status, body)] * 3
    with pytest.raises(ProjectError, match=message) as caught:
        papago(service).translate(["사과"], "ko", "en")
    assert len(service.requests) == asked
    assert "hush" not in str(caught.value)


def test_papago_tries_again_when_the_service_is_busy(service: Service) -> None:
    service.script = [(503, b""), (429, {"error": {"errorCode": "410", "message": "Throttle Limited"}})]
    assert papago(service).translate(["사과"], "ko", "en") == ["apple"]
    assert len(service.requests) == 3


def test_papago_out_of_reach_and_too_long_texts(service: Service) -> None:
    lost = PapagoTranslator(client_id="id", client_secret="x", url="http://127.0.0.1:9/x", attempts=2, pause=0.01)
    with pytest.raises(ProjectError, match=r"127\.0\.0\.1:9 is not reachable .* after 2 tries"):
        lost.translate(["사과"], "ko", "en")
    with pytest.raises(ProjectError, match="at most 5,000 characters"):
        papago(service).translate(["가" * 5001], "ko", "en")


def test_papago_refuses_a_degenerate_answer(service: Service) -> None:
    service.script = [(200, {"message": {"result": {"translatedText": ", ,"}}})] * 2
    assert papago(service).try_translate(["사과"], "ko", "en") == [None]
    with pytest.raises(RefusedTranslation):
        papago(service).translate(["사과"], "ko", "en")


# cache ---------------------------------------------------------------------------------------------------------------
class Echo:
    """Translates by a rule and counts what it is asked."""

    def __init__(self, name: str = "echo") -> None:
        self.name, self.asked = name, []

    def try_translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        self.asked += texts
        return [None if text == "no" else f"{self.name} {target} {text}" for text in texts]

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        return [answer or "" for answer in self.try_translate(texts, source, target)]


def test_the_cache_asks_once_and_keeps_it_on_disk(tmp_path: Path) -> None:
    path, engine = tmp_path / ".cache" / "translations.jsonl", Echo()
    cached = CachedTranslator(engine, path)
    assert cached.translate(["a", "b", "a"], "en", "ko") == ["echo ko a", "echo ko b", "echo ko a"]
    assert engine.asked == ["a", "b"]
    again = CachedTranslator(Echo(), path)
    assert again.translate(["b", "c"], "en", "ko") == ["echo ko b", "echo ko c"] and again.translator.asked == ["c"]
    # another direction and another engine are other translations
    assert again.translate(["b"], "ko", "en") == ["echo en b"]
    assert CachedTranslator(Echo("other"), path).translate(["b"], "en", "ko") == ["other ko b"]


def test_refusals_are_not_kept(tmp_path: Path) -> None:
    cached = CachedTranslator(Echo(), tmp_path / "x.jsonl")
    assert cached.try_translate(["no", "a"], "en", "ko") == [None, "echo ko a"]
    with pytest.raises(RefusedTranslation, match="'no'"):
        cached.translate(["no"], "en", "ko")
    assert cached.translator.asked == ["no", "a", "no"]


def test_a_line_cut_short_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    CachedTranslator(Echo(), path).translate(["a", "b"], "en", "ko")
    path.write_bytes(path.read_bytes()[:-9])
    cached = CachedTranslator(Echo(), path)
    assert cached.translate(["a", "b", "c"], "en", "ko")[1] == "echo ko b" and cached.translator.asked == ["b", "c"]
    later = CachedTranslator(Echo(), path)
    later.translate(["a", "b", "c"], "en", "ko")
    assert later.translator.asked == []


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("one\ntwo\n")
    with pytest.raises(ProjectError, match="no cache of translations"):
        CachedTranslator(Echo(), path)


def test_all_of_them_are_translators(nllb: NllbTranslator, service: Service, tmp_path: Path) -> None:
    for translator in (nllb, papago(service), CachedTranslator(Echo(), tmp_path / "x.jsonl")):
        assert isinstance(translator, Translator) and translator.name
