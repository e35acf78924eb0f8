"""Papago (Naver Cloud) as a translator: text translation over HTTPS with the standard library.

API: POST https://papago.apigw.ntruss.com/nmt/v1/translation with the headers X-NCP-APIGW-API-KEY-ID and
X-NCP-APIGW-API-KEY and the form fields source, target, text (at most 5,000 characters); the answer is
message.result.translatedText. Documented at api.ncloud-docs.com, "Papago Text Translation". The keys are read from
NCP_CLIENT_ID and NCP_CLIENT_SECRET and never stand in a message.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

from src.errors import ProjectError
from src.translation.base import check_languages, degenerate, refuse_missing

URL = "https://papago.apigw.ntruss.com/nmt/v1/translation"
ID_VARIABLE, SECRET_VARIABLE = "NCP_CLIENT_ID", "NCP_CLIENT_SECRET"
LONGEST = 5000
QUOTA, THROTTLED = "400", ("410", "420")  # the service's own codes under HTTP 429


class PapagoTranslator:
    """Translates by Papago, one request a text.

    Args:
        client_id: the application's id; from NCP_CLIENT_ID when None.
        client_secret: its secret; from NCP_CLIENT_SECRET when None.
        url: the service's address.
        timeout: seconds a request may take.
        attempts: tries a text gets when the service is busy or unreachable.
        pause: seconds before the second try; doubled each time.
        honorific: Korean answers in the polite style.

    Raises:
        ProjectError: a key is missing.
    """

    name = "papago"

    def __init__(
        self,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        url: str = URL,
        timeout: float = 10.0,
        attempts: int = 3,
        pause: float = 1.0,
        honorific: bool = False,
    ) -> None:
        self._id = client_id or os.environ.get(ID_VARIABLE, "")
        self._secret = client_secret or os.environ.get(SECRET_VARIABLE, "")
        missing = [n for n, v in ((ID_VARIABLE, self._id), (SECRET_VARIABLE, self._secret)) if not v.strip()]
        if missing:
            raise ProjectError(
                f"Papago needs a key: {' and '.join(missing)} not set. Register an application under AI Services > "
                f"Papago Translation in the Naver Cloud console, tick Text Translation, then: "
                f"export {ID_VARIABLE}=... {SECRET_VARIABLE}=..."
            )
        self.url, self.timeout, self.attempts, self.pause = url, timeout, attempts, pause
        self.honorific = honorific

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """One translation a text, in order; errors as the protocol says."""
        return refuse_missing(texts, self.try_translate(texts, source, target), "Papago")

    def try_translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """The same, with None where the answer is degenerate. An empty text stays empty."""
        check_languages(source, target)
        answers: list[str | None] = []
        for text in texts:
            answer = self._request(text, source, target) if text.strip() else ""
            answers.append(None if text.strip() and degenerate(text, answer, target) else answer)
        return answers

    def _request(self, text: str, source: str, target: str) -> str:
        if len(text) > LONGEST:
            raise ProjectError(
                f"Papago takes at most {LONGEST:,} characters a text; this one has {len(text):,}: {text[:40]!r}"
            )
        fields = {"source": source, "target": target, "text": text}
        if self.honorific and target == "ko":
            fields["honorific"] = "true"
        request = urllib.request.Request(
            self.url,
            data=urllib.parse.urlencode(fields).encode(),
            headers={
                "X-NCP-APIGW-API-KEY-ID": self._id,
                "X-NCP-APIGW-API-KEY": self._secret,
                "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            },
        )
        for attempt in range(1, self.attempts + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return _translated(answer.read())
            except urllib.error.HTTPError as error:
                code, message = _failure(error)
                busy = error.code >= 500 or (error.code == 429 and code in THROTTLED)
                if not busy or attempt == self.attempts:
                    raise ProjectError(_explain(error.code, code, message)) from None
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                if attempt == self.attempts:
                    reason = getattr(error, "reason", error)
                    raise ProjectError(
                        f"Papago at {urllib.parse.urlparse(self.url).netloc} is not reachable ({reason}) after "
                        f"{self.attempts} tries of {self.timeout:g} s. Check the network, or use NLLB, which runs here."
                    ) from None
            time.sleep(self.pause * 2 ** (attempt - 1))
        raise ProjectError(f"Papago was asked {self.attempts} times: attempts must be at least 1")


def _translated(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"]["result"]["translatedText"])
    except (ValueError, KeyError, TypeError):
        shown = body[:120].decode("utf-8", "replace")
        raise ProjectError(
            f"Papago answered in an unexpected form: {shown!r}. Check the address of the service."
        ) from None


def _failure(error: urllib.error.HTTPError) -> tuple[str, str]:
    """(code, message) of the service's error body; the gateway and the translator write it in two forms."""
    body = error.read()
    try:
        value = json.loads(body)
    except ValueError:
        return "", body[:120].decode("utf-8", "replace")
    inner = value.get("error", value) if isinstance(value, dict) else {}
    inner = inner if isinstance(inner, dict) else {}
    return str(inner.get("errorCode", "")), str(inner.get("message") or inner.get("errorMessage") or "")


def _explain(status: int, code: str, message: str) -> str:
    said = f"Papago refused (HTTP {status}{', code ' + code if code else ''}): {message or 'no message'}. "
    if status == 401 or status == 403:
        return (
            said + f"Check {ID_VARIABLE} and {SECRET_VARIABLE}, and that the application has Text Translation ticked."
        )
    if status == 429 and code in THROTTLED:
        return said + "Too many requests at once: try again later."
    if status == 429:
        return said + (
            "The quota is used up, or the application lacks Papago Text Translation: see Usage in the Naver Cloud "
            "console."
        )
    if status == 413:
        return said + "The text is too long."
    return said + "Try again later." if status >= 500 else said + "Check the languages and the text."
