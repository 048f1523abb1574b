"""Group L: who signed a mail (DKIM, RFC 6376, 8301, 8463), and what we sign ourselves."""

import base64
import itertools
import re
import time

from conformance_kit import case, missing
from conformance_l_world import CLIENT, EARLY, LATE, World, letter
from conformance_signer import Ed25519, Rsa, der, integer, public_key, signed

DKIM = "RFC 6376"
AUTHOR = "Ani <ani@a.example>"
# Whoever signs for a.example speaks for its authors; nobody else does.
POLICY = "_dmarc.a.example TXT v=DMARC1; p=quarantine"

missing("L18", "a mail that is signed once and sent to many is counted by nobody; what we sign "
        "ourselves is believed for 14 days, which L19 shows")


def rsa():
    return Rsa("l", 2_048)


def ed25519():
    return Ed25519("l")


def keys():
    return (f"rsa._domainkey.a.example TXT {rsa().record()}",
            f"ed25519._domainkey.a.example TXT {ed25519().record()}")


def judged(t, cases, records=()):
    """`what: (content, want)`: each with the good keys in the DNS; a pass speaks for the author."""
    world = World(t, POLICY, *keys(), *records)
    for what, (content, want) in cases.items():
        alternatives = want.replace(",", "|").split("|")
        dmarc = "fail" if "pass" not in alternatives else "pass" if "|" not in want else "pass|fail"
        world.judge(what, content, f"dkim={want} dmarc={dmarc}")
    return world


def changed(content, old, new):
    """It must be there."""
    if old not in content:
        raise ValueError(f"no {old!r}")
    return content.replace(old, new, 1)


@case("L9", "good signatures pass: RSA and Ed25519, in all forms, alone and together",
      f"{DKIM} §3.4, RFC 8463 §3")
def good(t):
    odd = letter(AUTHOR, b"a  b\t \r\n\r\n \r\nc\r\n \r\n\r\n",
                 b"X-Odd:  two  blanks \r\n\t \r\n  folded \r\n")
    cases = {}
    for header, body in itertools.product(("simple", "relaxed"), repeat=2):
        form = f"{header}/{body}"
        names = "from:to:subject:x-odd:date"
        for key in (rsa(), ed25519()):
            cases[f"{key.name}, {form}"] = signed(odd, key, c=form, h=names), "pass"
        both = signed(signed(odd, rsa(), c=form), ed25519(), c=form)
        cases[f"both, {form}"] = both, "pass,pass"
    plain = letter(AUTHOR)
    once = signed(plain, rsa())
    cases |= {
        "c= of the header alone": (signed(plain, rsa(), c="relaxed"), "pass"),
        "no c= at all": (signed(plain, rsa(), c=None), "pass"),
        "l= of the whole body": (signed(plain, rsa(), covered=4), "pass"),
        "x= in the future": (signed(plain, rsa(), t="1500000000", x=LATE), "pass"),
        "x= in the past": (signed(plain, rsa(), t="900000000", x=EARLY), "fail"),
        "x= before t=": (signed(plain, rsa(), t=LATE, x="4102444799"), "permerror|fail"),
        "i= of a subdomain": (signed(plain, rsa(), i="ani@b.a.example"), "pass"),
        "q=dns/txt": (signed(plain, rsa(), q="dns/txt"), "pass"),
        "a header that was changed": (changed(once, b"Subject: x", b"Subject: y"), "fail"),
        "one of two fits": (signed(changed(once, b"hi\r\n", b"ho\r\n"), ed25519()), "pass,fail"),
    }
    world = judged(t, cases)
    found = world.judge("what is said of both", signed(once, ed25519()), "dkim=pass,pass")
    found.says("dkim", 0, header_d="a.example", header_s="ed25519", header_a="ed25519-sha256")
    found.says("dkim", 1, header_d="a.example", header_s="rsa", header_a="rsa-sha256")


@case("L10", "a signature over a part of the body speaks for nobody once something follows",
      f"{DKIM} §8.2")
