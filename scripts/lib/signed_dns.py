"""A signed DNS on 127/8, from its root on: Knot answers, Unbound asks it and proves what it says.

    with SignedDns(folder, "127.27.0.53", {"signed.example": SIGNED}, ["a.signed.example A …"]) as dns:
        with Resolver(folder, "127.27.0.1", dns, proves=True) as resolver:

All records are given in one list; each lies in the zone that is nearest above it. The root is
always there, signed, and its key is the only trust anchor, in the file `anchor`. A zone is signed
with NSEC or NSEC3 or with keys of another algorithm, not signed, forged (the DS above it belongs to another key, so that nothing in
it can be believed) or dead (who should answer for it refuses to).

A resolver that proves answers SERVFAIL for what is forged, and says with AD what is proven; one that
does not hands the signatures over and judges nothing.
"""

import collections
import re
import socket
import struct
import subprocess
import threading

from peers import Peer

SIGNED, NSEC3, UNSIGNED, FORGED, DEAD = "signed", "nsec3", "unsigned", "forged", "dead"
RSA, P384, ED25519, ED448 = "rsasha256", "ecdsap384sha384", "ed25519", "ed448"
USUAL = "ecdsap256sha256"
PORT = 53
TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "MX": 15, "TXT": 16, "TLSA": 52}
ROOT = "."
KNOT = """
server:
    rundir: "/run/knot"
    listen: {address}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: "/var/lib/knot"
policy:
  - id: signed
    manual: on
    single-type-signing: on
  - id: nsec3
    manual: on
    single-type-signing: on
    nsec3: on
    nsec3-iterations: 0
template:
  - id: default
    storage: "/zones"
    zonefile-sync: -1
zone:
"""
UNBOUND = """
server:
    directory: "/etc"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 1
    num-threads: 1
    interface: {address}@{port}
    outgoing-interface: {address}
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    do-ip6: no
    module-config: "{modules}"
    trust-anchor-file: "/etc/anchor"
    trust-anchor-signaling: no
    root-key-sentinel: no
    # Each question of a trial is to be seen anew.
    cache-max-negative-ttl: 1
    infra-host-ttl: 1
    # What stands for the public DNS by default is as any other zone.
    unblock-lan-zones: yes
    insecure-lan-zones: yes
remote-control:
    control-enable: no
stub-zone:
    name: "."
    stub-addr: {root}@{port}
"""
Answer = collections.namedtuple("Answer", "code is_proven count")


