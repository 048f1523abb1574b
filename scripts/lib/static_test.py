"""A static relay takes a mail in a root in which there is nothing but the binary.

usage: static_test.py BINARY
"""

import os
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import time

PATIENCE = 60


def main():
    if os.geteuid() != 0:
        print("static: skipped: only root can change the root")
        return
    with tempfile.TemporaryDirectory(prefix="merpati-root-") as root:
        os.chmod(root, 0o755)
        shutil.copy(sys.argv[1], os.path.join(root, "merpati"))
        os.mkdir(os.path.join(root, "data"))
        os.chown(os.path.join(root, "data"), 65532, 65532)
        inside = ["chroot", "--userspec=65532:65532", root, "/merpati"]
        environment = {"MERPATI_DATA": "/data", "PATH": os.environ["PATH"],
                       "MERPATI_LISTENER__SANDBOX__LISTEN": "127.0.0.1:0", "MERPATI_SERVER__HTTP_LISTEN": "",
                       "MERPATI_SPOOL__DISK_FREE_MIN": "1 MiB", "MERPATI_LISTENER__SANDBOX__TLS": "starttls"}
        relay = subprocess.Popen([*inside, "serve"], env=environment, stdout=subprocess.DEVNULL)
        try:
            listening = os.path.join(root, "data", "listening")
            end = time.monotonic() + PATIENCE
            while not os.path.exists(listening):
                assert relay.poll() is None and time.monotonic() < end, "the relay does not start"
                time.sleep(0.02)
            with open(listening) as lines:
                host, port = dict(line.split() for line in lines)["sandbox"].rsplit(":", 1)
            with smtplib.SMTP(host, int(port), timeout=PATIENCE) as client:
                client.starttls()
                client.sendmail("a@a.example", "ani@b.example", "Subject: static\r\n\r\nx\r\n")
            shown = subprocess.run([*inside, "sandbox", "ls"], env=environment, stdout=subprocess.PIPE, text=True,
                                   check=True).stdout
            assert "ani@b.example" in shown, shown
            relay.send_signal(signal.SIGTERM)
            assert relay.wait(PATIENCE) == 0, "the relay does not end well"
        finally:
            if relay.poll() is None:
                relay.kill()
                relay.wait()
        held = sorted(os.listdir(root))
        assert held == ["data", "merpati"], held
    print("static: it took a mail over TLS, alone in its root, as a user without a name")


if __name__ == "__main__":
    main()
