//! What a renewal must sign: made by us, at most a minute old, good once.
//!
//! A nonce carries its time and our proof, so nothing is kept of those that are handed out: asking
//! for many fills no memory. Every controller with the same CA takes the nonces of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use plan::Timestamp;
use ring::hmac;

/// How long a nonce is good.
const LIFE: Duration = Duration::from_secs(60);

/// The most used nonces that are remembered: those of a minute at the rate at which renewals are
/// taken ([`super::pace`]).
const USED_MAX: usize = 20_000;

/// Eight bytes of time, sixteen random ones.
const BODY: usize = 8 + 16;

/// With the proof.
pub(super) const BYTES: usize = BODY + 32;

/// Makes nonces and takes them back.
#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
    /// The bodies of those that were used in the last minute. They begin with their time, so the
    /// oldest is the first.
    used: BTreeMap<[u8; BODY], ()>,
}

/// The nonce is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NonceError {
    /// None of ours.
    #[error("the challenge is not of this controller; ask for one and sign that")]
    Foreign,
    /// Older than a minute.
    #[error("the challenge is too old; ask for a new one")]
    Old,
    /// It was used.
    #[error("the challenge was used already; ask for a new one")]
    Used,
    /// Too many in this minute.
    #[error("too many renewals in this minute; try again in a minute")]
    Full,
}

impl Nonces {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), used: BTreeMap::new() }
    }

    /// A nonce.
    pub(super) fn make(&self, random: [u8; 16], now: Timestamp) -> [u8; BYTES] {
        let millis = u64::try_from(now.millis()).unwrap_or(0).to_be_bytes();
        let mut nonce = [0; BYTES];
        let body = millis.into_iter().chain(random);
        nonce.iter_mut().zip(body).for_each(|(to, from)| *to = from);
        let (body, proof) = nonce.split_at_mut(BODY);
        let tag = hmac::sign(&self.key, body);
        proof.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        nonce
    }

    /// Whether this is one of ours and young. It can be used still.
    pub(super) fn check(&self, nonce: &[u8], now: Timestamp) -> Result<(), NonceError> {
        self.body(nonce, now).map(drop)
    }

    /// Uses a nonce up. What was signed with it is checked before, so that only who has a
    /// certificate can have anything remembered here.
    pub(super) fn spend(&mut self, nonce: &[u8], now: Timestamp) -> Result<(), NonceError> {
        let body = self.body(nonce, now)?;
        let oldest = oldest(now).to_be_bytes();
        while let Some(first) = self.used.first_entry().filter(|e| *e.key().as_slice() < oldest[..])
        {
            first.remove();
        }
        if self.used.contains_key(&body) {
            return Err(NonceError::Used);
        }
        if self.used.len() >= USED_MAX {
            return Err(NonceError::Full);
        }
        self.used.insert(body, ());
        Ok(())
    }

    fn body(&self, nonce: &[u8], now: Timestamp) -> Result<[u8; BODY], NonceError> {
        let (body, proof) = nonce.split_first_chunk::<BODY>().ok_or(NonceError::Foreign)?;
        hmac::verify(&self.key, body, proof).map_err(|_| NonceError::Foreign)?;
        let (time, _) = body.split_first_chunk().ok_or(NonceError::Foreign)?;
        let age = millis(now).abs_diff(u64::from_be_bytes(*time));
        // One from the future is of another controller whose clock is a little ahead.
        if u128::from(age) > LIFE.as_millis() {
            return Err(NonceError::Old);
        }
        Ok(*body)
    }
}

fn millis(moment: Timestamp) -> u64 {
    u64::try_from(moment.millis()).unwrap_or(0)
}

/// Nonces before this are refused for their age.
fn oldest(now: Timestamp) -> u64 {
    millis(now).saturating_sub(u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    #[test]
    fn a_nonce_is_good_once_for_a_minute() {
        let mut nonces = Nonces::new(&[1; 32]);
        let nonce = nonces.make([2; 16], at(0));
        let mut altered = nonce;
        altered[8] ^= 1;
        let foreign = Nonces::new(&[3; 32]).make([2; 16], at(0));
        struct Case(&'static str, Vec<u8>, i64, Result<(), NonceError>);
        for Case(what, nonce, when, expect) in [
            Case("altered", altered.to_vec(), 0, Err(NonceError::Foreign)),
            Case("another's", foreign.to_vec(), 0, Err(NonceError::Foreign)),
            Case("none", Vec::new(), 0, Err(NonceError::Foreign)),
            Case("cut", nonce[..BYTES - 1].to_vec(), 0, Err(NonceError::Foreign)),
            Case("longer", [&nonce[..], &[0]].concat(), 0, Err(NonceError::Foreign)),
            Case("too old", nonce.to_vec(), 60_001, Err(NonceError::Old)),
            Case("of the future", nonce.to_vec(), -60_001, Err(NonceError::Old)),
            Case("right", nonce.to_vec(), 60_000, Ok(())),
            Case("again", nonce.to_vec(), 60_000, Err(NonceError::Used)),
            Case("again, earlier", nonce.to_vec(), 1, Err(NonceError::Used)),
        ] {
            assert_eq!(nonces.spend(&nonce, at(when)), expect, "{what}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let mut nonces = Nonces::new(&[1; 32]);
        for number in 0..USED_MAX as u64 {
            let mut random = [0; 16];
            random[..8].copy_from_slice(&number.to_be_bytes());
            let nonce = nonces.make(random, at(0));
            assert_eq!(nonces.spend(&nonce, at(0)), Ok(()));
        }
        let more = nonces.make([9; 16], at(0));
        assert_eq!(nonces.spend(&more, at(0)), Err(NonceError::Full));
        let later = nonces.make([9; 16], at(60_001));
        assert_eq!(nonces.spend(&later, at(60_001)), Ok(()));
        assert_eq!(nonces.used.len(), 1);
    }
}
