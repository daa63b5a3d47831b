"""TLS in the hands of an operator: every mistake is one line that names file and remedy, and has its exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyasgi.cli import CommandLineInterface
from pyasgi.endpoints import EndpointError, check_endpoint
from pyasgi.tls import CERTBOT, Context, Pair, Settings, TlsError, pairs_in, split_ciphers
from tests.support.authority import DAY, Authority, Issued
from tests.support.programs import ROOT
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"


@pytest.fixture(scope="module")
def other(ca: Authority) -> Issued:
    return ca.issue("other", kind="rsa")


def command(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyasgi", "-v", "0", "-p", "0", *flags, APP],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


# ---- mistakes ----


def mistakes(ca: Authority, site: Issued, other: Issued, folder: Path) -> dict[str, Any]:
    """Flags, and what is said of them."""
    cert, key = str(site.cert), str(site.key)
    garbage, empty = folder / "garbage.pem", folder / "empty"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    empty.mkdir(exist_ok=True)
    sealed = str(ca.encrypted(site.key, "sesame"))
    expected = {
        "missing certificate": (
            [folder / "none.pem"],
            "none.pem: the certificate cannot be read: No such",
        ),
        "missing key": (
            [cert, "--keyfile", folder / "none.key"],
            "none.key: the key cannot be read: No such",
        ),
        "no certificate": ([key], f"{key}: holds no certificate in PEM form (BEGIN CERTIFICATE)"),
        "no key": ([cert], f"{cert}: holds no private key in PEM form (BEGIN PRIVATE KEY)"),
        "broken": ([garbage, "--keyfile", key], f"{garbage}: the certificate cannot be used"),
        "other key": (
            [cert, "--keyfile", other.key],
            f"is not the key of the certificate {cert}; give the",
        ),
        "no password": (
            [cert, "--keyfile", sealed],
            f"{sealed}: the key is encrypted; give its password",
        ),
        "bad password": (
            [cert, "--keyfile", sealed, "--keyfile-password", "x"],
            f"{sealed}: the password does not open the key (--keyfile-password)",
        ),
        "empty directory": (
            [empty],
            f"{empty}: no certificate with its key is there; put NAME.pem",
        ),
        "no authorities": (
            [site.both, "--cert-reqs", "required", "--ca-certs", folder / "none.pem"],
            "none.pem: the file of authorities cannot be read: No such file",
        ),
        "bad authorities": (
            [site.both, "--cert-reqs", "required", "--ca-certs", key],
            f"{key}: holds no certificate of an authority",
        ),
        "bad list": (
            [site.both, "--cert-reqs", "required", "--ca-certs", ca.cert, "--crlfile", ca.cert],
            f"{ca.cert}: holds no list of revoked certificates",
        ),
        "no status": (
            [site.both, "--ocsp-file", cert],
            f"{cert}: holds no OCSP response in DER form",
        ),
        "other status": (
            [other.both, "--ocsp-file", ca.status(site)],
            "the OCSP response is for none of the certificates",
        ),
        "ciphers": ([site.both, "--ciphers", "NONSENSE"], "knows none of the ciphers 'NONSENSE'"),
        "suites": ([site.both, "--ciphers", "TLS_NONSENSE"], "'TLS_NONSENSE' of TLS 1.3"),
    }
    return {
        name: (["--certfile", *map(str, flags)], says) for name, (flags, says) in expected.items()
    }


def test_one_line_per_mistake(ca: Authority, site: Issued, other: Issued, tmp_path: Path) -> None:
    for name, (flags, says) in mistakes(ca, site, other, tmp_path).items():
        interface = CommandLineInterface()
        options = interface.parser.parse_args([*flags, APP])
        with pytest.raises(TlsError) as caught:
            Context(interface._tls(options)["tls"])
        assert says in str(caught.value), name
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize("check", [False, True])
def test_status(ca: Authority, site: Issued, other: Issued, tmp_path: Path, check: bool) -> None:
    """daphne's status for a missing key file, at the start and with --check."""
    flags, says = mistakes(ca, site, other, tmp_path)["other key"]
    done = command(*flags, *(["--check"] if check else []))
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if not check:
        assert (
            "CRITICAL Listen failure: no TLS on 'tcp:port=0:interface=127.0.0.1:tls=yes'"
            in done.stderr
        )


def test_check_is_content(site: Issued) -> None:
    done = command("--certfile", str(site.both), "--check")
    assert done.returncode == 0, done.stderr
    assert "ready to listen at tcp:port=0:interface=127.0.0.1:tls=yes" in done.stdout


