"""What is under way through Merpati, and what became of the rest: every mail is accounted for.

Each delivery has a recipient of its own, so that whatever arrives, or is reported, is known by it.
"""

import collections
import contextlib
import email
import hashlib
import re
import threading
import time

from interop_mails import same
from peers import recipient_of

# Deliveries that are taken and not there yet; more than that wait at the door.
IN_FLIGHT = 600
# How long it may be that nothing comes, in seconds.
PATIENCE = 60
# Why a mail may stay behind, and with whose words it is said. Anything else is a failure.
NAMED = (
    # Our own refusals at the end of the content.
    (None, r"\(rule [a-z-]+\)"),
    # What authors must mend themselves: docs/messages.md.
    (None, r"550 5\.6\.0 the header field [A-Za-z-]+ [a-z ]+"),
    (None, r"550 5\.6\.0 a line of the header field [A-Za-z-]+ is too long and cannot be folded"),
    (None, r"550 5\.6\.0 a line of the header is no header field"),
    (None, r"550 5\.6\.0 several authors in From need a Sender"),
    (None, r"in From hides another address"),
    ("opensmtpd", r"Line too long"),
    # `mail::NotConvertible`.
    ("sevenbit", r"a multipart has no boundary, or one that readers disagree on"),
    ("sevenbit", r"a part of type message holds 8-bit octets and must not be encoded"),
    ("sevenbit", r"a Content-Type cannot be read, or there are two"),
    ("sevenbit", r"parts are nested too deeply"),
    ("sevenbit", r"a header field holds 8-bit octets"),
    ("sevenbit", r"a Content-Transfer-Encoding does not fit its part"),
    ("sevenbit", r"a header does not end with an empty line"),
    ("sevenbit", r"a multipart does not end"),
    ("sevenbit", r"8-bit octets stand outside of the parts of a multipart"),
    ("sevenbit", r"8-bit octets are signed or encrypted"),
)


class Way:
    """To one mailbox: the address of each mail there, and whether it is as it was sent."""

    def __init__(self, name, domain, box="corpus", judge=same):
        self.name, self.domain, self.box, self.judge = name, domain, box, judge

    def recipient(self, key):
        return f"{self.box}+{key}@{self.domain}"


class Ledger:
    """The accounts. `Reports` are those for the mailbox `sender`."""

    def __init__(self):
        self.lock = threading.Condition()
        self.waiting = {}
        self.results = collections.Counter()
        self.wrong = []
        self.reports = {}

    def expect(self, recipient, way, mail):
        """Waits until there is room."""
        with self.lock:
            has_room = lambda: len(self.waiting) < IN_FLIGHT  # noqa: E731
            if not self.lock.wait_for(has_room, PATIENCE):
                raise RuntimeError(f"nothing arrived in {PATIENCE} s")
            self.waiting[recipient] = (way, mail)

    def settle(self, recipient, result):
        """`result`: of the way and the content: what is to be counted, or None and why not."""
        with self.lock:
            known = self.waiting.get(recipient)
        if not known:
            self.wrong.append(f"{recipient}: came twice, or was never sent")
            return
        text, why = result(*known)
        with self.lock:
            # Only now: who waits for the last one wants to know of it as well.
            del self.waiting[recipient]
            if text:
                self.results[known[0].name, text] += 1
            else:
                self.wrong.append(f"{recipient}: {why}")
            self.lock.notify_all()

    def arrived(self, raw):
        recipient = recipient_of(raw) or "nobody"
        if not recipient.startswith("sender"):
            self.settle(recipient, lambda way, mail: judged(way, mail, raw))
            return
        for about, words in diagnostics(email.message_from_bytes(raw)):
            with self.lock:
                self.reports[about] = (words, raw)
                self.lock.notify_all()
                is_expected = about in self.waiting
            if is_expected:
                self.settle(about, lambda way, _, words=words: named(way, "returned", words))

    def refused(self, recipient, reply):
        words = f"{reply[0]} {reply[1].decode(errors='replace')}"
        self.settle(recipient, lambda way, _: named(way, "refused", words))

    def report(self, recipient):
        """The words of the report on this recipient, and the report; waits for it."""
        with self.lock:
            if not self.lock.wait_for(lambda: recipient in self.reports, PATIENCE):
                raise RuntimeError(f"{recipient}: no report in {PATIENCE} s")
            return self.reports[recipient]

    def wait(self):
        """Until nothing is under way, or nothing comes any more."""
        with self.lock:
            left = None
            while self.waiting and len(self.waiting) != left:
                left = len(self.waiting)
                self.lock.wait_for(lambda: not self.waiting, PATIENCE)
            if self.waiting:
                self.wrong += [f"{one}: never arrived" for one in sorted(self.waiting)]
                self.waiting.clear()

    def balance(self):
        """Once nothing is under way: what became of what, and none of it wrong."""
        self.wait()
        with self.lock:
            results, self.results = self.results, collections.Counter()
            wrong, self.wrong = self.wrong, []
        if wrong:
            shown = "\n".join(wrong[:10])
            raise RuntimeError(f"{len(wrong)} are wrong:\n{shown}")
        return results


