//! One more user may use a file, by its access list (acl(5)): who is not root gives nothing away,
//! and needs no group that the two have in common.

use std::io;
use std::path::Path;

/// Where the kernel keeps the list, and its layout (`linux/posix_acl_xattr.h`).
const NAME: &str = "system.posix_acl_access";
const VERSION: u32 = 2;

/// Whom an entry is for (`linux/posix_acl.h`).
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;
/// An entry that names nobody.
const NOBODY: u32 = u32::MAX;

/// The owner and this user may do this (as bits of a mode, 0 to 7), and nobody else anything.
///
/// # Errors
/// The kernel's: the file is another's, or its file system keeps no lists.
pub fn grant(path: &Path, user: u32, rights: u16) -> io::Result<()> {
    Ok(rustix::fs::setxattr(path, NAME, &list(user, rights), rustix::fs::XattrFlags::empty())?)
}

fn list(user: u32, rights: u16) -> Vec<u8> {
    let entries = [
        (OWNER, rights, NOBODY),
        (USER, rights, user),
        (GROUP, 0, NOBODY),
        (MASK, rights, NOBODY),
        (OTHERS, 0, NOBODY),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_owner_and_one_user_may_and_nobody_else() {
        let path = std::env::temp_dir().join(format!("crossfade-grant-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        match grant(&path, 4_711, 6) {
            Ok(()) => {
                let mut kept = [0; 64];
                let length = rustix::fs::getxattr(&path, NAME, &mut kept[..]).unwrap();
                assert_eq!(kept[..length], list(4_711, 6));
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o660, "the group's bits are the most of the list");
            }
            Err(error) => eprintln!("skipped: no lists in the temporary directory: {error}"),
        }
        std::fs::remove_file(&path).unwrap();
    }
}