def part_of_body(t):
    plain = letter(AUTHOR)
    whole, nothing = signed(plain, rsa(), covered=4), signed(plain, rsa(), covered=0)
    judged(t, {
        "as it was signed": (whole, "pass"),
        "l=0, and no body": (signed(letter(AUTHOR, b""), rsa(), covered=0), "pass"),
        "with an appended line": (whole + b"<b>click</b>\r\n", "fail|policy|neutral"),
        "l=0, and any body": (nothing, "fail|policy|neutral"),
        "l= beyond the body": (signed(plain, rsa(), covered=4, length=5), "permerror|fail"),
        "l= that is no number": (signed(plain, rsa(), covered=4, length="4x"), "permerror|fail"),
    })
    world = World(t, POLICY.replace("quarantine", "reject"), *keys())
    world.judge("it does not speak for the author", whole + b"<b>click</b>\r\n", reply="550 5.7.26")
    world.judge("l=0 neither", nothing, reply="550 5.7.26")


@case("L11", "keys that prove nothing let nobody pass, and those that cost much cost little",
      "RFC 8301 §3.2, RFC 8017 §3.1")
def weak_keys(t):
    records, cases = [], {}

    def add(name, record, content, want, what):
        records.append(f"{name}._domainkey.a.example {record}")
        cases[what] = content, want

    for bits in (512, 768, 1_017, 1_023, 1_024, 1_025, 2_047, 4_096):
        key = Rsa("weak", bits)
        add(f"b{bits}", f"TXT {key.record()}", signed(letter(AUTHOR), key, s=f"b{bits}"),
            "permerror|fail" if bits < 1_024 else "pass", f"{bits} bits")
    one = Rsa("weak", 2_048)
    # What fits is the padding itself.
    one.sign, one.exponent = one.padded, 1
    add("one", f"TXT {one.record()}", signed(letter(AUTHOR), one, s="one"), "permerror|fail",
        "exponent 1: what anybody can sign")
    two = Rsa("weak", 1_024, exponent=2)
    for number in range(100):
        try:
            content = signed(letter(AUTHOR), two, s="two", x=str(int(LATE) + number))
            break
        except ValueError:
            continue
    add("two", f"TXT {two.record()}", content, "permerror|fail", "an even exponent")
    good = rsa()
    for name, octets in (
            ("even", public_key(good.modulus + 1, 65_537)), ("zero", public_key(0, 65_537)),
            ("unit", public_key(1, 65_537)), ("huge-e", public_key(good.modulus, good.modulus - 2)),
            ("cut", public_key(good.modulus, 65_537)[:-40]), ("empty", b""), ("octet", b"\x30"),
            ("negative", der(0x30, der(2, b"\xff" * 256) + integer(65_537))),
            ("noise", bytes(range(200)))):
        text = base64.b64encode(octets).decode() or "===="
        add(name, f"TXT v=DKIM1; k=rsa; p={text}", signed(letter(AUTHOR), good, s=name),
            "permerror|fail", f"a modulus that is none: {name}")
    add("text", "TXT v=DKIM1; k=rsa; p=no*base64!", signed(letter(AUTHOR), good, s="text"),
        "permerror|fail", "a key that is no base64")
    for name, octets in (("zero-ed", bytes(32)), ("short-ed", bytes(31)), ("long-ed", bytes(33))):
        text = base64.b64encode(octets).decode()
        add(name, f"TXT v=DKIM1; k=ed25519; p={text}", signed(letter(AUTHOR), ed25519(), s=name),
            "permerror|fail", f"no point of Ed25519: {name}")
    judged(t, cases, records)


@case("L11", "how long a key is, and that one is too short, is told as it is",
      "RFC 8301 §3.2, RFC 8601 §2.7.1")
def told_bits(t):
    world = World(t)
    for bits in (1_024, 2_048, 1_025, 2_047, 1_023):
        key, selector = Rsa("weak", bits), f"b{bits}"
        world.dns.add(f"{selector}._domainkey.a.example TXT {key.record()}")
        is_good = bits >= 1_024
        found = world.judge(f"{bits} bits", signed(letter(AUTHOR), key, s=selector),
                            "dkim=pass" if is_good else "dkim=permerror|fail|policy")
        one = found.all("dkim")[0]
        if is_good:
            t.check(str(bits) in re.findall(r"\d+", "".join(one.comments)), f"{bits}: {one}")
        else:
            t.check("short" in one.reason, f"{bits}: {one}")


