"""What is said of a RabbitMQ that can not be used."""

import pytest

from companion.bus.rabbitmq import explain

URL = "amqp://bridge:secret@rabbit/voip"


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("ACCESS_REFUSED - Login was refused using PLAIN", "refuses the login", "authenticate_user bridge"),
        ("NOT_ALLOWED - vhost voip not found", "virtual host", "add_vhost voip"),
        ("Expected one of ['Connection.OpenOk'], got Close", "virtual host", "set_permissions -p voip bridge"),
        ("ACCESS_REFUSED - configure access to queue refused", "denies this user", "-p voip bridge '^companion'"),
        ("PRECONDITION_FAILED - inequivalent arg 'x-queue-type'", "other arguments", "delete the one"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "TLS", "cafile="),
        ("Connect call failed ('127.0.0.1', 5672)", "can not be reached", "check host and port"),
        ("", "can not be reached", "start it"),
    ],
)
def test_faults(text: str, problem: str, remedy: str) -> None:
    """Each fault has a text of its own and a remedy, also out of a group of errors."""
    for error in (OSError(text), ExceptionGroup("several", [OSError(text), OSError("closed")])):
        fault = explain(error, URL)
        assert problem in fault.problem
        assert remedy in fault.remedy
        assert "secret" not in str(fault)


def test_the_cause_counts() -> None:
    """What an error was raised from explains it."""
    error = OSError("closed")
    error.__cause__ = OSError("ACCESS_REFUSED - Login was refused")
    assert "login" in explain(error, URL).problem
