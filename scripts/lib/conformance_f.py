"""Group F: relay control (RFC 5321 §3.6, §4.5.1, §7.9, Appendix F.2)."""

from conformance_kit import TRUSTED, case

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
DENIED = "550 5.7.1|554 5.7.1"


def refused(t, paths, pattern="5xx", sender="a@b.example", parameters=""):
    """Each of these is refused as a recipient on port 25 to a stranger."""
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say(f"MAIL FROM:<{sender}>{parameters}", "250")
        for path in paths:
            c.say(f"RCPT TO:{path}", pattern)
        c.say("DATA", "503 5.5.1|554 5.5.1")


@case("F1", "a stranger sends to no other domain, whoever he says he is", "RFC 5321 §3.6.1, §7.9")
def foreign(t):
    paths = ["<x@other.example>", "<postmaster@other.example>", "<x@OTHER.EXAMPLE>",
             "<abuse@other.example>", "<root@localhost>", "<x@mx.ours.example>", "<x@example>"]
    for sender in ("a@b.example", "", "boss@ours.example", "x@other.example", "postmaster@ours.example",
                   "a@mx.ours.example", "a@localhost"):
        refused(t, paths, DENIED, sender)


@case("F1", "what EHLO says makes nobody a friend", "RFC 5321 §4.1.4")
def hello_names(t):
    for name in ("ours.example", "mx.ours.example", "localhost", "[127.0.0.9]", "[127.0.0.1]"):
        with t.connect(t.relay().mx) as c:
            c.hello(name)
            c.say("MAIL FROM:<boss@ours.example>", "250")
            c.say("RCPT TO:<x@other.example>", DENIED)


@case("F2", "the percent hack and bang paths are one local part, or refused", "RFC 5321 §7.9, RFC 1123 §5.2.16")
def percent(t):
    kept(t, ["x%other.example", "other.example!x", "a%b%c", "a!b!c", "x%other.example%third.example",
             "other.example!third.example!x", "x%[192.0.2.1]", "_x_at_other.example", "x+other.example",
             "other.example!x%third.example", "x=other.example"])
    refused(t, ["<x%other.example@other.example>", "<ours.example!x@other.example>",
                "<other.example!x>", "<x%other.example>", "<x%ours.example@other.example>"])


@case("F3", "a source route through us to others is refused", "RFC 5321 §3.6.1, Appendix F.2")
def routed_out(t):
    refused(t, ["<@ours.example:x@other.example>", "<@ours.example,@other.example:x@third.example>",
                "<@other.example:x@third.example>", "<@ours.example:x%other.example@third.example>",
                "<@ours.example:other.example!x@third.example>", "<@[127.0.0.1]:x@other.example>",
                "<@ours.example:@ours.example:x@other.example>", "<@ours.example:>", "<@ours.example>",
                "<@ours.example:x>", "<:x@other.example>", "<ours.example:x@other.example>",
                "<@:x@ours.example>", "<@ours.example,x@ours.example>"])