@case("L11", "a key of 16,384 bits takes no time", "RFC 8301 §3.2")
def huge_key(t):
    key = Rsa("huge", 16_384, most=512)
    world = World(t, POLICY, "huge._domainkey.a.example TRUNCATED",
                  f"huge._domainkey.a.example TXT {key.record()}")
    content = signed(letter(AUTHOR), key, s="huge")
    began = time.monotonic()
    world.judge("eight signatures with it", content.partition(b"From:")[0] * 7 + content,
                "dkim=" + ",".join(["permerror|pass|fail"] * 8))
    t.check(time.monotonic() - began < 20, "within 20 seconds")
    t.check(world.asked("huge._domainkey.a.example"), "the key was asked for")


@case("L12", "SHA-1, keys of another kind and keys that are for something else prove nothing",
      f"{DKIM} §3.6.1, RFC 8301 §3.1, RFC 8460 §3")
def unfit(t):
    plain, inner = letter(AUTHOR), "i@b.a.example"

    def with_key(name, more, **tags):
        records[name] = f"{name}._domainkey.a.example TXT {rsa().record(more)}"
        return signed(plain, rsa(), s=name, **tags)

    records = {
        "": f"other._domainkey.a.example TXT {ed25519().record()}",
        "kind": f"kind._domainkey.a.example TXT {rsa().record().replace('k=rsa', 'k=dsa')}",
        "none": f"no-kind._domainkey.a.example TXT {rsa().record().replace('k=rsa; ', '')}",
    }
    judged(t, {
        "a=rsa-sha1": (signed(plain, rsa(), digest="sha1"), "fail|permerror|neutral"),
        "a=rsa-sha256 with a key of Ed25519": (signed(plain, rsa(), s="other"), "permerror|fail"),
        "a=ed25519-sha256 with a key of RSA": (signed(plain, ed25519(), s="rsa"), "permerror|fail"),
        "k= that nobody knows": (signed(plain, rsa(), s="kind"), "permerror|fail"),
        "no k=": (signed(plain, rsa(), s="no-kind"), "pass"),
        "a= that nobody knows": (signed(plain, rsa(), a="rsa-md5"), "permerror|fail|neutral"),
        "h=sha1": (with_key("h1", " h=sha1;"), "fail|permerror"),
        "h=sha1:sha256": (with_key("h2", " h=sha1:sha256;"), "pass"),
        "s=tlsrpt": (with_key("s1", " s=tlsrpt;"), "permerror|fail|policy"),
        "s=tlsrpt:email": (with_key("s2", " s=tlsrpt:email;"), "pass"),
        "s=*": (with_key("s3", " s=*;"), "pass"),
        "t=s, i= of the domain": (with_key("t1", " t=s;", i="i@a.example"), "pass"),
        "t=s, i= of a subdomain": (with_key("t1", " t=s;", i=inner), "fail|permerror"),
        "t=s, i= in another case": (with_key("t1", " t=s;", i="i@A.Example"), "pass"),
        "t=s, no i=": (with_key("t1", " t=s;"), "pass"),
        "t=y:s, i= of a subdomain": (with_key("t2", " t=y:s;", i=inner), "fail|neutral|permerror"),
        "t=y, and it fails": (changed(with_key("t3", " t=y;"), b"Subject: x", b"Subject: y"),
                              "neutral|fail|none"),
        "a flag that nobody knows": (with_key("t4", " t=z; n=a note;"), "pass"),
        "another version of keys": (with_key("v1", ""), "permerror|fail"),
    }, [one.replace("v=DKIM1", "v=DKIM2") if name == "v1" else one
        for name, one in records.items()])


@case("L13", "a signature speaks for From, of several fields for the lower ones, and what is added "
      "above shows", f"{DKIM} §5.4, §5.4.2, §8.15, RFC 9989 §4.4")
