"""Group L: whether a mail is from its author (DMARC, RFC 9989), and what is done if it is not."""

from conformance_kit import case, missing
from conformance_l_world import PERMITS, World, letter
from conformance_signer import Rsa, signed

DMARC = "RFC 9989"

missing("L24", "no aggregate reports are sent: `rua=` is read, and nobody is written to")
missing("L25", "aggregate reports of others are mail like any other: nothing looks into them")


def walk(*names):
    return [f"_dmarc.{name}" for name in names]


@case("L20", "the records above an author are found in eight questions, however long its name is",
      f"{DMARC} §4.10")
def questions(t):
    world = World(t)
    for author, want in (
            ("a.example", walk("a.example", "example")),
            ("b.c.d.e.f.g.l8.example", walk("b.c.d.e.f.g.l8.example", "c.d.e.f.g.l8.example",
                                            "d.e.f.g.l8.example", "e.f.g.l8.example",
                                            "f.g.l8.example", "g.l8.example", "l8.example",
                                            "example")),
            ("a.b.c.d.e.f.g.l9.example", walk("a.b.c.d.e.f.g.l9.example", "c.d.e.f.g.l9.example",
                                              "d.e.f.g.l9.example", "e.f.g.l9.example",
                                              "f.g.l9.example", "g.l9.example", "l9.example",
                                              "example")),
            ("a." * 60 + "b.c.d.e.f.lx.example", walk(
                "a." * 60 + "b.c.d.e.f.lx.example", "b.c.d.e.f.lx.example", "c.d.e.f.lx.example",
                "d.e.f.lx.example", "e.f.lx.example", "f.lx.example", "lx.example", "example"))):
        before = len(world.dns.queries)
        found = world.judge(f"an author in {author.count('.') + 1} labels",
                            letter(f"ani@{author}"), "dmarc=none")
        found.says("dmarc", header_from=author)
        asked = {name for name, _ in world.dns.queries[before:] if name.startswith("_dmarc.")}
        # What was asked about another author is known.
        t.check(asked | {"_dmarc.example"} == set(want), f"asked {sorted(asked)}")


@case("L20", "which record applies, and where an organisation begins", f"{DMARC} §4.10.1, §4.10.2")
def organizations(t):
    world = World(
        t, "_dmarc.corp.example TXT v=DMARC1; p=reject",
        "_dmarc.n.corp.example TXT v=DMARC1; p=none; psd=n",
        "_dmarc.mid.corp.example TXT v=DMARC1; p=none",
        "_dmarc.u.corp.example TXT v=DMARC1; p=none; psd=u",
        "_dmarc.bank.test TXT v=DMARC1; p=reject; psd=y",
        "_dmarc.own.bank.test TXT v=DMARC1; p=none",
        "_dmarc.self.test TXT v=DMARC1; p=reject; psd=y",
        *[f"{name} A 192.0.2.1" for name in (
            "a.corp.example", "a.n.corp.example", "a.mid.corp.example", "a.u.corp.example",
            "shop.bank.test", "a.shop.bank.test", "a.own.bank.test", "a.nobody.example")],
        *[f"{name} TXT {PERMITS}" for name in (
            "corp.example", "b.corp.example", "n.corp.example", "b.n.corp.example",
            "b.mid.corp.example", "shop.bank.test", "b.shop.bank.test", "other.bank.test",
            "bank.test", "self.test", "a.self.test", "test", "xcorp.example")])
    # The author, who may send for whom, and what becomes of it.
    for author, sender, want in (
            ("corp.example", "none.example", "reject"), ("corp.example", "corp.example", "pass"),
            ("corp.example", "b.corp.example", "pass"), ("corp.example", "xcorp.example", "reject"),
            ("a.corp.example", "b.corp.example", "pass"), ("a.corp.example", "corp.example", "pass"),
            # psd=n: an organisation of its own.
            ("n.corp.example", "none.example", "none"),
            ("a.n.corp.example", "none.example", "none"),
            ("a.n.corp.example", "b.n.corp.example", "pass"),
            ("a.n.corp.example", "corp.example", "none"),
            ("corp.example", "n.corp.example", "reject"),
            ("corp.example", "b.n.corp.example", "reject"),
            # Without psd= the organisation is where the uppermost record is, and its record applies.
            ("mid.corp.example", "none.example", "none"),
            ("a.mid.corp.example", "none.example", "reject"),
            ("a.mid.corp.example", "b.corp.example", "pass"),
            ("a.mid.corp.example", "b.mid.corp.example", "pass"),
            ("u.corp.example", "corp.example", "pass"),
            ("a.u.corp.example", "none.example", "reject"),
            # psd=y: an organisation is one label below.
            ("shop.bank.test", "none.example", "reject"),
            ("a.shop.bank.test", "none.example", "reject"),
            ("a.shop.bank.test", "b.shop.bank.test", "pass"),
            ("shop.bank.test", "other.bank.test", "reject"),
            ("a.shop.bank.test", "bank.test", "reject"),
            ("own.bank.test", "none.example", "none"),
            ("a.own.bank.test", "none.example", "none"),
            # A public suffix that writes mail itself is an organisation of its own.
            ("self.test", "self.test", "pass"), ("self.test", "a.self.test", "reject"),
            ("a.nobody.example", "nobody.example", "no record")):
        what, content = f"From {author}, sent by {sender}", letter(f"ani@{author}")
        if want == "reject":
            world.judge(what, content, reply="550 5.7.26", sender=f"ani@{sender}")
            continue
        result = {"none": "fail", "no record": "none"}.get(want, want)
        found = world.judge(what, content, f"dmarc={result}", sender=f"ani@{sender}")
        found.says("dmarc", header_from=author)
        t.check(want != "none" or "(p=none)" in found.all("dmarc")[0].comments, "its policy is none")


