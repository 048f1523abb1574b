"""Who signed and who verified: we, dkimpy, OpenDKIM and rspamd, each with each, on shapes and on mails
of the corpora; and the signatures that mails of the corpora bear, by us and by dkimpy.

What does not hold needs a reason in EXPLAINED; what has none fails.
"""

import collections
import contextlib
import functools
import re

import interop_pypi  # noqa: F401
import dkim

from interop_authentication import AUTHOR, SHAPES, Refused, Trial, results
from interop_mails import corpus
from interop_signers import Dkimpy, Keys, OpenDkim, Rspamd, said_of

MAILS = 300
OURS, STRANGER = "127.0.0.1", "127.0.0.2"
FIELD = re.compile(rb"\r\n(?![ \t])")
# What a message has once (RFC 5322 §3.6) and rspamd looks at.
ONCE = {b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"subject", b"date", b"message-id",
        b"in-reply-to", b"references"}


# A line that rspamd cuts, after each 1,023 octets in relaxed form, behind the first of several blanks
# or of those at its end.
AT_BORDER = re.compile(rb"(?:(?:[^ \t]|[ \t]++){1023})*(?:[^ \t]|[ \t]++){1022}[ \t](?:[ \t]|\Z)")


class Ourselves:
    """The relay: it signs what comes from its network, and checks what strangers send."""

    name = "Merpati"

    def __init__(self, trial):
        self.trial = trial
        self.selectors = trial.selectors

    def sign(self, content):
        return self.trial.through(content, OURS)

    def verify(self, content, selectors):
        said = results(self.trial.through(content, STRANGER))
        return said_of([str(said).partition(": ")[2]], selectors)


def fields_of(content):
    """Names, in lower case, and values of the header."""
    header = content.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n")
    split = (field.partition(b":") for field in FIELD.split(header))
    return [(name.strip().lower(), value) for name, _, value in split]


def tags_of(value):
    """The tags of a signature, without blanks."""
    pairs = (tag.partition(b"=") for tag in re.sub(rb"\s", b"", value).split(b";"))
    return {name: text for name, _, text in pairs}


def signatures_of(content):
    """The tags of each."""
    return [tags_of(value) for name, value in fields_of(content) if name == b"dkim-signature"]


def is_unreadable(tags):
    """A signature of a draft of RFC 6376, or one whose numbers are none."""
    return not {b"v", b"a", b"b", b"bh", b"d", b"h", b"s"} <= set(tags) or not all(
        tags.get(name, b"1").isdigit() for name in (b"t", b"x", b"l"))


def has_unreadable_signature(signed, *_):
    return any(map(is_unreadable, signatures_of(signed)))


@functools.lru_cache(1)
def said_before_fold(signed, verifier):
    """What it says of a mail with the fields of OpenDKIM as they were before it folded them."""
    before = signed.replace(b";\r\n\tb=", b"; b=")
    selectors = [tags.get(b"s", b"").decode() for tags in signatures_of(signed)]
    return verifier.verify(before, selectors)


def is_refolded(signed, selector, verifier):
    return said_before_fold(signed, verifier).get(selector) == "pass"


def has_vt_or_ff(signed, *_):
    return re.search(rb"[\x0b\x0c]", body_of(signed))


def has_only_blanks(signed, *_):
    return re.fullmatch(rb"[ \t\r\n]*[ \t][ \t\r\n]*", body_of(signed))


def has_blanks_at_border(signed, *_):
    return any(map(AT_BORDER.match, body_of(signed).split(b"\r\n")))


def has_one_twice(signed, *_):
    counts = collections.Counter(name for name, _ in fields_of(signed))
    return any(counts[name] > 1 for name in ONCE)


def body_of(content):
    return content.partition(b"\r\n\r\n")[2]


RELAXED = "relaxed-(rsa|ed)$|^m[0-9]|^rspamd"
# Reasons: whose doing, as the signer alone or as the verifier too, for which selectors, and what
# else must be so.
EXPLAINED = {
    "OpenDKIM folds its field before b= when it has signed it (simple: RFC 6376 §3.4.1)": (
        "OpenDKIM", "signer", "-simple-(simple|relaxed)-ed$", is_refolded),
    "OpenDKIM looks at no signature where one cannot be read (RFC 6376 §6.1: at the next)": (
        "OpenDKIM", "both", "", has_unreadable_signature),
    "rspamd takes VT and FF for blanks (relaxed body: RFC 6376 §2.8 names SP and HTAB)": (
        "rspamd", "both", RELAXED, has_vt_or_ff),
    "rspamd keeps blanks at the end of each 1,023 octets (relaxed body: RFC 6376 §3.4.4)": (
        "rspamd", "both", RELAXED, has_blanks_at_border),
    "rspamd keeps an empty line of a body of blanks (relaxed body: RFC 6376 §3.4.4)": (
        "rspamd", "both", RELAXED, has_only_blanks),
    "rspamd believes nobody where a field stands twice that may not (RFC 6376 §8.15)": (
        "rspamd", "both", "", has_one_twice),
}


