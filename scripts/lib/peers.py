"""Postfix, Exim, OpenSMTPD, Dovecot and NSD from Debian, each on an address of its own in 127/8.

What arrives is read back: from a Maildir, or from Dovecot over IMAP and POP3. Mail servers keep
the ends of lines as LF; here they are CRLF again.
"""

import contextlib
import imaplib
import os
import pathlib
import poplib
import random
import re
import signal
import socket
import struct
import subprocess

from jail import MAIL_ID, MAIL_USER, Jail
from servers import Postfix, Server, end_process, greets, wait_until

ZONE = "interop.example"
SIZE_MAX = 100 << 20
SESSIONS_MAX = 50
# Below the ports that the kernel gives to clients, so that none of them takes one meanwhile.
PORTS = range(20_000, 32_000)
# A local part that no peer knows.
UNKNOWN = "unknown"
USER, PASSWORD = "relay", "merpati-interop"
# poplib takes no longer lines otherwise.
poplib._MAXLINE = SIZE_MAX
RECIPIENT = re.compile(rb"^(?:Delivered-To|Envelope-to): *<?([^\r\n>]*)>?\r$", re.M | re.I)
TRACE_FIELDS = {
    "delivered-to", "delivery-date", "envelope-to", "received", "return-path", "x-original-to"
}


