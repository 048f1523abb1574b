//! Whose rights the process has, and how it gives up those of root.
//!
//! Invariant: rights are given up before there is a second thread, for the kernel keeps them by
//! thread; then never again gained, by no program either. Accounts are those of `/etc/passwd` and
//! `/etc/group`: a library that asks other sources cannot be linked into a static binary. Not pure.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::Path,
};

use anyhow::{Context, ensure};
use rustix::{
    fs::Access,
    process::{Gid, Uid, geteuid},
    thread::{
        set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid, set_thread_uid,
    },
};

use crate::config::Config;

/// In whose name the relay works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    name: String,
    uid: u32,
    gid: u32,
    /// The groups that the account is in besides.
    groups: Vec<u32>,
}

/// The account of `server.user`; `None` where it is not set, and errs where there is none.
pub(super) fn account(config: &Config) -> anyhow::Result<Option<Account>> {
    let Some(user) = &config.server.user else { return Ok(None) };
    let read = |path: &str| fs::read(path).with_context(|| format!("cannot read {path}"));
    let passwd = String::from_utf8_lossy(&read(PASSWD)?).into_owned();
    let groups = String::from_utf8_lossy(&read(GROUP)?).into_owned();
    let found = find(user, config.server.group.as_deref(), &passwd, &groups);
    found.map(Some).map_err(|wrong| {
        let (key, why) = match wrong {
            Unknown::Group(name) => {
                ("server.group", format!("there is no group `{name}` in {GROUP}"))
            }
            Unknown::User(name) => {
                ("server.user", format!("there is no user `{name}` in {PASSWD}"))
            }
        };
        let help = "make it: `adduser --system --group --no-create-home NAME`; accounts of LDAP \
                    and the like are not looked for";
        anyhow::anyhow!("{}", config.wrong_at(key, why, help).first())
    })
}

/// Makes the data directory where it is missing, for the account of the relay: before its first
/// start, too.
pub(crate) fn make_data_dir(config: &Config) -> anyhow::Result<()> {
    let directory = &config.server.data_dir;
    match account(config)? {
        Some(account) if geteuid().is_root() => make_ours(directory, &account),
        Some(_) | None => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot make {}", directory.display())),
    }
}

/// Gives up the rights of root for those of the account, where there is one, and in any case the
/// way to get more.
pub(super) fn give_up(config: &Config, account: Option<&Account>) -> anyhow::Result<()> {
    if let Some(account) = account {
        let own = geteuid().as_raw();
        if own == 0 && account.uid != 0 {
            make_ours(&config.server.data_dir, account)?;
            become_account(account)
                .with_context(|| format!("cannot work as the user {}", account.name))?;
        } else if own != account.uid {
            let why = format!("server.user is `{}`, and this is the user {own}", account.name);
            let help = "start it as root, or leave `user` away, as with User= of systemd";
            anyhow::bail!("{}", config.wrong_at("server.user", why, help).first());
        }
        may_write(config, account)?;
    }
    // No program that we might ever start has more rights than we.
    set_no_new_privs(true).context("cannot give up new privileges")?;
    Ok(())
}

/// What is in no file of accounts.
#[derive(Debug, PartialEq, Eq)]
enum Unknown<'a> {
    Group(&'a str),
    User(&'a str),
}

/// The account of this name or number, in the group of this name or number or in its own.
fn find<'a>(
    user: &'a str,
    group: Option<&'a str>,
    passwd: &str,
    groups: &str,
) -> Result<Account, Unknown<'a>> {
    let is_meant = |wanted: &str, name: &str, id: u32| wanted == name || wanted == id.to_string();
    // The highest number means nobody at all (`setresuid(2)`).
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let (name, uid, own_gid) = passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, id(uid)?, id(fields.next()?)?))
        })
        .find(|(name, uid, _)| is_meant(user, name, *uid))
        .ok_or(Unknown::User(user))?;
    let entries = || {
        groups.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, id(gid)?, fields.next().unwrap_or_default()))
        })
    };
    let gid = match group {
        None => own_gid,
        Some(group) => {
            let entry = entries().find(|(name, gid, _)| is_meant(group, name, *gid));
            entry.ok_or(Unknown::Group(group))?.1
        }
    };
    let has_us = |members: &str| members.split(',').any(|member| member == name);
    let mut all = vec![gid];
    all.extend(entries().filter(|(_, _, members)| has_us(members)).map(|(_, gid, _)| gid));
    all.sort_unstable();
    all.dedup();
    Ok(Account { name: name.to_owned(), uid, gid, groups: all })
}

/// Makes the data directory where it is missing, as one of the account.
fn make_ours(directory: &Path, account: &Account) -> anyhow::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    let made = || -> std::io::Result<()> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::DirBuilder::new().mode(0o700).create(directory)?;
        chown(directory, Some(account.uid), Some(account.gid))
    };
    made().with_context(|| format!("cannot make {}", directory.display()))
}

/// Whether the data directory is one that the account can use; a relay that ran as root before has
/// left one that it cannot.
fn may_write(config: &Config, account: &Account) -> anyhow::Result<()> {
    let directory = &config.server.data_dir;
    for path in [directory.clone(), directory.join("spool")] {
        let Ok(facts) = fs::metadata(&path) else { continue };
        let needed = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        if rustix::fs::access(&path, needed).is_err() {
            let (path, name) = (path.display(), &account.name);
            let why =
                format!("{path} belongs to user {}, and `{name}` may not use it", facts.uid());
            let help = format!("chown -R {name}: {}", directory.display());
            anyhow::bail!("{}", config.wrong_at("server.data_dir", why, help).first());
        }
    }
    Ok(())
}

fn become_account(account: &Account) -> anyhow::Result<()> {
    ensure!(threads() <= 1, "there are other threads, which would stay root");
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<Gid> = account.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    ensure!(set_thread_uid(Uid::ROOT).is_err(), "the way back to root is open");
    Ok(())
}

/// How many threads the process has; 1 where nobody tells.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, |entries| entries.flatten().count())
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\n+nis\n_merpati:x:110:115::/:/bin/false\n";
    const GROUPS: &str =
        "root:x:0:\nmail:x:8:dovecot,_merpati\n_merpati:x:115:\nssl:x:116:a_merpati\n";

    #[test]
    fn an_account_is_found_by_name_or_number_with_all_its_groups() {
        let account = |gid, groups: &[u32]| Account {
            name: "_merpati".to_owned(),
            uid: 110,
            gid,
            groups: groups.to_vec(),
        };
        for (user, group, want) in [
            ("_merpati", None, Ok(account(115, &[8, 115]))),
            ("110", None, Ok(account(115, &[8, 115]))),
            ("_merpati", Some("ssl"), Ok(account(116, &[8, 116]))),
            ("_merpati", Some("8"), Ok(account(8, &[8]))),
            ("merpati", None, Err(Unknown::User("merpati"))),
            ("_merpati", Some("none"), Err(Unknown::Group("none"))),
        ] {
            assert_eq!(find(user, group, USERS, GROUPS), want, "{user} {group:?}");
        }
    }
}
