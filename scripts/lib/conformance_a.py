"""Group A: command syntax and the state machine (RFC 5321 §2.4, §3, §4)."""

from conformance_kit import case


@case("A1", "the greeting is 220, our full name first, and nothing comes before or after it",
      "RFC 5321 §4.2")
def greeting(t):
    for place in (t.relay().mx, t.relay().submission):
        with t.connect(place) as c:
            found = c.reply("220")
            t.check(found.lines[0].startswith("mx.ours.example "), "our name comes first")
            c.silent()


@case("A2", "EHLO lists each extension once, STARTTLS among them before TLS", "RFC 5321 §4.1.1.1")
def ehlo(t):
    with t.connect(t.relay().mx) as c:
        c.reply("220")
        found = c.say("EHLO x", "250")
        keywords = [line.split()[0].upper() for line in found.lines[1:]]
        t.check(len(keywords) == len(set(keywords)), "no keyword comes twice")
        for keyword in ("PIPELINING SIZE 8BITMIME ENHANCEDSTATUSCODES SMTPUTF8 CHUNKING "
                        "STARTTLS").split():
            t.check(keyword in keywords, f"{keyword} is offered")