def free_ports(count, addresses):
    """Ports that are free on all the addresses, for TCP and UDP."""
    found = []
    for port in random.sample(PORTS, 500):
        with contextlib.ExitStack() as probes:
            try:
                for address in addresses:
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        probe = probes.enter_context(socket.socket(socket.AF_INET, kind))
                        probe.bind((address, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("there are no free ports")


def recipient_of(raw):
    """The recipient that the peer wrote on top of a mail, or None."""
    head = raw.split(b"\r\n\r\n", 1)[0] + b"\r\n"
    found = RECIPIENT.search(head)
    return found.group(1).decode() if found else None


def trace_of(raw, content, added=frozenset()):
    """The names of the fields above `content`, or None if `raw` does not end with it, or if there
    are others than those of a trace and `added`."""
    trace = raw.removesuffix(content)
    if len(trace) + len(content) != len(raw):
        return None
    fields = re.sub(rb"\r\n[ \t]+", b" ", trace).split(b"\r\n")
    names = [field.split(b":", 1)[0].decode().lower() for field in fields if field]
    return names if set(names) <= TRACE_FIELDS | added else None


class Maildir:
    """Where a peer puts what arrives."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        os.chown(self.folder, MAIL_ID, MAIL_ID)
        for name in ("cur", "new", "tmp"):
            (self.folder / name).mkdir(mode=0o700)
            os.chown(self.folder / name, MAIL_ID, MAIL_ID)

    def take(self):
        """The mails that came since the last time, with CRLF."""
        for entry in sorted(os.scandir(self.folder / "new"), key=lambda entry: entry.name):
            raw = pathlib.Path(entry.path).read_bytes()
            os.unlink(entry.path)
            yield raw.replace(b"\n", b"\r\n")


class Peer(Server):
    """A server in a jail."""

    def __init__(self, name, folder, users=()):
        folder.mkdir(mode=0o755)
        self.folder = folder
        self.jail = Jail(pathlib.Path(os.environ["PEERS"], name, "root"), folder / "jail", users)

    def start(self, is_ready, *command):
        with open(self.folder / "output", "wb") as output:
            # A group of its own: what the server leaves behind is found by its id.
            self.process = subprocess.Popen(
                self.jail.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        try:
            wait_until(type(self).__name__, is_ready, self.process)
        except RuntimeError:
            self.__exit__()
            print(self.told())
            raise

    def told(self):
        """What the server said and logged."""
        logs = [self.folder / "output", *sorted(self.jail.path("var/log").rglob("*"))]
        return "\n".join(log.read_text(errors="replace") for log in logs if log.is_file())

    def __exit__(self, *_):
        end_process(self.process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Nsd(Peer):
    """The whole DNS of the trial: a root zone, in which all other names do not exist."""

    def __init__(self, folder, listen, records):
        super().__init__("nsd", folder)
        self.listen = listen
        self.jail.make("var/db")
        self.jail.write(
            "etc/zone",
            "$TTL 300\n. SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 60\n. NS ns.invalid.\n"
            + "".join(f"{record}\n" for record in records),
        )
        self.jail.write(
            "etc/nsd.conf",
            f"""server:
    ip-address: {listen[0]}@{listen[1]}
    server-count: 1
    username: ""
    zonesdir: "/etc"
    database: ""
    pidfile: "/var/db/pid"
    xfrdfile: "/var/db/xfrd"
    xfrdir: "/var/db"
    zonelistfile: "/var/db/zones"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: zone
""",
        )
        self.start(self.answers, "/usr/sbin/nsd", "-d", "-c", "/etc/nsd.conf")

    def answers(self):
        # One question: the SOA of the root.
        query = struct.pack("!6HB2H", 7, 0, 1, 0, 0, 0, 0, 6, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.settimeout(1)
            try:
                stream.sendto(query, self.listen)
                return struct.unpack("!4H", stream.recv(512)[:8])[3] == 1
            except OSError:
                return False


class PostfixPeer(Postfix):
    """Takes mail for its domain and, with `accounts`, any mail of a client that authenticates."""

    def __init__(self, folder, domain, listen, certificate, accounts=None):
        """`certificate`: its files; `accounts`: a `Dovecot` and `listens`, which are
        tuples of a port, "starttls" or "implicit", and the SASL mechanisms."""
        root = pathlib.Path(os.environ["POSTFIX_ROOT"])
        folder.mkdir(mode=0o755)
        self.folder, self.domain, self.listen = folder, domain, listen
        self.maildir = Maildir(folder / "mail/in")
        known = folder / "known"
        known.write_text(f"!/^{UNKNOWN}/ in/\n")
        settings = [
            f"myhostname = {domain}",
            "mynetworks =",
            f"virtual_mailbox_domains = {domain}",
            f"virtual_mailbox_base = {folder}/mail",
            f"virtual_mailbox_maps = regexp:{known}",
            f"virtual_uid_maps = static:{MAIL_ID}",
            f"virtual_gid_maps = static:{MAIL_ID}",
            "virtual_mailbox_limit = 0",
            f"message_size_limit = {SIZE_MAX}",
            "smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination",
            "smtpd_tls_security_level = may",
            f"smtpd_tls_chain_files = {certificate.key}, {certificate.chain}",
            "smtp_tls_security_level = none",
            # Everything is kept as it came.
            "message_drop_headers =",
            "local_header_rewrite_clients =",
            "header_size_limit = 10000000",
        ]
        services = ""
        if accounts:
            dovecot, listens = accounts
            settings += [
                "transport_maps = static:virtual:",
                "smtpd_sasl_type = dovecot",
                f"smtpd_sasl_path = {dovecot.jail.path('run/dovecot/auth-postfix')}",
                "smtpd_sasl_security_options = noanonymous",
            ]
            for port, tls, mechanisms in listens:
                services += f"{listen[0]}:{port} inet n - n - {SESSIONS_MAX} smtpd\n"
                services += " -o smtpd_sasl_auth_enable=yes -o smtpd_tls_auth_only=yes\n"
                services += f" -o smtpd_sasl_mechanism_filter={mechanisms.replace(' ', ',')}\n"
                services += " -o smtpd_client_restrictions=permit_sasl_authenticated,reject\n"
                wrapped = "-o smtpd_tls_wrappermode=yes" if tls == "implicit" else ""
                services += f" -o smtpd_tls_security_level=encrypt {wrapped}\n"
        super().__init__(root, folder / "server", SESSIONS_MAX, settings, listen, services)

    def told(self):
        return (self.folder / "server/log").read_text(errors="replace")


EXIM_CONFIG = """
primary_hostname = {domain}
domainlist ours = {domains}
local_interfaces = {address}
daemon_smtp_ports = {ports}
tls_on_connect_ports = {implicit}
tls_certificate = /etc/exim4/certificate.pem
tls_privatekey = /etc/exim4/key.pem
tls_advertise_hosts = *
accept_8bitmime = {eight_bit}
message_size_limit = {size}
header_maxsize = 10M
host_lookup =
rfc1413_hosts =
dns_dnssec_ok = 0
smtp_accept_max = {sessions}
smtp_accept_max_per_host = {sessions}
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_reserve_hosts = *
# Everything is kept as it came.
return_path_remove = false
envelope_to_remove = false
delivery_date_remove = false
acl_smtp_rcpt = recipients
acl_smtp_data = accept
begin acl
recipients:
  accept authenticated = *
  deny ! domains = +ours
    message = relay not permitted
  require verify = recipient
    message = no such user
  accept
begin routers
all:
  driver = accept
  {only}
  local_parts = ! ^{unknown}
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = /var/mail/in
  maildir_format
  user = {user}
  envelope_to_add
  return_path_add
begin retry
* * F,1m,10s
begin authenticators
{authenticators}
"""
EXIM_AUTHENTICATOR = """
{name}:
  driver = plaintext
  public_name = {public_name}
  server_prompts = {prompts}
  server_condition = ${{if and{{{{eq{{${user}}}{{{account}}}}}{{eq{{${password}}}{{{secret}}}}}}}}}
  server_set_id = ${user}
  server_advertise_condition = ${{if and{{{{def:tls_in_cipher}}\\
    {{inlist{{$received_port}}{{{ports}}}}}}}}}
"""


class Exim(Peer):
    """Takes mail for its domain and any mail of a client that authenticates."""

    def __init__(self, folder, domain, listen, certificate, eight_bit=True, listens=(), also=()):
        """`also`: more domains; `listens` as with `PostfixPeer`; PLAIN and LOGIN are there."""
        super().__init__("exim", folder, ["Debian-exim"])
        self.domain, self.listen = domain, listen
        for name in ("var/spool/exim4", "var/log/exim4", "run/exim4"):
            self.jail.make(name, "Debian-exim", 0o750)
        self.jail.copy(certificate.chain, "etc/exim4/certificate.pem")
        self.jail.copy(certificate.key, "etc/exim4/key.pem", "Debian-exim", 0o600)
        self.maildir = Maildir(self.jail.path("var/mail/in"))
        authenticators = ""
        for name, prompts, user in (("PLAIN", ":", 2), ("LOGIN", "<; Username: ; Password:", 1)):
            ports = [str(port) for port, _, mechanisms in listens if name in mechanisms.split()]
            if ports:
                authenticators += EXIM_AUTHENTICATOR.format(
                    name=name.lower(), public_name=name, prompts=prompts, ports=" : ".join(ports),
                    user=f"auth{user}", password=f"auth{user + 1}", account=USER, secret=PASSWORD,
                )
        ports = [str(port) for port in (listen[1], *(port for port, _, _ in listens))]
        self.jail.write(
            "etc/exim4/exim4.conf",
            EXIM_CONFIG.format(
                domain=domain,
                domains=" : ".join((domain, *also)),
                address=listen[0],
                ports=" : ".join(ports),
                implicit=" : ".join(str(port) for port, tls, _ in listens if tls == "implicit"),
                eight_bit="true" if eight_bit else "false",
                size=SIZE_MAX,
                sessions=SESSIONS_MAX,
                # A smart host keeps whatever it took for others.
                only="" if listens else "domains = +ours",
                unknown=UNKNOWN,
                user=MAIL_USER,
                authenticators=authenticators,
            ),
        )
        is_ready = lambda: greets(listen[1], listen[0])  # noqa: E731
        self.start(is_ready, "/usr/sbin/exim4", "-bdf")


class OpenSmtpd(Peer):
    """Takes mail for its domain."""

    def __init__(self, folder, domain, listen, certificate):
        super().__init__("opensmtpd", folder, ["opensmtpd", "opensmtpq"])
        self.domain, self.listen = domain, listen
        self.maildir = Maildir(self.jail.path("var/mail/in"))
        self.jail.make("run")
        self.jail.make("var/lib/opensmtpd/empty")
        self.jail.make("var/spool/smtpd", mode=0o711)
        if not self.jail.path("var/run").exists():
            self.jail.path("var/run").symlink_to("../run")
        self.jail.copy(certificate.chain, "etc/certificate.pem")
        self.jail.copy(certificate.key, "etc/key.pem", mode=0o600)
        self.jail.write("etc/mailname", f"{domain}\n")
        self.jail.write(
            "etc/smtpd.conf",
            f"""pki trial cert "/etc/certificate.pem"
pki trial key "/etc/key.pem"
smtp max-message-size "{SIZE_MAX}"
smtp limit max-mails 1000000
table known {{ "@" = "{MAIL_USER}" }}
listen on {listen[0]} port {listen[1]} hostname {domain} tls pki trial
action "in" maildir "/var/mail/in" virtual <known>
match from any for rcpt-to regex "^{UNKNOWN}" reject
match from any for domain "{domain}" action "in"
""",
            mode=0o600,
        )
        is_ready = lambda: greets(listen[1], listen[0])  # noqa: E731
        self.start(is_ready, "/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf")


class Dovecot(Peer):
    """LMTP over TCP and over a Unix socket, IMAP and POP3; accounts for Postfix."""

    def __init__(self, folder, domain, address, users):
        """`users`: the local parts of the mailboxes."""
        super().__init__("dovecot", folder, ["dovecot", "dovenull"])
        self.domain, self.address = domain, address
        self.lmtp, self.imap, self.pop = free_ports(3, [address])
        self.lmtp_socket = self.jail.path("run/dovecot/lmtp")
        for name in ("run", "var/lib/dovecot", "var/log", "var/run"):
            self.jail.make(name)
        self.jail.make("var/mail", MAIL_USER)
        accounts = [
            f"{name}:{{PLAIN}}{PASSWORD}:{MAIL_ID}:{MAIL_ID}::/var/mail/{name}"
            for name in (USER, *users)
        ]
        self.jail.write("etc/accounts", "\n".join(accounts) + "\n", "dovecot", 0o640)
        self.jail.write("etc/dovecot/dovecot.conf", self._config())
        self.start(self._greets, "/usr/sbin/dovecot", "-F")

    def _greets(self):
        try:
            imaplib.IMAP4(self.address, self.imap, timeout=10).logout()
        except (OSError, imaplib.IMAP4.error):
            return False
        return self.lmtp_socket.exists()

    def _config(self):
        return f"""
protocols = imap pop3 lmtp
listen = {self.address}
base_dir = /run/dovecot
log_path = /var/log/dovecot.log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
# Of whatever domain.
auth_username_format = %Ln
mail_location = maildir:~/Maildir
first_valid_uid = {MAIL_ID}
recipient_delimiter = +
lmtp_save_to_detail_mailbox = no
mail_max_userip_connections = 50
passdb {{
  driver = passwd-file
  args = scheme=PLAIN /etc/accounts
}}
userdb {{
  driver = passwd-file
  args = /etc/accounts
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {self.pop}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {self.lmtp}
  }}
  unix_listener lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener auth-postfix {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
  # Nobody waits because somebody failed before.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""

    @contextlib.contextmanager
    def box(self, user):
        """The inbox of a user over IMAP."""
        client = imaplib.IMAP4(self.address, self.imap, timeout=60)
        try:
            client.login(user, PASSWORD)
            client.select("INBOX")
            yield client
        finally:
            with contextlib.suppress(OSError, imaplib.IMAP4.error):
                client.logout()

    def by_imap(self, user):
        """All mails of a user."""
        with self.box(user) as client:
            status, found = client.fetch("1:*", "(BODY.PEEK[])")
            if status != "OK":
                raise RuntimeError(f"IMAP: {found}")
            return [part[1] for part in found if isinstance(part, tuple)]

    def count(self, user):
        with self.box(user) as client:
            return int(client.select("INBOX")[1][0])

    def by_pop(self, user):
        """All mails of a user."""
        client = poplib.POP3(self.address, self.pop, timeout=60)
        try:
            client.user(user)
            client.pass_(PASSWORD)
            count = client.stat()[0]
            found = (client.retr(number)[1] for number in range(1, count + 1))
            return [b"".join(line + b"\r\n" for line in lines) for lines in found]
        finally:
            client.quit()
