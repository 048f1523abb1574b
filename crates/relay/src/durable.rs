//! Small files of the data directory that are there whole, before a power cut and after it.
//!
//! Not pure: writes files, and draws secrets.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aws_lc_rs::rand;

/// Puts octets in the place of a file, or where none was; `mode` is of the new file.
pub(crate) fn replace(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    create(&draft_of(path), octets, mode)?;
    rename(&draft_of(path), path)
}

/// Where a file is written before it takes the place of this one.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Writes a new file. Its octets are durable then; its name is with [`rename`].
///
/// What is there under this name was left by one that died: no two write the same file at once.
pub(crate) fn create(path: &Path, octets: &[u8], mode: u32) -> io::Result<File> {
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    match file.write_all(octets).and_then(|()| file.sync_all()) {
        Ok(()) => Ok(file),
        Err(why) => {
            // On a full disk, room is what is wanted.
            remove(path).ok();
            Err(why)
        }
    }
}

/// Gives a file another name in its folder, in the place of what has that name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    // A path of one part has the parent "".
    match to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Removes a file, where it is.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// The secret of so many octets in this file; it is drawn and written where there is none.
pub(crate) fn secret<const OCTETS: usize>(path: &Path) -> anyhow::Result<[u8; OCTETS]> {
    match fs::read(path) {
        Ok(octets) => octets.as_slice().try_into().with_context(|| {
            format!("{} has not {OCTETS} octets; remove it to have it made", path.display())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; OCTETS];
            rand::fill(&mut secret)
                .map_err(|_| anyhow::anyhow!("the machine gives no random octets"))?;
            replace(path, &secret, 0o600)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(secret)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whatever_was_left_of_an_earlier_try() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.key");
        fs::write(draft_of(&path), "a longer text that was half written").unwrap();
        for (text, mode) in [("one", 0o644), ("two", 0o600)] {
            replace(&path, text.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Where the new one cannot be written, the old one stays.
        fs::create_dir(draft_of(&path)).unwrap();
        replace(&path, b"three", 0o600).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_secret_that_was_cut_off_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.key");
        fs::write(&path, [7; 31]).unwrap();
        assert!(secret::<32>(&path).is_err());
        assert_eq!(secret(&path).unwrap(), [7; 31]);
    }
}
