"""Group L: who may send for a domain (SPF, RFC 7208), and the fields that say so (RFC 8601)."""

import time

from conformance_kit import TRUSTED, case, elsewhere
from conformance_l_world import CLIENT, PERMITS, World, letter, strings

SPF, RESULTS = "RFC 7208", "RFC 8601"

elsewhere("L1", "the 203 tests of the RFC's own suite", SPF,
          "crates/auth/tests/vectors/spf.rs", "cargo test")


def spf(t, records, cases, **options):
    """`what: (domain, want)`: what is said of mail from there."""
    world = World(t, *records, **options)
    for what, (domain, want) in cases.items():
        found = world.judge(what, letter(), f"spf={want}", sender=f"ani@{domain}")
        found.says("spf", smtp_mailfrom=f"ani@{domain}")
        t.check(found.received_spf.split()[0] in want.split("|"), f"{what}: Received-SPF says so")
        t.check(f"client-ip={CLIENT};" in found.received_spf, "and who the client is")
    return world


@case("L2", "what asks for too much is no record, and never lets anybody pass", f"{SPF} §4.6.4")
def limits(t):
    others = [f"h{at}.example A 192.0.2.{at + 1}" for at in range(11)]
    some = " ".join(f"a:h{at}.example" for at in range(10))
    names = [f"n{at}.flood.example" for at in range(30)]
    world = spf(t, [
        *others, f"ten.example TXT v=spf1 {some} ip4:{CLIENT} -all",
        f"eleven.example TXT v=spf1 {some} a:h10.example ip4:{CLIENT} -all",
        f"voids-2.example TXT v=spf1 a:v1.example a:v2.example ip4:{CLIENT} -all",
        f"voids-3.example TXT v=spf1 a:v1.example mx:v2.example exists:v3.example ip4:{CLIENT} -all",
        "mx-10.example TXT v=spf1 mx -all", "mx-11.example TXT v=spf1 mx -all",
        *[f"mx-10.example MX {at} h{at}.example" for at in range(10)],
        *[f"mx-11.example MX {at} h{at}.example" for at in range(11)],
        "flood.example TXT v=spf1 ptr -all", *[f"{one} A 192.0.2.7" for one in names],
        *[f"7.2.0.192.in-addr.arpa PTR {one}" for one in names],
        f"include.example TXT v=spf1 include:include.example ip4:{CLIENT} -all",
        "ring-1.example TXT v=spf1 include:ring-2.example +all",
        "ring-2.example TXT v=spf1 include:ring-1.example +all",
        "redirect.example TXT v=spf1 redirect=redirect.example",
    ], {
        "ten terms ask": ("ten.example", "pass"),
        "eleven terms ask": ("eleven.example", "permerror"),
        "two ask in vain": ("voids-2.example", "pass"),
        "three ask in vain": ("voids-3.example", "permerror"),
        "ten MX hosts": ("mx-10.example", "fail"),
        "eleven MX hosts": ("mx-11.example", "permerror"),
        "an include of itself": ("include.example", "permerror"),
        "two that include each other": ("ring-1.example", "permerror"),
        "a redirect to itself": ("redirect.example", "permerror"),
    })
    world.judge("thirty names of the client", letter(), "iprev=pass spf=pass",
                sender="ani@flood.example", proxied="192.0.2.7")
    asked = world.asked(".flood.example")
    t.check(0 < len(asked) <= 10, f"at most ten names of an address are looked at: {asked}")


@case("L2", "a DNS that takes its time does not hold up a mail for more than 20 seconds",
      f"{SPF} §4.6.4", slow=True)
def slow(t):
    chain = [f"s{at}.slow.example TXT v=spf1 include:s{at + 1}.slow.example +all"
             for at in range(10)]
    delays = [f"s{at}.slow.example DELAY 3" for at in range(11)]
    began = time.monotonic()
    spf(t, [*chain, *delays, "silent.example TIMEOUT"], {
        "three seconds for each of ten includes": ("s0.slow.example", "temperror|permerror"),
        "no answer at all": ("silent.example", "temperror"),
    })
    t.check(time.monotonic() - began < 2 * 20, "each within 20 seconds")


@case("L3", "one record, in ASCII, begins with its version in any case; its strings are joined",
      f"{SPF} §3.2, §3.3, §4.5")
