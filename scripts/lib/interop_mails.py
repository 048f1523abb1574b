"""The mails that travel, and whether what arrived is what was sent.

The corpora lie beside the checkout; a handful of mails is made here, for wherever they do not.
"""

import email
import os
import pathlib
import re
import subprocess
import tempfile

from peers import TRACE_FIELDS, trace_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = (
    "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nFrom: <ani@example.org>\r\n"
    "To: <budi@example.net>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n"
)
PLAIN = (
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: {encoding}\r\n\r\n"
)
ASCII = "Dots:\r\n.\r\n..\r\n.x\r\n\r\nFrom here\r\n" + "y" * 998 + "\r\nthe end\r\n"
EIGHT_BIT = ASCII + "Gr\u00fc\u00dfe aus Yogyakarta \u2013 \u0639\u0631\u0628\u064a\r\n"
PARTS = (
    'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\npreamble\r\n'
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "Gr\u00fc\u00dfe \r\n=3D\r\n\r\n"
    '--b\r\nContent-Type: multipart/alternative; boundary="inner"\r\n\r\n'
    "--inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "<p>\u0639\u0631\u0628\u064a</p>\r\n--inner--\r\n"
    "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "Subject: within\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\n\u00fcber\r\n"
    "--b--\r\nepilogue\r\n"
)
BLIND = {b"bcc", b"resent-bcc", b"return-path"}
# What a submission server adds, replaces, joins, or leaves out where it is empty; encoded parts
# are labelled anew.
MENDED = {"from", "sender", "reply-to", "to", "cc", "date", "message-id", "in-reply-to",
          "references", "mime-version", "content-type", "content-transfer-encoding",
          "resent-from", "resent-date", "resent-message-id"}
OPENSMTPD_REWRITES = {b"bcc", b"cc", b"from", b"to"}


def made():
    """Names and contents."""
    plain, eight = PLAIN.format(encoding="7bit"), PLAIN.format(encoding="8bit")
    bodies = {
        "dots-and-long-lines": plain + ASCII,
        "eight-bit": eight + EIGHT_BIT,
        "eight-bit-in-parts": PARTS,
        "folded": "X-Folded: a\r\n\tb\r\n  c\r\n" + plain + "x\r\n",
        "no-body": plain,
        "empty-lines": plain + "\r\n" * 20,
        "large": plain + ASCII * 500,
        "large-eight-bit": eight + EIGHT_BIT * 500,
    }
    return [(name, (HEADER.format(subject=name) + body).encode()) for name, body in bodies.items()]


