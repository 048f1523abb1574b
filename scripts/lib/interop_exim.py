"""Exim hands mail to Merpati over TLS: as a relay, and as an author with a password."""

import pathlib
import smtplib

from interop_clients import traced
from interop_mails import ASCII, EIGHT_BIT
from interop_net import ADDRESSES
from peers import PASSWORD, SIZE_MAX, USER, ZONE, Peer, free_ports
from servers import greets

CONFIG = """
primary_hostname = client.{zone}
local_interfaces = {address}
daemon_smtp_ports = {port}
tls_advertise_hosts =
message_size_limit = {size}
header_maxsize = 10M
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = accept
acl_smtp_data = accept
begin acl
begin routers
submitted:
  driver = manualroute
  domains = submitted.{zone}
  transport = submission
  route_list = * {relay}
  self = send
relayed:
  driver = manualroute
  transport = relay
  route_list = * {relay}
  self = send
begin transports
{transports}
begin retry
* * F,1m,10s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
"""
TRANSPORT = """
{name}:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_require_tls = *
  tls_verify_certificates = /etc/exim4/root.pem
  tls_verify_hosts = *
# The host is an address here: the certificate is not looked at for a name.
  tls_verify_cert_hostnames =
  hosts_require_auth = {with_password}
"""


class EximClient(Peer):
    """Takes any mail, and hands it on over TLS with a certificate that holds."""

    def __init__(self, folder, root, relay, submission):
        """`root`: the certificate to be trusted; `relay`, `submission`: ports of 127.0.0.1."""
        super().__init__("exim", folder, ["Debian-exim"])
        for name in ("var/spool/exim4", "var/log/exim4", "run/exim4"):
            self.jail.make(name, "Debian-exim", 0o750)
        self.jail.copy(root, "etc/exim4/root.pem")
        self.address, self.port = ADDRESSES["client"], free_ports(1, [ADDRESSES["client"]])[0]
        transports = "".join(
            TRANSPORT.format(name=name, port=port, with_password=with_password)
            for name, port, with_password in (("relay", relay, ""), ("submission", submission, "*"))
        )
        self.jail.write(
            "etc/exim4/exim4.conf",
            CONFIG.format(
                zone=ZONE, address=self.address, port=self.port, size=SIZE_MAX, relay="127.0.0.1",
                transports=transports, user=USER, password=PASSWORD,
            ),
        )
        is_ready = lambda: greets(self.port, self.address)  # noqa: E731
        self.start(is_ready, "/usr/sbin/exim4", "-bdf")


def exim_cases(trial, certificate, relay, submission):
    """`trial`: of interop_clients; a sandbox listens on both ports, and wants AUTH on one."""
    place = pathlib.Path(trial.folder) / "exim-client"
    with EximClient(place, certificate.root, relay, submission) as exim:

        def send_to(recipient):
            def send(content):
                with smtplib.SMTP(exim.address, exim.port, timeout=30) as client:
                    client.sendmail("ani@example.org", recipient, content, ["BODY=8BITMIME"])
            return send

        for name, domain, credential in (("relays", f"relayed.{ZONE}", None),
                                         ("submits", f"submitted.{ZONE}", USER)):
            for kind, body in (("", ASCII), (", 8-bit", EIGHT_BIT)):
                trial.case(
                    f"Exim {name}, TLS{kind}", send_to(f"budi@{domain}"), body, traced,
                    received={"credential": credential, "tls": True},
                )