def reason_for(signer, verifier, selector, signed):
    for reason, (culprit, role, selectors, holds) in EXPLAINED.items():
        is_culprit = culprit == signer.name or (culprit == verifier.name and role == "both")
        if is_culprit and re.search(selectors, selector) and holds(signed, selector, verifier):
            return reason
    return None


def as_ours(content):
    """A mail of the corpora with our author in place of its own."""
    header, _, body = content.partition(b"\r\n\r\n")
    fields = [field for field in FIELD.split(header.removesuffix(b"\r\n"))
              if field.partition(b":")[0].strip().lower() != b"from"]
    return AUTHOR + b"\r\n".join(fields) + b"\r\n\r\n" + body


def mails():
    """Names and contents; all have the empty line before the body, which not all signers add."""
    for name, content in SHAPES.items():
        yield name, content if b"\r\n\r\n" in content else content + b"\r\n"
    found = corpus(MAILS)
    if found is None:
        print("        skipped: the corpora are not here")
    for name, content in found or ():
        # No relay may pass these on (docs/messages.md).
        if b"\0" not in content and not re.search(rb"\r(?!\n)", content):
            yield f"of the corpora, {name}", as_ours(content)


def each_with_each(parties, mails):
    """Each party signs each mail, and each says what it finds."""
    table, reasons, unexplained, count = {}, collections.Counter(), [], 0
    for name, content in mails:
        count += 1
        for signer in parties:
            signed = signer.sign(content)
            for verifier in parties:
                cell = table.setdefault((signer.name, verifier.name), [0, 0])
                for selector, said in verifier.verify(signed, signer.selectors).items():
                    cell[1] += 1
                    if said == "pass":
                        cell[0] += 1
                        continue
                    reason = reason_for(signer, verifier, selector, signed)
                    if reason:
                        reasons[reason, signer.name, verifier.name] += 1
                    else:
                        unexplained.append(f"{name}: {signer.name} {selector}: {verifier.name}: {said}")
    print(f"        {count} mails; who signed × who verified, signatures that hold of all")
    names = [party.name for party in parties]
    print(f"        | | {' | '.join(names)} |")
    for signer in names:
        cells = ("{:,} of {:,}".format(*table[signer, verifier]) for verifier in names)
        print(f"        | {signer} | {' | '.join(cells)} |")
    for (reason, signer, verifier), number in sorted(reasons.items()):
        print(f"        {signer} × {verifier}: {number:,}: {reason}")
    if unexplained:
        raise RuntimeError(f"{len(unexplained)} without a reason:\n" + "\n".join(unexplained[:50]))


def changed(parties):
    """What was changed holds with nobody: the body, or a field that was signed."""
    content = SHAPES["plain"]
    for signer in parties:
        signed = signer.sign(content)
        forged = {
            "body": signed + b"more\r\n",
            "author": signed.replace(b"From: Joe", b"From: Jim"),
            "subject": signed.replace(b"Subject: x", b"Subject: y"),
        }
        for what, mail in forged.items():
            if mail == signed:
                raise RuntimeError(f"{signer.name}: the {what} was not changed")
            for verifier in parties:
                said = verifier.verify(mail, signer.selectors)
                if "pass" in said.values():
                    raise RuntimeError(f"{signer.name}, {what}: {verifier.name} says {said}")
    print(f"        {len(parties)} signers and verifiers, {len(forged)} changes")


# What our `reason=` tells of the body; other reasons come before it is looked at.
BODY_DIFFERS = "the body was changed"
BODY_FITS = {"the signature does not fit the header", "the body is shorter than what was signed",
             "octets were added to the body behind those that were signed"}
SHA_1 = "SHA-1 proves nothing any more"


def with_tags(content, change):
    """The message with the tags of each signature as `change(index, name, text)` has them; None
    leaves a tag out."""
    header, end, body = content.partition(b"\r\n\r\n")
    kept, index = [], 0
    for field in FIELD.split(header):
        name, colon, value = field.partition(b":")
        if name.strip().lower() == b"dkim-signature":
            tags = []
            for tag in value.split(b";"):
                key, equals, text = tag.partition(b"=")
                changed = change(index, key.strip(), text)
                if changed is not None:
                    tags.append(key + equals + changed)
            value, index = b";".join(tags), index + 1
        kept.append(name + colon + value)
    return b"\r\n".join(kept) + end + body


def timeless(_, tag, text):
    """`t=` and `x=` say nothing of the body, and an expired signature is not looked at."""
    return None if tag in (b"t", b"x") else text


def in_sha_256(_, tag, text):
    return text.replace(b"sha1", b"sha256") if tag == b"a" else text


