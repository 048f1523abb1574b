//! What `merpati import postfix` reads, writes and tells.

use std::{cell::RefCell, os::unix::fs::PermissionsExt, rc::Rc};

use super::*;

/// A place that can be looked at while something else writes there.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

/// Imports this folder; what came of it, with standard output and standard error.
fn import(dir: &Path, file: &Path) -> (Result<ExitCode, Failure>, String, String) {
    let (out, complaints) = (Shared::default(), Shared::default());
    let mut output = Output::both(Box::new(out.clone()), Box::new(complaints.clone()));
    let arguments = PostfixArguments { dir: dir.to_owned(), output: file.to_owned() };
    let done = run(&ImportCommand::Postfix(arguments), &mut output);
    (done, out.text(), complaints.text())
}

const MAIN: &str = "\
compatibility_level = 3.6
myhostname = gate.ours.example
mydestination =
relayhost = [smtp.provider.example]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
always_bcc = archive@ours.example
";
const MASTER: &str = "smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.cf"), MAIN).unwrap();
    fs::write(folder.path().join("master.cf"), MASTER).unwrap();
    let password = "[smtp.provider.example]:587 ani:secret-words\n";
    fs::write(folder.path().join("sasl_passwd"), password).unwrap();
    folder
}

#[test]
fn a_file_is_written_that_only_its_owner_reads_where_a_password_is_in_it() {
    let folder = folder();
    let file = folder.path().join("merpati.toml");
    let (done, out, told) = import(folder.path(), &file);
    done.unwrap();
    assert_eq!(out, "");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("password = \"secret-words\""), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for part in ["7 parameters are set: ", "main.cf:7 always_bcc: ", "holds a password"] {
        assert!(told.contains(part), "{told}\nlacks {part}");
    }
    assert!(!told.contains("secret-words"), "{told}");
}

#[test]
fn standard_output_shows_no_password_and_what_is_left_goes_to_standard_error() {
    let folder = folder();
    let (done, out, told) = import(folder.path(), Path::new("-"));
    done.unwrap();
    assert!(out.contains("# password_file = "), "{out}");
    assert!(!out.contains("secret-words") && !told.contains("secret-words"), "{out}\n{told}");
    assert!(told.contains("the password is not printed"), "{told}");
}

#[test]
fn nothing_is_overwritten_and_a_folder_without_main_cf_is_named() {
    let folder = folder();
    let file = folder.path().join("merpati.toml");
    fs::write(&file, "mine").unwrap();
    let (done, _, _) = import(folder.path(), &file);
    assert!(done.unwrap_err().to_string().contains("is there already"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let empty = tempfile::tempdir().unwrap();
    let (done, _, _) = import(empty.path(), Path::new("-"));
    let why = done.unwrap_err().to_string();
    assert!(why.contains("main.cf: ") && why.contains("help: "), "{why}");
}

#[test]
fn a_table_of_which_only_the_index_is_there_says_so() {
    let folder = folder();
    fs::rename(folder.path().join("sasl_passwd"), folder.path().join("sasl_passwd.db")).unwrap();
    let (done, _, told) = import(folder.path(), Path::new("-"));
    done.unwrap();
    assert!(told.contains("`postmap -s` prints its rows"), "{told}");
}

#[test]
fn a_copy_of_the_folder_is_read_in_place_of_the_folder_itself() {
    let dir = Path::new("copy");
    for (folder, path, want) in [
        ("/etc/postfix", "/etc/postfix/transport", Some("copy/transport")),
        ("/etc/postfix", "/etc/postfix/maps/a", Some("copy/maps/a")),
        ("/etc/postfix", "/etc/aliases", Some("/etc/aliases")),
        ("/etc/postfix", "/etc/postfixed/a", Some("/etc/postfixed/a")),
        ("/etc/postfix", "transport", None),
    ] {
        let found = place(dir, folder, path);
        assert_eq!(found, want.map(PathBuf::from), "{path}");
    }
}

#[test]
fn lists_that_a_file_of_aliases_includes_are_read_too() {
    let folder = folder();
    let main = "compatibility_level = 3.6\nmyhostname = mx.ours.example\n\
                mydestination = mx.ours.example\nalias_maps = hash:/etc/postfix/aliases\n";
    fs::write(folder.path().join("main.cf"), main).unwrap();
    let text = "team: :include:/etc/postfix/members\nlost: :include:/etc/postfix/gone\n";
    fs::write(folder.path().join("aliases"), text).unwrap();
    fs::write(folder.path().join("members"), "ani@far.example\n").unwrap();
    let (done, out, told) = import(folder.path(), Path::new("-"));
    done.unwrap();
    assert!(out.contains("addresses = [\"team@mx.ours.example\"]"), "{out}");
    assert!(out.contains("to = [\"ani@far.example\"]"), "{out}");
    assert!(told.contains("/etc/postfix/aliases:2 alias_maps: /etc/postfix/gone: "), "{told}");
}