def fields(t):
    plain = letter(AUTHOR)
    twice = letter(AUTHOR, more=b"Comments: 1\r\nComments: 2\r\n")
    one = signed(twice, rsa(), h="from:comments")
    two = signed(twice, rsa(), h="from:comments:comments")
    three = signed(twice, rsa(), h="from:comments:comments:comments")
    once, over = signed(plain, rsa()), signed(plain, rsa(), h="from:from:to:subject:subject")
    add, spaced = b"Subject: evil\r\n", "FROM : To:\r\n\t suBject"
    swapped = changed(two, b"Comments: 1\r\nComments: 2", b"Comments: 2\r\nComments: 1")
    world = judged(t, {
        "h= without From": (signed(plain, rsa(), h="to:subject"), "permerror|fail"),
        "an empty h=": (signed(plain, rsa(), h=""), "permerror|fail"),
        "names in any case, with blanks": (signed(plain, rsa(), h=spaced), "pass"),
        "names that do not occur": (signed(plain, rsa(), h="from:x-none:subject:subject"), "pass"),
        "a Subject that is added above": (add + once, "pass"),
        "the same, where Subject is signed once more": (add + over, "fail"),
        "one that is added below": (changed(once, b"\r\n\r\n", b"\r\n" + add + b"\r\n"), "fail"),
        "of two the lower one is signed": (one, "pass"),
        "the upper one is changed": (changed(one, b"Comments: 1", b"Comments: x"), "pass"),
        "the lower one is changed": (changed(one, b"Comments: 2", b"Comments: x"), "fail"),
        "both are signed": (two, "pass"),
        "a third is added above": (b"Comments: 0\r\n" + two, "pass"),
        "a third that was signed as missing": (b"Comments: 0\r\n" + three, "fail"),
        "both change places": (swapped, "fail"),
        "a field that no author wrote": (b"X-Spam: no\r\n" + once, "pass"),
    })
    for what, content in (("signed once", once), ("signed twice", over)):
        world.judge(f"a second From above one that is {what}",
                    b"From: boss@bank.example\r\n" + content,
                    reply="550 5.6.0|550 5.7.26|550 5.7.1")


@case("L14", "bodies and signatures that are written oddly count as they should",
      f"{DKIM} §3.4.3, §3.4.4, §3.5")
def bodies(t):
    lines, cases = b"\r\n" * 1_000, {}
    for form in ("simple", "relaxed"):
        def by(body, form=form):
            return signed(letter(AUTHOR, body), rsa(), c=f"relaxed/{form}")

        hi, where_blanks_count = by(b"hi\r\n"), "pass" if form == "relaxed" else "fail"
        cases |= {
            f"an empty body, {form}": (by(b""), "pass"),
            f"an empty line as a body, {form}": (by(b"\r\n"), "pass"),
            f"only empty lines, {form}": (by(b"") + lines, "pass"),
            f"a thousand empty lines at the end, {form}": (by(b"hi\r\n" + lines), "pass"),
            f"they are added later, {form}": (hi + lines, "pass"),
            f"a line behind them, {form}": (hi + lines + b"x\r\n", "fail"),
            f"a blank at the end of a line, {form}": (
                changed(hi, b"hi\r\n", b"hi \r\n"), where_blanks_count),
            f"lines of blanks at the end, {form}": (hi + b" \t\r\n \r\n", where_blanks_count),
            f"a body of blanks, {form}": (by(b" \r\n\t\r\n"), "pass"),
            f"a blank in front of a line, {form}": (changed(hi, b"hi\r\n", b" hi\r\n"), "fail"),
        }
    plain, bad = signed(letter(AUTHOR), rsa()), "permerror|fail"
    digest = re.search(rb"bh=([^;]*);", plain)[1]
    cases |= {
        "blanks and folds within b=": (
            re.sub(rb"(\tb=)(....)", rb"\1\r\n \2 \t\r\n\t", plain, count=1), "pass"),
        "b= in the midst": (signed(letter(AUTHOR), rsa(), more=" z=x; t=1500000000;"), "pass"),
        "another bh=": (changed(plain, digest, base64.b64encode(bytes(32))), "fail"),
        "bh= that is no base64": (changed(plain, digest, b"*" + digest[1:]), bad),
        "b= that is cut": (re.sub(rb"....\r\nFrom:", rb"\r\nFrom:", plain, count=1), bad),
        "an empty b=": (re.sub(rb"(\tb=)[^:]*\r\nFrom:", rb"\1\r\nFrom:", plain, count=1), bad),
        "a blank in front of the colon": (
            changed(plain, b"DKIM-Signature:", b"DKIM-Signature :"), "pass|fail"),
    }
    world = judged(t, cases)
    content = signed(letter(AUTHOR, b"no line end"), rsa(), c="simple/simple")
    t.note("a body without a line end, by BDAT")
    with t.connect(world.relay.mx, source=CLIENT) as c:
        c.hello()
        c.envelope("ani@none.example", "l14@ours.example")
        c.send(f"BDAT {len(content)} LAST\r\n".encode() + content)
        c.reply("250 2.0.0")
    got = world.relay.arrived("l14@ours.example").content
    t.check(re.search(rb";\r\n\tdkim=pass ", got), f"it passes: {got[:800]!r}")


