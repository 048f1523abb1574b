"""Group P: what a client may ask for besides delivery (DELIVERBY, FUTURERELEASE, MT-PRIORITY,
REQUIRETLS) and what it is told (LIMITS), in both directions; A12 and A20 besides."""

import re
import time

from conformance_kit import OURS, PASSWORD, TRUSTED, USER, case
from conformance_peers import EXTENSIONS

CONTENT = b"Subject: x\r\n\r\nhi\r\n"
# Everything by one route, whose next hop must speak TLS with a certificate of this CA.
PROVEN = f"""
[server]
data_dir = "$data"
hostname = "mx.{OURS}"
http_listen = ["127.0.0.1:0"]
[log]
to = "$log"
[relay]
local_domains = ["{OURS}"]
[spool]
segment_size = "8 MiB"
disk_free_min = "1 MiB"
[[credential]]
name = "{USER}"
password = "$password"
[[listener]]
name = "submission"
kind = "submission"
listen = ["127.0.0.1:0"]
tls = "starttls"
tls_certificate = "$cert"
tls_key = "$key"
[[route]]
name = "next-hop"
to = "smtp://$sink"
tls = "TLS"
CA
[retry]
first_wait = "1 s"
"""


def mail(t, relay, sender, *recipients, parameters=""):
    """Hands over a message from an address that the relay trusts."""
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        c.envelope(f"<{sender}>{parameters}", *recipients)
        c.content(CONTENT)
        c.say("QUIT", "221")


def each(c, cases):
    """Gives each of these parameters to MAIL, and forgets the transaction again."""
    for parameters, reply in cases:
        c.say(f"MAIL FROM:<a@{OURS}> {parameters}", reply)
        c.say("RSET", "250")


def report(relay, to):
    """The one report that came back to this address, as text."""
    return relay.arrived(to).content.decode()


@case("A12", "what is not offered in this state is not taken", "RFC 5321 §4.1.1.11")
def not_offered(t):
    with t.connect(t.relay().mx) as c:
        offered = c.hello()
        for keyword in ("REQUIRETLS", "FUTURERELEASE", "BINARYMIME"):
            t.check(keyword not in offered, f"{keyword} is not offered to a stranger in the clear")
        each(c, [("REQUIRETLS", "555 5.5.4|530 5.7.10"), ("HOLDFOR=60", "555 5.5.4|530 5.7.0"),
                 ("HOLDUNTIL=2030-01-01T00:00:00Z", "555 5.5.4|530 5.7.0"),
                 ("BODY=BINARYMIME", "555 5.5.4|501 5.5.4"), ("XFOO=1", "555 5.5.4")])
        c.say("HELO client.example", "250")
        for parameter in ("BY=120;R", "MT-PRIORITY=1", "SIZE=1", "BODY=8BITMIME", "SMTPUTF8"):
            c.say(f"MAIL FROM:<a@{OURS}> {parameter}", "555 5.5.4")
        c.say(f"MAIL FROM:<a@{OURS}>", "250")
        c.say(f"RCPT TO:<b@{OURS}> BY=120;R", "555 5.5.4")
        c.say(f"RCPT TO:<b@{OURS}>", "250")