@case("L21", "alignment is relaxed or strict, for SPF and DKIM each", f"{DMARC} §4.4, §4.7")
def alignment(t):
    key = Rsa("l", 2_048)
    names = ("relaxed", "aspf", "adkim", "both", "odd")
    tags = ("", " aspf=s;", " adkim=s;", " aspf=s; adkim=s;", " aspf=x; adkim=strict;")
    world = World(
        t, *[f"_dmarc.{name}.example TXT v=DMARC1; p=reject;{more}"
             for name, more in zip(names, tags)],
        *[f"{below}{name}.example TXT {PERMITS}" for name in names for below in ("", "m.")],
        *[f"s._domainkey.{below}{name}.example TXT {key.record()}" for name in names
          for below in ("", "m.")])
    for name, spf_below, dkim_below in zip(names, (1, 0, 1, 0, 1), (1, 1, 0, 0, 1)):
        author = f"{name}.example"
        for domain, spf_good, dkim_good in ((author, 1, 1), (f"m.{author}", spf_below, dkim_below)):
            for by, is_good in (("spf", spf_good), ("dkim", dkim_good)):
                content = letter(f"ani@{author}")
                if by == "dkim":
                    content = signed(content, key, d=domain, s="s")
                sender = f"ani@{domain}" if by == "spf" else "ani@none.example"
                world.judge(f"{author}: {by} of {domain}", content, "dmarc=pass" if is_good else "",
                            reply="250 2.0.0" if is_good else "550 5.7.26", sender=sender)


@case("L21", "p=, sp=, np= and t= say what is done; what nobody knows is ignored",
      f"{DMARC} §4.7, §4.10.1")
def policies(t):
    world = World(t)
    for number, (record, domain, below, not_there) in enumerate((
            ("p=reject", "reject", "reject", "reject"),
            ("p=reject; sp=none", "reject", "none", "none"),
            ("p=none; sp=reject", "none", "reject", "reject"),
            ("p=none; np=reject", "none", "none", "reject"),
            ("p=reject; sp=quarantine; np=none", "reject", "quarantine", "none"),
            ("p=reject; t=y", "quarantine", "quarantine", "quarantine"),
            ("p=quarantine; t=y", "none", "none", "none"),
            ("p=none; np=reject; t=y", "none", "none", "quarantine"),
            ("p=reject; t=n", "reject", "reject", "reject"),
            ("p=reject; pct=0", "reject", "reject", "reject"),
            ("pct=0; zz=1; p=reject; ri=5", "reject", "reject", "reject"),
            ("p=REJECT", "reject", "reject", "reject"),
            ("  p  =  reject  ;", "reject", "reject", "reject"),
            ("sp=reject", "no record", "no record", "no record"),
            ("aspf=s", "no record", "no record", "no record"),
            ("rua=mailto:a@b.example", "none", "none", "none"),
            ("p=what", "no record", "no record", "no record"),
            ("p=what; rua=mailto:a@b.example", "none", "none", "none"),
            ("p=reject; sp=what", "no record", "no record", "no record"),
            ("p=reject; np=what; rua=mailto:a@b.example", "none", "none", "none"))):
        author = f"p{number}.example"
        world.dns.add(f"_dmarc.{author} TXT v=DMARC1; {record}")
        world.dns.add(f"there.{author} A 192.0.2.1")
        for name, want in ((author, domain), (f"there.{author}", below),
                           (f"no.{author}", not_there)):
            what, content = f"{record}: {name}", letter(f"ani@{name}")
            if want == "reject":
                world.judge(what, content, reply="550 5.7.26")
            elif want == "no record":
                world.judge(what, content, "dmarc=none")
            else:
                found = world.judge(what, content, "dmarc=fail")
                t.check(f"(p={want})" in found.all("dmarc")[0].comments, f"{what}: want {want}")


@case("L22", "several records, and records that do not begin with their version, are none; trouble "
      "refuses nobody", f"{DMARC} §4.7, §4.10, §4.10.1")