def judged(way, mail, raw):
    """What the way says of what arrived."""
    text = way.judge(mail, raw)
    return text, None if text else f"changed:\n{mail[:2000]!r}\n{raw[:3000]!r}"


def named(way, what, words):
    """The reason without what differs from mail to mail, if it is one that may be."""
    for name, pattern in NAMED:
        found = re.search(pattern, words)
        if found and name in (None, way.name):
            return f"{what}: {found.group(0)}", None
    return None, f"{what}: {words}"


def diagnostics(report):
    """Each recipient of a report, with the words about it (RFC 3464 §2.3)."""
    if report.get_content_type() != "multipart/report":
        raise RuntimeError(f"no report: {report.get_content_type()}")
    spoken = report.get_payload(0).get_payload(decode=True).decode()
    status = [part for part in report.walk() if part.get_content_type() == "message/delivery-status"]
    for about in status[0].get_payload()[1:]:
        said = about["Diagnostic-Code"] or " ".join(spoken.split())
        yield about["Final-Recipient"].split("; ")[1], f"{about['Status']} {' '.join(said.split())}"


class Inbox:
    """A mailbox of Dovecot over IMAP, from its first mail on."""

    def __init__(self, client):
        self.client, self.next = client, 1
        # Of each mail: POP3 has to give the same ones.
        self.digests = collections.Counter()

    def take(self):
        count = int(self.client.select("INBOX", readonly=True)[1][0])
        while self.next <= count:
            last = min(count, self.next + 99)
            _, found = self.client.fetch(f"{self.next}:{last}", "(BODY.PEEK[])")
            self.next = last + 1
            for part in found:
                if isinstance(part, tuple):
                    self.digests[hashlib.sha256(part[1]).digest()] += 1
                    yield part[1]


class Postman:
    """A thread that empties all mailboxes into the ledger."""

    def __init__(self, net, ledger):
        self.ledger, self.stack = ledger, contextlib.ExitStack()
        self.inboxes = {
            user: Inbox(self.stack.enter_context(net.dovecot.box(user)))
            for user in ("sender", "tcp", "unix")
        }
        self.boxes = [*(peer.maildir for peer in net.peers.values()), *self.inboxes.values()]
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.is_over.is_set():
            before = time.monotonic()
            for box in self.boxes:
                for raw in box.take():
                    try:
                        self.ledger.arrived(raw)
                    except Exception as why:  # It is this mail's, and the next one is looked at.
                        self.ledger.wrong.append(f"{type(why).__name__} {why}: {raw[:2000]!r}")
            self.is_over.wait(max(0, before + 0.05 - time.monotonic()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join(60)
        self.stack.close()