def test_unreadable(site: Issued, tmp_path: Path) -> None:
    (tmp_path / "key.pem").symlink_to("/proc/1/mem/none")
    with pytest.raises(TlsError, match="key cannot be read"):
        Context(Settings((Pair(str(site.cert), str(tmp_path / "key.pem")),)))


def test_name_of_a_file_that_is_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.pem")
    with pytest.raises(TlsError, match=re.escape(f"{name}: the certificate cannot be read")):
        Context(Settings((Pair(name, name),)))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--keyfile", "k"], "--keyfile needs --certfile"),
        (["--ciphers", "x"], "--ciphers needs --certfile"),
        (["--ssl-min-version", "1.3"], "--ssl-min-version needs --certfile"),
        (["--keyfile", "k", "-e", "ssl:0:k"], "--keyfile needs --certfile"),
        (["--certfile", "c", "--keyfile", "a", "--keyfile", "b"], "2 --keyfile for 1 --certfile"),
        (["--certfile", "c", "--cert-reqs", "required"], "--cert-reqs required needs --ca-certs"),
        (["--certfile", "c", "--ca-certs", "a"], "--ca-certs needs --cert-reqs"),
        (["--certfile", "c", "--crlfile", "a"], "--crlfile needs --ca-certs"),
        (
            ["--certfile", "c", "--cert-reqs", "x"],
            "'x' is none of none, optional, required, report",
        ),
        (
            ["--certfile", "c", "--ssl-min-version", "1.1"],
            "'1.1' is not a version of TLS that is spoken here",
        ),
        (["--ssl-certfile", "c"], "here it is --certfile "),
        (["--ssl-keyfile-password", "c"], "here it is --keyfile-password "),
        (["--ssl-ca-certs", "c"], "here it is --ca-certs "),
        (["--ssl-cert-reqs", "c"], "here it is --cert-reqs "),
        (["--ssl-ciphers", "c"], "here it is --ciphers "),
        (["--ssl-version", "c"], "give --ssl-min-version 1.2 or 1.3"),
    ],
)
def test_usage(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        CommandLineInterface().run([*flags, APP])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


# ---- warnings ----


def test_dates_are_warned_of(server: Servers, ca: Authority) -> None:
    expired = ca.issue("expired", start=-3 * DAY, days=-1)
    early = ca.issue("early", start=5 * DAY, days=10)
    assert Context(Settings((pair(early),))).warnings == [
        f"{early.both}: the certificate is not valid yet; look at this machine's clock"
    ]
    handle = server.start(APP, "--certfile", str(expired.both))
    wait_for(lambda: "WARNING" in handle.stderr())
    line = f"WARNING  {expired.both}: the certificate has expired; renew it, clients will refuse it"
    assert line in handle.stderr()


def pair(issued: Issued) -> Pair:
    return Pair(str(issued.both), str(issued.both))


# ---- what is good ----


def test_password(ca: Authority, site: Issued) -> None:
    sealed = str(ca.encrypted(site.key, "sesame"))
    assert Context(Settings((Pair(str(site.cert), sealed),), password="sesame")).warnings == []


def test_password_from_the_environment(server: Servers, ca: Authority, site: Issued) -> None:
    sealed = str(ca.encrypted(site.key, "sesame"))
    server.start(
        *(APP, "--certfile", str(site.cert), "--keyfile", sealed),
        env={"CDAPHNE_KEYFILE_PASSWORD": "sesame"},
    )


def test_cipher_names_are_split() -> None:
    assert split_ciphers(None) == (None, None)
    assert split_ciphers("A:TLS_B:C:TLS_D") == ("A:C", "TLS_B:TLS_D")
    assert split_ciphers("TLS_B") == (None, "TLS_B")


def test_pairs_in_a_directory(site: Issued, other: Issued, tmp_path: Path) -> None:
    (tmp_path / "z.pem").write_text(site.both.read_text())
    (tmp_path / "a.crt").write_text(other.cert.read_text())
    (tmp_path / "a.key").write_text(other.key.read_text())
    (tmp_path / "lonely.crt").write_text(other.cert.read_text())
    (tmp_path / "notes.txt").write_text(site.both.read_text())
    live = tmp_path / "live"
    live.mkdir()
    (live / "fullchain.pem").write_text(site.cert.read_text())
    (live / "privkey.pem").write_text(site.key.read_text())
    assert pairs_in(str(tmp_path)) == [
        Pair(str(tmp_path / "a.crt"), str(tmp_path / "a.key")),
        Pair(str(live / "fullchain.pem"), str(live / "privkey.pem")),
        Pair(str(tmp_path / "z.pem"), str(tmp_path / "z.pem")),
    ]
    assert pairs_in(str(live)) == [Pair(str(live / "fullchain.pem"), str(live / "privkey.pem"))]


@pytest.mark.parametrize("name", ["x.pem", "x.crt"])
def test_no_fifo_in_a_directory(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # who opens it for reading waits for a writer
    with pytest.raises(
        TlsError, match=re.escape(f"{tmp_path / name}: is not a regular file; a dir")
    ):
        pairs_in(str(tmp_path))


def test_a_fifo_beside_a_certificate_is_no_key(site: Issued, tmp_path: Path) -> None:
    for folder, names in ((tmp_path, ("a.crt", "a.key")), (tmp_path / "b", CERTBOT)):
        folder.mkdir(exist_ok=True)
        (folder / names[0]).write_text(site.cert.read_text())
        os.mkfifo(folder / names[1])
        with pytest.raises(TlsError, match="no certificate with its key is there"):
            pairs_in(str(folder))


DEFAULT = Settings((Pair("c", "k"),), ciphers="X")


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("tcp:0", DEFAULT, None),
        ("tcp:0:tls=no", DEFAULT, None),
        ("tcp:0:tls=no:certfile=a", DEFAULT, None),
        ("tcp:0:tls=yes", DEFAULT, DEFAULT),
        ("tcp:0:certfile=a", DEFAULT, Settings((Pair("a", "a"),), ciphers="X")),
        ("unix:/s:certfile=a:keyfile=b", None, Settings((Pair("a", "b"),))),
        ("fd:0:tls=yes", DEFAULT, DEFAULT),
        ("ssl:0", DEFAULT, DEFAULT),
        ("ssl:0", None, Settings((Pair("server.pem", "server.pem"),))),
        ("ssl:0:b", None, Settings((Pair("b", "b"),))),
        ("ssl:0:certKey=a", None, Settings((Pair("a", "a"),))),
        ("ssl:0:b:a", DEFAULT, Settings((Pair("a", "b"),), ciphers="X")),
        (
            "ssl:0:privateKey=b:certKey=a:extraCertChain=e:dhParameters=d:sslmethod=SSLv23_METHOD",
            None,
            Settings((Pair("a", "b", "e"),), dhfile="d"),
        ),
        ("tls:0:b:a", None, Settings((Pair("a", "b"),))),
        ("tls:/certs:port=0", DEFAULT, Settings(directories=("/certs",), ciphers="X")),
    ],
)
def test_endpoints(text: str, default: Settings | None, expected: Settings | None) -> None:
    assert check_endpoint(text, default) == expected