class Bodies:
    """What we and dkimpy say of `bh=`. The keys are lost: with another one, what does not hold is
    the body or else the signature."""

    def __init__(self, trial, keys):
        self.trial, self.keys = trial, keys
        self.counts, self.refused = collections.Counter(), collections.Counter()
        self.unlike = []

    def record(self, tags):
        return self.keys.record("ed" if tags.get(b"a") == b"ed25519-sha256" else "rsa")

    def by_dkimpy(self, content):
        """Of each signature: "equal", the hash where it differs, or in words why it does not say."""
        found = []
        for index, tags in enumerate(signatures_of(content)):
            record = self.record(tags).encode()
            try:
                dkim.DKIM(content).verify(index, lambda *_, **__: record)
                found.append("equal")
            except dkim.DKIMException as why:
                differs = re.match(r"body hash mismatch \(got b'([^']*)'", str(why))
                found.append(differs.group(1).encode() if differs else str(why).partition(" (")[0])
        return found

    def by_us(self, content):
        """Of each signature: "equal", "different", or why we do not say; None for a mail that we do
        not take."""
        signatures = signatures_of(content)
        for tags in signatures:
            place = b"._domainkey.".join([tags.get(b"s", b""), tags.get(b"d", b"")]).decode()
            self.trial.dns.clear(place)
            self.trial.dns.add(f"{place} TXT {self.record(tags)}")
        try:
            said = results(self.trial.through(content, STRANGER)).results
        except Refused as why:
            self.refused[str(why).partition(": b")[0]] += 1
            return None
        ours = [one for one in said if one.method == "dkim"]
        if len(ours) != len(signatures):
            raise RuntimeError(f"{len(signatures)} signatures, and we say {ours}: {content[:3000]}")
        for one, tags in zip(ours, signatures):
            start = next((it.value for it in one.properties if it.name == "b"), "")
            if not tags.get(b"b", b"").startswith(start.encode()):
                raise RuntimeError(f"{start} is not of {tags}")
        return [self.body(one) for one in ours]

    @staticmethod
    def body(one):
        if one.result == "pass" or one.reason in BODY_FITS:
            return "equal"
        return "different" if one.reason == BODY_DIFFERS else one.reason

    def compare(self, name, content):
        """Counts what both say. Of SHA-1 we say nothing, and words are alike whatever they are."""
        theirs = ["different" if isinstance(one, bytes) else one for one in self.by_dkimpy(content)]
        for index, pair in enumerate(zip(self.by_us(content) or (), theirs)):
            self.counts[pair] += 1
            if pair[0] != pair[1] and pair[0] != SHA_1 and set(pair) & {"equal", "different"}:
                self.unlike.append(f"{name}, {index}: {pair}")


def of_corpora(trial, keys):
    """The body of each signed mail of the corpora against `bh=`, as we see it and as dkimpy does: as
    it is; and, for many were changed when they were collected, with the hash that dkimpy has."""
    found = corpus()
    if found is None:
        print("        skipped: the corpora are not here")
        return
    plain, again, count = Bodies(trial, keys), Bodies(trial, keys), 0
    for name, content in found:
        if not signatures_of(content):
            continue
        count += 1
        content = with_tags(content, timeless)
        plain.compare(name, content)
        content = with_tags(content, in_sha_256)
        hashes = again.by_dkimpy(content)

        def with_hash(index, tag, text):
            is_other = tag == b"bh" and isinstance(hashes[index], bytes)
            return hashes[index] if is_other else text

        again.compare(name, with_tags(content, with_hash))
    print(f"        {count:,} mails; of bh= we say, dkimpy says")
    for what, bodies in (("as it is", plain), ("as dkimpy has it, SHA-256", again)):
        print(f"        bh= {what}: {sum(bodies.counts.values()):,} signatures")
        for pair, number in bodies.counts.most_common():
            print(f"        {number:,}: {' × '.join(pair)}")
        for why, number in bodies.refused.items():
            print(f"        {number:,} mails not taken: {why}")
    unlike = plain.unlike + again.unlike
    if unlike:
        raise RuntimeError(f"{len(unlike)} disagreements:\n" + "\n".join(unlike[:50]))
    # That one must fit, whatever came of the hash when the mail was collected.
    if again.counts["different", "different"] or not again.counts["equal", "equal"]:
        raise RuntimeError("not even dkimpy takes the hash of dkimpy")


def signed(score, binary, folder):
    """Called by interop.py."""
    folder.mkdir()
    keys = Keys(folder / "keys")
    with contextlib.ExitStack() as stack:
        trial = stack.enter_context(Trial(binary, folder / "relay"))
        parties = [
            Ourselves(trial),
            Dkimpy(keys, trial.dns, trial.answer),
            OpenDkim(folder / "opendkim", keys, trial.dns, stack),
            stack.enter_context(Rspamd(folder / "rspamd", keys, trial.dns)),
        ]
        score.case("dkimpy, OpenDKIM, rspamd and we: what was changed", lambda: changed(parties))
        score.case("dkimpy, OpenDKIM, rspamd and we: each with each",
                   lambda: each_with_each(parties, mails()))
    # One that has not asked for these keys before they were there.
    with Trial(binary, folder / "corpora") as trial:
        score.case("dkimpy: bodies of signed mails", lambda: of_corpora(trial, keys))
