"""A host with policies of MTA-STS over HTTPS, in order or not (RFC 8461 §3.3).

    host = PolicyHost("127.28.0.9", context, {"mta-sts.a.example": answer(policy("enforce", "mx.*"))})
    host.asked        names and paths, as they were asked for

`answer` is what goes over the wire for a name, as octets; a function of the connection does it all.
"""

import ssl

from conformance_peers import Listening

PORT = 443
PATH = "/.well-known/mta-sts.txt"
REQUEST_OCTETS_MAX = 65_536


def policy(mode, *patterns, age="86400", end="\r\n", version="STSv1"):
    """The text of a policy. `age`, `version`: None leaves the field out."""
    lines = [f"version: {version}"] if version else []
    lines += [f"mode: {mode}", *(f"mx: {pattern}" for pattern in patterns)]
    lines += [f"max_age: {age}"] if age is not None else []
    return "".join(line + end for line in lines).encode()


def answer(body=b"", status="200 OK", kind="text/plain", more=""):
    """The octets of an HTTP answer."""
    kind = f"Content-Type: {kind}\r\n" if kind else ""
    return (f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(body)}\r\n{more}"
            "Connection: close\r\n\r\n").encode() + body


class PolicyHost(Listening):
    """`answers`: what is said to who asks for a policy in this name; 404 to all others."""

    def __init__(self, address, context, answers, port=PORT):
        self.context, self.answers, self.asked = context, answers, []
        self.listen(address, port)

    def serve(self, connection):
        connection.settimeout(30)
        try:
            with self.context.wrap_socket(connection, server_side=True) as stream:
                self.talk(stream)
        except (OSError, ssl.SSLError):
            pass

    def talk(self, stream):
        request = b""
        while b"\r\n\r\n" not in request and len(request) < REQUEST_OCTETS_MAX:
            piece = stream.recv(4_096)
            if not piece:
                return
            request += piece
        first, *fields = request.decode("latin-1").split("\r\n")
        named = [line.split(":", 1)[1].strip() for line in fields
                 if line.lower().startswith("host:")]
        name, path = named[0].split(":")[0].lower() if named else "", first.split(" ")[1]
        self.asked.append((name, path))
        said = self.answers.get(name) if path == PATH else None
        if callable(said):
            said(stream)
        else:
            stream.sendall(said or answer(b"nothing", "404 Not Found"))