def test_dh_parameters(site: Issued, tmp_path: Path) -> None:
    parameters = tmp_path / "dh.pem"
    subprocess.run(
        [
            *("openssl", "genpkey", "-genparam", "-algorithm", "DH"),
            *("-pkeyopt", "group:ffdhe2048", "-out", str(parameters)),
        ],
        check=True,
        capture_output=True,
    )
    Context(Settings((pair(site),), dhfile=str(parameters)))
    with pytest.raises(TlsError, match="holds no usable DH parameters"):
        Context(Settings((pair(site),), dhfile=str(site.cert)))


def test_tls_needs_a_certificate() -> None:
    with pytest.raises(EndpointError, match="tls=yes needs a certificate"):
        check_endpoint("tcp:0:tls=yes", Settings(ciphers="X"))


def test_settings_for_an_endpoint_of_its_own(server: Servers, ca: Authority, site: Issued) -> None:
    """Flags without --certfile are for the endpoints that bring a certificate."""
    server.start(
        *(APP, "-e", f"ssl:0:{site.both}:interface=127.0.0.1", "--ssl-min-version", "1.3"), bind=()
    )


def test_ssl_is_daphnes(server: Servers, site: Issued) -> None:
    """The line of daphne's documentation, and its startup log."""
    handle = server.start(
        *(APP, "-e", f"ssl:0:privateKey={site.key}:certKey={site.cert}:interface=127.0.0.1"),
        bind=(),
    )
    assert f"Configuring endpoint ssl:0:privateKey={site.key}" in handle.stderr()
    assert "Listening on TCP address 127.0.0.1" in handle.stderr()
