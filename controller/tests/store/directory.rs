//! The data directory: modes, one process at a time, clear errors.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use controller::store::{DirectoryError, OpenError, Owner, Sqlite, Store};

use crate::common::{Scratch, filled, told};

#[tokio::test]
async fn a_new_directory_is_for_its_owner_alone() {
    let scratch = Scratch::new();
    let data = scratch.join("above/data");
    filled(&data, 1).await;
    let mode = |name: &str| data.join(name).metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for file in ["crossfade.db", "lock", "reserve"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    let reserve = data.join("reserve").metadata().unwrap();
    assert_eq!(reserve.len(), 8 << 20);
    assert!(reserve.blocks() * 512 >= 8 << 20, "the reserve is really allocated");
    assert!(!data.join("crossfade.db-journal").exists(), "at rest the journal is gone");
}

#[tokio::test]
async fn a_second_opening_is_refused_with_the_owners_pid() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let first = Sqlite::open(&data).unwrap();
    let Err(OpenError::Directory(DirectoryError::InUse { path, owner })) = Sqlite::open(&data)
    else {
        panic!("opened twice");
    };
    assert_eq!((path.as_path(), owner), (data.as_path(), Owner::Pid(std::process::id())));
    drop(first);
    // What a dead process left in the file keeps nobody out.
    std::fs::write(data.join("lock"), "1\n").unwrap();
    Sqlite::open(&data).unwrap().load().await.unwrap();
}

#[test]
fn another_process_is_named() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    drop(Sqlite::open(&data).unwrap());
    // util-linux's flock takes the same lock; it says its pid as we do.
    let lock = data.join("lock");
    let script = r#"exec 9<>"$0"; flock 9; echo $$ >"$0"; echo ready; read -r _"#;
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(&lock)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let error = Sqlite::open(&data).map(drop).unwrap_err();
    let wanted = format!(
        "{}: in use by process {}; stop it, or choose another directory with --data",
        data.display(),
        child.id()
    );
    assert_eq!(told(&error), wanted);
    drop(child.stdin.take());
    child.wait().unwrap();
    Sqlite::open(&data).map(drop).unwrap();
}

#[test]
fn unusable_directories_are_refused_with_the_remedy() {
    let scratch = Scratch::new();
    let file = scratch.join("file");
    std::fs::write(&file, "x").unwrap();
    let open = scratch.join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let foreign = scratch.join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("crossfade.db"), "no database at all, but long enough").unwrap();
    for (path, wanted) in [
        (&file, "file: not a directory; choose another one with --data"),
        (&file.join("below"), "file/below: not a directory; choose another one with --data"),
        (&open, "open: other users can write in it (mode 777); run `chmod 700` on it"),
        (&foreign, "foreign/crossfade.db: not a Crossfade database, or damaged at its start"),
    ] {
        let error = told(&Sqlite::open(path).map(drop).unwrap_err());
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_read_only_directory_is_refused_with_the_remedy() {
    let Some(scratch) = Scratch::mounted(16) else { return };
    scratch.remount("ro");
    let error = told(&Sqlite::open(scratch.path()).map(drop).unwrap_err());
    assert!(
        error.contains("cannot write in it; choose a writable directory with --data"),
        "{error}"
    );
    assert!(error.contains("Read-only file system"), "{error}");
}

#[test]
fn a_database_of_another_layout_is_refused() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    drop(Sqlite::open(&data).unwrap());
    let raw = rusqlite::Connection::open(data.join("crossfade.db")).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let error = told(&Sqlite::open(&data).map(drop).unwrap_err());
    assert!(error.contains("layout 99, but this program knows layout 1"), "{error}");
}