def corpus(limit=None):
    """Names and contents from the corpora, evenly picked if there are more than `limit`; or None.

    They are at ../shared/corpora, or in a directory that `MERPATI_CORPORA` names.
    """
    named = os.environ.get("MERPATI_CORPORA")
    packed = ROOT.parent / "shared/corpora/dev.tar.xz"
    if not named and not packed.exists():
        if os.environ.get("MERPATI_REQUIRE_SHARED"):
            raise RuntimeError("there are no corpora in ../shared and MERPATI_CORPORA is not set")
        return None
    with tempfile.TemporaryDirectory(prefix="merpati-corpora.") as folder:
        if not named:
            subprocess.run(["tar", "-xJf", packed, "-C", folder], check=True, timeout=120)
        root = pathlib.Path(named or folder)
        files = sorted(root.rglob("*.eml"))
        if limit and len(files) > limit:
            files = [files[at * len(files) // limit] for at in range(limit)]
        return [(file.stem, canonical(file.read_bytes())) for file in files]


def canonical(octets):
    """The lines of the files end in LF; on the wire they end in CRLF, and so does the last one."""
    lines = octets.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def same(sent, raw):
    """Octet for octet, apart from trace fields on top."""
    return "octet for octet" if trace_of(raw, sent) else None


def same_behind_opensmtpd(sent, raw):
    """OpenSMTPD takes Bcc out, and completes and unfolds addresses in From, To and Cc."""
    if same(sent, raw):
        return same(sent, raw)
    (above, body), (arrived, arrived_body) = fields(sent), fields(raw)
    if body == arrived_body and arrived[len(arrived) - len(above):] == above:
        return "octet for octet but what OpenSMTPD does to addresses"
    return None


def behind_exim(judge):
    """Exim leaves out blank lines in which a field ends: folds with nothing in them."""

    def judged(sent, raw):
        header, end, body = sent.partition(b"\r\n\r\n")
        without = re.sub(rb"(\r\n[ \t]+)+(?=\r\n[^ \t]|\Z)", b"", header) + end + body
        result = judge(sent, raw)
        if not result and without != sent and judge(without, raw):
            return f"{judge(without, raw)} but a blank fold that Exim leaves out"
        return result

    return judged


def same_when_submitted(sent, raw):
    """Octet for octet without Bcc, or mended as docs/messages.md says: fields that may be added,
    replaced or joined aside, each field is there, and the body is equal when decoded."""
    header, end, body = sent.partition(b"\r\n\r\n")
    (above, names), (arrived, arrived_names) = named(header), named(raw.partition(end)[0])
    kept = b"\r\n".join(line for line, name in zip(above, names) if name not in BLIND) + end + body
    if trace_of(raw, kept, MENDED) is not None:
        return "octet for octet, mended as a submission"
    whole = {unfolded(line) for line in arrived}
    is_there = all(unfolded(line) in whole for line, name in zip(above, names)
                   if name.decode(errors="replace") not in MENDED and name not in BLIND)
    is_same = raw.endswith(end + body) or are_equal(
        email.message_from_bytes(sent), email.message_from_bytes(raw),
        aside=MENDED - {"content-type"} | {name.decode() for name in BLIND})
    is_ours = set(arrived_names) <= {*names, *(name.encode() for name in TRACE_FIELDS | MENDED)}
    return "mended as a submission" if is_there and is_same and is_ours else None


def named(header):
    """The fields of a header as they are, and their names in lower case."""
    lines = re.split(rb"\r\n(?![ \t])", header)
    return lines, [line.split(b":")[0].strip().lower() for line in lines]


def unfolded(line):
    return re.sub(rb"\r\n[ \t]+", b" ", line).strip()


def fields(mail):
    """The fields of the header that OpenSMTPD leaves alone, and the body."""
    header, _, body = mail.partition(b"\r\n\r\n")
    found = re.split(rb"\r\n(?![ \t])", header)
    return [f for f in found if f.split(b":")[0].strip().lower() not in OPENSMTPD_REWRITES], body


def same_in_seven_bits(sent, raw):
    """Octet for octet if it can be, or where a signature would break; otherwise in seven bits, and
    equal when decoded."""
    if sent.isascii():
        return same(sent, raw)
    header = sent.partition(b"\r\n\r\n")[0]
    if re.search(rb"(?im)^(dkim-signature|arc-message-signature)[ \t]*:", header) and same(sent, raw):
        return "octet for octet, as it is signed"
    if raw.isascii() and are_equal(email.message_from_bytes(sent), email.message_from_bytes(raw)):
        return "equal when decoded"
    return None


def are_equal(sent, arrived, aside=frozenset()):
    """Whether two parts say the same, whatever their transfer encodings, and the fields `aside`."""
    skipped = TRACE_FIELDS | {"content-transfer-encoding", "mime-version"} | aside
    # RFC 1428: what says nothing of its type is text in an unknown character set.
    if "content-type" not in sent:
        skipped |= {"content-type"}
    heads = [
        [(name.lower(), str(value)) for name, value in part.items() if name.lower() not in skipped]
        for part in (sent, arrived)
    ]
    if heads[0] != heads[1] or sent.is_multipart() != arrived.is_multipart():
        return False
    if not sent.is_multipart():
        return sent.get_payload(decode=True) == arrived.get_payload(decode=True)
    around = (sent.preamble, sent.epilogue) == (arrived.preamble, arrived.epilogue)
    inner = list(zip(sent.get_payload(), arrived.get_payload()))
    is_complete = len(inner) == len(sent.get_payload()) == len(arrived.get_payload())
    return around and is_complete and all(are_equal(*pair) for pair in inner)