@case("L15", "a signature that is not well-formed says nothing, and what nobody knows in it does "
      "no harm", f"{DKIM} §3.2, §3.5, §6.1.1, RFC 8616 §5")
def malformed(t):
    plain, bad = letter(AUTHOR), "permerror|fail|neutral"
    no_b = re.sub(rb";\r\n\tb=[^:]*\r\nFrom:", rb"\r\nFrom:", signed(plain, rsa()), count=1)
    cases = {
        "no b=": (no_b, bad),
        "v=2": (signed(plain, rsa(), v="2"), bad), "v=01": (signed(plain, rsa(), v="01"), bad),
        "a tag twice": (signed(plain, rsa(), more=" d=a.example;"), bad),
        "a tag that nobody knows": (signed(plain, rsa(), more=" zz=x; y_z=1;"), "pass"),
        "z= with copies": (signed(plain, rsa(), more=" z=From:a=7Cb|To:x;"), "pass"),
        "i= of another domain": (signed(plain, rsa(), i="ani@b.example"), bad),
        "i= that only ends alike": (signed(plain, rsa(), i="ani@xa.example"), bad),
        "i= of the domain above": (signed(plain, rsa(), i="ani@example"), bad),
        "i= without a local part": (signed(plain, rsa(), i="@a.example"), "pass"),
        "i= without an at": (signed(plain, rsa(), i="a.example"), bad),
        "a tag without a value": (signed(plain, rsa(), more=" x=;"), bad),
        "a word that is no tag": (signed(plain, rsa(), more=" nonsense;"), bad),
        "nothing between semicolons": (signed(plain, rsa(), more=" ;;"), bad),
        "an empty field": (b"DKIM-Signature:\r\n" + plain, bad),
        "c= that nobody knows": (changed(signed(plain, rsa()), b"c=relaxed/", b"c=nice/"), bad),
        "q= that nobody knows": (signed(plain, rsa(), q="http/json"), bad),
        "d= with a dot at its end": (signed(plain, rsa(), d="a.example."), "pass|permerror|fail"),
    }
    for tag in ("v", "a", "d", "s", "h", "bh"):
        cases[f"no {tag}="] = signed(plain, rsa(), **{tag: None}), bad
    world = judged(t, cases)
    world.dns.add(f"rsa._domainkey.xn--bcher-kva.example TXT {rsa().record()}")
    world.dns.add("_dmarc.xn--bcher-kva.example TXT v=DMARC1; p=quarantine")
    for domain in ("bücher.example", "xn--bcher-kva.example", "XN--Bcher-KVA.example"):
        found = world.judge(f"d={domain!a}", signed(letter("ani@bücher.example"), rsa(), d=domain),
                            "dkim=pass dmarc=pass", parameters=" SMTPUTF8")
        found.says("dkim", header_d="xn--bcher-kva.example")
        found.says("dmarc", header_from="xn--bcher-kva.example")
