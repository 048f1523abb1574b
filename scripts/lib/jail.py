"""Copies of a peer's root folder with files, devices and users of their own.

A server of Debian insists on paths and on users. In a copy of its root it gets both, the machine
keeps its own, and several servers of one kind run side by side. All of it goes with the folder.
"""

import os
import pathlib
import shutil
import stat
import subprocess

MAIL_USER = "vmail"
MAIL_ID = 5_000
DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}


class Jail:
    """One copy of `root` in `folder`; `users` are the system users that the server insists on."""

    def __init__(self, root, folder, users=()):
        self.folder = pathlib.Path(folder)
        # cp keeps links, owners and the bits that change the user.
        subprocess.run(["cp", "-a", "--reflink=auto", root, self.folder], check=True, timeout=120)
        self.folder.chmod(0o755)
        self._ids = {"root": 0, MAIL_USER: MAIL_ID}
        self._ids.update({name: MAIL_ID + 1 + at for at, name in enumerate(users)})
        self._users()
        self._devices()
        self.make("tmp", mode=0o1777)

    def path(self, inside):
        return self.folder / str(inside).lstrip("/")

    def make(self, inside, owner="root", mode=0o755):
        """A folder with all that are above it."""
        made = self.path(inside)
        made.mkdir(parents=True, exist_ok=True)
        made.chmod(mode)
        self.own(made, owner)
        return made

    def write(self, inside, text, owner="root", mode=0o644):
        written = self.path(inside)
        if not written.parent.exists():
            self.make(written.parent.relative_to(self.folder))
        written.write_text(text)
        written.chmod(mode)
        self.own(written, owner)

    def copy(self, source, inside, owner="root", mode=0o644):
        self.write(inside, pathlib.Path(source).read_text(), owner, mode)

    def own(self, path, owner):
        os.chown(path, self._ids[owner], self._ids[owner])

    def command(self, *words):
        return ["chroot", str(self.folder), *map(str, words)]

    def _users(self):
        lines = [f"{name}:x:{number}:{number}::/:/bin/sh" for name, number in self._ids.items()]
        self.write("etc/passwd", "\n".join(lines) + "\n")
        # No password is good for any of them.
        shadow = [f"{name}:*:1:0:99999:7:::" for name in self._ids]
        self.write("etc/shadow", "\n".join(shadow) + "\n", mode=0o600)
        groups = [f"{name}:x:{number}:" for name, number in self._ids.items()]
        self.write("etc/group", "\n".join(groups + ["mail:x:8:"]) + "\n")
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.write("etc/hosts", "127.0.0.1 localhost\n")
        # `lookup` is for OpenSMTPD, which has a resolver of its own: nobody asks the real DNS.
        self.write("etc/resolv.conf", "lookup file\nnameserver 127.0.0.1\n")

    def _devices(self):
        folder = self.make("dev")
        for name, (major, minor) in DEVICES.items():
            device = folder / name
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
            device.chmod(0o666)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
