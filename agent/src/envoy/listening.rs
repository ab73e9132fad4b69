//! Whose a port is.

use std::net::SocketAddrV4;

/// The state of a socket that listens, in `/proc/net/tcp` (proc_pid_net(5)).
const LISTENS: &str = "0A";

/// The users whose sockets listen at exactly this address, which is where connections to it
/// arrive; `table` is `/proc/net/tcp`, line by line. Sockets that listen come first there, and
/// nothing is read after them.
pub fn listeners(table: impl Iterator<Item = String>, at: SocketAddrV4) -> Vec<u32> {
    // As the kernel prints it: the address as the machine's own number, the port as a number.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
    let listening = table.skip(1).map_while(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1).map(str::to_owned);
        let (found, state) = (fields.next()?, fields.nth(1)?);
        (state == LISTENS).then_some((found, fields.nth(3)))
    });
    let its = listening.filter(|(found, _)| *found == local);
    its.filter_map(|(_, user)| user?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_known_by_address_and_user() {
        const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 9 1 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0
   2: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 8 1 0
   3: 0100007F:3A99 0100007F:8C3E 01 00000000:00000000 00:00000000 00000000    77        0 6 1 0
   4: 0200007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000    78        0 5 1 0";
        let users = |at: &str| listeners(TABLE.lines().map(str::to_owned), at.parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!(users("127.0.0.1:15001"), [65_534, 1_000]);
            assert_eq!(users("0.0.0.0:22"), [0]);
        }
        assert_eq!(users("127.0.0.1:22"), [0_u32; 0]);
        assert_eq!(users("127.0.0.2:15001"), [0_u32; 0], "behind what listens nothing is read");
        let strange = ["", "x", "a b c d", "0: 0100007F:3A99 0:0 0A", "1: y z 0A 1 2 3 many"];
        assert_eq!(
            listeners(
                strange.iter().map(|line| (*line).to_owned()),
                "127.0.0.1:1".parse().unwrap()
            ),
            [0_u32; 0]
        );
    }
}
