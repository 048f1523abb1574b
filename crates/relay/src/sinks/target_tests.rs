use super::*;

fn numbered(path: &Path, number: u32) -> PathBuf {
    format!("{}.{number}", path.display()).into()
}

/// What is in the file and in those before it, the newest first.
fn all(path: &Path) -> Vec<String> {
    let before = (1..20).map(|number| numbered(path, number));
    let files = std::iter::once(path.to_owned()).chain(before);
    files.map_while(|path| fs::read_to_string(path).ok()).collect()
}

fn open(path: &Path, size_max: Option<u64>, files_max: u32) -> Place {
    let files_max = NonZeroU32::new(files_max).unwrap();
    let target = Target::File(path.to_owned(), Rotation { size_max, files_max });
    Place::open(&target).unwrap().unwrap()
}

#[test]
fn a_full_file_is_moved_on_between_two_lines_and_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail.log");
    let mut place = open(&path, Some(8), 2);
    place.write(b"1\n2\n3\n4\n5\n").unwrap();
    assert_eq!(all(&path), ["5\n", "1\n2\n3\n4\n"]);
    place.write(b"6\n7\n").unwrap();
    assert_eq!(all(&path)[0], "5\n6\n7\n");
    place.write(b"8\n9\n").unwrap();
    assert_eq!(all(&path), ["9\n", "5\n6\n7\n8\n", "1\n2\n3\n4\n"]);
    place.write(b"a line that is longer than a file\nx\n").unwrap();
    let kept = ["x\n", "a line that is longer than a file\n", "9\n"];
    assert_eq!(all(&path), kept, "two are kept, and a long line has a file of its own");
}

#[test]
fn a_file_that_was_there_is_gone_on_with_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail.log");
    open(&path, Some(8), 1).write(b"old\n").unwrap();
    let mut place = open(&path, Some(8), 1);
    place.write(b"new\nmore\n").unwrap();
    assert_eq!(all(&path), ["more\n", "old\nnew\n"]);
    let mut place = open(&path, None, 1);
    place.write("y\n".repeat(1_000).as_bytes()).unwrap();
    assert_eq!(all(&path).len(), 2);
}

#[test]
fn what_cannot_be_moved_on_is_written_where_it_is_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail.log");
    // A directory that is not empty cannot be replaced by a file.
    fs::create_dir_all(numbered(&path, 1).join("in the way")).unwrap();
    let mut place = open(&path, Some(4), 1);
    place.write(b"1\n").unwrap();
    let moved = place.write(b"2\n3\n4\n").unwrap_err();
    assert!(moved.why.is_some() && moved.lost == 0);
    // It was said, and is not tried with each line.
    assert!(place.write(b"5\n").is_ok());
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n3\n4\n5\n");
}

#[test]
fn a_file_that_somebody_took_away_is_made_anew_and_a_device_is_left_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail.log");
    let mut place = open(&path, Some(4), 2);
    place.write(b"1\n").unwrap();
    fs::remove_file(&path).unwrap();
    place.write(b"2\n3\n").unwrap();
    assert_eq!(all(&path), ["3\n"], "the second line filled the file that was gone");
    // Another one has moved the file on since this one opened it.
    let late = open(&path, Some(4), 2);
    place.write(b"4\n5\n").unwrap();
    late.anew().write(b"6\n").unwrap();
    assert_eq!(all(&path), ["5\n6\n", "3\n4\n"]);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    open(&link, Some(4), 2).write(b"7\n8\n9\n").unwrap();
    assert!(link.is_symlink() && !numbered(&link, 1).exists());
}

#[test]
fn a_line_that_another_process_left_torn_does_not_take_the_next_one_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail.log");
    fs::write(&path, "{\"whole\":1}\n{\"to").unwrap();
    open(&path, None, 1).write(b"{}\n").unwrap();
    open(&path, None, 1).write(b"{}\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"whole\":1}\n{\"to\n{}\n{}\n");
}

#[test]
fn lines_that_a_full_disk_does_not_take_are_counted() {
    let lost = open(Path::new("/dev/full"), Some(4), 1).write(b"1\n22\n333\n").unwrap_err();
    assert_eq!(lost.lost, 3);
    assert_eq!(lost.why.unwrap().kind(), ErrorKind::StorageFull);
}

#[test]
fn the_journal_hears_each_line_with_what_one_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let target = Target::Journal(socket.clone());
    let missing = Place::open(&target).err().unwrap().to_string();
    assert!(missing.contains("no journal listens at"), "{missing}");
    let journal = UnixDatagram::bind(&socket).unwrap();
    let mut place = Place::open(&target).unwrap().unwrap();
    let first = r#"{"event":"Accepted","id":"028T5CY4TQKFF","listener":"mx","to":["a@b"]}"#;
    let second = r#"{"event":"Session\nEnded","listener":"a\u0000"}"#;
    place.write(format!("{first}\n{second}\n").as_bytes()).unwrap();
    let hears = || {
        let mut octets = [0; 1_000];
        let count = journal.recv(&mut octets).unwrap();
        String::from_utf8(octets[..count].to_vec()).unwrap()
    };
    let head = "SYSLOG_IDENTIFIER=merpati\nPRIORITY=6\n";
    let fields = "MERPATI_EVENT=Accepted\nMERPATI_ID=028T5CY4TQKFF\nMERPATI_LISTENER=mx\n";
    assert_eq!(hears(), format!("{head}{fields}MESSAGE={first}\n"));
    assert_eq!(hears(), format!("{head}MESSAGE={second}\n"), "no value forges a field");
    // One that was started anew hears too.
    drop(journal);
    assert!(place.write(b"{}\n").is_err());
    fs::remove_file(&socket).unwrap();
    let journal = UnixDatagram::bind(&socket).unwrap();
    let long = format!("{{\"to\":\"{}\"}}", "x".repeat(150_000));
    place.write(format!("{long}\n").as_bytes()).unwrap();
    let mut octets = vec![0; 200_000];
    assert_eq!(journal.recv(&mut octets).unwrap(), head.len() + "MESSAGE=\n".len() + long.len());
    // One that reads no more is waited for once, not once a line.
    let began = Instant::now();
    let hung = place.write("{}\n".repeat(10_000).as_bytes()).unwrap_err();
    let why = hung.why.unwrap().to_string();
    assert!(why.contains("the journal hangs"), "{why}");
    // What it took before is on its way to it.
    journal.set_nonblocking(true).unwrap();
    let taken = std::iter::from_fn(|| journal.recv(&mut octets).ok()).count() as u64;
    assert_eq!(hung.lost + taken, 10_000);
    let silent = place.write(b"{}\n{}\n").unwrap_err();
    assert!(silent.why.is_none() && silent.lost == 2 && began.elapsed() < 20 * JOURNAL_WAIT);
}
