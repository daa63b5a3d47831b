"""A certificate authority for the tests of TLS: everything is made by the openssl command, in a folder of its own."""

from __future__ import annotations

import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

DAY = 86400


@dataclass(frozen=True)
class Issued:
    """Files of one certificate: itself, its key, both in one file."""

    cert: Path
    key: Path
    both: Path

    def pem(self) -> str:
        """The certificate alone, as Python and OpenSSL write it."""
        return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(self.cert.read_text()))


class Authority:
    """An authority that signs, revokes and says so."""

    def __init__(self, folder: Path, name: str = "Test Authority") -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cert, self.key = folder / "ca.pem", folder / "ca.key"
        self._lines: list[str] = []  # of openssl's index
        self._serial = 100
        self.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout ca.key -out ca.pem",
            "-subj",
            f"/CN={name}",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        )

    def openssl(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *command.split(), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr

    def issue(
        self,
        name: str,
        alternatives: str = "DNS:localhost,IP:127.0.0.1",
        days: int = 10,
        start: int = -DAY,
        kind: str = "ec",
        subject: str | None = None,
        authority: bool = False,
    ) -> Issued:
        """A certificate that is good from `start` seconds after now on, for so many days (negative: was)."""
        folder = self.folder
        cert, key, both = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.both"
        newkey = "ec -pkeyopt ec_paramgen_curve:P-256" if kind == "ec" else "rsa:2048"
        self.openssl(
            f"req -newkey {newkey} -nodes -keyout {name}.key -out {name}.csr",
            "-subj",
            subject or f"/CN={name}",
            "-utf8",
        )
        self._serial += 1
        extensions = folder / f"{name}.ext"
        lines = [f"subjectAltName={alternatives}"] if alternatives else []
        if authority:
            lines.append("basicConstraints=critical,CA:TRUE")
            lines.append("keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 insists
        extensions.write_text("\n".join(lines) + "\n")
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text(f"{self._serial:x}\n".rjust(5, "0"))
        (folder / "ca.cnf").write_text(CONFIGURATION)
        begins = time.time() + start
        ends = time.time() + days * DAY if days > 0 else begins + 3600
        self.openssl(
            f"ca -batch -notext -preserveDN -config ca.cnf -in {name}.csr -out {name}.pem -extfile {name}.ext"
            f" -startdate {stamp(begins)} -enddate {stamp(ends)}"
        )
        self._lines.append((folder / "index.txt").read_text())
        both.write_text(key.read_text() + cert.read_text())
        return Issued(cert, key, both)

    def revoked(self, *certificates: Issued, name: str = "crl") -> Path:
        """A list of revoked certificates."""
        (self.folder / "index.txt").write_text("".join(self._lines))
        (self.folder / "crlnumber").write_text("01\n")
        for certificate in certificates:
            self.openssl(f"ca -config ca.cnf -revoke {certificate.cert}")
        self.openssl(f"ca -config ca.cnf -gencrl -crldays 10 -out {name}.pem")
        return self.folder / f"{name}.pem"

    def status(self, certificate: Issued, name: str = "ocsp") -> Path:
        """An OCSP response that calls a certificate good, in DER form."""
        (self.folder / "index.txt").write_text("".join(self._lines))
        self.openssl(
            f"ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem"
            f" -cert {certificate.cert} -ndays 2 -respout {name}.der"
        )
        return self.folder / f"{name}.der"

    def encrypted(self, key: Path, password: str) -> Path:
        """The same key, behind a password."""
        self.openssl(f"pkcs8 -topk8 -in {key} -out {key.stem}.enc -passout pass:{password}")
        return self.folder / f"{key.stem}.enc"

    def trusting(
        self, certificate: Issued | None = None, **versions: ssl.TLSVersion
    ) -> ssl.SSLContext:
        """A client that trusts this authority, and may have a certificate of its own."""
        context = ssl.create_default_context(cafile=str(self.cert))
        if certificate is not None:
            context.load_cert_chain(certificate.cert, certificate.key)
        for name, version in versions.items():
            setattr(context, name, version)
        return context


def stamp(seconds: float) -> str:
    return time.strftime("%y%m%d%H%M%SZ", time.gmtime(seconds))


CONFIGURATION = """\
[ca]
default_ca = ours
[ours]
dir = .
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
[any]
commonName = optional
organizationName = optional
countryName = optional
"""