@case("A12", "REQUIRETLS is offered and taken under TLS only", "RFC 8689 §2")
def require_tls_under_tls(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.starttls()
        t.check("REQUIRETLS" in c.hello(greeting=False), "REQUIRETLS is offered under TLS")
        each(c, [("REQUIRETLS", "250"), ("requiretls", "250"), ("REQUIRETLS=1", "501 5.5.4"),
                 ("REQUIRETLS REQUIRETLS", "501 5.5.4")])


def proven(t, use, ca, **peer):
    """A relay whose next hop is `peer`; `use`: what its route says of TLS."""
    hop = t.peer(**peer)
    toml = PROVEN.replace("TLS", use).replace("CA", ca)
    return t.own_relay(toml=toml, peer=hop), hop


def submit_required(t, relay, to):
    with t.submit(relay) as c:
        c.envelope(f"<a@{OURS}> REQUIRETLS", to)
        c.content(CONTENT)
        c.say("QUIT", "221")


def outcome(t, relay, code):
    """The first attempt ended with this enhanced code."""
    t.wait(lambda: relay.log("Attempted"), "an attempt has ended")
    t.check(code in str(relay.log("Attempted")[0]["outcomes"]), f"the attempt ended with {code}")


@case("A12", "REQUIRETLS goes on to a host that has proven its name and offers it",
      "RFC 8689 §4.2.1")
def require_tls_passed_on(t):
    relay, _ = proven(t, "required", 'tls_ca = "$ca"', tls=True,
                      extensions=(*EXTENSIONS, "REQUIRETLS"))
    submit_required(t, relay, f"a12-yes@{OURS}")
    t.check(" REQUIRETLS" in relay.arrived(f"a12-yes@{OURS}").sender, "MAIL has REQUIRETLS")


@case("A12", "what requires TLS is returned where the next hop does not offer REQUIRETLS",
      "RFC 8689 §4.2.1")
def require_tls_not_offered(t):
    relay, hop = proven(t, "required", 'tls_ca = "$ca"', tls=True)
    submit_required(t, relay, f"a12-lacks@{OURS}")
    outcome(t, relay, "5.7.30")
    t.check(not hop.mails, "nothing was handed over")


@case("A12", "what requires TLS is returned where the next hop does not prove its name",
      "RFC 8689 §4.2.1")
def require_tls_unproven(t):
    for peer in ({"tls": True, "extensions": (*EXTENSIONS, "REQUIRETLS")},
                 {"extensions": (*EXTENSIONS, "REQUIRETLS")}):
        relay, hop = proven(t, "opportunistic", "", **peer)
        submit_required(t, relay, f"a12-bad@{OURS}")
        outcome(t, relay, "5.7.10")
        t.check(not hop.mails, "nothing was handed over")


@case("P1", "LIMITS tells what is kept", "RFC 9422 §3")
def limits_are_kept(t):
    relay = t.own_relay("listener.mx.recipients_max=100", "listener.mx.transactions_max=3")
    with t.connect(relay.mx) as c:
        t.check(c.hello()["LIMITS"] == "RCPTMAX=100 MAILMAX=3", "RCPTMAX=100 MAILMAX=3")
        c.say(f"MAIL FROM:<a@{OURS}>", "250")
        for at in range(100):
            c.send(f"RCPT TO:<p1-{at}@{OURS}>\r\n".encode(), quiet=True)
            c.reply("250 2.1.5")
        c.say(f"RCPT TO:<p1-more@{OURS}>", "452 4.5.3")
        c.content(CONTENT)
        for _ in range(2):
            c.say(f"MAIL FROM:<a@{OURS}>", "250")
            c.say("RSET", "250")
        c.say(f"MAIL FROM:<a@{OURS}>", "421 4.5.3|452 4.5.3")


@case("P1", "the limits of a next hop are kept", "RFC 9422 §4")
def limits_of_the_next_hop(t):
    hop = t.peer(extensions=(*EXTENSIONS, "LIMITS RCPTMAX=3 MAILMAX=2 RCPTDOMAINMAX=1"))
    relay = t.own_relay(peer=hop)
    to = [f"p1-{at}@{domain}.example" for domain in ("x", "y") for at in range(4)]
    mail(t, relay, f"a@{OURS}", *to)
    mail(t, relay, f"b@{OURS}", "p1-z@x.example")
    for one in (*to, "p1-z@x.example"):
        relay.arrived(one)
    t.check(all(len(one.recipients) <= 3 for one in hop.mails), "at most 3 recipients in each")
    domains = [{one.split("@")[1].split(">")[0] for one in mail.recipients} for mail in hop.mails]
    t.check(all(len(one) == 1 for one in domains), "one domain in each")
    t.check(all(len(one.mails) <= 2 for one in hop.sessions), "at most 2 on a connection")


@case("P1", "limits that make no sense are not kept", "RFC 9422 §3")
def junk_limits(t):
    junk = "LIMITS RCPTMAX=0 RCPTMAX= MAILMAX=x RCPTDOMAINMAX=-1 RCPTMAX=01 =5 RCPTMAX OTHER=1"
    hop = t.peer(extensions=(*EXTENSIONS, junk))
    relay = t.own_relay(peer=hop)
    to = [f"p1-junk{at}@x.example" for at in range(5)]
    mail(t, relay, f"a@{OURS}", *to)
    relay.arrived(to[0])
    t.check([len(one.recipients) for one in hop.mails] == [5], "all 5 in one transaction")


@case("A20", "many messages on one connection, up to MAILMAX", "RFC 9422 §3")
def mail_max(t):
    relay = t.own_relay("listener.mx.transactions_max=1000")
    with t.connect(relay.mx) as c:
        t.check(c.hello()["LIMITS"].endswith("MAILMAX=1000"), "MAILMAX=1000 is told")
        for _ in range(20):
            c.envelope(f"a@{OURS}", f"a20@{OURS}")
            c.content(CONTENT)
        t.note("980 further transactions, each ended by RSET")
        for _ in range(980):
            c.send(f"MAIL FROM:<a@{OURS}>\r\nRSET\r\n".encode(), quiet=True)
            c.reply("250", "250")
        c.say(f"MAIL FROM:<a@{OURS}>", "421 4.5.3|452 4.5.3")


@case("P2", "BY= has nine digits, and returns only what has time", "RFC 2852 §4")
def by_syntax(t):
    with t.connect(t.relay().mx) as c:
        t.check("DELIVERBY" in c.hello(), "DELIVERBY is offered")
        each(c, [("BY=120;R", "250"), ("BY=-5;R", "501 5.5.4"), ("BY=0;R", "501 5.5.4"),
                 ("BY=+5;N", "250"), ("BY=-5;N", "250"), ("BY=0;N", "250"), ("BY=120;RT", "250"),
                 ("BY=120;nt", "250"), ("BY=999999999;N", "250"), ("BY=1234567890;R", "501 5.5.4"),
                 ("BY=", "501 5.5.4"), ("BY", "501 5.5.4"), ("BY=120", "501 5.5.4"),
                 ("BY=;R", "501 5.5.4"), ("BY=120;", "501 5.5.4"), ("BY=120;Q", "501 5.5.4"),
                 ("BY=1 20;R", "501 5.5.4"), ("BY=120;R BY=120;R", "501 5.5.4")])


@case("P2", "a shortest time is told and kept", "RFC 2852 §3")
def by_minimum(t):
    relay = t.own_relay("listener.mx.deliver_by_min=4 min")
    with t.connect(relay.mx) as c:
        t.check(c.hello()["DELIVERBY"] == "240", "DELIVERBY 240")
        each(c, [("BY=239;R", "555 5.5.4|501 5.5.4"), ("BY=240;R", "250"), ("BY=1;N", "250")])


@case("P2", "what is late is returned with 5.4.7", "RFC 2852 §4.1", slow=True)
def by_expires(t):
    answers = {"RCPT": lambda _, line: "450 4.2.0 later" if b"late" in line else "250 2.1.5 ok"}
    hop = t.peer(answers, extensions=(*EXTENSIONS, "DELIVERBY"))
    relay = t.own_relay(peer=hop)
    mail(t, relay, f"p2@{OURS}", f"late@{OURS}", parameters=" BY=3;R")
    text = report(relay, f"p2@{OURS}")
    t.check("Status: 5.4.7\r\n" in text, "Status: 5.4.7")
    t.check("Action: failed\r\n" in text, "Action: failed")


@case("P2", "what is left of the time goes on to a next hop that offers DELIVERBY",
      "RFC 2852 §4.1")
def by_passed_on(t):
    hop = t.peer(extensions=(*EXTENSIONS, "DELIVERBY 60"))
    relay = t.own_relay(peer=hop)
    mail(t, relay, f"a@{OURS}", f"p2-r@{OURS}", parameters=" BY=120;RT")
    mail(t, relay, f"a@{OURS}", f"p2-n@{OURS}", parameters=" BY=-5;N")
    seconds = re.search(r" BY=(\d+);RT", relay.arrived(f"p2-r@{OURS}").sender)
    t.check(seconds and 60 <= int(seconds[1]) <= 120, "at most 120 seconds are left")
    seconds = re.search(r" BY=-(\d+);N", relay.arrived(f"p2-n@{OURS}").sender)
    t.check(seconds and int(seconds[1]) >= 5, "it is 5 seconds or more late")


@case("P2", "what is to be returned does not go where nobody would do so", "RFC 2852 §4.1")
def by_not_offered(t):
    relay = t.own_relay()
    mail(t, relay, f"p2-back@{OURS}", f"p2-x@{OURS}", parameters=" BY=120;R")
    text = report(relay, f"p2-back@{OURS}")
    t.check("Status: 5.3.3\r\n" in text, "Status: 5.3.3")
    mail(t, relay, f"a@{OURS}", f"p2-y@{OURS}", parameters=" BY=120;N")
    t.check(" BY=" not in relay.arrived(f"p2-y@{OURS}").sender, "N goes, without the parameter")


def until(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


@case("P3", "HOLDFOR and HOLDUNTIL have a limit, and exclude each other", "RFC 4865 §4")
def hold_syntax(t):
    relay = t.relay()
    with t.submit(relay) as c:
        longest = c.hello(greeting=False)["FUTURERELEASE"].split()[0]
        t.check(longest == "2592000", "a message is held for 30 days at most")
        each(c, [("HOLDFOR=60", "250"), (f"HOLDFOR={longest}", "250"),
                 ("HOLDFOR=2592001", "501 5.5.4"), ("HOLDFOR=0", "501 5.5.4"),
                 ("HOLDFOR=-1", "501 5.5.4"), ("HOLDFOR=1234567890", "501 5.5.4"),
                 ("HOLDFOR=", "501 5.5.4"), ("HOLDUNTIL=tomorrow", "501 5.5.4"),
                 ("HOLDUNTIL=2999-01-01T00:00:00Z", "501 5.5.4"),
                 ("HOLDUNTIL=2000-01-01T00:00:00Z", "250"),
                 ("HOLDUNTIL=2000-01-01T00:00:00+01:00", "250"),
                 ("HOLDFOR=60 HOLDUNTIL=2000-01-01T00:00:00Z", "501 5.5.4"),
                 ("HOLDFOR=60 HOLDFOR=60", "501 5.5.4")])
        soon = until(3600)
        t.hide(soon, "in an hour")
        each(c, [(f"HOLDUNTIL={soon}", "250")])


@case("P3", "without authentication nothing is held", "RFC 4865 §4")
def hold_by_strangers(t):
    relay = t.relay()
    with t.connect(relay.mx, source=TRUSTED) as c:
        t.check("FUTURERELEASE" not in c.hello(), "it is not offered")
        each(c, [("HOLDFOR=60", "555 5.5.4|530 5.7.0")])
    with t.connect(relay.submission) as c:
        c.hello()
        c.say(f"MAIL FROM:<a@{OURS}> HOLDFOR=60", "555 5.5.4|530 5.7.0")


@case("P3", "what is held goes when its time has come, what is over at once", "RFC 4865 §4",
      slow=True)
def hold_is_kept(t):
    relay = t.own_relay()
    with t.submit(relay) as c:
        c.envelope(f"<a@{OURS}> HOLDFOR=4", f"p3-later@{OURS}")
        c.content(CONTENT)
        began = time.monotonic()
        c.envelope(f"<a@{OURS}> HOLDUNTIL=2000-01-01T00:00:00Z", f"p3-now@{OURS}")
        c.content(CONTENT)
        relay.arrived(f"p3-now@{OURS}", seconds=3)
        # What has arrived leaves the queue a moment later.
        t.wait(lambda: len(relay.queue()) == 1, "only the other one waits")
        [waiting] = relay.queue()
        t.check(waiting["hold"]["limit"] == "future-release", "the queue says why it waits")
        relay.arrived(f"p3-later@{OURS}")
        t.check(time.monotonic() - began >= 3, "not before its time")


@case("P4", "a priority is a number from -9 to 9", "RFC 6710 §4")
def priority_syntax(t):
    relay = t.relay()
    with t.connect(relay.mx, source=TRUSTED) as c:
        t.check("MT-PRIORITY" in c.hello(), "MT-PRIORITY is offered")
        each(c, [("MT-PRIORITY=9", "250"), ("MT-PRIORITY=-9", "250"), ("MT-PRIORITY=0", "250"),
                 ("MT-PRIORITY=10", "501 5.5.4"), ("MT-PRIORITY=-10", "501 5.5.4"),
                 ("MT-PRIORITY=x", "501 5.5.4"), ("MT-PRIORITY=+1", "501 5.5.4"),
                 ("MT-PRIORITY=01", "501 5.5.4"), ("MT-PRIORITY=", "501 5.5.4"),
                 ("MT-PRIORITY", "501 5.5.4"), ("MT-PRIORITY=1 MT-PRIORITY=1", "501 5.5.4")])


@case("P4", "a stranger does not go before others, and may step back", "RFC 6710 §5")
def priority_of_strangers(t):
    hop = t.peer(extensions=(*EXTENSIONS, "MT-PRIORITY"))
    relay = t.own_relay(peer=hop)
    for at, (asked, reply, granted) in enumerate([(9, "250 2.3.6", 0), (-4, "250 2.1.0", -4)]):
        with t.connect(relay.mx) as c:
            c.hello()
            said = c.say(f"MAIL FROM:<a@{OURS}> MT-PRIORITY={asked}", reply)
            if asked > 0:
                t.check(said.lines[0].startswith("2.3.6 0 "), "the reply begins with the new one")
            c.say(f"RCPT TO:<p4-{at}@{OURS}>", "250")
            c.content(CONTENT)
        arrived = relay.arrived(f"p4-{at}@{OURS}")
        t.check(f" MT-PRIORITY={granted}" in arrived.sender, f"it goes on with {granted}")
        t.check(f"PRIORITY {granted}".encode() in arrived.content, "its Received field says so")


@case("P4", "a priority goes on to next hops that offer it, and to no other", "RFC 6710 §4.4")
def priority_passed_on(t):
    for offered in (("MT-PRIORITY STANAG4406",), ()):
        hop = t.peer(extensions=(*EXTENSIONS, *offered))
        relay = t.own_relay(peer=hop)
        mail(t, relay, f"a@{OURS}", f"p4@{OURS}", parameters=" MT-PRIORITY=7")
        sender = relay.arrived(f"p4@{OURS}").sender
        t.check((" MT-PRIORITY=7" in sender) == bool(offered), "only where it is offered")


@case("P4", "what is more urgent goes first, and nothing is left behind", "RFC 6710 §4.5")
def priority_order(t):
    busy = {"MAIL": ["451 4.3.0 later"] * 5 + ["250 2.1.0 ok"]}
    # In lock step: to commands behind a refused MAIL this peer would still say yes.
    hop = t.peer(busy, extensions=("8BITMIME", "ENHANCEDSTATUSCODES", "MT-PRIORITY"))
    relay = t.own_relay("delivery.connections_per_host_max=1", "retry.first_wait=4 s", peer=hop)
    for priority in (-9, 0, 9, -3, 5):
        mail(t, relay, f"a@{OURS}", f"p4-{priority}@{OURS}",
             parameters=f" MT-PRIORITY={priority}")
    for priority in (-9, 0, 9, -3, 5):
        relay.arrived(f"p4-{priority}@{OURS}")
    t.note("all of them have arrived")


@case("P7", "BINARYMIME is neither offered nor taken", "RFC 3030 §3")
def binary_mime(t):
    with t.connect(t.relay().mx) as c:
        t.check("BINARYMIME" not in c.hello(), "BINARYMIME is not offered")
        each(c, [("BODY=BINARYMIME", "555 5.5.4|501 5.5.4"), ("BODY=binarymime", "5xx"),
                 ("BODY=8BITMIME", "250"), ("BODY=7BIT", "250")])


@case("P12", "each code of the registry is told as it was said", "RFC 3463, RFC 5248")
def enhanced_codes(t):
    codes = ["5.7.30", "5.7.8", "5.1.10", "5.7.27", "5.7.26", "5.7.1", "5.2.1", "5.6.7"]

    def answer(_, line):
        place = re.search(rb"RCPT TO:<p12-(\d+)@", line)
        return f"550 {codes[int(place[1])]} no" if place else "250 2.1.5 ok"

    hop = t.peer({"RCPT": answer})
    relay = t.own_relay(peer=hop)
    for at, code in enumerate(codes):
        mail(t, relay, f"back{at}@{OURS}", f"p12-{at}@{OURS}")
        t.check(f"Status: {code}\r\n" in report(relay, f"back{at}@{OURS}"), f"Status: {code}")


@case("P12", "4.7.0 is told as 5.7.0 only when nothing helps any more", "RFC 3463 §2", slow=True)
def transient_code(t):
    answers = {"RCPT": lambda _, line: "450 4.7.0 no" if b"p12-x" in line else "250 2.1.5 ok"}
    relay = t.own_relay("retry.give_up_after=3 s", peer=t.peer(answers))
    mail(t, relay, f"p12@{OURS}", f"p12-x@{OURS}")
    text = report(relay, f"p12@{OURS}")
    t.check(re.search(r"Status: [45]\.(7\.0|4\.7)\r\n", text), "the last reason is told")


@case("P6", "there is no LMTP server: LHLO is no command, on no port", "RFC 2033 §5")
def no_lmtp(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        c.say("LHLO client.example", "500 5.5.2")
        c.say(f"MAIL FROM:<a@{OURS}>", "503 5.5.1")
        c.say("EHLO client.example", "250")
    with t.submit(t.relay()) as c:
        c.say("LHLO client.example", "500 5.5.2")
