"""Group C: who waits where he must, and who does not."""

from conformance_kit import case

EARLY = (b"Subject: early\r\n\r\nbody\r\n.\r\n", b"x")


@case("C5", "body behind DATA in the same segment ends the session", "RFC 2920 §3.1")
def body_with_data(t):
    for tail in EARLY:
        with t.connect(t.relay().mx) as c:
            c.hello()
            c.envelope("a@b.example", "c5@ours.example")
            c.send(b"DATA\r\n" + tail)
            c.reply("554 5.5.0|421")
            c.closed()


@case("C5", "a group that ends in DATA is in order", "RFC 2920 §3.1")
def group_with_data(t):
    with t.connect(t.relay().mx) as c:
        c.hello()
        c.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c5@ours.example>\r\nDATA\r\n")
        c.reply("250", "250", "354")
        c.send(b"Subject: x\r\n\r\n.\r\n")
        c.reply("250 2.0.0")


@case("C5", "authors who have authenticated are served", "RFC 2920 §3.1")
def body_with_data_submission(t):
    with t.submit(t.relay()) as c:
        c.envelope("ani@ours.example", "c5@ours.example")
        c.send(b"DATA\r\nSubject: early\r\nFrom: ani@ours.example\r\n\r\nbody\r\n.\r\n")
        c.reply("354", "250 2.0.0")


@case("C5", "a listener of one's own may tolerate it", "RFC 2920 §3.1")
def tolerated(t):
    relay = t.own_relay("listener.mx.pipelining=tolerated")
    with t.connect(relay.mx) as c:
        c.reply("220")
        c.send(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c5@ours.example>\r\nDATA\r\n"
               b"Subject: x\r\n\r\n.\r\nQUIT\r\n")
        c.reply("250", "250", "250", "354", "250 2.0.0", "221")
        c.closed()


@case("C6", "commands behind EHLO in the same segment end the session", "RFC 2920 §3.1")
def behind_ehlo(t):
    for verb in ("EHLO", "HELO"):
        for tail in (b"MAIL FROM:<a@b.example>\r\n", b"NOOP\r\n", b"MAIL"):
            with t.connect(t.relay().mx) as c:
                c.reply("220")
                c.send(f"{verb} client.example\r\n".encode() + tail)
                c.reply("554 5.5.0|421")
                c.closed()


@case("C7", "who talks before a delayed greeting is sent away", "RFC 5321 §3.1")
def early_talkers(t):
    relay = t.own_relay("listener.mx.greeting_wait=1 s")
    for text in (b"EHLO x\r\n", b"x", b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n"):
        with t.connect(relay.mx) as c:
            c.send(text)
            c.reply("554 5.5.1")
            c.closed()
    with t.connect(relay.mx) as c:
        c.silent()
        c.hello()
        c.say("NOOP", "250")


@case("C7", "a network of ours is greeted at once", "RFC 5321 §3.1")
def trusted_is_not_delayed(t):
    relay = t.own_relay("listener.mx.greeting_wait=60 s")
    with t.connect(relay.mx, source="127.0.0.9") as c:
        c.hello()
