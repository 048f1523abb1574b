#!/usr/bin/env bash
# Builds a Debian package, with plain dpkg-deb. The last line names it.
# usage: scripts/package.sh [--version VERSION] [--binary PATH] [--into DIR]
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
want dpkg -- has dpkg-deb
want binutils -- has objdump
install_missing package

target=${CARGO_TARGET_DIR:-$PWD/target}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
binary=${MERPATI:-}
into=$target/debian
while [ $# -gt 0 ]; do
    case $1 in
        --version) version=$2 ;;
        --binary) binary=$2 ;;
        --into) into=$2 ;;
        *)
            sed -n '3s/^# //p' "$0" >&2
            exit 2
            ;;
    esac
    shift 2
done
if [ -z "$binary" ]; then
    cargo build --quiet --release -p merpati-relay --bin merpati
    binary=$target/release/merpati
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
# put MODE FILE PLACE
put() { install -D -m "$1" "$2" "$root/$3"; }

put 0755 "$binary" usr/bin/merpati
strip --strip-unneeded --remove-section=.comment "$root/usr/bin/merpati"
put 0644 contrib/systemd/merpati.service usr/lib/systemd/system/merpati.service
put 0644 contrib/debian/merpati.toml etc/merpati/merpati.toml
put 0644 contrib/systemd/merpati.socket usr/share/doc/merpati/examples/merpati.socket
for file in examples/*.toml; do
    put 0644 "$file" "usr/share/doc/merpati/examples/$(basename "$file")"
done
for file in docs/*.md docs/reference/*; do
    put 0644 "$file" "usr/share/doc/merpati/${file#docs/}"
done
put 0644 contrib/debian/copyright usr/share/doc/merpati/copyright
put 0644 LICENSE-MIT usr/share/doc/merpati/LICENSE-MIT
gzip -9n <CHANGELOG.md >"$root/usr/share/doc/merpati/changelog.gz"

# What the program says of itself, where it can.
has_command() { "$binary" "$1" --help >/dev/null 2>&1; }
if has_command man; then
    mkdir -p "$root/usr/share/man/man1"
    "$binary" man "$root/usr/share/man/man1" >/dev/null
    gzip -9n "$root"/usr/share/man/man1/*.1
fi
if has_command completions; then
    # complete SHELL PLACE
    complete() {
        mkdir -p "$root/$(dirname "$2")"
        "$binary" completions "$1" >"$root/$2"
    }
    complete bash usr/share/bash-completion/completions/merpati
    complete zsh usr/share/zsh/vendor-completions/_merpati
    complete fish usr/share/fish/vendor_completions.d/merpati.fish
fi

# The newest symbols of the C library that the program uses say which one it needs; a static one needs none.
depends=adduser
glibc=$(objdump -T "$binary" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1 | cut -d_ -f2)
if [ -n "$glibc" ]; then
    depends="adduser, libc6 (>= $glibc), libgcc-s1"
fi
mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<EOF
Package: merpati
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: Merpati <root@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $depends
Recommends: ca-certificates
Suggests: swaks
Section: mail
Priority: optional
Description: SMTP relay, and a sandbox that captures mail
 Merpati takes mail by SMTP, keeps it durably and delivers it: by the hosts
 that DNS names, by smart hosts, or by LMTP. Nothing that it acknowledged is
 lost. Everything waits in one queue that can be looked at.
 .
 As it is installed it captures the mail that is sent to 127.0.0.1:1025 and
 lets nothing out; /etc/merpati/merpati.toml says how to change that.
 .
 It is no mail-transport-agent in the sense of Debian: there is no sendmail
 command, so it can stand beside the one that is there.
EOF
echo /etc/merpati/merpati.toml >"$root/DEBIAN/conffiles"
for file in postinst prerm postrm; do
    put 0755 "contrib/debian/$file" "DEBIAN/$file"
done
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

mkdir -p "$into"
package=$into/merpati_${version}_$(dpkg --print-architecture).deb
# The same files make the same package.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