def records(t):
    # The end of the first string, 255 octets, falls into the one term that counts.
    long = "v=spf1" + " ip4:192.0.2.1" * 17
    long += " " * (251 - len(long)) + f" ip4:{CLIENT}"
    long += " ip4:192.0.2.2" * ((450 - len(long)) // 14) + " -all"
    t.check(len(long) > 440 and long[:255].endswith(" ip4"), "the record is cut there")
    spf(t, [
        f"two.example TXT {PERMITS}", "two.example TXT v=spf1 ?all",
        "upper.example TXT " + PERMITS.replace("v=spf1", "V=SPF1"),
        f"long.example TXT {long}",
        "cut.example " + strings("v=spf1 ip4:127.0", ".0.40 -", "all"),
        "blank.example " + strings("v=spf1", "ip4:127.0.0.40 -all"),
        "eight.example " + strings(PERMITS.encode().replace(b" -all", b" exists:\xff.example -all")),
        "utf-8.example " + strings(PERMITS.replace(" -all", " a:bücher.example -all")),
        f"others.example TXT {PERMITS}", "others.example TXT v=spf10 +all",
        "others.example TXT something else", "empty.example TXT v=spf1",
        "late.example TXT a v=spf1 +all",
        f"odd.example TXT {PERMITS} moo",
    ], {
        "two records": ("two.example", "permerror"),
        "V=SPF1": ("upper.example", "pass"),
        "450 octets in two strings": ("long.example", "pass"),
        "three strings, cut within terms": ("cut.example", "pass"),
        "strings are joined without a blank": ("blank.example", "none"),
        "an octet that is not ASCII": ("eight.example", "permerror"),
        "a U-label": ("utf-8.example", "permerror"),
        "beside other texts": ("others.example", "pass"),
        "a record that says nothing": ("empty.example", "neutral"),
        "a version that does not stand first": ("late.example", "none"),
        "a mistake behind the term that matches": ("odd.example", "permerror"),
    })


@case("L3", "a domain in U-labels is asked for in A-labels, also where macros name it",
      "RFC 8616 §4")
def u_labels(t):
    world = World(t, "xn--bcher-kva.example TXT v=spf1 exists:%{d}.%{o}.m.example -all",
                  "xn--bcher-kva.example.xn--bcher-kva.example.m.example A 127.0.0.2")
    for domain in ("bücher.example", "xn--bcher-kva.example", "BÜCHER.Example"):
        world.judge(f"MAIL FROM:<ani@{domain!a}>", letter(), "spf=pass", sender=f"ani@{domain}",
                    parameters="" if domain.isascii() else " SMTPUTF8")


@case("L4", "macros expand by the letter, and what is too long loses its left", f"{SPF} §7")
def macros(t):
    below = "m.example"
    world = World(t)
    nibbles = "1.0.b.c." + "0." * 20 + "8.b.d.0.1.0.0.2"
    label = "a" * 60
    for number, (what, spec, local, name) in enumerate((
            ("an address of IPv4", "%{ir}.%{v}", "ani", "40.0.0.127.in-addr"),
            ("an address of IPv6", "%{ir}.%{v}", "ani", f"{nibbles}.ip6"),
            ("four parts of five, reversed", "%{l4r-}", "a-b-c-d-e", "d.c.b.a"),
            ("more parts than there are", "%{d257r}", "ani", "example.s3"),
            ("a capital is escaped as in an URI", "%{S}", "a+b", "a%2bb%40s4.example"),
            ("a client without a name", "%{p}", "ani", "unknown"),
            ("several delimiters", "%{l+-/}", "a+b-c/d", "a.b.c.d"),
            ("%%, %_ and %-", "x%%%_%-", "ani", "x% %20"),
            ("more than 253 octets", ".".join(["%{l}"] * 5), label, ".".join([label] * 4)))):
        domain = f"s{number}.example"
        world.dns.add(f"{domain} TXT v=spf1 exists:{spec}.{below} -all")
        world.dns.records[f"{name}.{below}"] = [("A", "127.0.0.2")]
        world.judge(f"{what}: {spec}", letter(), "spf=pass", sender=f"{local}@{domain}",
                    proxied="2001:db8::cb01" if "IPv6" in what else None)
        t.check(f"{name}.{below}" in world.asked(f".{below}"),
                f"{what}: want {name}, asked {world.asked('.' + below)}")
    for number, spec in enumerate(("%", "x%", "%{", "%{}", "%{x}", "%{d0}", "%(d)", "%{d", "%{c}",
                                   "%{l4r-q}", "%{ddd}")):
        domain = f"bad{number}.example"
        world.dns.add(f"{domain} TXT v=spf1 exists:{spec}.{below} +all")
        world.judge(f"not a macro: {spec}", letter(), "spf=permerror", sender=f"ani@{domain}")


@case("L4", "no name is made of a local part that is not ASCII", "RFC 8616 §4")
def macros_of_unicode(t):
    world = World(t, "*.m.example A 127.0.0.2", "s.example TXT v=spf1 exists:%{l}.m.example -all",
                  "e.example TXT v=spf1 exists:%{S}.m.example -all")
    for domain in ("s.example", "e.example"):
        world.judge(domain, letter(), "spf=fail", sender=f"jürgen@{domain}",
                    parameters=" SMTPUTF8")


@case("L5", "what a domain explains is never told with octets that could do harm", f"{SPF} §6.2")
def explanations(t):
    world = World(
        t, "_dmarc.a.example TXT v=DMARC1; p=reject", "a.example TXT v=spf1 -all exp=e.a.example",
        "e.a.example TXT see http://a.example/%{i}/%{l}/%{d} or %{r}, %{c} at %{t}",
        "b.example TXT v=spf1 -all exp=e.b.example",
        "e.b.example " + strings(b"no\r\n250 2.0.0 ok\r\nX-Evil: \x00\x1b[2J\x7f\xff"),
        "c.example TXT v=spf1 -all exp=e.c.example", "e.c.example " + strings("нет"),
        "d.example TXT v=spf1 -all exp=e.d.example", "e.d.example TXT %{x} %",
        "f.example TXT v=spf1 -all exp=e.f.example", "e.f.example TXT " + "x" * 3_000,
        "g.example TXT v=spf1 -all exp=e.g.example", "e.g.example SERVFAIL",
        *[f"_dmarc.{one}.example TXT v=DMARC1; p=reject" for one in "bcdfg"])
    for domain in "abcdfg":
        for local in ("ani", "ani)(x"):
            sender = f"{local}@{domain}.example" if local == "ani" else f'"{local}"@{domain}.example'
            said = world.judge(f"an explanation of {domain}.example",
                               letter(f"ani@{domain}.example"), reply="550 5.7.26", sender=sender)
            octets = said.octets.replace(b"\r\n", b"")
            t.check(all(32 <= octet < 127 for octet in octets), "a reply in printable ASCII")
            t.check(len(said.lines) < 5 and b"Evil" not in octets, "the words are not the domain's")
    for domain in "bcdfg":
        world.judge(f"{domain}.example, where no policy refuses", letter("ani@none.example"),
                    "spf=fail", sender=f"ani@{domain}.example")


@case("L6", "of a null sender the name in HELO is asked, as its postmaster", f"{SPF} §2.4")
def null_sender(t):
    world = World(t, "mail.h.example TXT v=spf1 exists:%{l}.%{o}.%{h}.m.example -all",
                  "postmaster.mail.h.example.mail.h.example.m.example A 127.0.0.2",
                  "other.h.example TXT v=spf1 -all", "_dmarc.h.example TXT v=DMARC1; p=reject")
    for helo, want in (("mail.h.example", "pass"), ("other.h.example", "fail"),
                       ("nothing.h.example", "none"), (f"[{CLIENT}]", "none"),
                       ("[IPv6:2001:db8::1]", "none"), ("localhost", "none")):
        found = world.judge(f"EHLO {helo}", letter(), f"spf={want}", sender="", helo=helo)
        found.says("spf", smtp_helo=helo, smtp_mailfrom=None)
        t.check("identity=helo" in found.received_spf, "it says whom it asked")
    author = letter("ani@h.example")
    world.judge("it speaks for authors of its domain", author, "spf=pass dmarc=pass", sender="",
                helo="mail.h.example")
    world.judge("but not beside another sender", author, sender="ani@none.example",
                helo="mail.h.example", reply="550 5.7.26")


@case("L7", "what the DNS does not answer is never a pass; mail waits where an answer could help",
      f"{SPF} §4.4, §2.6.6, RFC 9989 §4.10.1")
def unanswered(t):
    world = World(
        t, "broken.example SERVFAIL", "refused.example REFUSED",
        f"part.example TXT v=spf1 include:broken.example ip4:{CLIENT} -all",
        f"late.example TXT v=spf1 ip4:{CLIENT} include:broken.example -all",
        "mx.example TXT v=spf1 mx -all", "mx.example MX 10 broken.example",
        *[f"_dmarc.{one}.example TXT v=DMARC1; p=reject" for one in
          ("broken", "part", "late", "strict")], settings=("dns.query_wait=1 s",))
    for domain in ("broken", "refused", "part", "mx"):
        world.judge(f"{domain}.example", letter(), "spf=temperror dmarc=none",
                    sender=f"ani@{domain}.example")
    world.judge("trouble behind the term that matches", letter(), "spf=pass",
                sender="ani@late.example")
    for domain in ("broken", "part"):
        world.judge(f"{domain}.example, whose policy is reject", letter(f"ani@{domain}.example"),
                    reply="451 4.4.3", sender=f"ani@{domain}.example")
    world.judge("trouble of others does not help", letter("ani@strict.example"),
                reply="550 5.7.26", sender="ani@broken.example")


@case("L8", "a client of IPv4 in the clothes of IPv6 is one of IPv4", f"{SPF} §5")
def mapped(t):
    world = World(t, f"a.example TXT {PERMITS}", "b.example TXT v=spf1 ip6:::ffff:0:0/96 -all",
                  "c.example TXT v=spf1 a -all", f"c.example A {CLIENT}",
                  "d.example TXT v=spf1 exists:%{ir}.%{v}.m.example -all",
                  "40.0.0.127.in-addr.m.example A 127.0.0.2",
                  "e.example TXT v=spf1 ip6:2001:db8::/32 -all")
    mapped_client = f"::ffff:{CLIENT}"
    for domain, want in (("a", "pass"), ("b", "fail"), ("c", "pass"), ("d", "pass"), ("e", "fail")):
        found = world.judge(f"{domain}.example", letter(), f"spf={want}",
                            sender=f"ani@{domain}.example", proxied=mapped_client)
        t.check(f"client-ip={CLIENT};" in found.received_spf, "it is named as one of IPv4")
        found.says("iprev", policy_iprev=CLIENT)
    world.judge("one of IPv6", letter(), "spf=pass", sender="ani@e.example", proxied="2001:db8::7")


NAMES = ("Authentication-Results", "AUTHENTICATION-results", "authentication-results ")
FORGED = [
    "mx.ours.example; dkim=pass", "MX.Ours.EXAMPLE; dmarc=pass header.from=a.example",
    "mx.ours.example 1; spf=pass", "(a comment) mx.ours.example; dkim=pass",
    "(a (nested \\) one)) mx.ours.example (x) 1 (y); dkim=pass",
    "\r\n\tmx.ours.example\r\n\t;\r\n dkim=pass",
    '"mx.ours.example"; dkim=pass', "mx.ours.example; none", "mx.ours.example;dkim=pass;spf=pass",
    "(\r\n\t) mx.ours.example; dkim=pass", "mx.ours.example.; dkim=pass", "ours.example; dkim=pass",
    '"mx.ours\\.example"; dkim=pass', "mx.ours.example/1; dkim=pass",
]
OTHERS = [
    "mx.ours.example.evil; spf=pass", "evil.mx.ours.example; spf=pass",
    "xmx.ours.example; spf=pass", "other.example (mx.ours.example); spf=pass",
    "other.example; spf=pass smtp.mailfrom=mx.ours.example",
]


@case("L26", "who writes results in our name is not believed, alone or among others",
      f"{RESULTS} §5, CVE-2022-48521")
def forged(t):
    world = World(t)
    for number, value in enumerate(FORGED):
        name = NAMES[number % len(NAMES)]
        field = f"{name}: {value}\r\n".encode()
        world.judge(f"in our name: {value!r}", field + letter(), kept=letter())
    for value in OTHERS:
        field = f"Authentication-Results: {value}\r\n".encode()
        world.judge(f"of another: {value!r}", field + letter())
    ours = [f"Authentication-Results: {value}\r\n".encode() for value in FORGED]
    others = [f"Authentication-Results: {value}\r\n".encode() for value in OTHERS]
    mixed = b"".join(one + other for one, other in zip(ours, others)) + b"".join(ours[len(others):])
    world.judge("all of them at once, and one in the body", mixed + letter() + ours[0],
                kept=b"".join(others) + letter() + ours[0])
    world.judge("a hundred times", ours[0] * 100 + letter(), kept=letter())


@case("L27", "what strangers say stands in our fields as one value, or not at all",
      f"{RESULTS} §2.2, CVE-2020-12272")
def injected(t):
    world = World(t, "_dmarc.bank.example TXT v=DMARC1; p=none")
    nothing = "iprev=fail|permerror spf=none dkim=none dmarc=fail"
    senders = [
        '"a;b dmarc=pass (x"@e.example',
        '"a\\"; dmarc=pass header.from=bank.example; x=\\""@e.example',
        '"a\\\\"@e.example', '"a b) (c"@e.example', "a=b@e.example", "a/b?c@e.example",
        "a@[127.0.0.40]", '"a@bank.example"@e.example', "jürgen@e.example", "ani@bücher.example",
        '"x\u202e; dmarc=pass"@e.example']
    for sender in senders:
        found = world.judge(f"MAIL FROM:<{sender!a}>", letter("ani@bank.example"), nothing,
                            sender=sender, parameters="" if sender.isascii() else " SMTPUTF8")
        t.check(len(found.entries) == 4, "and no other result")
    for author in ("\"x; dmarc=pass header.from=e.example\" <a@bank.example>",
                   "(x\r\n dmarc=pass) a@bank.example", '"a;dmarc=pass"@bank.example',
                   "=?utf-8?q?=0d=0aAuthentication-Results:_mx.ours.example;_dmarc=3Dpass?="
                   " <a@bank.example>"):
        found = world.judge(f"From: {author!r}", letter(author), nothing)
        found.says("dmarc", header_from="bank.example")
    for tags in ('d=a.example; s=x"y', "d=a.example (evil; s=x", "d=a.example\r\n\t.b; s=x",
                 "d=bücher.example; s=ü", "d=a b; s=c)d", 'd="; s=\\', "d=[x]; s=@"):
        field = f"DKIM-Signature: v=1; a=rsa-sha256; {tags};\r\n\th=from; bh=YQ==; b=YQ==\r\n"
        world.judge(f"a signature with {tags!r}", field.encode() + letter("ani@bank.example"),
                    "spf=none dkim=fail|permerror dmarc=fail")


@case("L27", "what the DNS says of a client stands in our fields as one value, or not at all",
      f"{RESULTS} §2.2, §3")
def injected_by_name(t):
    names = ("mail.e.example", "x);dmarc=pass(.e.example", "a\r\nX-Evil: b.e.example",
             "a\\.e.example", '".e.example', "\x00.e.example", "a b.e.example", "(((.e.example", "ü.e.example", "a=b@c.e.example")
    world = World(t, settings=("strangers.rdns=all",))
    for number, name in enumerate(names):
        address = f"192.0.2.{number + 1}"
        world.dns.records[f"{number + 1}.2.0.192.in-addr.arpa"] = [("PTR", name)]
        world.dns.records[name.encode().decode("ascii", "replace")] = [("A", address)]
        found = world.judge(f"a client of the name {name!a}", letter(), proxied=address,
                            want="spf=none dkim=none dmarc=none")
        t.check(len(found.entries) == 4, "and no other result")
        t.check(number or found.all("iprev")[0].comments == [f"({name})"], "a good name is told")
        t.check(len(found.all("iprev")[0].properties) == 1, "and no other property")
        received = found.above.partition(b"Authentication-Results:")[0]
        t.check(received.count(b"\r\n") == 4 and b"\r\nX-Evil" not in received, f"{received!r}")


@case("L27", "what stands in HELO is one value, or the command is refused", f"{RESULTS} §2.2")
def injected_by_helo(t):
    world = World(t)
    taken = 0
    for helo in ("[x:;spf=pass]", "[x:a(b]", '[x:"]', "[x:a;dmarc=pass(]", "a_b.example",
                 "a;b.example", "a.example(x)", '"a".example', "xn--bcher-kva.example",
                 "bücher.example", "a=b.example", "[IPv6:2001:db8::1]"):
        with t.connect(world.relay.mx, source=CLIENT) as c:
            c.reply("220")
            reply = c.say(f"EHLO {helo}", "250|501")
        if reply.code == 250:
            taken += 1
            found = world.judge(f"EHLO {helo}", letter(), sender="", helo=helo,
                                want="iprev=fail|permerror spf=none dkim=none dmarc=none")
            t.check(len(found.entries) == 4, "and no other result")
    t.check(taken, "some are taken")


@case("L28", "the fields are put on once, where mail comes in from strangers, and nowhere else",
      f"{RESULTS} §4, §5")
def once(t):
    world = World(t)
    world.judge("a stranger's mail", letter())
    relay = world.relay
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        c.envelope("ani@ours.example", "l28-networks@ours.example", "l28@elsewhere.example")
        c.content(letter("ani@ours.example"))
    with t.submit(relay) as c:
        c.envelope("ani@ours.example", "l28-author@ours.example")
        c.content(letter("ani@ours.example"))
    for recipient in ("l28-networks@ours.example", "l28-author@ours.example"):
        header = relay.arrived(recipient).content.partition(b"\r\n\r\n")[0].lower()
        t.check(b"authentication-results" not in header and b"received-spf" not in header,
                f"{recipient}: nothing is said of mail of our own")
