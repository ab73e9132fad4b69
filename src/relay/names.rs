//! Names within a message whose type is not known here.

use xds::Name;

/// Deeper messages are nothing that a controller of ours renders.
const DEPTH_MAX: usize = 32;

/// The names among all texts of a protobuf message, nested ones too, sorted, each once. `known`
/// says which texts are names. What is no message holds none.
pub(super) fn within(body: &[u8], known: &mut dyn FnMut(&str) -> Option<Name>) -> Vec<Name> {
    let mut found = Vec::new();
    walk(body, DEPTH_MAX, known, &mut found);
    found.sort();
    found.dedup();
    found
}

/// Wire types of protobuf: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn walk(
    mut rest: &[u8],
    depth: usize,
    known: &mut dyn FnMut(&str) -> Option<Name>,
    found: &mut Vec<Name>,
) {
    while let Some((key, after)) = varint(rest) {
        let after = match key & 7 {
            0 => varint(after).map(|(_, after)| after),
            1 => after.get(8..),
            5 => after.get(4..),
            2 => {
                let Some((length, after)) = varint(after) else { return };
                let Ok(length) = usize::try_from(length) else { return };
                let Some((bytes, after)) = after.split_at_checked(length) else { return };
                match std::str::from_utf8(bytes).ok().and_then(&mut *known) {
                    Some(name) => found.push(name),
                    None if depth > 0 => walk(bytes, depth - 1, known, found),
                    None => {}
                }
                Some(after)
            }
            _ => return,
        };
        let Some(after) = after else { return };
        rest = after;
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend(bytes);
        out
    }

    #[test]
    fn names_are_found_at_any_depth_and_nothing_else() {
        let inner = [field(1, b"a/b/target"), vec![0x10, 0x96, 0x01], field(2, b"other")].concat();
        let message = [
            field(3, &inner),
            vec![0x25, 1, 2, 3, 4],
            field(4, b"a/b/legacy"),
            field(4, b"a/b/legacy"),
        ]
        .concat();
        let mut known = |text: &str| text.contains('/').then(|| Name::new(text));
        let mut found: Vec<String> =
            within(&message, &mut known).iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!(found, ["a/b/legacy", "a/b/target"]);
        for cut in 0..message.len() {
            assert!(within(&message[..cut], &mut known).len() <= 2);
        }
        let deep = (0..100).fold(b"a/b".to_vec(), |inner, _| {
            if inner.len() < 120 { field(1, &inner) } else { inner }
        });
        assert!(within(&deep, &mut known).len() <= 1);
        assert!(within(&[0xff; 64], &mut known).is_empty());
    }
}
