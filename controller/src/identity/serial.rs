//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The serial number of a certificate: 16 random bytes, positive and without a leading zero (RFC
/// 5280 section 4.1.2.2), so that it is always written with 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 16]);

/// The text is no serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number of ours is 32 hexadecimal digits")]
pub struct SerialError;

impl Serial {
    /// From random bytes, of which two bits are not used.
    pub const fn new(random: [u8; 16]) -> Self {
        let [first, rest @ ..] = random;
        let [b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15] = rest;
        let first = first & 0x7f | 0x40;
        Self([first, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15])
    }

    /// As it is in a certificate; `None`: none of ours.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        <[u8; 16]>::try_from(bytes).ok().map(Self).filter(|serial| *serial == Self::new(serial.0))
    }

    /// As it is in a certificate.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Its beginning, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        number.and_then(|number| Self::read(&number.to_be_bytes())).ok_or(SerialError)
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialError;

    fn try_from(text: String) -> Result<Self, SerialError> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_positive_and_of_one_length() {
        for random in [[0; 16], [0xff; 16], [0x3f; 16]] {
            let serial = Serial::new(random);
            assert!((0x40..=0x7f).contains(&serial.bytes()[0]));
            assert_eq!(serial.to_string().parse(), Ok(serial));
            assert_eq!(Serial::read(serial.bytes()), Some(serial));
        }
        assert_eq!(Serial::read(&[0; 16]), None);
        assert_eq!(Serial::read(&[0x41; 15]), None);
        for text in ["", "41", &"g".repeat(32), &format!("+{}", "4".repeat(31))] {
            assert_eq!(text.parse::<Serial>(), Err(SerialError), "{text}");
        }
    }
}