def ask(place, name, kind, seconds=10):
    """What a resolver says: the code, whether it says that it is proven, how many records."""
    labels = [label.encode() for label in name.strip(".").split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    # Recursion wanted, AD as a sign that it is understood (RFC 6840 §5.7), and DO in EDNS.
    query = struct.pack("!6H", 7, 0x0120, 1, 0, 0, 1) + wire + struct.pack("!2H", TYPES[kind], 1)
    query += b"\0" + struct.pack("!HHIH", 41, 1_232, 0x8000, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(seconds)
        stream.sendto(query, place)
        _, flags, _, count = struct.unpack("!4H", stream.recv(4_096)[:8])
    return Answer(flags & 15, bool(flags & 0x20), count)


def answers(place):
    """Whether there is somebody who knows the root."""
    try:
        return ask(place, ROOT, "SOA", 1).code == 0
    except OSError:
        return False


def zone_of(name, zones):
    """The zone nearest above a name, the root if none is."""
    labels = name.rstrip(".").split(".")
    above = (".".join(labels[at:]) for at in range(len(labels)))
    return next((one for one in above if one in zones), ROOT)


class Refuser:
    """Says REFUSED to each question, over UDP."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, PORT))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            query, where = self.socket.recvfrom(4_096)
            if not query:
                self.socket.close()
                return
            end = query.index(b"\0", 12) + 5
            head = query[:2] + struct.pack("!5H", 0x8105, 1, 0, 0, 0)
            self.socket.sendto(head + query[12:end], where)

    def close(self):
        # Nothing wakes a thread that reads datagrams but one.
        self.socket.sendto(b"", self.socket.getsockname())


class SignedDns(Peer):
    """Knot with all zones. `place`: its address and port; `anchor`: the file with the key of the
    root, as a DNSKEY record."""

    def __init__(self, folder, address, zones, records, refuser=None):
        """`zones`: by name what each is; `records`: lines with whole names, without a final dot;
        `refuser`: an address for who should answer for what is dead."""
        super().__init__("knot", folder)
        self.place, self.zones = (address, PORT), zones
        for inside in ("run/knot", "var/lib/knot", "zones"):
            self.jail.make(inside, mode=0o700)
        conf = KNOT.format(address=address, port=PORT)
        served = [name for name, kind in zones.items() if kind != DEAD]
        for name in (ROOT, *served):
            kind = zones.get(name, SIGNED)
            conf += f"  - domain: {name}\n    file: {self._file(name)}\n"
            if kind != UNSIGNED:
                policy = NSEC3 if kind == NSEC3 else SIGNED
                conf += f"    dnssec-signing: on\n    dnssec-policy: {policy}\n"
        self.jail.write("etc/knot.conf", conf)
        contents = {name: [] for name in (ROOT, *served)}
        for record in records:
            name = record.split(None, 1)[0]
            contents[zone_of(name, contents.keys() - {ROOT})].append(absolute(record))
        for name in (ROOT, *served):
            kind = zones.get(name, SIGNED)
            if kind != UNSIGNED:
                algorithm = kind if kind in (RSA, P384, ED25519, ED448) else USUAL
                self._keymgr(name, "generate", f"algorithm={algorithm}", "ksk=yes", "zsk=yes")
        for name, kind in zones.items():
            contents[zone_of(parent(name), contents.keys() - {ROOT})] += self._cut(
                name, kind, refuser if kind == DEAD else address)
        for name, lines in contents.items():
            dot = "" if name == ROOT else f"{name}."
            head = (f"$TTL 60\n{dot or ROOT} SOA ns.{dot} hostmaster.{dot} 1 3600 600 86400 1\n"
                    f"{dot or ROOT} NS ns.{dot}\nns.{dot} A {address}\n")
            self.jail.write(f"zones/{self._file(name)}", head + "\n".join(lines) + "\n")
        self.anchor = folder / "anchor"
        # As in the zone of the root.
        key = self._keymgr(ROOT, "dnskey").partition(" DNSKEY ")[2]
        self.anchor.write_text(f". 172800 IN DNSKEY {key}")
        self.refuser = Refuser(refuser) if refuser else None
        self.start(lambda: answers(self.place), "/usr/sbin/knotd", "-c", "/etc/knot.conf")

    def __exit__(self, *exception):
        if self.refuser:
            self.refuser.close()
        super().__exit__(*exception)

    def _file(self, name):
        return "root.zone" if name == ROOT else f"{name}.zone"

    def _cut(self, name, kind, address):
        """What stands above a zone."""
        lines = [f"{name}. NS ns.{name}.", f"ns.{name}. A {address}"]
        if kind in (UNSIGNED, DEAD):
            return lines
        found = self._keymgr(name, "ds").splitlines()
        digest = next(line for line in found if line.split()[4] == "2")
        if kind == FORGED:
            # The digest of another key with the same tag.
            digest = re.sub(r"[0-9a-fA-F]{8}$", "deadbeef", digest)
        return [*lines, digest]

    def _keymgr(self, zone, *words):
        done = subprocess.run(
            self.jail.command("/usr/sbin/keymgr", "-c", "/etc/knot.conf", zone, *words),
            capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"keymgr {zone} {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout


def parent(name):
    return name.partition(".")[2]


def absolute(record):
    """A line of a zone file: names get their final dot."""
    name, kind, data = record.split(None, 2)
    if kind in ("MX", "CNAME"):
        data += "."
    return f"{name}. {kind} {data}"


class Resolver(Peer):
    """Unbound. `place`: its address and port."""

    def __init__(self, folder, address, dns, proves):
        super().__init__("unbound", folder)
        self.place = (address, PORT)
        modules = "validator iterator" if proves else "iterator"
        self.jail.write("etc/anchor", dns.anchor.read_text())
        self.jail.write("etc/unbound.conf", UNBOUND.format(
            address=address, port=PORT, root=dns.place[0], modules=modules))
        self.start(lambda: answers(self.place), "/usr/sbin/unbound", "-d", "-c",
                   "/etc/unbound.conf")
