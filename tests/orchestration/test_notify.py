"""Messages reach a real web server and a real mail server; one that fails costs nothing but a line in the log."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from orchestration.notify import STAGE_TAG, Addresses, failure_sensor, main

pytestmark = pytest.mark.orchestration


class Inbox(HTTPServer):
    """A web server that keeps what is posted to it, and answers with `status`."""

    status = 200

    def __init__(self) -> None:
        inbox: list[tuple[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
                self.send_response(self.server.status)  # type: ignore[attr-defined]
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        self.inbox = inbox


@pytest.fixture
def web() -> Iterator[Inbox]:
    with Inbox() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def address(web: Inbox, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    """The web server, as the one address of this deployment."""
    monkeypatch.setenv("STCLN_NOTIFY", f"json://127.0.0.1:{web.server_port}/hook")
    return web


def told(title: str = "a title", text: str = "a text") -> list[str]:
    """Send a message; gives the lines that were logged."""
    lines: list[str] = []
    Addresses().tell(title, text, lines.append)
    return lines


def test_nothing_is_sent_where_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STCLN_NOTIFY", raising=False)
    monkeypatch.setattr("orchestration.notify._send", lambda *_: pytest.fail("it was sent"))
    assert told() == []


def test_a_webhook_gets_title_and_text(address: Inbox) -> None:
    assert told("demo: failed", "why") == []
    ((path, sent),) = address.inbox
    assert (path, sent["title"], sent["message"]) == ("/hook", "demo: failed", "why")


def test_slack_gets_them_in_its_own_form(web: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{web.server_port}/services")
    monkeypatch.setenv("STCLN_NOTIFY", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#crops")
    assert told("demo: failed", "why") == []
    ((path, sent),) = web.inbox
    assert path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert sent["channel"] == "#crops" and "demo: failed" in json.dumps(sent) and "why" in json.dumps(sent)


def test_a_mail_server_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mails: list[Any] = []

    class Box(Message):
        def handle_message(self, message: Any) -> None:
            mails.append(message)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    post = Controller(Box(), hostname="127.0.0.1", port=port)
    post.start()
    try:
        monkeypatch.setenv("STCLN_NOTIFY", f"mailto://127.0.0.1:{port}?from=stcln@x.org&to=ada@x.org&mode=insecure")
        assert told("demo: failed", "why, with an ü") == []
    finally:
        post.stop()
    (mail,) = mails
    assert (mail["Subject"], mail["X-RcptTo"]) == ("demo: failed", "ada@x.org")
    parts = [part.get_payload(decode=True).decode() for part in mail.walk() if not part.is_multipart()]
    assert any("why, with an ü" in part for part in parts)


def test_the_addresses_can_be_tried(
    address: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0 and [sent["title"] for _, sent in address.inbox] == ["stcln: a try"]
    address.status = 500
    assert main() == 1 and "address 1: not sent" in capsys.readouterr().err
    monkeypatch.delenv("STCLN_NOTIFY")
    assert main() == 2 and "STCLN_NOTIFY names no address" in capsys.readouterr().err


def test_what_cannot_be_sent_is_logged_without_secrets_and_the_next_address_is_still_told(
    address: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = f"json://127.0.0.1:{address.server_port}/good"
    secret = "json://ada:hush-hush@127.0.0.1:1/x"
    monkeypatch.setenv("STCLN_NOTIFY", f"nonsense {secret}  {good}")
    first, second = told()
    assert first == "STCLN_NOTIFY, address 1: not sent, no address that Apprise knows"
    assert "address 2: not sent, json://ada:****@127.0.0.1" in second and "hush" not in second
    assert [path for path, _ in address.inbox] == ["/good"]


def test_a_server_that_refuses_or_a_bug_of_the_library_raises_nothing(
    address: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    address.status = 500
    assert "did not take it" in told()[0]

    def broken(*_: object) -> str:
        raise RuntimeError("secret")

    monkeypatch.setattr("orchestration.notify._send", broken)
    assert told() == ["STCLN_NOTIFY, address 1: not sent, RuntimeError"]


@dg.asset
def broken() -> None:
    raise dg.Failure("season 2026 has no test tiles; name some", allow_retries=False)


@pytest.mark.parametrize("tags", [{}, {STAGE_TAG: "broken"}, {"dagster/will_retry": "true"}])
def test_a_failed_run_is_told_once_with_its_sentence(
    address: Inbox, instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    """One that another started, tagged with its stage, is told of by that; one that is tried again is not over."""
    job = dg.Definitions([broken]).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[broken.key], raise_on_error=False, tags=tags)
    sensor = failure_sensor("flanders", Addresses())
    run = instance.get_run_by_id(result.run_id)
    assert run
    (failed,) = result.filter_events(lambda event: event.event_type is dg.DagsterEventType.RUN_FAILURE)
    context = dg.build_run_status_sensor_context(
        "failed_run", dagster_event=failed, dagster_instance=instance, dagster_run=run
    )
    sensor(context)
    messages = [(sent["title"], sent["message"]) for _, sent in address.inbox]
    assert messages == (
        [] if tags else [("flanders: broken failed", f"season 2026 has no test tiles; name some\nRun {result.run_id}")]
    )
