//! Reads rows as records, checking that each is as it was written and follows the one before.

use plan::{Digest, Record};

use super::{Head, Row, StoreError};

impl Row {
    /// The row of a record.
    pub fn of(record: &Record) -> Self {
        let bytes = record.encode();
        Self { token: record.token, parent: record.parent, digest: Digest::of(&bytes), bytes }
    }

    /// The head once this row is the last.
    pub fn head(&self) -> Head {
        Head { token: self.token, digest: self.digest }
    }

    /// The record, if this row is a true one and follows `head`.
    ///
    /// # Errors
    /// What is wrong, naming the token.
    pub fn follow(&self, head: &Head) -> Result<Record, String> {
        let token = self.token;
        if Digest::of(&self.bytes) != self.digest {
            return Err(format!("record {token} does not have its digest"));
        }
        let record =
            Record::decode(&self.bytes).map_err(|error| format!("record {token}: {error}"))?;
        if record.token != token || record.parent != self.parent {
            return Err(format!("record {token} is stored under another token or parent"));
        }
        // The next record will name the digest of what this program writes.
        if record.encode() != self.bytes {
            return Err(format!("record {token} is written in another form than this version's"));
        }
        if !head.precedes(&record) {
            return Err(format!("record {token} does not follow record {}", head.token));
        }
        Ok(record)
    }
}

/// The rows of a batch whose records follow each other; the first may follow anything.
pub(super) fn rows(batch: &[Record]) -> Result<Vec<Row>, StoreError> {
    let rows: Vec<Row> = batch.iter().map(Row::of).collect();
    for (before, record) in rows.iter().zip(batch.iter().skip(1)) {
        if !before.head().precedes(record) {
            return Err(StoreError::Invalid(format!(
                "record {} of a batch does not follow {}",
                record.token, before.token
            )));
        }
    }
    if let Some(row) = rows.iter().find(|row| row.bytes.len() > Record::BYTES_MAX) {
        return Err(StoreError::Invalid(format!("record {} is too large", row.token)));
    }
    Ok(rows)
}