def odd_records(t):
    record = "v=DMARC1; p=reject"
    world = World(
        t, f"_dmarc.two.example TXT {record}", "_dmarc.two.example TXT v=DMARC1; p=none",
        f"_dmarc.same.example TXT {record}", f"_dmarc.same.example TXT {record}",
        f"_dmarc.beside.example TXT {record}", "_dmarc.beside.example TXT v=spf1 -all",
        "_dmarc.behind.example TXT p=reject; v=DMARC1",
        "_dmarc.lower.example TXT v=dmarc1; p=reject",
        "_dmarc.ten.example TXT v=DMARC10; p=reject", "_dmarc.no-sep.example TXT v=DMARC1 p=reject",
        "_dmarc.blanks.example TXT v = DMARC1 ; p = reject",
        "_dmarc.alias.example CNAME policy.b.example", f"policy.b.example TXT {record}",
        f"place.example TXT {record}", "_dmarc.broken.example SERVFAIL",
        "_dmarc.silent.example TIMEOUT",
        settings=("dns.query_wait=1 s",))
    for name, want in (
            ("two", "none"), ("same", "none"), ("beside", "reject"), ("behind", "none"),
            ("lower", "none"),
            ("ten", "none"), ("no-sep", "none"), ("blanks", "reject"),
            ("alias", "reject"), ("place", "none"), ("broken", "temperror"),
            ("silent", "temperror")):
        what, content = f"{name}.example", letter(f"ani@{name}.example")
        if want == "reject":
            world.judge(what, content, reply="550 5.7.26")
        else:
            world.judge(what, content, f"dmarc={want}")


@case("L22", "what a domain says above an author refuses nothing while his own record is not told",
      f"{DMARC} §4.10.1")
def untold(t):
    world = World(t, "_dmarc.half.example TXT v=DMARC1; p=reject", f"half.example TXT {PERMITS}",
                  "_dmarc.a.half.example SERVFAIL", "a.half.example A 192.0.2.1")
    # His own might say p=none, or psd=n.
    for sender in ("ani@none.example", "ani@half.example"):
        world.judge(f"sent by {sender}", letter("ani@a.half.example"), sender=sender,
                    reply="250 2.0.0|451 4.4.3")


@case("L23", "the author is the address in From, whatever name stands beside it",
      f"{DMARC} §3.2.2, RFC 5322 §3.4")
def authors(t):
    world = World(t, "_dmarc.bank.example TXT v=DMARC1; p=reject")
    for author, want in (
            ('"ceo@bank.example" <x@evil.example>', "evil.example"),
            ("(ceo@bank.example) x@evil.example", "evil.example"),
            ("x@evil.example (ceo@bank.example)", "evil.example"),
            ('"<ceo@bank.example>" <x@evil.example>', "evil.example"),
            ('"ceo@bank.example"@evil.example', "evil.example"),
            ("Bank\r\n <x@evil.example>", "evil.example"),
            ("x@evil.example", "evil.example"), ("x@EVIL.Example", "evil.example"),
            ("x @ evil . example", "evil.example"),
            ("<@bank.example:x@evil.example>", "evil.example"),
            ("a@evil.example, b@evil.example", "evil.example"),
            ("ceo@bank.example <x@evil.example>", "evil.example")):
        found = world.judge(f"From: {author!r}", letter(author), "dmarc=none")
        found.says("dmarc", header_from=want)
    for author in ("ceo@bank.example", '"x@evil.example" <ceo@bank.example>', "<ceo@bank.example",
                   "ceo@BANK.example", '"ceo"@bank.example', "ceo@sub.bank.example",
                   "ceo@bank.example.", "evil.example: ceo@bank.example;",
                   "=?utf-8?q?x=40evil.example?= <ceo@bank.example>",
                   "x@evil.example, ceo@bank.example", "ceo@bank.example, x@evil.example",
                   "(x@evil.example)ceo@(y)bank.(z)example", "<@evil.example:ceo@bank.example>",
                   "x@evil.example <ceo@bank.example>",
                   "=?utf-8?q?ceo=40bank.example?= <x@evil.example>"):
        world.judge(f"From: {author!r}", letter(author), reply="550 5.7.26|550 5.6.0|550 5.7.1")
    for what, content in (
            ("two From", b"From: x@evil.example\r\n" + letter("ceo@bank.example")),
            ("two From, the other way", b"From: ceo@bank.example\r\n" + letter("x@evil.example")),
            ("behind a line that is no field",
             b"Subject: x\r\nX Foo: y\r\n" + letter("ceo@bank.example")),
            ("folded", letter("\r\n ceo@bank.example"))):
        world.judge(what, content, reply="550 5.7.26|550 5.6.0")


@case("L33", "who is refused is told which check failed, by its code", "RFC 7372 §3")
def codes(t):
    world = World(t, "_dmarc.a.example TXT v=DMARC1; p=reject", "a.example TXT v=spf1 -all",
                  "_dmarc.slow.example TXT v=DMARC1; p=reject", "slow.example SERVFAIL",
                  settings=("authentication.own_domains=must-pass", "dns.query_wait=1 s"))
    for what, author, sender, reply in (
            ("what its domain wants refused", "ani@a.example", "ani@a.example", "550 5.7.26"),
            ("somebody else speaks as we", "boss@ours.example", "ani@none.example", "550 5.7.26"),
            ("what the DNS may still tell", "ani@slow.example", "ani@slow.example",
             "451 4.4.3|451 4.7.24")):
        world.judge(what, letter(author), reply=reply, sender=sender)