@case("F4", "a source route to us is dropped, and means its mailbox", "RFC 5321 Appendix F.2")
def routed_in(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for path in ("<@other.example:f4@ours.example>", "<@a.example,@b.example:f4@ours.example>",
                     "<@ours.example:f4@ours.example>"):
            c.say("MAIL FROM:<@hop.example:a@b.example>", "250 2.1.0|5xx")
            c.say("RSET", "250")
            c.say("MAIL FROM:<a@b.example>", "250")
            if c.say(f"RCPT TO:{path}", "250 2.1.5|5xx").code == 250:
                c.content(CONTENT)
            c.say("RSET", "250")
    found = {mail.recipients[0] for mail in t.relay().arrived("f4@ours.example", 3)}
    t.check(found == {"<f4@ours.example>"}, "no route goes on")


@case("F5", "a local part is never interpreted: it goes on as it is, or is refused",
      "RFC 5321 §2.3.11, CVE-2019-10149, CVE-2020-7247")
def literal(t):
    kept(t, ['"x@other.example"', '"x%other"', '"@ours.example:x@other.example"', '"a b"', '"a,b"',
             "=?utf-8?q?x=40other.example?=", "`id`", "|/bin/sh", '"|/bin/sh -c id"', "/etc/passwd",
             '"/etc/passwd"', '":include:/etc/passwd"', "${run{/bin/id}}", "$(id)", '";sleep 66;"',
             '"a;b"', "../../etc/passwd", '"..\\\\x"', "-oQ/tmp", "-C/etc/passwd", "%s%n%x", "{{7*7}}",
             "'or'1'='1", "a'--", '"a\\"b"', '"a\\\\b"', '"<x@other.example>"', '"x>"', "~root", "*", "#x",
             '"a\\@b"', "a|b", '"x\\,y@other.example"', "&id", "?", '"(comment)x"', '" "', '"@"', '"a@b@c"',
             "=?x?q?=41=00?=", "=?iso-8859-1?q?=61=62=63=3e=3c?="])


def kept(t, locals):
    """Each of these at ours.example comes to the next hop as the same address, or is refused."""
    relay = t.relay()
    with t.connect(relay.mx) as c:
        c.hello()
        taken = []
        for local in locals:
            c.say("MAIL FROM:<a@b.example>", "250")
            path = f"<{local}@ours.example>"
            if c.say(f"RCPT TO:{path}", "250 2.1.5|5xx").code == 250:
                taken.append(path)
                c.content(CONTENT)
            else:
                c.say("RSET", "250")
        c.say("QUIT", "221")
    for path in taken:
        same = t.wait(lambda: [mail for mail in relay.peer.mails
                               if meaning(path) in map(meaning, mail.recipients)],
                      f"{path} arrives with the same local part")
        t.check(same, path)
    t.note(f"{len(taken)} were taken, and went on to the same mailbox")


def meaning(path):
    """A path with its needless quotes and backslashes gone."""
    local, _, domain = path.strip("<>").rpartition("@") if not path.startswith('<"') else (
        path[1:path.rindex('"') + 1], "@", path[path.rindex('"') + 2:].split(">")[0])
    if local.startswith('"'):
        out, quoted = "", iter(local[1:-1])
        for letter in quoted:
            out += next(quoted) if letter == "\\" else letter
        local = out
    return local, domain


@case("F6", "an address with more than one @ outside quotes, or with blanks, commas and the like",
      "RFC 5321 §4.1.2")
def malformed(t):
    refused(t, ["<a@b@ours.example>", "<a@ours.example@b.example>", "<a\\@ours.example>",
                "<x\\@other.example@ours.example>", "<a,b@ours.example>", "<a;b@ours.example>",
                "<a b@ours.example>", "<a\tb@ours.example>", "<a@ours.example,b@other.example>",
                "<a@ours.example;b@other.example>", "<a@ours.example b@other.example>",
                "<a@ours .example>", "<a@ ours.example>", "<a @ours.example>", "<a@ours.example >",
                "< a@ours.example>", "<a@@ours.example>", "<@ours.example>", "<a@>", "<a@ours.example",
                "a@ours.example", "a@ours.example>", "<>", "<<a@ours.example>>", "<a(x)@ours.example>",
                "<a@ours.example(x)>", "<a<b@ours.example>", "<a:b@ours.example>", "<a[b@ours.example>",
                '<a"b"@ours.example>', '<"a"b@ours.example>', '<"a"."b"x@ours.example>'],
            "501 5.1.3|501 5.5.4|553 5.1.3|550 5.7.1")


@case("F7", "address literals and numbers as domains are nobody's", "RFC 5321 §4.1.3")
def literals(t):
    refused(t, ["<x@[192.0.2.1]>", "<x@[10.0.0.1]>", "<x@[IPv6:2001:db8::1]>", "<x@127.0.0.1>",
                "<x@2130706433>", "<x@[127.0.0.1]>", "<x@[IPv6:::1]>", "<x@[IPv6:::ffff:127.0.0.1]>",
                "<x@0x7f000001>", "<x@127.1>", "<x@0177.0.0.1>", "<x@[::1]>", "<x@[2130706433]>",
                "<x@[0x7f.1]>", "<x@[ours.example]>", "<x@[tag:ours.example]>", "<x@[]>", "<x@ours.127>",
                "<postmaster@[192.0.2.1]>", "<x@[127.0.0.1].ours.example>"],
            "550 5.7.1|501 5.1.3")


@case("F8", "the domain is compared without regard to case; a dot at its end is no way around",
      "RFC 5321 §2.4, §2.3.5")
def case_and_dot(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.say("MAIL FROM:<a@b.example>", "250")
        for path in ("<f8@OURS.EXAMPLE>", "<f8-2@Ours.Example>", "<f8-3@oUrS.eXaMpLe>"):
            c.say(f"RCPT TO:{path}", "250 2.1.5")
        c.say("RCPT TO:<f8-4@ours.example.>", "501 5.1.3|250 2.1.5")
        c.say("RCPT TO:<f8-5@ours.example..>", "501 5.1.3")
        c.say("RCPT TO:<x@other.example.>", "501 5.1.3|550 5.7.1")
        c.content(CONTENT)
    t.relay().arrived("f8@ours.example")


@case("F9", "domains beside, below and above ours are not ours", "RFC 5321 §3.6.1")
def near(t):
    refused(t, ["<x@sub.ours.example>", "<x@evilours.example>", "<x@ours.evil.example>",
                "<x@.ours.example>", "<x@ours..example>", "<x@ours.example.evil.example>", "<x@ours>",
                "<x@example>", "<x@ours-example>", "<x@ours.examples>", "<x@ours.exampl>",
                "<x@-ours.example>", "<x@ours.example->", "<x@_ours.example>", "<x@*.example>",
                "<x@ours_example>", "<x@mx.ours.example>", "<x@xn--ours.example>", "<x@ours.example/>",
                "<x@ours.example:25>", "<x@ours.example#>", "<x@ours.example?>", "<x@ours,example>"])


@case("F10", "postmaster is always there, also without a domain; abuse is", "RFC 5321 §4.5.1, RFC 2142 §4")
def postmaster(t):
    for sender in ("a@b.example", ""):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.say(f"MAIL FROM:<{sender}>", "250")
            for path in ("<postmaster>", "<Postmaster>", "<POSTMASTER>", "<PostMaster@ours.example>",
                         "<postmaster@OURS.EXAMPLE>", "<abuse@ours.example>"):
                c.say(f"RCPT TO:{path}", "250 2.1.5")
            c.content(CONTENT)
    t.relay().arrived("postmaster", 2)
    for line in ("RCPT TO:<postmaster@other.example>", "RCPT TO:<postmaster@>", "RCPT TO:postmaster"):
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.say("MAIL FROM:<a@b.example>", "250")
            c.say(line, "5xx")


@case("F11", "an address without a domain is refused on port 25", "RFC 5321 §2.3.11, §4.1.2")
def no_domain(t):
    refused(t, ["<user>", "<root>", "<abuse>", "<postmasters>", "<post.master>", "<postmaster.>",
                '<"postmaster ">', "<MAILER-DAEMON>", "<ours.example>", "<>", "<@>", '<"a@ours.example">'])


@case("F12", "no letter that looks like another leads around the policy", "RFC 5891, UTS 46")
def look_alikes(t):
    strange = ["x＠other.example", "x＠ours.example", "a@b＠ours.example", "x@other。example",
               "x@оurs.example", "x@ours.exаmple", "x@ourѕ.example", "x@ours\u200b.evil.example",
               "x@sub。ours.example", "x@ours.example\u202e", "x@\u2066ours.example", "x@ours\u00ad.exampl",
               "x@ｏther.example", "x@xn--ours-.example", "x@ours\u0338.example", "x@ours⒈example",
               "x@ours.example\u3002evil.example", "x@ours．evil．example", "x@ours%2eexample",
               "x@ours\u2024example", "x@ours\uff0fexample", "x@ours\uff20other.example"]
    refused(t, [f"<{path}>" for path in strange], "5xx", parameters=" SMTPUTF8")


@case("F12", "what UTS 46 maps to our name is our name, once and for all", "RFC 5895, UTS 46")
def mapped(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        for path in ("x@ｏｕｒｓ.example", "x@ours。example", "x@OURS．example", "x@o\u00adurs.example",
                     "x@ours\u200b.example", "x@𝗼𝘂𝗿𝘀.example"):
            c.say("MAIL FROM:<a@b.example> SMTPUTF8", "250")
            taken = c.say(f"RCPT TO:<{path}>", "250 2.1.5|501 5.1.3|550 5.7.1").code == 250
            if taken:
                c.content(CONTENT)
            else:
                c.say("RSET", "250")
    for mail in t.relay().peer.mails_to("x@ours.example"):
        t.check(mail.recipients[0].startswith("<x@ours.example>"), "only ever the name itself goes out")


@case("F16", "who is trusted by network or has authenticated sends anywhere", "RFC 6409 §4.3")
def trusted(t):
    relay = t.relay()
    with t.connect(relay.mx, source=TRUSTED) as c:
        c.hello()
        c.envelope("a@b.example", "f16-net@other.example", "f16-net@third.example")
        c.content(CONTENT)
    c = t.submit(relay)
    c.envelope("ani@ours.example", "f16-auth@other.example", "f16-auth@third.example")
    c.content(CONTENT)
    for recipient in ("f16-net@other.example", "f16-auth@third.example"):
        relay.arrived(recipient)


@case("F18", "the HTTP API has no verb that widens what is relayed", "policy")
def api(t):
    relay = t.relay()
    for path in ("/v1/relay", "/v1/domains", "/v1/relay/local_domains", "/v1/config", "/v1/networks",
                 "/v1/credentials", "/v1/routes"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            answer = relay.ask(path, method)
            t.check("no_such_route" in str(answer) or "method_not_allowed" in str(answer),
                    f"{method} {path}: {answer}")
        t.note(f"{path}: there is nothing")
